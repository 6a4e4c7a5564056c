//! Which nodes this process calls: ejection, shared by all of its workers.
//!
//! A node that fails several calls in a row is left alone for a while and comes back when a probe
//! is answered. That changes whom this process calls, never who owns a key: the ring is a function
//! of the cluster state alone. Probing itself is done elsewhere; this is the table.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use prometheus_client::{metrics::counter::Counter, registry::Registry};

use tokio::time::Instant;
use uuid::Uuid;

use crate::{
    clock::Clock,
    discovery::{NodeId, NodeRecord},
};

/// Calls that must fail in a row before a node is ejected.
pub const FAILURES_TO_EJECT: u32 = 3;
/// Calls that began so far apart fail each for themselves, though they were under way together: a
/// node that hangs under load need not be waited for three times over.
pub const APART: Duration = Duration::from_millis(50);
/// How long the first ejection lasts; each further one doubles it.
pub const FIRST_EJECTION: Duration = Duration::from_secs(1);
/// How long an ejection lasts at most.
pub const LONGEST_EJECTION: Duration = Duration::from_secs(30);

/// What is known of one node.
#[derive(Debug, Default)]
pub struct NodeHealth {
    failures: AtomicU32,
    /// Ejections since the node last came back for good.
    ejections: AtomicU32,
    /// When the present ejection began, in milliseconds of the monotonic clock; 0: not ejected.
    ejected_at: AtomicU64,
    /// The same by the wall clock, for people.
    ejected_since_unix_ms: AtomicU64,
    /// When a probe may bring it back.
    ejected_until: AtomicU64,
    last_seen_unix_ms: AtomicU64,
    response_us: AtomicU64,
    last_error: Mutex<Option<String>>,
    /// When the call began whose failure was counted last, and when it failed.
    last_failure: Mutex<Option<(Instant, Instant)>>,
    /// Not a member when [`HealthTable::retain`] looked last.
    absent: AtomicBool,
}

impl NodeHealth {
    /// Whether calls go there.
    pub fn callable(&self) -> bool {
        self.ejected_at.load(Ordering::Relaxed) == 0
    }

    /// A call was answered.
    pub fn succeeded(&self) {
        // Written only on a change, so that a healthy node costs its callers no shared writes.
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
    }

    /// When the node last answered, in milliseconds since 1970; `None`: never yet.
    pub fn last_seen_unix_ms(&self) -> Option<u64> {
        Some(self.last_seen_unix_ms.load(Ordering::Relaxed)).filter(|&ms| ms > 0)
    }

    /// How long its last probe took; `None`: none was answered yet.
    pub fn response_time(&self) -> Option<Duration> {
        Some(self.response_us.load(Ordering::Relaxed))
            .filter(|&us| us > 0)
            .map(Duration::from_micros)
    }

    fn last_error(&self) -> MutexGuard<'_, Option<String>> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An ejection that goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ejection {
    /// When it began, in milliseconds since 1970.
    pub since_unix_ms: u64,
    /// Why the last of the calls failed that led to it.
    pub why: String,
    /// When the node is asked again, in milliseconds since 1970; in the past: as soon as possible.
    pub next_probe_unix_ms: u64,
}

/// By node and life: a restarted node begins with a clean record.
type Nodes = HashMap<(NodeId, Uuid), Arc<NodeHealth>>;

/// The health of all nodes, as one process sees it.
pub struct HealthTable {
    nodes: Mutex<Nodes>,
    ejections: Counter,
    clock: Arc<dyn Clock>,
}

