//! What is measured: workloads, and who takes part in each.

use std::{fmt, time::Duration};

use crate::bench::{
    systems::Settings,
    {Op, Spread, Workload},
};

/// Keys of a batch.
const BATCH: usize = 100;
/// Connections where latency matters more than throughput.
const FEW: usize = 8;
/// Where values are large, fewer of them: 64 MiB in all.
const FEW_KEYS: usize = 1_000;
/// Zipf's exponent, as in YCSB.
const EXPONENT: f64 = 0.99;

/// A system that takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cast {
    /// nginx in front of so many memcacheds: the bar.
    Nginx(usize),
    /// webdis in front of one redis.
    Webdis,
    /// The axum responder with a constant answer: the limit.
    Bare,
    /// A gateway in front of so many nodes.
    Ringway(usize),
}

/// The bar that the goals speak of.
pub(super) const BAR: Cast = Cast::Nginx(3);
/// What is judged.
pub(super) const OURS: Cast = Cast::Ringway(3);

/// A workload and who takes it on.
#[derive(Debug, Clone, PartialEq)]
pub struct Scene {
    /// Its name on the command line.
    pub id: &'static str,
    /// What it is, in words.
    pub title: &'static str,
    /// What is asked.
    pub work: Workload,
    /// Of whom. The first is what the others are compared with.
    pub cast: Vec<Cast>,
    /// How Ringway is set up.
    pub settings: Settings,
}

impl fmt::Display for Cast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nginx(caches) => write!(f, "nginx → {caches} memcached"),
            Self::Webdis => f.write_str("webdis → redis"),
            Self::Bare => f.write_str("axum, constant answer"),
            Self::Ringway(nodes) => write!(f, "Ringway, {nodes} nodes"),
        }
    }
}

/// All scenes, with rounds of that length.
pub fn scenes(duration: Duration) -> Vec<Scene> {
    let job = Workload { duration, ..Workload::default() };
    let scene = |id, title, work, cast: &[Cast]| Scene {
        id,
        title,
        work,
        cast: cast.to_vec(),
        settings: Settings::Plain,
    };
    let all = [BAR, Cast::Webdis, Cast::Bare, OURS];
    let writers = [Cast::Webdis, OURS];
    let sizes = [BAR, Cast::Nginx(10), Cast::Nginx(30), OURS, Cast::Ringway(10), Cast::Ringway(30)];
    let zipf = Spread::Zipf { exponent: EXPONENT };
    let cold = Settings::Cold { keys: job.keys, value_bytes: job.value_bytes };
    let with = |op| Workload { op, ..job.clone() };
    let of_size = |value_bytes, keys| Workload { value_bytes, keys, ..job.clone() };
    let batches = Workload { connections: FEW, ..with(Op::Batch { keys: BATCH }) };
    vec![
        scene("get-c100", "reads, keys uniform, 100 connections", job.clone(), &all),
        scene(
            "get-c8",
            "reads, keys uniform, 8 connections",
            Workload { connections: FEW, ..job.clone() },
            &all,
        ),
        scene(
            "zipf",
            "reads, keys by Zipf's law with 0.99, 100 connections",
            Workload { spread: zipf, ..job.clone() },
            &[BAR, Cast::Webdis, OURS],
        ),
        scene("put", "writes of 1 KiB, 100 connections", with(Op::Put), &writers),
        scene(
            "mix",
            "90 % reads, 10 % writes, 100 connections",
            with(Op::Mix { puts: 10 }),
            &writers,
        ),
        scene("batch", "reads of 100 keys at once, 8 connections", batches, &writers),
        scene("64-bytes", "reads of 64 bytes, 100 connections", of_size(64, job.keys), &all),
        scene("64-kib", "reads of 64 KiB, 100 connections", of_size(64 << 10, FEW_KEYS), &all),
        scene("nodes", "reads, keys uniform, 100 connections, 3 to 30 nodes", job.clone(), &sizes),
        Scene {
            settings: cold,
            ..scene("misses", "misses, loaded from a static origin, 100 connections", job, &[OURS])
        },
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::bench::{Dialect, Plan};

    #[test]
    fn every_scene_has_a_name_of_its_own_and_a_cast_that_can_play_it() {
        let scenes = scenes(Duration::from_secs(8));
        let ids: BTreeSet<_> = scenes.iter().map(|scene| scene.id).collect();
        assert_eq!(ids.len(), scenes.len());
        for scene in scenes {
            assert!(scene.cast.contains(&OURS), "{}", scene.id);
            let work = Workload { keys: 100, value_bytes: 10, ..scene.work };
            for cast in scene.cast {
                let dialect = match cast {
                    Cast::Nginx(_) => Dialect::ReadOnly,
                    Cast::Webdis => Dialect::Webdis,
                    Cast::Bare => Dialect::Constant,
                    Cast::Ringway(_) => Dialect::Ringway { group: "default" },
                };
                assert!(Plan::of(&work, dialect).is_some(), "{cast} in {}", scene.id);
            }
        }
    }
}
