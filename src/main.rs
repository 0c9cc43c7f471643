//! Arguments and the exit code.

use std::process::ExitCode;

use chatcaptain_operator::{
    args::{Cli, Command, format_usage_error},
    crd, network,
    startup::{self, Error},
};
use clap::Parser;

/// As shells and clap have it: the command line is wrong, and trying again cannot help.
const USAGE_ERROR: u8 = 2;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() => {
            eprintln!("{}", format_usage_error(&error));
            return ExitCode::from(USAGE_ERROR);
        }
        // --help and --version are errors to clap
        Err(help) => {
            print!("{help}");
            return ExitCode::SUCCESS;
        }
    };
    let result = match cli.command {
        Command::Crds => print_crds(),
        Command::Run(args) => startup::start(*args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", network::describe(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn print_crds() -> Result<(), Error> {
    for crd in crd::all() {
        print!("{}", crd::yaml(&crd)?);
    }
    Ok(())
}
