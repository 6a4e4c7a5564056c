//! Which fault comes next: drawn from a seed, and from nothing else.
//!
//! The draws do not depend on what the fleet does, so the same seed gives the same faults, targets
//! and spans of time; only how long the fleet takes to recover in between differs.

use std::{fmt, time::Duration};

use fastrand::Rng;

/// What is done to the fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A node is killed with SIGKILL, and started again after the span.
    KillNode(usize),
    /// A node is told to end, and started again after the span.
    StopNode(usize),
    /// A node stands still.
    FreezeNode(usize),
    /// A node can't reach etcd.
    CutNodeFromEtcd(usize),
    /// A gateway can't reach etcd.
    CutGatewayFromEtcd(usize),
    /// One gateway's packets to one node vanish.
    CutGatewayFromNode {
        /// Which gateway.
        gateway: usize,
        /// From which node.
        node: usize,
    },
    /// etcd is killed, and comes back with its data.
    KillEtcd,
    /// etcd stands still.
    FreezeEtcd,
    /// etcd is killed, and comes back at once with nothing.
    EmptyEtcd,
    /// History is compacted while a node can't hear of it.
    CompactUnheard(usize),
    /// A node's lease is revoked.
    RevokeLease(usize),
    /// A node stops and starts, every two seconds.
    Flap(usize),
    /// Clients that say half a request and then nothing.
    HalfRequests(usize),
}

impl Fault {
    /// What kind it is, whomever it hits.
    pub fn kind(self) -> &'static str {
        match self {
            Self::KillNode(_) => "kill a node",
            Self::StopNode(_) => "stop a node",
            Self::FreezeNode(_) => "freeze a node",
            Self::CutNodeFromEtcd(_) => "cut a node from etcd",
            Self::CutGatewayFromEtcd(_) => "cut a gateway from etcd",
            Self::CutGatewayFromNode { .. } => "cut a gateway from a node",
            Self::KillEtcd => "kill etcd",
            Self::FreezeEtcd => "freeze etcd",
            Self::EmptyEtcd => "empty etcd",
            Self::CompactUnheard(_) => "compact unheard by a node",
            Self::RevokeLease(_) => "revoke the lease of a node",
            Self::Flap(_) => "flap a node",
            Self::HalfRequests(_) => "half requests to a gateway",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())?;
        match self {
            Self::KillNode(node)
            | Self::StopNode(node)
            | Self::FreezeNode(node)
            | Self::CutNodeFromEtcd(node)
            | Self::CompactUnheard(node)
            | Self::RevokeLease(node)
            | Self::Flap(node) => write!(f, ": node-{node}"),
            Self::CutGatewayFromEtcd(gateway) | Self::HalfRequests(gateway) => {
                write!(f, ": gateway-{gateway}")
            }
            Self::CutGatewayFromNode { gateway, node } => {
                write!(f, ": gateway-{gateway}, node-{node}")
            }
            Self::KillEtcd | Self::FreezeEtcd | Self::EmptyEtcd => Ok(()),
        }
    }
}

/// One fault and the quiet before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// How long nothing happens first.
    pub quiet: Duration,
    /// What is done then.
    pub fault: Fault,
    /// How long it lasts.
    pub lasts: Duration,
}

/// The faults of a seed, without end.
#[derive(Debug)]
pub struct Schedule {
    random: Rng,
    nodes: usize,
    gateways: usize,
    /// The kinds that have not had their turn in this round.
    round: Vec<usize>,
}

/// Kinds of faults.
const KINDS: usize = 13;
/// How long it is quiet between a recovery and the next fault, in milliseconds.
const QUIET_MS: std::ops::Range<u64> = 2_000..8_000;

impl Schedule {
    /// For a fleet of so many nodes and gateways.
    ///
    /// # Panics
    /// Without a node or a gateway.
    pub fn new(seed: u64, nodes: usize, gateways: usize) -> Self {
        assert!(nodes > 0 && gateways > 0, "a fleet has nodes and gateways");
        Self { random: Rng::with_seed(seed), nodes, gateways, round: Vec::new() }
    }

    /// Every kind comes once before any comes again, so that an hour has them all.
    fn kind(&mut self) -> usize {
        if self.round.is_empty() {
            self.round = (0..KINDS).collect();
            self.random.shuffle(&mut self.round);
        }
        self.round.pop().unwrap_or_default()
    }

    fn span(&mut self, seconds: std::ops::Range<u64>) -> Duration {
        Duration::from_millis(self.random.u64(seconds.start * 1000..seconds.end * 1000))
    }
}

impl Iterator for Schedule {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        let quiet = Duration::from_millis(self.random.u64(QUIET_MS));
        let node = self.random.usize(..self.nodes);
        let gateway = self.random.usize(..self.gateways);
        // Spans on both sides of the lease's 10 s, where that matters.
        let (fault, seconds) = match self.kind() {
            0 => (Fault::KillNode(node), 0..20),
            1 => (Fault::StopNode(node), 0..15),
            2 => (Fault::FreezeNode(node), 1..30),
            3 => (Fault::CutNodeFromEtcd(node), 2..40),
            4 => (Fault::CutGatewayFromEtcd(gateway), 2..40),
            5 => (Fault::CutGatewayFromNode { gateway, node }, 2..30),
            6 => (Fault::KillEtcd, 1..40),
            7 => (Fault::FreezeEtcd, 1..25),
            8 => (Fault::EmptyEtcd, 1..2),
            9 => (Fault::CompactUnheard(node), 2..6),
            10 => (Fault::RevokeLease(node), 1..3),
            11 => (Fault::Flap(node), 10..20),
            _ => (Fault::HalfRequests(gateway), 5..12),
        };
        Some(Step { quiet, fault, lasts: self.span(seconds) })
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, mem::discriminant};

    use super::*;

    #[test]
    fn a_seed_gives_the_same_faults_every_time_and_another_one_others() {
        let of = |seed| Schedule::new(seed, 4, 2).take(50).collect::<Vec<_>>();
        assert_eq!(of(7), of(7));
        assert_ne!(of(7), of(8));
    }

    #[test]
    fn every_round_has_every_kind_once_and_targets_that_exist() {
        let steps: Vec<_> = Schedule::new(1, 4, 2).take(KINDS * 20).collect();
        for round in steps.chunks(KINDS) {
            let kinds: HashSet<_> = round.iter().map(|step| discriminant(&step.fault)).collect();
            assert_eq!(kinds.len(), KINDS);
        }
        let cut: HashSet<_> = steps
            .iter()
            .filter_map(|step| match step.fault {
                Fault::CutGatewayFromNode { gateway, node } => Some((gateway, node)),
                _ => None,
            })
            .collect();
        assert!(cut.iter().all(|&(gateway, node)| gateway < 2 && node < 4), "{cut:?}");
        assert!(cut.len() > 4, "different ones: {cut:?}");
    }
}
