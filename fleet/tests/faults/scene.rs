//! A fleet under load while something happens to it: what was done when, and how long the fleet
//! took to do what it promises.

use std::{
    cell::{Cell, RefCell},
    fmt,
    time::Duration,
};

use common::clock::{Clock, SystemClock};
use fleet::{
    cluster::{Cluster, Member},
    eventually::{Look, how_long},
};

use super::rings::{self, Ring};

/// What these processes have counted in their present lives, all together.
pub(super) async fn counted(members: impl IntoIterator<Item = &Member>, name: &str) -> u64 {
    let mut all = 0;
    for member in members {
        all += member.metric(&format!("ringway_{name}_total")).await.unwrap() as u64;
    }
    all
}

/// A promised time and the real one.
#[derive(Debug, Clone)]
pub(super) struct Timed {
    pub(super) what: String,
    pub(super) took: Duration,
    pub(super) promised: Duration,
}

impl fmt::Display for Timed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:.2?} (promised {:?})", self.what, self.took, self.promised)
    }
}

/// The fleet and what has happened.
pub(super) struct Scene {
    pub(super) cluster: Cluster,
    struck: Cell<Option<Duration>>,
    healed: Cell<Option<Duration>>,
    times: RefCell<Vec<Timed>>,
    /// How many rings each gateway, then each node, had gone by when the load began.
    rings_before: Vec<usize>,
}

impl Scene {
    pub(super) fn new(cluster: Cluster) -> Self {
        let rings_before = members(&cluster).map(|member| rings::of(member).len()).collect();
        Self {
            cluster,
            struck: Cell::default(),
            healed: Cell::default(),
            times: RefCell::default(),
            rings_before,
        }
    }

    /// The fault is made now.
    pub(super) fn strike(&self) {
        self.struck.set(Some(SystemClock.monotonic()));
    }

    /// The fault ends now. A row whose fault stays never says so.
    pub(super) fn heal(&self) {
        self.healed.set(Some(SystemClock.monotonic()));
    }

    pub(super) fn struck(&self) -> Duration {
        self.struck.get().expect("a row strikes")
    }

    /// When the fault ended; the end of time if it stays.
    pub(super) fn healed(&self) -> Duration {
        self.healed.get().unwrap_or(Duration::MAX)
    }

    /// Waits, ten times as long as promised, and keeps how long it took: long forms assert it.
    pub(super) async fn timed<L: Look>(
        &self,
        what: &str,
        promised: Duration,
        look: impl AsyncFnMut() -> L,
    ) -> L::Found {
        let (found, took) = how_long(what, promised, look).await;
        self.times.borrow_mut().push(Timed { what: what.to_owned(), took, promised });
        found
    }

    /// What was timed so far.
    pub(super) fn times(&self) -> Vec<Timed> {
        self.times.borrow().clone()
    }

    /// What each process, by name, has seen of the ring since the load began: the ring of then, and
    /// each that took its place.
    pub(super) fn rings(&self) -> Vec<(String, Vec<Ring>)> {
        let known = members(&self.cluster).zip(&self.rings_before);
        known
            .map(|(member, &before)| {
                let rings = rings::of(member).split_off(before.saturating_sub(1));
                (member.name().to_owned(), rings::changes(rings))
            })
            .collect()
    }
}

fn members(cluster: &Cluster) -> impl Iterator<Item = &Member> {
    cluster.gateways().iter().chain(cluster.nodes())
}
