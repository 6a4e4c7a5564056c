//! What a listener counts. Reads nothing per request: connections only.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::watchdog::Verdict;

type Labels = Vec<(&'static str, String)>;

/// The metrics of all listeners of a process: one family each, the listener being a label.
#[derive(Debug, Clone, Default)]
pub struct ServeFamilies {
    accepted: Family<Labels, Counter>,
    open: Family<Labels, Gauge>,
    refused: Family<Labels, Counter>,
    closed: Family<Labels, Counter>,
    errors: Family<Labels, Counter>,
}

impl ServeFamilies {
    /// Registers the families `ringway_connections_*`; once per registry.
    pub fn register(registry: &mut Registry) -> Self {
        let new = Self::default();
        let name = |what| format!("ringway_connections_{what}");
        registry.register(name("accepted"), "Connections accepted", new.accepted.clone());
        registry.register(name("open"), "Connections open", new.open.clone());
        registry.register(
            name("refused"),
            "Connections closed at once because there were too many",
            new.refused.clone(),
        );
        registry.register(
            name("closed_by_watchdog"),
            "Connections closed for being idle, for being slow with a request's head or with taking a \
             response, or for a flood of frames",
            new.closed.clone(),
        );
        registry.register(
            name("accept_errors"),
            "Failures to accept a connection",
            new.errors.clone(),
        );
        new
    }

    /// The counters of one listener; the same name gives the same counters.
    pub fn listener(&self, name: &str) -> Arc<ServeMetrics> {
        let label = || vec![("listener", name.to_owned())];
        let closed = |reason: &str| {
            let mut labels = label();
            labels.push(("reason", reason.to_owned()));
            self.closed.get_or_create_owned(&labels)
        };
        Arc::new(ServeMetrics {
            listener: name.to_owned(),
            accepted: self.accepted.get_or_create_owned(&label()),
            refused_over_cap: self.refused.get_or_create_owned(&label()),
            closed_idle: closed("idle"),
            closed_slow_head: closed("slow_head"),
            closed_slow_reader: closed("slow_reader"),
            closed_flood: closed("flood"),
            accept_errors: self.errors.get_or_create_owned(&label()),
            open: AtomicUsize::new(0),
            open_by_worker: self.open.clone(),
        })
    }
}

/// What one listener counts.
#[derive(Debug)]
pub struct ServeMetrics {
    listener: String,
    /// Connections accepted, whatever became of them.
    pub accepted: Counter,
    /// Connections closed at once because `max_connections` were open.
    pub refused_over_cap: Counter,
    /// Connections the watchdog closed after a time without requests.
    pub closed_idle: Counter,
    /// Connections the watchdog closed because no (whole) request came in time.
    pub closed_slow_head: Counter,
    /// Connections the watchdog closed because a response waited for its HTTP/2 client.
    pub closed_slow_reader: Counter,
    /// HTTP/2 connections closed for frames that bring neither requests nor data.
    pub closed_flood: Counter,
    /// Failures of accept, most often for want of file descriptors.
    pub accept_errors: Counter,
    open: AtomicUsize,
    open_by_worker: Family<Labels, Gauge>,
}

impl ServeMetrics {
    /// Counters that no registry exports.
    pub fn unregistered() -> Arc<Self> {
        ServeFamilies::default().listener("")
    }

    /// Connections open now.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Connections open now on the target of that index.
    pub fn open_on(&self, target: usize) -> usize {
        usize::try_from(self.gauge(target).get()).unwrap_or(0)
    }

    pub(super) fn closed(&self, verdict: Verdict) -> &Counter {
        match verdict {
            Verdict::SlowHead => &self.closed_slow_head,
            Verdict::StalledReader => &self.closed_slow_reader,
            Verdict::Idle => &self.closed_idle,
        }
    }

    fn gauge(&self, target: usize) -> Gauge {
        let labels = vec![("listener", self.listener.clone()), ("worker", target.to_string())];
        self.open_by_worker.get_or_create_owned(&labels)
    }
}

/// The open connections of one target, counted once for the spreading and for the metrics.
#[derive(Debug, Clone)]
pub(super) struct Load {
    metrics: Arc<ServeMetrics>,
    here: Gauge,
}

impl Load {
    pub(super) fn new(metrics: &Arc<ServeMetrics>, target: usize) -> Self {
        Self { metrics: Arc::clone(metrics), here: metrics.gauge(target) }
    }

    pub(super) fn get(&self) -> i64 {
        self.here.get()
    }

    /// One connection more, until the answer is dropped.
    pub(super) fn enter(&self) -> Entered {
        self.here.inc();
        self.metrics.open.fetch_add(1, Ordering::Relaxed);
        Entered(self.clone())
    }
}

/// A connection that is open.
#[derive(Debug)]
pub(super) struct Entered(Load);

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.here.dec();
        self.0.metrics.open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_share_families_and_every_family_is_described_once() {
        let mut registry = Registry::default();
        let families = ServeFamilies::register(&mut registry);
        let (data, admin) = (families.listener("data"), families.listener("admin"));
        data.accepted.inc_by(3);
        admin.closed_idle.inc();
        let here = Load::new(&data, 1).enter();
        assert_eq!((data.open(), data.open_on(1), data.open_on(0)), (1, 1, 0));

        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            r#"ringway_connections_accepted_total{listener="data"} 3"#,
            r#"ringway_connections_open{listener="data",worker="1"} 1"#,
            r#"ringway_connections_refused_total{listener="data"} 0"#,
            r#"ringway_connections_closed_by_watchdog_total{listener="admin",reason="idle"} 1"#,
            r#"ringway_connections_accept_errors_total{listener="admin"} 0"#,
        ] {
            assert!(text.contains(line), "no {line} in\n{text}");
        }
        assert_eq!(text.matches("# TYPE ringway_connections_accepted counter").count(), 1);
        drop(here);
        assert_eq!((data.open(), data.open_on(1)), (0, 0));
    }
}
