//! `load`: what a cache hit costs through gateway and node, beside a bare axum responder.

use std::{env, error::Error, path::PathBuf, process::ExitCode, time::Duration};

use clap::Parser;
use fleet::bench::{
    Bare, Load, MAX_OTHERS, Ringway, Round, Subject, Workload, bare, measure, median,
    systems::Settings,
};

/// What a request may cost at most, in requests of the bare responder.
const GOAL: f64 = 3.0;

/// Measures gateway and nodes beside a bare axum responder, in turns, and compares.
#[derive(Debug, Parser)]
struct Flags {
    /// How many nodes
    #[arg(long, default_value_t = 3)]
    nodes: usize,
    /// Connections open at a time
    #[arg(long, default_value_t = 100)]
    connections: usize,
    /// Seconds a round takes
    #[arg(long, default_value_t = 8)]
    seconds: u64,
    /// Rounds of each system
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Keys, all of them hits
    #[arg(long, default_value_t = 10_000)]
    keys: usize,
    /// Bytes of a value
    #[arg(long, default_value_t = 1024)]
    value_bytes: usize,
    /// Be the bare responder, with values of so many bytes
    #[arg(long, value_name = "BYTES", hide = true)]
    bare: Option<usize>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let flags = Flags::parse();
    let done = match flags.bare {
        Some(value_bytes) => bare::serve(value_bytes).await.map(|()| true).map_err(Into::into),
        None => compare(&flags).await,
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Measures both in turns. False: there were errors, or the goal was missed.
async fn compare(flags: &Flags) -> Result<bool, Box<dyn Error>> {
    let work = Workload {
        connections: flags.connections,
        duration: Duration::from_secs(flags.seconds),
        keys: flags.keys,
        value_bytes: flags.value_bytes,
        ..Workload::default()
    };
    println!("{}", machine());
    println!(
        "{} nodes, {} connections, {} keys of {} bytes, all hits; {} rounds of {} s in turns",
        flags.nodes, flags.connections, flags.keys, flags.value_bytes, flags.rounds, flags.seconds
    );
    let program: PathBuf = env::current_exe()?;
    let ringway = Ringway::start(flags.nodes, Settings::Plain).await?;
    ringway.fill(&work).await?;
    let bare = Bare::start(&program, flags.value_bytes).await?;
    let load = async |subject: &dyn Subject| Load::prepare(subject, &work).await;
    let loads = [load(&bare).await?, load(&ringway).await?];
    let subjects: [(&str, &dyn Subject); 2] = [("bare axum", &bare), ("Ringway", &ringway)];
    let mut rounds = [Vec::new(), Vec::new()];
    for _ in 0..flags.rounds {
        for (((name, subject), load), rounds) in subjects.iter().zip(&loads).zip(&mut rounds) {
            let load = load.as_ref().ok_or("no way to read")?;
            let measured = measure(*subject, load, MAX_OTHERS).await?;
            println!("{name:<10} {}", measured.round);
            for flaw in &measured.flaws {
                println!("{:<10} beware: {flaw}", "");
            }
            rounds.push(measured.round);
        }
    }
    let [limits, ours] = rounds;
    Ok(match (median(&limits), median(&ours)) {
        (Some(limit), Some(ours)) => verdict(limit, ours),
        _ => false,
    })
}

fn verdict(limit: Round, ours: Round) -> bool {
    let ratio = ours.total_us() / limit.total_us();
    println!("medians\nbare axum  {limit}\nRingway    {ours}");
    let errors = limit.errors + ours.errors;
    let reached = ratio <= GOAL && errors == 0;
    let word = if reached { "ok" } else { "MISSED" };
    println!(
        "goal CPU per request ≤ {GOAL} × bare axum, 0 errors: {ratio:.2} ×, {errors} errors: {word}"
    );
    reached
}

/// The machine, for whoever reads the figures later.
fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name"));
    let model = model.map_or("unknown CPU", |rest| rest.trim_start_matches([' ', '\t', ':']));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or("?");
    format!("{model}, {cores} cores, load average {load} at the start")
}
