//! Counts the instructions of the hot path's steps and holds them against `limits.txt`.
//!
//! `make bench-instructions`, or `cargo bench -p ringway-fleet --bench instructions` with valgrind
//! on the PATH. `-- --update` writes what was counted as the new limits; say in the commit why a
//! count went up. Each step runs in a process of its own, which is this program under callgrind,
//! with the C library's allocator.
#![allow(clippy::unwrap_used)]

mod steps;

use std::{env, path::Path, process::ExitCode};

use fleet::instructions::{CountError, Limits, Verdict, count};
use steps::{STEPS, Step};

/// The name that callgrind knows the counted function by.
const COUNTED: &str = "counted_from_here";

/// Everything that is called from here is counted, and nothing else. Not inlined, so that it has a
/// name.
#[inline(never)]
fn counted_from_here(work: &mut dyn FnMut()) {
    work();
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let [command, name] = &arguments[..]
        && command == "run"
    {
        let step = STEPS.iter().find(|step| step.name == name).unwrap();
        let mut work = (step.prepare)();
        // What is set up on first use is not what it costs.
        work();
        counted_from_here(&mut *work);
        return ExitCode::SUCCESS;
    }
    match guard(arguments.iter().any(|argument| argument == "--update")) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("instructions: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Counts every step; whether all are within their limits, or have new ones.
fn guard(update: bool) -> Result<bool, CountError> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/instructions/limits.txt");
    let limits = Limits::read(&file)?;
    let mut counts = Vec::new();
    let mut fine = true;
    for step in &STEPS {
        let counted = count_step(step)?;
        let limit = limits.of(step.name);
        let verdict = Verdict::of(counted, limit);
        let limit = limit.map_or("none".to_owned(), |limit| limit.to_string());
        println!(
            "{:<36} {counted:>9} instructions, limit {limit:>9}: {}",
            step.name,
            verdict.as_str()
        );
        fine &= verdict.is_fine();
        counts.push((step.name, counted));
    }
    if update {
        Limits::write(&file, &counts)?;
        println!("{} written", file.display());
    }
    Ok(fine || update)
}

/// Instructions of one operation of a step.
fn count_step(step: &Step) -> Result<u64, CountError> {
    let program = env::current_exe()
        .map_err(|source| CountError::System { what: "finding this program".to_owned(), source })?;
    let total = count(&program, &["run", step.name], COUNTED)?;
    Ok(total.div_ceil(step.operations))
}
