//! What a node counts of its groups, read off them when Prometheus asks.

use std::{fmt, sync::Arc};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};

use crate::{group::GroupStats, groups::Groups};

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

const COUNTERS: [(&str, &str, Read); 6] = [
    ("ringway_group_hits", "Reads that found an entry", |stats| stats.hits),
    ("ringway_group_misses", "Reads that found none", |stats| stats.misses),
    ("ringway_group_loads", "Misses that the origin had a value for", |stats| stats.loads),
    ("ringway_group_sets", "Sets that were applied", |stats| stats.sets),
    ("ringway_group_deletes", "Deletes that removed an entry", |stats| stats.deletes),
    ("ringway_group_evictions", "Entries thrown out for want of room", |stats| stats.evictions),
];

const GAUGES: [(&str, &str, Read); 3] = [
    ("ringway_group_entries", "Entries there", |stats| stats.entries),
    ("ringway_group_used_bytes", "Resident bytes they use", |stats| stats.used_bytes),
    ("ringway_group_capacity_bytes", "Resident bytes they may use", |stats| stats.capacity_bytes),
];

impl Collector for GroupMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let stats: Vec<_> = (self.groups.iter())
            .map(|group| (group.definition().name.to_string(), group.stats()))
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
