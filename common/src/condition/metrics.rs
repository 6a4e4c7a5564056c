//! The same in numbers, read off when Prometheus asks.

use std::{fmt, sync::Arc};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};

use crate::{clock::Clock, discovery::Serving, route::Shared};

/// Collects how a process stands to its cluster.
pub struct ClusterMetrics {
    route: Arc<Shared>,
    clock: Arc<dyn Clock>,
}

impl ClusterMetrics {
    /// Makes them visible.
    pub fn register(registry: &mut Registry, route: Arc<Shared>, clock: Arc<dyn Clock>) {
        registry.register_collector(Box::new(Self { route, clock }));
    }
}

impl fmt::Debug for ClusterMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterMetrics").finish_non_exhaustive()
    }
}

impl Collector for ClusterMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let status = self.route.topologies.discovery_status().borrow().clone();
        let topology = self.route.topologies.load();
        let kept = match &status.serving {
            Some(Serving::Keeping { members, .. }) => members.len(),
            _ => 0,
        };
        let now = self.clock.unix().as_millis() as u64;
        let silence = now.saturating_sub(status.heard_unix_ms.unwrap_or(now)) as f64 / 1e3;
        one(
            &mut encoder,
            "ringway_discovery_connected",
            "Whether the cluster state is followed: 1, or 0",
            &ConstGauge::new(i64::from(status.connected)),
        )?;
        one(
            &mut encoder,
            "ringway_discovery_silence_seconds",
            "How long ago the backend of discovery was last heard",
            &ConstGauge::new(silence),
        )?;
        one(
            &mut encoder,
            "ringway_discovery_records_skipped",
            "Records in the cluster state that can't be read",
            &ConstCounter::new(status.skipped_records),
        )?;
        one(
            &mut encoder,
            "ringway_ring_as_of",
            "The revision of the cluster state that the ring follows from",
            &ConstGauge::new(topology.epoch.as_of),
        )?;
        one(
            &mut encoder,
            "ringway_ring_members",
            "Nodes in the ring, registered or kept",
            &ConstGauge::new(topology.members().len() as u64),
        )?;
        one(
            &mut encoder,
            "ringway_ring_kept_members",
            "Nodes kept in the ring although they are not registered",
            &ConstGauge::new(kept as u64),
        )?;
        one(
            &mut encoder,
            "ringway_nodes_ejected",
            "Nodes that this process does not call at present",
            &ConstGauge::new(self.route.health.ejected() as u64),
        )
    }
}

fn one(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    metric: &impl EncodeMetric,
) -> fmt::Result {
    metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
}
