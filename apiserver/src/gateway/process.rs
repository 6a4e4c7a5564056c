//! What the workers of a gateway share.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use common::{
    clock::Clock, config::Settings, key::GroupName, route::Shared, serve::Limits,
    telemetry::Metrics,
};
use tokio_util::sync::CancellationToken;

/// The process as handlers see it.
pub(crate) struct Process {
    pub(crate) route: Arc<Shared>,
    metrics: Metrics,
    clock: Arc<dyn Clock>,
    started: Duration,
    stopping: CancellationToken,
    max_value: usize,
    /// Limits of the groups that this gateway's own configuration defines.
    max_values: BTreeMap<GroupName, usize>,
    max_connections: usize,
}

/// Whether requests can be answered.
pub(crate) enum Readiness {
    Ready {
        /// What is not as it should be nevertheless.
        problem: Option<String>,
    },
    NotReady {
        problem: String,
    },
}

impl Readiness {
    /// What is wrong, in plain words; empty when nothing is.
    pub(crate) fn problem(self) -> String {
        match self {
            Self::Ready { problem } => problem.unwrap_or_default(),
            Self::NotReady { problem } => problem,
        }
    }
}

impl Process {
    pub(super) fn new(
        settings: &Settings,
        route: Arc<Shared>,
        metrics: Metrics,
        clock: Arc<dyn Clock>,
        stopping: CancellationToken,
    ) -> Self {
        let max_values = settings.groups.iter();
        Self {
            route,
            metrics,
            started: clock.monotonic(),
            clock,
            stopping,
            max_value: settings.gateway.max_value as usize,
            max_values: max_values
                .map(|(name, group)| (name.clone(), group.max_value as usize))
                .collect(),
            max_connections: settings.gateway.max_connections,
        }
    }

    pub(super) fn limits(&self) -> Limits {
        Limits { max_connections: self.max_connections, ..Limits::default() }
    }

    /// The largest value to read for a group. The node has the last word.
    pub(crate) fn max_value(&self, group: &GroupName) -> usize {
        self.max_values.get(group).copied().unwrap_or(self.max_value)
    }

    pub(crate) fn uptime(&self) -> Duration {
        self.clock.monotonic().saturating_sub(self.started)
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    pub(crate) fn readiness(&self) -> Readiness {
        let status = self.route.topologies.discovery_status().borrow().clone();
        let lost = (!status.connected).then(|| {
            let why = status.problem.unwrap_or_else(|| "not connected yet".to_owned());
            format!("discovery: {why}")
        });
        if self.stopping.is_cancelled() {
            return Readiness::NotReady { problem: "the gateway is stopping".to_owned() };
        }
        if self.route.topologies.load().members().is_empty() {
            let why = lost.unwrap_or_else(|| "no node has registered".to_owned());
            return Readiness::NotReady { problem: format!("no nodes: {why}") };
        }
        Readiness::Ready { problem: lost }
    }
}
