//! `soak`: an hour of random faults under load, and what it came to.

use std::{error::Error, path::PathBuf, process::ExitCode, time::Duration};

use clap::Parser;
use fleet::{
    checker::check_file,
    report::{Counts, Report},
    soak::run::{ONE_RING_WITHIN, Soak, default_history},
};

/// Makes random faults on a fleet of real processes under load, and judges how it took them.
#[derive(Debug, Parser)]
struct Flags {
    /// Which faults and which load: the same seed makes the same ones
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// For how long
    #[arg(long, default_value_t = 60)]
    minutes: u64,
    /// Operations per second
    #[arg(long, default_value_t = 500.0)]
    rate: f64,
    /// How many nodes
    #[arg(long, default_value_t = 4)]
    nodes: usize,
    /// How many gateways
    #[arg(long, default_value_t = 2)]
    gateways: usize,
    /// Where the history goes, for the checker
    #[arg(long, default_value = "target/faults")]
    directory: PathBuf,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match soak(&Flags::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("soak: {error}");
            ExitCode::FAILURE
        }
    }
}

/// False: the fleet did not take it well.
async fn soak(flags: &Flags) -> Result<bool, Box<dyn Error>> {
    std::fs::create_dir_all(&flags.directory)?;
    let soak = Soak {
        seed: flags.seed,
        lasts: Duration::from_secs(flags.minutes * 60),
        rate: flags.rate,
        nodes: flags.nodes,
        gateways: flags.gateways,
        history: default_history(&flags.directory, flags.seed),
    };
    let mut report = Report::begin("soak")?;
    let outcome = soak.run().await?;
    println!("{outcome}");
    let verdict = check_file(&soak.history)?;
    print!("{verdict}");
    report.run(Counts {
        requests: outcome.load.total,
        failed: outcome.load.failed,
        wrong: verdict.wrong.len() as u64,
        older: verdict.older.len() as u64,
    })?;
    report.took("one ring", outcome.one_ring, Some(ONE_RING_WITHIN))?;
    report.took("the fleet whole", outcome.whole, None)?;
    let faults: usize = outcome.faults.values().sum();
    report.note(format!(
        "{} minutes, seed {}, {faults} faults of {} kinds",
        flags.minutes,
        flags.seed,
        outcome.faults.len(),
    ))?;
    let problems = outcome.problems();
    for problem in &problems {
        println!("WRONG: {problem}");
        report.note(problem)?;
    }
    let is_right = problems.is_empty() && verdict.is_right();
    if is_right {
        report.passed()?;
    }
    Ok(is_right)
}
