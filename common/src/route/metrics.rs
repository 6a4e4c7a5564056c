//! What routing counts.

use prometheus_client::{metrics::counter::Counter, registry::Registry};

/// Counters of a process's routers.
#[derive(Debug, Clone, Default)]
pub struct RouteMetrics {
    pub(super) retries: Counter,
    pub(super) budget_empty: Counter,
    pub(super) moved: Counter,
}

impl RouteMetrics {
    /// Makes them visible.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "ringway_route_retries",
            "Tries at another node than the first",
            self.retries.clone(),
        );
        registry.register(
            "ringway_route_retry_budget_empty",
            "Retries not made because the budget was spent",
            self.budget_empty.clone(),
        );
        registry.register(
            "ringway_route_moved",
            "Requests routed again because a node knew a newer ring",
            self.moved.clone(),
        );
    }

    /// Tries at another node than the first, since the start.
    pub fn retries(&self) -> u64 {
        self.retries.get()
    }
}
