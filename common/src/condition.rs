//! What condition a process is in: in words for operators, in numbers for Prometheus.
//!
//! Gateways and nodes follow the same cluster state and eject nodes by the same rules, so they
//! tell of it in the same words. Whether a check that fails makes a process unready is for the
//! process to say: one that has lost etcd goes on serving.

mod metrics;

use std::fmt::Write;

use crate::{
    discovery::{DiscoveryStatus, Serving, moment},
    health::HealthTable,
    topology::Topology,
};

pub use metrics::ClusterMetrics;

/// Most ejected nodes that are named in a check; the others are counted.
const MAX_NAMED: usize = 5;

/// One line of `/readyz?verbose`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    name: &'static str,
    problem: Option<String>,
    detail: String,
}

impl Check {
    /// All is as it should be; the detail may be empty.
    pub fn ok(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, problem: None, detail: detail.into() }
    }

    /// Something is not, in plain words.
    pub fn failed(name: &'static str, problem: impl Into<String>) -> Self {
        Self { name, problem: Some(problem.into()), detail: String::new() }
    }

    /// What is wrong, with the check's name before it; `None`: nothing.
    pub fn problem(&self) -> Option<String> {
        self.problem.as_ref().map(|problem| format!("{}: {problem}", self.name))
    }

    fn line(&self) -> String {
        match (&self.problem, self.detail.as_str()) {
            (Some(problem), _) => format!("[-]{}: {problem}\n", self.name),
            (None, "") => format!("[+]{} ok\n", self.name),
            (None, detail) => format!("[+]{} ok: {detail}\n", self.name),
        }
    }
}

/// The answer of `/readyz?verbose`: a line for each check, and the verdict.
pub fn verbose(checks: &[Check], ready: bool) -> String {
    let mut text: String = checks.iter().map(Check::line).collect();
    text.push_str(if ready { "readyz check passed\n" } else { "readyz check failed\n" });
    text
}

/// Whether a query asks for every check. Other parameters are ignored, as Kubernetes does.
pub fn is_verbose(query: Option<&str>) -> bool {
    let mut pairs = query.unwrap_or_default().split('&');
    pairs.any(|pair| pair.split('=').next() == Some("verbose"))
}

/// A moment, and how long ago that was: `2026-11-21T12:00:00Z (12 s)`.
pub fn since(unix_ms: u64, now_unix_ms: u64) -> String {
    format!("{} ({} s)", moment(unix_ms), now_unix_ms.saturating_sub(unix_ms) / 1000)
}

/// Whether the cluster state is followed and, if not, by what the process goes meanwhile.
pub fn discovery(status: &DiscoveryStatus, topology: &Topology, now_unix_ms: u64) -> Check {
    const NAME: &str = "discovery";
    let mut problems = Vec::new();
    if !status.connected {
        let why = status.problem.as_deref().unwrap_or("not connected");
        problems.push(format!("{why}, since {}", since(status.since_unix_ms, now_unix_ms)));
        if status.serving.is_none() {
            let (count, as_of) = (topology.members().len(), topology.epoch.as_of);
            problems.push(match count {
                0 => "no ring is known".to_owned(),
                _ => {
                    format!("serving the last known ring, {} as of revision {as_of}", nodes(count))
                }
            });
        }
    }
    problems.extend(status.serving.as_ref().map(Serving::in_words));
    problems.extend(status.conflict.clone());
    if !problems.is_empty() {
        return Check::failed(NAME, problems.join("; "));
    }
    let mut detail = format!("followed since {}", moment(status.since_unix_ms));
    if status.skipped_records > 0 {
        let _ = write!(detail, "; records skipped: {}", status.skipped_records);
    }
    Check::ok(NAME, detail)
}

/// Whether there is anybody to turn to.
pub fn members(topology: &Topology) -> Check {
    match topology.members().len() {
        0 => Check::failed("members", "no node is known"),
        count => Check::ok("members", nodes(count)),
    }
}

/// Whom this process does not call, since when and why.
pub fn ejected(health: &HealthTable, now_unix_ms: u64) -> Check {
    let ejected = health.ejected_nodes();
    let mut told: Vec<_> = ejected
        .iter()
        .take(MAX_NAMED)
        .map(|(id, ejection)| {
            let began = since(ejection.since_unix_ms, now_unix_ms);
            format!("node {id} ejected since {began} because {}", ejection.why)
        })
        .collect();
    if ejected.len() > MAX_NAMED {
        told.push(format!("and {} more", ejected.len() - MAX_NAMED));
    }
    if told.is_empty() {
        Check::ok("ejected", "nobody")
    } else {
        Check::failed("ejected", told.join("; "))
    }
}

fn nodes(count: usize) -> String {
    if count == 1 { "1 node".to_owned() } else { format!("{count} nodes") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::NodeId;

    #[test]
    fn checks_are_told_a_line_each_and_then_the_verdict() {
        let checks =
            [Check::ok("a", ""), Check::ok("b", "3 nodes"), Check::failed("c", "gone, since 1970")];
        assert_eq!(
            verbose(&checks, true),
            "[+]a ok\n[+]b ok: 3 nodes\n[-]c: gone, since 1970\nreadyz check passed\n"
        );
        assert_eq!(verbose(&checks[..1], false), "[+]a ok\nreadyz check failed\n");
        assert_eq!(checks[2].problem().as_deref(), Some("c: gone, since 1970"));
        assert_eq!(checks[1].problem(), None);
    }

    #[test]
    fn verbose_is_found_among_other_parameters() {
        for query in ["verbose", "verbose=", "verbose=true", "a=b&verbose", "verbose&exclude=etcd"]
        {
            assert!(is_verbose(Some(query)), "{query}");
        }
        for query in [None, Some(""), Some("verbosely"), Some("exclude=verbose")] {
            assert!(!is_verbose(query), "{query:?}");
        }
    }

    #[test]
    fn a_lost_backend_is_told_with_its_time_and_what_is_served_meanwhile() {
        let lost = DiscoveryStatus {
            since_unix_ms: 1_000,
            problem: Some("etcd at a:1 can't be reached".into()),
            ..DiscoveryStatus::default()
        };
        let told = |status: &DiscoveryStatus| {
            discovery(status, &Topology::empty(), 13_500).problem().unwrap_or_default()
        };
        let since = "etcd at a:1 can't be reached, since 1970-01-01T00:00:01Z (12 s)";
        assert_eq!(told(&lost), format!("discovery: {since}; no ring is known"));
        let serving = Some(Serving::Snapshot { saved_unix_ms: 500 });
        let snapshot = "the ring is that of a snapshot, saved at 1970-01-01T00:00:00.5Z";
        let lost = DiscoveryStatus { serving, ..lost };
        assert_eq!(told(&lost), format!("discovery: {since}; {snapshot}"));
        let keeping = Serving::Keeping {
            members: vec![NodeId::new("n1").unwrap()],
            since_unix_ms: 0,
            problem: None,
        };
        let back = DiscoveryStatus {
            connected: true,
            problem: None,
            serving: Some(keeping),
            skipped_records: 2,
            ..lost
        };
        let kept = "kept in the ring since 1970-01-01T00:00:00Z although not registered: n1";
        assert_eq!(told(&back), format!("discovery: {kept}"));
        let well = DiscoveryStatus { serving: None, ..back };
        assert_eq!(
            discovery(&well, &Topology::empty(), 0).line(),
            "[+]discovery ok: followed since 1970-01-01T00:00:01Z; records skipped: 2\n"
        );
    }
}
