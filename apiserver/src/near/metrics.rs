//! What near caches count, each worker for itself.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use crate::metrics::WorkerLabel;

type Counters = Family<WorkerLabel, Counter<u64, AtomicU64>>;
type Gauges = Family<WorkerLabel, Gauge>;

/// The families, of which each worker resolves its own members once.
#[derive(Default)]
pub(crate) struct NearFamilies {
    hits: Counters,
    installs: Counters,
    renewals: Counters,
    invalidations: Counters,
    evictions: Counters,
    entries: Gauges,
    bytes: Gauges,
}

impl NearFamilies {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let families = Self::default();
        let counters = [
            (&families.hits, "ringway_near_hits", "Reads answered from a near cache"),
            (&families.installs, "ringway_near_installs", "Values that came to be held"),
            (&families.renewals, "ringway_near_renewals", "Leases of them made longer"),
            (&families.invalidations, "ringway_near_invalidations", "Values called back"),
            (&families.evictions, "ringway_near_evictions", "Values given up for want of room"),
        ];
        for (family, name, help) in counters {
            registry.register(name, help, family.clone());
        }
        registry.register("ringway_near_entries", "Values held", families.entries.clone());
        registry.register("ringway_near_bytes", "Bytes they take", families.bytes.clone());
        families
    }

    pub(crate) fn worker(&self, worker: usize) -> NearMetrics {
        let label = WorkerLabel { worker: worker as u32 };
        let counter = |family: &Counters| family.get_or_create_owned(&label);
        NearMetrics {
            hits: counter(&self.hits),
            installs: counter(&self.installs),
            renewals: counter(&self.renewals),
            invalidations: counter(&self.invalidations),
            evictions: counter(&self.evictions),
            entries: self.entries.get_or_create_owned(&label),
            bytes: self.bytes.get_or_create_owned(&label),
        }
    }
}

/// One worker's counters.
#[derive(Debug, Default)]
pub struct NearMetrics {
    hits: Counter<u64, AtomicU64>,
    installs: Counter<u64, AtomicU64>,
    renewals: Counter<u64, AtomicU64>,
    invalidations: Counter<u64, AtomicU64>,
    evictions: Counter<u64, AtomicU64>,
    entries: Gauge,
    bytes: Gauge,
}

impl NearMetrics {
    pub(super) fn hit(&self) {
        self.hits.inc();
    }

    pub(super) fn installed(&self) {
        self.installs.inc();
    }

    pub(super) fn renewed(&self) {
        self.renewals.inc();
    }

    pub(super) fn invalidated(&self) {
        self.invalidations.inc();
    }

    pub(super) fn evicted(&self, values: usize) {
        self.evictions.inc_by(values as u64);
    }

    pub(super) fn holds(&self, entries: usize, bytes: usize) {
        self.entries.set(entries as i64);
        self.bytes.set(bytes as i64);
    }
}
