//! `peers`: Ringway beside nginx with memcached, webdis with redis and a bare responder.

use std::{error::Error, path::PathBuf, process::ExitCode, time::Duration};

use clap::Parser;
use fleet::bench::{
    MAX_OTHERS,
    peers::{
        Judged, Place, Results, Scene, judge, measure_entries, measure_scene, scenes,
        write_documents,
    },
};

/// What the scene of memory per entry is called on the command line.
const ENTRIES: &str = "entries";

/// Measures every scene in turns, judges the goals, and writes docs/performance.md and its plots.
#[derive(Debug, Parser)]
struct Flags {
    /// Rounds of each system in each scene
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds a round takes
    #[arg(long, default_value_t = 8)]
    seconds: u64,
    /// Only these scenes, by name; then no documents are written
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Percent of the machine that others may use during a round that counts; with more than the
    /// default no documents are written
    #[arg(long, default_value_t = MAX_OTHERS * 100.0)]
    max_others: f64,
    /// Keep what an interrupted run of the same commit has measured
    #[arg(long)]
    resume: bool,
    /// Measure nothing: judge what the last run has left, and write the documents
    #[arg(long)]
    render: bool,
    /// Where figures are kept from scene to scene
    #[arg(long, default_value = "target/bench-peers.json")]
    results: PathBuf,
    /// The directory of performance.md and its plots
    #[arg(long, default_value = "docs")]
    docs: PathBuf,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match peers(&Flags::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("peers: {error}");
            ExitCode::FAILURE
        }
    }
}

/// False: a goal was missed, or not measured.
async fn peers(flags: &Flags) -> Result<bool, Box<dyn Error>> {
    let all = scenes(Duration::from_secs(flags.seconds));
    let results =
        if flags.render { Results::read(&flags.results)? } else { measured(flags, &all).await? };
    // Of a run that was asked for a part only, only that part is judged.
    let mut judged = judge(&results);
    judged.retain(|line| flags.only.is_empty() || line.figure.is_some());
    judged.iter().for_each(|line| println!("{line}"));
    let is_strict = flags.max_others <= MAX_OTHERS * 100.0;
    if is_strict && results.is_complete(&all) {
        write_documents(&flags.docs, &results, &all)?;
        println!("written: {}", flags.docs.join("performance.md").display());
    } else {
        println!("not every scene was measured, or beside busy neighbours: no document is written");
    }
    Ok(judged.iter().all(Judged::is_reached))
}

/// Measures what was asked for, and keeps it scene by scene.
async fn measured(flags: &Flags, all: &[Scene]) -> Result<Results, Box<dyn Error>> {
    let known = |name: &&String| all.iter().any(|scene| scene.id == *name) || *name == ENTRIES;
    if let Some(unknown) = flags.only.iter().find(|name| !known(name)) {
        let names: Vec<_> = all.iter().map(|scene| scene.id).collect();
        return Err(format!("no scene '{unknown}': {}, {ENTRIES}", names.join(", ")).into());
    }
    let place = Place::this()?;
    println!("{}; {}", place.cpu, place.machine);
    let mut results = match flags.resume {
        true => Results::resume(place, &flags.results),
        false => Results::new(place),
    };
    let wanted = |id: &str| flags.only.is_empty() || flags.only.iter().any(|name| name == id);
    for scene in all.iter().filter(|scene| wanted(scene.id)) {
        if results.scene(scene.id).is_none() {
            println!("\n{}: {}", scene.id, scene.title);
            results
                .scenes
                .push(measure_scene(scene, flags.rounds, flags.max_others / 100.0).await?);
            results.write(&flags.results)?;
        }
    }
    if wanted(ENTRIES) && results.entry_bytes.is_empty() {
        println!("\n{ENTRIES}: memory per entry of 20 bytes and 1 KiB");
        measure_entries(&mut results).await?;
        results.write(&flags.results)?;
    }
    Ok(results)
}
