//! The answer to a scrape: `OpenMetrics` text for those who ask for it, else the text format that every tool reads.

use std::fmt::{self, Write};

use prometheus_client::{encoding::text::encode, registry::Registry};

/// The format of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `OpenMetrics` 1.0.
    OpenMetrics,
    /// Version 0.0.4 of Prometheus' text format, which `promtool` and older scrapers read.
    Text,
}

impl Format {
    /// By the `Accept` header of a request.
    #[must_use]
    pub fn accepted(header: &str) -> Self {
        if header.contains("application/openmetrics-text") { Self::OpenMetrics } else { Self::Text }
    }

    /// For the answer's `Content-Type`.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// Everything in the registry.
///
/// # Errors
/// When the text cannot be formatted.
pub fn scrape(registry: &Registry, format: Format) -> Result<String, fmt::Error> {
    let mut text = String::new();
    encode(&mut text, registry)?;
    match format {
        Format::OpenMetrics => Ok(text),
        Format::Text => as_text(&text),
    }
}

/// The older format names a metric as its series are named, and knows neither information nor an end.
fn as_text(open_metrics: &str) -> Result<String, fmt::Error> {
    let mut text = String::with_capacity(open_metrics.len());
    // the help of a metric comes before its type, and needs the name that depends on it
    let mut help = None;
    for line in open_metrics.lines() {
        if line.starts_with("# HELP ") {
            help = Some(line);
            continue;
        }
        let Some(line) = line.strip_prefix("# TYPE ") else {
            if !line.starts_with('#') {
                text.push_str(line);
                text.push('\n');
            }
            continue;
        };
        let (name, kind) = line.split_once(' ').unwrap_or((line, "untyped"));
        let (suffix, kind) = match kind {
            "counter" => ("_total", kind),
            "info" => ("_info", "gauge"),
            kind => ("", kind),
        };
        if let Some(help) = help.take().and_then(|help| help.strip_prefix("# HELP ")?.split_once(' ')) {
            writeln!(text, "# HELP {name}{suffix} {}", help.1)?;
        }
        writeln!(text, "# TYPE {name}{suffix} {kind}")?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_format_is_the_default() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2";
        assert_eq!(Format::accepted(prometheus), Format::OpenMetrics);
        assert_eq!(Format::accepted("*/*"), Format::Text);
        assert_eq!(Format::accepted(""), Format::Text);
    }

    #[test]
    fn text_format_names_metrics_as_their_series() {
        let open = "# HELP a Things.\n# TYPE a counter\na_total{x=\"# TYPE\"} 1\n# HELP b Build.\n# TYPE b info\n\
                    b_info{v=\"1\"} 1\n# HELP c Now.\n# TYPE c gauge\n# UNIT c seconds\nc 2\n# EOF\n";
        let text = "# HELP a_total Things.\n# TYPE a_total counter\na_total{x=\"# TYPE\"} 1\n# HELP b_info Build.\n\
                    # TYPE b_info gauge\nb_info{v=\"1\"} 1\n# HELP c Now.\n# TYPE c gauge\nc 2\n";
        assert_eq!(as_text(open).as_deref(), Ok(text));
    }
}
