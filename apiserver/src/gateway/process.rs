//! What the workers of a gateway share.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use common::{
    clock::Clock,
    condition::{self, Check},
    config::Settings,
    error::{Code, Error},
    key::GroupName,
    route::Shared,
    serve::Limits,
    telemetry::Metrics,
};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;

use crate::{admission::COME_AGAIN, budget::Budget, near::Near};

const STOPPING: &str = "the gateway is stopping";

/// Lists under way for which all nodes are asked, at most: each takes a connection to every node.
const SURVEYS: usize = 4;

/// The process as handlers see it.
pub(crate) struct Process {
    pub(crate) route: Arc<Shared>,
    /// The workers' near caches; none if nothing is to be held.
    pub(crate) nears: Vec<Arc<Near>>,
    /// The bytes of bodies that connections hold.
    pub(crate) bodies: Budget,
    surveys: Semaphore,
    metrics: Metrics,
    clock: Arc<dyn Clock>,
    started: Duration,
    stopping: CancellationToken,
    max_value: usize,
    /// Limits of the groups that this gateway's own configuration defines, for where the cluster state
    /// does not.
    max_values: BTreeMap<GroupName, usize>,
    max_connections: usize,
}

/// Whether requests can be answered.
pub(crate) enum Readiness {
    Ready,
    NotReady {
        /// Why not, in plain words.
        problem: String,
    },
}

impl Process {
    pub(crate) fn new(
        settings: &Settings,
        route: Arc<Shared>,
        nears: Vec<Arc<Near>>,
        metrics: Metrics,
        bodies: Budget,
        clock: Arc<dyn Clock>,
        stopping: CancellationToken,
    ) -> Self {
        let max_values = settings.groups.iter();
        Self {
            route,
            nears,
            bodies,
            surveys: Semaphore::new(SURVEYS),
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
    pub(crate) fn max_value(&self, group: &str) -> usize {
        let topology = self.route.topologies.load();
        let defined = topology.group(group).and_then(|record| record.definition.as_ref());
        let defined = defined.map(|definition| definition.max_value as usize);
        let own = || self.max_values.get(group).copied().unwrap_or(self.max_value);
        defined.unwrap_or_else(own)
    }

    /// The right to ask all nodes for something, until it is dropped.
    ///
    /// # Errors
    /// [`Code::Overloaded`] when [`SURVEYS`] do.
    pub(crate) fn survey(&self) -> Result<SemaphorePermit<'_>, Error> {
        self.surveys.try_acquire().map_err(|_| {
            let text = format!("{SURVEYS} requests for which all nodes are asked are under way");
            Error::new(Code::Overloaded, text).retry_after(COME_AGAIN)
        })
    }

    pub(crate) fn uptime(&self) -> Duration {
        self.clock.monotonic().saturating_sub(self.started)
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The wall clock, in milliseconds since 1970.
    pub(crate) fn unix_ms(&self) -> u64 {
        self.clock.unix().as_millis() as u64
    }

    pub(crate) fn readiness(&self) -> Readiness {
        if self.stopping.is_cancelled() {
            return Readiness::NotReady { problem: STOPPING.to_owned() };
        }
        if self.route.topologies.load().members().is_empty() {
            return Readiness::NotReady { problem: self.why_no_nodes() };
        }
        Readiness::Ready
    }

    /// Why the ring is empty, when it is.
    pub(crate) fn why_no_nodes(&self) -> String {
        let why = self.discovery().problem();
        format!("no nodes: {}", why.unwrap_or_else(|| "no node has registered".to_owned()))
    }

    /// All that can be wrong, whether it makes the gateway unready or not.
    pub(crate) fn checks(&self) -> [Check; 4] {
        let stopping = if self.stopping.is_cancelled() {
            Check::failed("stopping", STOPPING)
        } else {
            Check::ok("stopping", "no")
        };
        let members = condition::members(&self.route.topologies.load());
        let ejected = condition::ejected(&self.route.health, self.unix_ms());
        [stopping, members, self.discovery(), ejected]
    }

    fn discovery(&self) -> Check {
        let topologies = &self.route.topologies;
        let status = topologies.discovery_status();
        condition::discovery(&status.borrow(), &topologies.load(), self.unix_ms())
    }
}
