//! What a gateway counts. Every worker has its own counters, so that they share no cache line.

use std::{array, sync::atomic::AtomicU64, time::Duration};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

/// What a request asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Operation {
    Get,
    Set,
    Delete,
    /// Many of the others, which are counted for themselves too.
    Batch,
}

const OPERATIONS: [&str; 4] = ["get", "set", "delete", "batch"];
/// The class of a status, or that the client went away before there was one.
const CLASSES: [&str; 5] = ["2xx", "3xx", "4xx", "5xx", "canceled"];
const CANCELED: usize = 4;
/// A request that is shed is answered 503.
const SHED: usize = 3;
/// Upper bounds of the latency buckets, in seconds.
const BUCKETS: [f64; 12] =
    [0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 2.5];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    worker: u32,
    operation: &'static str,
    status: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LatencyLabels {
    worker: u32,
    operation: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct WorkerLabel {
    pub(crate) worker: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ShedLabels {
    reason: &'static str,
}

/// The families, of which each worker resolves its own members once.
pub(crate) struct Metrics {
    requests: Family<RequestLabels, Counter<u64, AtomicU64>>,
    latency: Family<LatencyLabels, Histogram>,
    in_flight: Family<WorkerLabel, Gauge>,
    limit: Family<WorkerLabel, Gauge>,
    shed: Family<ShedLabels, Counter>,
    /// Bytes of bodies that are held.
    pub(crate) body_bytes: Gauge,
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let requests = Family::default();
        let latency = Family::new_with_constructor((|| Histogram::new(BUCKETS)) as fn() -> _);
        registry.register(
            "ringway_gateway_requests",
            "Requests on keys, by operation and class of status",
            requests.clone(),
        );
        registry.register_with_unit(
            "ringway_gateway_request_duration",
            "From a request's head to its response's head",
            Unit::Seconds,
            latency.clone(),
        );
        let (in_flight, limit, shed) = (Family::default(), Family::default(), Family::default());
        let body_bytes = Gauge::default();
        registry.register(
            "ringway_gateway_in_flight",
            "Requests on keys under way",
            in_flight.clone(),
        );
        registry.register(
            "ringway_gateway_in_flight_limit",
            "How many may be, at present",
            limit.clone(),
        );
        registry.register(
            "ringway_gateway_shed",
            "Requests refused before anything was done for them",
            shed.clone(),
        );
        registry.register(
            "ringway_gateway_body_bytes",
            "Bytes of bodies being read or written, small ones aside",
            body_bytes.clone(),
        );
        Self { requests, latency, in_flight, limit, shed, body_bytes }
    }

    /// What one worker has taken on and refused.
    pub(crate) fn load(&self, worker: usize) -> LoadMetrics {
        let worker = WorkerLabel { worker: worker as u32 };
        LoadMetrics {
            in_flight: self.in_flight.get_or_create_owned(&worker),
            limit: self.limit.get_or_create_owned(&worker),
            shed_full: self.shed("full"),
            shed_late: self.shed("late"),
        }
    }

    /// Bodies refused for want of bytes to hold them.
    pub(crate) fn shed_bytes(&self) -> Counter {
        self.shed("bytes")
    }

    fn shed(&self, reason: &'static str) -> Counter {
        self.shed.get_or_create_owned(&ShedLabels { reason })
    }

    pub(crate) fn worker(&self, worker: usize) -> WorkerMetrics {
        let worker = worker as u32;
        let counter = |operation: usize, status: usize| {
            let (operation, status) = (OPERATIONS[operation], CLASSES[status]);
            self.requests.get_or_create_owned(&RequestLabels { worker, operation, status })
        };
        let histogram = |operation: usize| {
            let operation = OPERATIONS[operation];
            self.latency.get_or_create_owned(&LatencyLabels { worker, operation })
        };
        WorkerMetrics {
            requests: array::from_fn(|operation| {
                array::from_fn(|status| counter(operation, status))
            }),
            latency: array::from_fn(histogram),
        }
    }
}

/// What one worker has taken on and refused. The numbers under way are counted once, for the limit
/// and for whoever looks at them.
pub(crate) struct LoadMetrics {
    pub(crate) in_flight: Gauge,
    pub(crate) limit: Gauge,
    pub(crate) shed_full: Counter,
    pub(crate) shed_late: Counter,
}

/// One worker's counters.
pub(crate) struct WorkerMetrics {
    requests: [[Counter<u64, AtomicU64>; CLASSES.len()]; OPERATIONS.len()],
    latency: [Histogram; OPERATIONS.len()],
}

impl WorkerMetrics {
    /// A request has begun.
    pub(crate) fn begun(&self, operation: Operation) -> Request<'_> {
        Request { metrics: self, operation: operation as usize, class: CANCELED }
    }

    /// An operation of a batch was answered with that status.
    pub(crate) fn answered(&self, operation: Operation, status: u16) {
        self.requests[operation as usize][class(status)].inc();
    }

    /// Operations of a batch whose client went away before they were answered.
    pub(crate) fn canceled(&self, operation: Operation, count: usize) {
        self.requests[operation as usize][CANCELED].inc_by(count as u64);
    }
}

/// A request to be counted, once: when this is dropped, which for one whose client goes away is
/// in the middle of its handler.
#[must_use]
pub(crate) struct Request<'a> {
    metrics: &'a WorkerMetrics,
    operation: usize,
    class: usize,
}

impl Request<'_> {
    /// It was answered with that HTTP status.
    pub(crate) fn done(mut self, status: impl Into<u16>, took: Duration) {
        self.class = class(status.into());
        self.metrics.latency[self.operation].observe(took.as_secs_f64());
    }
}

impl Request<'_> {
    /// It was refused before anything was done for it: how long that took tells nothing.
    pub(crate) fn shed(mut self) {
        self.class = SHED;
    }
}

/// The class of a status; informational ones are none that an answer ends with.
fn class(status: u16) -> usize {
    usize::from(status / 100).clamp(2, 5) - 2
}

impl Drop for Request<'_> {
    fn drop(&mut self) {
        self.metrics.requests[self.operation][self.class].inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_counted_once_answered_or_not() {
        let metrics = Metrics::register(&mut Registry::default()).worker(0);
        metrics.begun(Operation::Get).done(200_u16, Duration::ZERO);
        metrics.begun(Operation::Get).done(503_u16, Duration::ZERO);
        drop(metrics.begun(Operation::Get));
        let counts = metrics.requests[Operation::Get as usize].each_ref().map(Counter::get);
        assert_eq!(counts, [1, 0, 0, 1, 1]);
    }
}
