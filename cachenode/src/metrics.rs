//! What a node counts and tells: of its groups and its registration, read off them when Prometheus
//! asks, and of what it does for and hears from other nodes.

use std::{fmt, sync::Arc};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{
        MetricType,
        counter::{ConstCounter, Counter},
        gauge::ConstGauge,
    },
    registry::Registry,
};

use common::discovery::RegistrationState;

use crate::{group::GroupStats, groups::Groups, http::Registered};

/// Counts what nodes do in each other's stead, and what they leave undone. Clones count together.
#[derive(Debug, Clone, Default)]
pub(crate) struct NodeMetrics {
    pub(crate) relays: Counter,
    pub(crate) relays_done: Counter,
    pub(crate) relays_failed: Counter,
    pub(crate) stand_ins: Counter,
    pub(crate) absences: Counter,
    pub(crate) hints_kept: Counter,
    pub(crate) hints_delivered: Counter,
    pub(crate) hints_dropped: Counter,
    pub(crate) unsteady: Counter,
    pub(crate) entries_dropped: Counter,
    pub(crate) refused_late: Counter,
    pub(crate) purges: Counter,
    pub(crate) entries_purged: Counter,
}

impl NodeMetrics {
    /// Makes them visible.
    pub(crate) fn register(&self, registry: &mut Registry) {
        let counters = [
            (&self.relays, "ringway_relays", "Operations asked of an owner for somebody else"),
            (&self.relays_done, "ringway_relays_done", "Relays that the owner answered"),
            (&self.relays_failed, "ringway_relays_failed", "Owners that could not be asked"),
            (&self.stand_ins, "ringway_stand_ins", "Operations done in an owner's stead"),
            (&self.absences, "ringway_absences", "Times an owner was found to be absent"),
            (&self.hints_kept, "ringway_hints_kept", "Hints of such writes kept for owners"),
            (&self.hints_delivered, "ringway_hints_delivered", "Hints that owners have taken"),
            (&self.hints_dropped, "ringway_hints_dropped", "Hints for nodes that are gone"),
            (&self.unsteady, "ringway_unsteady", "Times this process stood still"),
            (
                &self.entries_dropped,
                "ringway_entries_dropped",
                "Entries dropped because others may have written their keys, about",
            ),
            (
                &self.refused_late,
                "ringway_refused_late",
                "Operations refused because all of their stream came late",
            ),
            (&self.purges, "ringway_purges", "Purges of a group or of a part of one"),
            (
                &self.entries_purged,
                "ringway_entries_purged",
                "Entries removed because they were purged",
            ),
        ];
        for (counter, name, help) in counters {
            registry.register(name, help, counter.clone());
        }
    }
}

/// Collects the numbers of every group.
pub(crate) struct GroupMetrics {
    groups: Arc<Groups>,
}

impl GroupMetrics {
    /// Makes them visible.
    pub(crate) fn register(registry: &mut Registry, groups: &Arc<Groups>) {
        registry.register_collector(Box::new(Self { groups: Arc::clone(groups) }));
    }
}

impl fmt::Debug for GroupMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupMetrics").finish_non_exhaustive()
    }
}

type Read = fn(&GroupStats) -> u64;

const COUNTERS: [(&str, &str, Read); 11] = [
    ("ringway_group_hits", "Reads that found an entry", |stats| stats.hits),
    ("ringway_group_misses", "Reads that found none", |stats| stats.misses),
    ("ringway_group_loads", "Misses that the origin had a value for", |stats| stats.loads),
    ("ringway_group_failed_loads", "Loads the origin failed at", |stats| stats.failed_loads),
    ("ringway_group_early_loads", "Loads begun before the value's time was over", |stats| {
        stats.early_loads
    }),
    ("ringway_group_renewals", "Values the origin said are still true", |stats| stats.renewals),
    ("ringway_group_sets", "Sets that were applied", |stats| stats.sets),
    ("ringway_group_deletes", "Deletes that removed an entry", |stats| stats.deletes),
    ("ringway_group_load_tokens", "Load tokens handed out", |stats| stats.tokens),
    ("ringway_group_load_tokens_lost", "Writes whose load token did not count any more", |stats| {
        stats.lost_tokens
    }),
    ("ringway_group_evictions", "Entries thrown out for want of room", |stats| stats.evictions),
];

const GAUGES: [(&str, &str, Read); 3] = [
    ("ringway_group_entries", "Entries there", |stats| stats.entries),
    ("ringway_group_used_bytes", "Resident bytes they use", |stats| stats.used_bytes),
    ("ringway_group_capacity_bytes", "Resident bytes they may use", |stats| stats.capacity_bytes),
];

impl Collector for GroupMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let stats: Vec<_> = (self.groups.now().iter())
            .map(|group| (group.name().to_string(), group.stats()))
            .collect();
        for (name, help, read) in COUNTERS {
            let each = |stats: &GroupStats| ConstCounter::new(read(stats));
            encode_family(&mut encoder, name, help, &stats, each)?;
        }
        for (name, help, read) in GAUGES {
            let each = |stats: &GroupStats| ConstGauge::new(read(stats));
            encode_family(&mut encoder, name, help, &stats, each)?;
        }
        Ok(())
    }
}

/// Collects where the node's registration stands.
pub(crate) struct RegistrationMetrics {
    registered: Registered,
}

impl RegistrationMetrics {
    /// Makes it visible.
    pub(crate) fn register(registry: &mut Registry, registered: Registered) {
        registry.register_collector(Box::new(Self { registered }));
    }
}

impl fmt::Debug for RegistrationMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistrationMetrics").finish_non_exhaustive()
    }
}

const STATES: [&str; 4] = ["registered", "trying", "held_by_other", "left"];

impl Collector for RegistrationMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let current = match self.registered.state() {
            RegistrationState::Registered { .. } => "registered",
            RegistrationState::Trying { .. } => "trying",
            RegistrationState::HeldByOther { .. } => "held_by_other",
            RegistrationState::Left => "left",
        };
        let (name, help) =
            ("ringway_node_registration", "Where the registration stands: 1, others 0");
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for state in STATES {
            let is = ConstGauge::new(i64::from(state == current));
            is.encode(family.encode_family(&[("state", state)])?)?;
        }
        Ok(())
    }
}

fn encode_family<M: EncodeMetric>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    stats: &[(String, GroupStats)],
    metric: impl Fn(&GroupStats) -> M,
) -> fmt::Result {
    let Some((_, first)) = stats.first() else { return Ok(()) };
    let kind = metric(first).metric_type();
    let mut family = encoder.encode_descriptor(name, help, None, kind)?;
    for (group, stats) in stats {
        let labels = [("group", group.as_str())];
        metric(stats).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}