impl HealthTable {
    /// A table in which everyone is well.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { nodes: Mutex::default(), ejections: Counter::default(), clock }
    }

    /// Makes what it counts visible.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "ringway_node_ejections",
            "Times a node was ejected: not called for a while because calls failed",
            self.ejections.clone(),
        );
    }

    /// The record of a member in its present life, made if it is new.
    pub fn of(&self, member: &NodeRecord) -> Arc<NodeHealth> {
        let life = (member.id.clone(), member.instance);
        Arc::clone(self.nodes().entry(life).or_default())
    }

    /// Forgets nodes that were no members this time and the time before: a worker may have heard
    /// of a new member a moment before whoever calls this.
    pub fn retain(&self, members: &[NodeRecord]) {
        self.nodes().retain(|(id, instance), health| {
            let absent = !members.iter().any(|m| m.id == *id && m.instance == *instance);
            !(health.absent.swap(absent, Ordering::Relaxed) && absent)
        });
    }

    /// The ejection of a node, if it is ejected.
    pub fn ejection(&self, node: &NodeHealth) -> Option<Ejection> {
        if node.callable() {
            return None;
        }
        let (now, now_unix) = (self.now_ms(), self.clock.unix().as_millis() as u64);
        let until = node.ejected_until.load(Ordering::Relaxed);
        Some(Ejection {
            since_unix_ms: node.ejected_since_unix_ms.load(Ordering::Relaxed),
            why: node.last_error().clone().unwrap_or_default(),
            next_probe_unix_ms: (now_unix + until).saturating_sub(now),
        })
    }

    /// For how long a node has been ejected; `None`: it is not.
    pub fn ejected_for(&self, node: &NodeHealth) -> Option<Duration> {
        let ejected_at = Some(node.ejected_at.load(Ordering::Relaxed)).filter(|&at| at != 0)?;
        Some(Duration::from_millis(self.now_ms().saturating_sub(ejected_at)))
    }

    /// The members that are ejected now, ordered by id.
    pub fn ejected_nodes(&self) -> Vec<(NodeId, Ejection)> {
        let nodes = self.nodes();
        let members = nodes.iter().filter(|(_, node)| !node.absent.load(Ordering::Relaxed));
        let ejected = |((id, _), node): (&(NodeId, Uuid), &Arc<NodeHealth>)| {
            Some((id.clone(), self.ejection(node)?))
        };
        let mut ejected: Vec<_> = members.filter_map(ejected).collect();
        ejected.sort_by(|(one, _), (other, _)| one.cmp(other));
        ejected
    }

    /// Members that are ejected now.
    pub fn ejected(&self) -> usize {
        ejected_of(&self.nodes())
    }

    fn nodes(&self) -> MutexGuard<'_, Nodes> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ejections since the start.
    pub fn ejections(&self) -> u64 {
        self.ejections.get()
    }

    /// A call that began at `started` failed. True: that ejected the node, which happens only
    /// while no more than half of the `members` would be ejected.
    ///
    /// Calls that were under way together count as one, unless they began [`APART`]: a hundred of
    /// them caught by one hiccup are not failures in a row.
    pub fn failed(&self, node: &NodeHealth, members: usize, why: &str, started: Instant) -> bool {
        let mut last = node.last_failure.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_some_and(|(began, ended)| started < ended && started < began + APART) {
            return false;
        }
        *last = Some((started, Instant::now()));
        drop(last);
        let failures = node.failures.fetch_add(1, Ordering::Relaxed) + 1;
        if failures < FAILURES_TO_EJECT || !node.callable() {
            return false;
        }
        // Counted under the lock instead of kept in a counter, which nodes that leave while calls
        // to them are still failing would put out of step.
        let nodes = self.nodes();
        // Another worker may have been quicker.
        if !node.callable() || 2 * (ejected_of(&nodes) + 1) > members {
            return false;
        }
        *node.last_error() = Some(why.to_owned());
        self.extend(node);
        let now_unix = self.clock.unix().as_millis() as u64;
        node.ejected_since_unix_ms.store(now_unix, Ordering::Relaxed);
        node.ejected_at.store(self.now_ms(), Ordering::Relaxed);
        self.ejections.inc();
        true
    }

    /// Whether it is time to ask an ejected node again.
    pub fn probe_due(&self, node: &NodeHealth) -> bool {
        !node.callable() && self.now_ms() >= node.ejected_until.load(Ordering::Relaxed)
    }

    /// A probe was answered after `took`. If that brought the node back: how long it was away.
    pub fn probed(&self, node: &NodeHealth, took: Duration) -> Option<Duration> {
        let now = self.clock.unix().as_millis() as u64;
        node.last_seen_unix_ms.store(now, Ordering::Relaxed);
        node.response_us.store((took.as_micros() as u64).max(1), Ordering::Relaxed);
        let away = self.came_back(node);
        if away.is_none() {
            node.ejections.store(0, Ordering::Relaxed);
        }
        away
    }

    /// The node made itself heard: no need to wait for a probe. If that brought it back: how long it
    /// was away.
    pub fn heard_of(&self, node: &NodeHealth) -> Option<Duration> {
        node.failures.store(0, Ordering::Relaxed);
        self.came_back(node)
    }

    /// Ends an ejection; how long it was, if there was one.
    fn came_back(&self, node: &NodeHealth) -> Option<Duration> {
        let ejected_at = node.ejected_at.swap(0, Ordering::AcqRel);
        let was_away = ejected_at != 0;
        if was_away {
            node.failures.store(0, Ordering::Relaxed);
        }
        was_away.then(|| Duration::from_millis(self.now_ms().saturating_sub(ejected_at)))
    }

    /// A probe was not answered: an ejected node stays away for longer.
    pub fn probe_failed(&self, node: &NodeHealth) {
        if !node.callable() {
            self.extend(node);
        }
    }

    fn extend(&self, node: &NodeHealth) {
        let before = node.ejections.fetch_add(1, Ordering::Relaxed).min(5);
        let length = (FIRST_EJECTION * 2_u32.pow(before)).min(LONGEST_EJECTION);
        // A quarter of jitter keeps the workers of many gateways from returning all at once.
        let jittered = length.mul_f64(fastrand::f64().mul_add(0.25, 0.875));
        node.ejected_until.store(self.now_ms() + jittered.as_millis() as u64, Ordering::Relaxed);
    }

    fn now_ms(&self) -> u64 {
        (self.clock.monotonic().as_millis() as u64).max(1)
    }
}

fn ejected_of(nodes: &Nodes) -> usize {
    let ejected =
        |health: &&Arc<NodeHealth>| !health.callable() && !health.absent.load(Ordering::Relaxed);
    nodes.values().filter(ejected).count()
}

#[cfg(test)]
mod tests;
