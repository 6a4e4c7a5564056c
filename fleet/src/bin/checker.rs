//! `checker`: does a recorded history keep what the table of promises in docs/protocol.md says?

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;
use fleet::checker::check_file;

/// Judges history files; ends with 0 if all of them are as promised, else with 1.
#[derive(Debug, Parser)]
struct Flags {
    /// History files, as the fault suite and the soak write them
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

fn main() -> ExitCode {
    let mut right = true;
    for file in Flags::parse().files {
        match check_file(&file) {
            Ok(verdict) => {
                print!("{verdict}");
                right &= verdict.is_right();
            }
            Err(error) => {
                println!("{}: can't be judged: {error}", file.display());
                right = false;
            }
        }
    }
    if right { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
