//! What a gateway counts. Every worker has its own counters, so that they share no cache line.

use std::{array, sync::atomic::AtomicU64, time::Duration};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::{Registry, Unit},
};

/// What a request asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Operation {
    Get,
    Set,
    Delete,
}

const OPERATIONS: [&str; 3] = ["get", "set", "delete"];
const CLASSES: [&str; 4] = ["2xx", "3xx", "4xx", "5xx"];
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

/// The families, of which each worker resolves its own members once.
pub(crate) struct Metrics {
    requests: Family<RequestLabels, Counter<u64, AtomicU64>>,
    latency: Family<LatencyLabels, Histogram>,
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
        Self { requests, latency }
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

/// One worker's counters.
pub(crate) struct WorkerMetrics {
    requests: [[Counter<u64, AtomicU64>; 4]; 3],
    latency: [Histogram; 3],
}

impl WorkerMetrics {
    /// A request was answered with that HTTP status.
    pub(crate) fn done(&self, operation: Operation, status: impl Into<u16>, took: Duration) {
        let class = usize::from(status.into() / 100).clamp(2, 5) - 2;
        self.requests[operation as usize][class].inc();
        self.latency[operation as usize].observe(took.as_secs_f64());
    }
}
