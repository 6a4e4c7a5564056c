//! Starts the systems of a scene, fills them, and measures them in turns.

use std::{net::SocketAddr, time::Duration};

use super::{Cast, Results, Scene, SceneResult, SystemResult};
use crate::{
    bench::{
        Bare, BenchError, Load, Nginx, Ringway, Round, Subject, SystemError, Webdis, Workload,
        measure,
        systems::{Counts, Memcached, Settings},
    },
    memory,
    process::binary,
};

/// How often a round is tried until it counts.
const ROUND_TRIES: usize = 4;
/// Entries that are stored before memory is measured: what a process needs to take writes at all.
const WARM_ENTRIES: usize = 50_000;
/// Entries that are stored then.
const MEASURED_ENTRIES: usize = 200_000;

/// A scene could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum PeersError {
    /// A system did not start.
    #[error("{0}: {1}")]
    Start(Cast, #[source] SystemError),
    /// It could not be measured.
    #[error("{0}: {1}")]
    Measure(Cast, #[source] BenchError),
    /// The machine is too busy, or the system fails under load.
    #[error("{0}: {ROUND_TRIES} rounds in a row do not count; the last: {1}")]
    Void(Cast, String),
}

/// A system on stage.
struct Actor {
    cast: Cast,
    subject: Box<dyn Subject>,
    /// Or why it can't do what is asked.
    load: Result<Load, String>,
    rounds: Vec<Round>,
}

/// Measures so many rounds of every system of a scene, in turns. Those during which others use more
/// than `max_others` of the machine do not count.
///
/// # Errors
/// [`PeersError`]
pub async fn measure_scene(
    scene: &Scene,
    rounds: usize,
    max_others: f64,
) -> Result<SceneResult, PeersError> {
    let mut actors = Vec::new();
    for &cast in &scene.cast {
        actors.push(actor(scene, cast).await?);
    }
    let mut notes = Vec::new();
    let absent = actors.iter().filter_map(|actor| Some((actor.cast, actor.load.as_ref().err()?)));
    notes.extend(absent.map(|(cast, reason)| format!("{cast}: not measured. {reason}")));
    let gateway = actors.last().map(|actor| actor.subject.address());
    let before = cold_counts(scene, gateway).await?;
    for _ in 0..rounds {
        for actor in &mut actors {
            let Ok(load) = &actor.load else { continue };
            let subject = actor.subject.as_ref();
            actor.rounds.push(counting_round(actor.cast, subject, load, max_others).await?);
        }
    }
    if let (Some(before), Some(after)) = (before, cold_counts(scene, gateway).await?) {
        notes.push(loaded(before, after));
    }
    let systems = actors
        .into_iter()
        .map(|actor| SystemResult { name: actor.cast.to_string(), rounds: actor.rounds });
    Ok(SceneResult { id: scene.id.to_owned(), systems: systems.collect(), notes })
}

/// A system, started and filled, that has answered every request once as it should.
async fn actor(scene: &Scene, cast: Cast) -> Result<Actor, PeersError> {
    let started = start(scene, cast).await;
    let subject = started.map_err(|error| PeersError::Start(cast, error))?;
    let load = match Load::prepare(subject.as_ref(), &scene.work).await {
        Ok(load) => load.ok_or_else(|| "It has no way to do this.".to_owned()),
        Err(error) => match error.refused_batch(&scene.work) {
            Some(said) => Err(said),
            None => return Err(PeersError::Measure(cast, error)),
        },
    };
    Ok(Actor { cast, subject, load, rounds: Vec::new() })
}

async fn start(scene: &Scene, cast: Cast) -> Result<Box<dyn Subject>, SystemError> {
    let work = &scene.work;
    Ok(match cast {
        Cast::Nginx(caches) => {
            let nginx = Nginx::start(caches, work.value_bytes).await?;
            nginx.fill(work).await?;
            Box::new(nginx)
        }
        Cast::Webdis => {
            let webdis = Webdis::start().await?;
            webdis.fill(work).await?;
            Box::new(webdis)
        }
        Cast::Bare => Box::new(Bare::start(&binary("load")?, work.value_bytes).await?),
        Cast::Ringway(nodes) => {
            let ringway = Ringway::start(nodes, scene.settings).await?;
            if !matches!(scene.settings, Settings::Cold { .. }) {
                ringway.fill(work).await?;
            }
            Box::new(ringway)
        }
    })
}

/// A round that counts, or the reason why there is none.
async fn counting_round(
    cast: Cast,
    subject: &dyn Subject,
    load: &Load,
    max_others: f64,
) -> Result<Round, PeersError> {
    let mut flaws = String::new();
    for _ in 0..ROUND_TRIES {
        let measured = measure(subject, load, max_others).await;
        let measured = measured.map_err(|error| PeersError::Measure(cast, error))?;
        println!("{:<24} {}", cast.to_string(), measured.round);
        if measured.flaws.is_empty() {
            return Ok(measured.round);
        }
        flaws = measured.flaws.join("; ");
        println!("{:<24} this round does not count: {flaws}", "");
    }
    Err(PeersError::Void(cast, flaws))
}

/// What the nodes of a scene with an origin have counted.
async fn cold_counts(
    scene: &Scene,
    gateway: Option<SocketAddr>,
) -> Result<Option<Counts>, PeersError> {
    let (Some(gateway), Settings::Cold { .. }) = (gateway, scene.settings) else {
        return Ok(None);
    };
    let counts = Counts::of(gateway, scene.settings).await;
    let failed = |error| PeersError::Start(super::scenes::OURS, error);
    counts.map(Some).map_err(failed)
}

fn loaded(before: Counts, after: Counts) -> String {
    let (loads, hits) = (after.loads - before.loads, after.hits - before.hits);
    let share = 100.0 * loads as f64 / (loads + hits).max(1) as f64;
    format!("{share:.0} % of the reads were loaded from the origin, the others hits.")
}

/// Measures what an entry of 20 bytes and 1 KiB takes in memory, and what an empty node does.
///
/// # Errors
/// [`PeersError`]
pub async fn measure_entries(results: &mut Results) -> Result<(), PeersError> {
    let ours = super::scenes::OURS;
    let started = Ringway::start(3, Settings::Large).await;
    let ringway = started.map_err(|error| PeersError::Start(ours, error))?;
    results.empty_node_bytes = Some(ringway.empty_node_bytes());
    let bytes = growth(&ringway.processes().1, async |work| ringway.fill(&work).await).await;
    let mut entry_bytes = vec![("Ringway", bytes.map_err(|error| PeersError::Start(ours, error))?)];
    drop(ringway);

    let bytes = async {
        let memcached = Memcached::start().await?;
        growth(&[memcached.id()], async |work| memcached.fill(&work).await).await
    };
    let failed = |error| PeersError::Start(super::scenes::BAR, error);
    entry_bytes.push(("memcached", bytes.await.map_err(failed)?));

    let bytes = async {
        let webdis = Webdis::start().await?;
        growth(&webdis.processes().1, async |work| webdis.fill(&work).await).await
    };
    let failed = |error| PeersError::Start(Cast::Webdis, error);
    entry_bytes.push(("redis", bytes.await.map_err(failed)?));

    let named = entry_bytes.into_iter().map(|(name, bytes)| (name.to_owned(), bytes));
    results.entry_bytes = named.collect();
    for (name, bytes) in &results.entry_bytes {
        println!("{name:<24} {bytes:>9.0} bytes an entry");
    }
    Ok(())
}

/// Resident bytes per entry that is stored after the first ones.
async fn growth(
    processes: &[u32],
    fill: impl AsyncFn(Workload) -> Result<(), SystemError>,
) -> Result<f64, SystemError> {
    let of = |keys| Workload { keys, duration: Duration::ZERO, ..Workload::default() };
    fill(of(WARM_ENTRIES)).await?;
    let before = memory::resident_of_all(processes);
    // The first ones are written once more, which changes nothing.
    fill(of(WARM_ENTRIES + MEASURED_ENTRIES)).await?;
    let after = memory::resident_of_all(processes);
    Ok(after.saturating_sub(before) as f64 / MEASURED_ENTRIES as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loads_are_told_as_a_share_of_the_reads() {
        let counts = |hits, loads| Counts { hits, loads };
        let told = loaded(counts(10, 100), counts(20, 190));
        assert_eq!(told, "90 % of the reads were loaded from the origin, the others hits.");
        assert!(loaded(counts(1, 1), counts(1, 1)).starts_with("0 %"));
    }
}
