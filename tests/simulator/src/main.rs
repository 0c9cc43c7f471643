//! The simulator as a program: `simulator --listen 127.0.0.1:8090 --settings '{"rolloutMs": 3000}'`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;
use serde_json::{Map, Value};
use simulator::{Settings, Simulator};
use tokio::signal::unix::{SignalKind, signal};

/// The chatbot service, simulated. See `GET /_simulator/` for everything it can be told.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The loopback address to listen on; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Settings as a JSON object; they win over the file
    #[arg(long, value_name = "JSON")]
    settings: Option<String>,
    /// A file with settings as a JSON object
    #[arg(long, value_name = "FILE")]
    settings_file: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            print!("{error}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            let text = error.to_string();
            let line = text.lines().next().unwrap_or_default();
            return refuse(line.trim_start_matches("error: "));
        }
    };
    match run(arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(line) => refuse(&line),
    }
}

fn refuse(line: &str) -> ExitCode {
    eprintln!("simulator: {line}");
    ExitCode::from(2)
}

async fn run(arguments: Arguments) -> Result<(), String> {
    let settings = settings(&arguments)?;
    // before it listens: a signal that comes at once must not be lost
    let mut terminate = signal(SignalKind::terminate()).map_err(|e| e.to_string())?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|e| e.to_string())?;
    let started = Simulator::start_at(arguments.listen, settings).await;
    let simulator = started.map_err(|e| format!("cannot listen: {e}"))?;
    println!("listening on {}", simulator.url());
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

fn settings(arguments: &Arguments) -> Result<Settings, String> {
    let mut settings = Settings::default();
    if let Some(file) = &arguments.settings_file {
        let named = |error: String| format!("{}: {error}", file.display());
        let text = std::fs::read_to_string(file).map_err(|e| named(e.to_string()))?;
        settings = settings.merged(&json(&text).map_err(named)?).map_err(named)?;
    }
    if let Some(text) = &arguments.settings {
        let named = |error: String| format!("--settings: {error}");
        settings = settings.merged(&json(text).map_err(named)?).map_err(named)?;
    }
    Ok(settings)
}

fn json(text: &str) -> Result<Value, String> {
    if text.trim().is_empty() {
        return Ok(Value::Object(Map::new()));
    }
    serde_json::from_str(text).map_err(|e| format!("not JSON: {e}"))
}
