//! Command line of the Stormglass agent.
#![forbid(unsafe_code)]

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    match cli::run() {
        Ok(code) => code,
        Err(error) => {
            // The one place where an error is printed: it says what to do by itself.
            eprintln!("stormglass: {error:#}");
            ExitCode::FAILURE
        }
    }
}
