//! Logs, metrics and spans of the process.

mod exposition;
mod metrics;
mod process;
mod traces;

pub use exposition::{Format, scrape};
pub use metrics::{METRICS, Metric, Metrics, Rollout, help};
pub use traces::flush;

use std::{io::IsTerminal, sync::OnceLock};

use tracing_subscriber::{
    EnvFilter, Layer, filter::LevelFilter, layer::SubscriberExt, reload, util::SubscriberInitExt,
};

/// The format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl std::str::FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err("expected text or json".to_owned()),
        }
    }
}

/// What kube logs of failed requests and broken watches our own lines say with the object.
const QUIET: &str = "kube_client=off,kube_runtime=error";

/// Replaces the filter of the log.
type Reload = Box<dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync>;
static RELOAD: OnceLock<Reload> = OnceLock::new();

/// Starts logging to standard error; `RUST_LOG` filters, by default at `info`. Spans go where the `OTEL_` variables say, if
/// anywhere.
///
/// # Errors
/// When those variables ask for what is not supported.
pub fn start_logging(format: LogFormat) -> Result<(), String> {
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(format!("info,{QUIET}")));
    let (filter, handle) = reload::Layer::new(filter);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false);
    let registry = tracing_subscriber::registry().with(traces::layer()?);
    match format {
        LogFormat::Json => {
            let lines = lines.json().flatten_event(true).with_current_span(true).with_span_list(false);
            registry.with(lines.with_filter(filter)).init();
        }
        LogFormat::Text => {
            let lines = lines.with_ansi(std::io::stderr().is_terminal());
            registry.with(lines.with_filter(filter)).init();
        }
    }
    // the first that starts is the only one of the process
    let _ = RELOAD.set(Box::new(move |filter| handle.reload(filter).map_err(|error| error.to_string())));
    Ok(())
}

/// Changes what is logged, to a level such as `debug` or to a filter as `RUST_LOG` has it; returns the filter.
///
/// # Errors
/// When it is neither, with what is accepted.
pub fn set_log_filter(filter: &str) -> Result<String, String> {
    let accepted =
        "expected error, warn, info, debug, trace, or a filter such as info,chatcaptain_operator=debug";
    let text =
        if filter.parse::<LevelFilter>().is_ok() { format!("{filter},{QUIET}") } else { filter.to_owned() };
    // a misspelt level would be the name of a module, of which everything is logged
    let is_clear = |part: &str| part.contains('=') || part.parse::<LevelFilter>().is_ok();
    let parsed = EnvFilter::try_new(&text).ok().filter(|_| filter.split(',').all(is_clear));
    let parsed = parsed.ok_or(accepted)?;
    let reload = RELOAD.get().ok_or("the log has not started")?;
    reload(parsed)?;
    Ok(text)
}
