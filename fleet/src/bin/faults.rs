//! `faults`: what `make faults` does before and after its rows.

use std::{error::Error, fs, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use fleet::{
    report::{self, Machine, RowVerdict},
    timers,
};

/// Before and after the long fault suite.
#[derive(Debug, Parser)]
struct Flags {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Forget earlier results, and make sure that timers wake in time on this machine
    Begin,
    /// Write the report on what the rows have found
    Render {
        /// The file to write
        #[arg(long, default_value = "docs/reliability.md")]
        to: PathBuf,
    },
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let done = match Flags::parse().what {
        What::Begin => begin().await,
        What::Render { to } => render(&to),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("faults: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn begin() -> Result<(), Box<dyn Error>> {
    report::clear(&report::results())?;
    timers::assert_punctual().await;
    Ok(())
}

fn render(to: &PathBuf) -> Result<(), Box<dyn Error>> {
    let results = report::read(&report::results())?;
    fs::write(to, report::render(&Machine::this(), &results))?;
    let passed = results.iter().filter(|result| result.verdict == RowVerdict::AsPromised).count();
    println!("{}: {passed} of {} rows as promised", to.display(), report::ROWS.len());
    Ok(())
}
