//! `load`: what a cache hit costs through gateway and node, beside a bare axum responder or beside
//! other builds of the same servers.

mod builds;

use std::{env, error::Error, path::PathBuf, process::ExitCode, time::Duration};

use clap::{Parser, ValueEnum};
use fleet::bench::{
    Bare, Load, MAX_OTHERS, Op, Ringway, Round, Spread, Subject, Workload, bare, measure, median,
    systems::Settings,
};

/// What a request may cost at most, in requests of the bare responder.
const GOAL: f64 = 3.0;
/// Keys of a batch.
const BATCH: usize = 100;
/// Of a hundred requests of a mix so many are writes.
const MIX_PUTS: u8 = 10;
/// The exponent of Zipf's law, as YCSB has it.
const ZIPF: f64 = 0.99;

/// Measures gateway and nodes in turns with a bare axum responder, or with other builds, and compares.
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
    /// What is asked for; other than `get` only with --beside
    #[arg(long, value_enum, default_value_t = What::Get)]
    op: What,
    /// Asks for keys by Zipf's law with the exponent 0.99 instead of all alike
    #[arg(long)]
    zipf: bool,
    /// Measures no responder, but the servers in this directory too, from another build; may be
    /// given several times
    #[arg(long, value_name = "DIR")]
    beside: Vec<PathBuf>,
    /// Be the bare responder, with values of so many bytes
    #[arg(long, value_name = "BYTES", hide = true)]
    bare: Option<usize>,
}

/// What a request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// Reads a key
    Get,
    /// Writes a key
    Put,
    /// Reads, and writes a tenth of the time
    Mix,
    /// Reads 100 keys
    Batch,
}

impl Flags {
    fn work(&self) -> Workload {
        Workload {
            op: match self.op {
                What::Get => Op::Get,
                What::Put => Op::Put,
                What::Mix => Op::Mix { puts: MIX_PUTS },
                What::Batch => Op::Batch { keys: BATCH },
            },
            spread: if self.zipf { Spread::Zipf { exponent: ZIPF } } else { Spread::Uniform },
            connections: self.connections,
            duration: Duration::from_secs(self.seconds),
            keys: self.keys,
            value_bytes: self.value_bytes,
        }
    }
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

async fn compare(flags: &Flags) -> Result<bool, Box<dyn Error>> {
    println!("{}", machine());
    println!(
        "{:?}, {} nodes, {} connections, {} keys of {} bytes{}, all hits; {} rounds of {} s in turns",
        flags.op,
        flags.nodes,
        flags.connections,
        flags.keys,
        flags.value_bytes,
        if flags.zipf { " by Zipf's law" } else { "" },
        flags.rounds,
        flags.seconds
    );
    if !flags.beside.is_empty() {
        return builds::compare(&flags.beside, flags.nodes, &flags.work(), flags.rounds).await;
    }
    if flags.op != What::Get {
        return Err("the responder can only be read; --op goes with --beside".into());
    }
    beside_responder(flags).await
}

/// Measures both in turns. False: there were errors, or the goal was missed.
async fn beside_responder(flags: &Flags) -> Result<bool, Box<dyn Error>> {
    let work = flags.work();
    let program: PathBuf = env::current_exe()?;
    let ringway = Ringway::start(flags.nodes, Settings::Plain).await?;
    ringway.fill(&work).await?;
    let bare = Bare::start(&program, flags.value_bytes).await?;
    let subjects: [(&str, &dyn Subject); 2] = [("bare axum", &bare), ("Ringway", &ringway)];
    let rounds = in_turns(&subjects, &work, flags.rounds).await?;
    Ok(match (median(&rounds[0]), median(&rounds[1])) {
        (Some(limit), Some(ours)) => verdict(limit, ours),
        _ => false,
    })
}

/// So many rounds of each, in turns; what makes a round doubtful is printed beside it.
async fn in_turns(
    subjects: &[(&str, &dyn Subject)],
    work: &Workload,
    count: usize,
) -> Result<Vec<Vec<Round>>, Box<dyn Error>> {
    let mut loads = Vec::new();
    for (_, subject) in subjects {
        loads.push(Load::prepare(*subject, work).await?.ok_or("no way to ask for this")?);
    }
    let mut rounds = vec![Vec::new(); subjects.len()];
    for _ in 0..count {
        for (((name, subject), load), rounds) in subjects.iter().zip(&loads).zip(&mut rounds) {
            let measured = measure(*subject, load, MAX_OTHERS).await?;
            println!("{name:<10} {}", measured.round);
            for flaw in &measured.flaws {
                println!("{:<10} beware: {flaw}", "");
            }
            rounds.push(measured.round);
        }
    }
    Ok(rounds)
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
