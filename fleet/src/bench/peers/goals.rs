//! The goals, line by line, and whether a run reached them.
//!
//! Ratios are to nginx in front of three memcacheds under the same workload in the same run. The
//! one system that is not run here is Go-Cache, which the goals name as well: what it costs is
//! taken from one earlier measurement, as a ratio to the same nginx.

use std::fmt;

use super::{
    Cast, Results,
    scenes::{BAR, OURS},
};

/// What a request cost through Go-Cache, 98.7 µs, when it cost 23.1 µs through the bar.
const GO_CACHE: f64 = 98.7 / 23.1;
/// Keys of a batch.
const BATCH: f64 = 100.0;
const MEGABYTE: f64 = 1e6;

/// Which side of its limit a figure should be on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    AtMost,
    AtLeast,
}

/// A line of the goals.
struct Goal {
    what: &'static str,
    side: Side,
    limit: f64,
    unit: &'static str,
    read: fn(&Results) -> Option<f64>,
}

/// A goal and the figure that was measured for it.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// What it is about.
    pub what: &'static str,
    /// The figure; `None` if it was not measured.
    pub figure: Option<f64>,
    side: Side,
    limit: f64,
    unit: &'static str,
}

const GOALS: [Goal; 14] = [
    at_most("CPU per request, 100 connections, uniform", 0.62, "× nginx", |r| cpu(r, "get-c100")),
    at_most("the same, against the responder", 2.1, "× axum", |r| {
        Some(r.total_us("get-c100", OURS)? / r.total_us("get-c100", Cast::Bare)?)
    }),
    at_least("requests per second, 100 connections, uniform", 1.4, "× nginx", |r| {
        Some(r.middle("get-c100", OURS)?.rate / r.middle("get-c100", BAR)?.rate)
    }),
    at_most("p99, 100 connections", 0.7, "× nginx", |r| p99(r, "get-c100")),
    at_most("CPU per request, 8 connections", 0.95, "× nginx", |r| cpu(r, "get-c8")),
    at_most("p99, 8 connections", 0.95, "× nginx", |r| p99(r, "get-c8")),
    at_most("CPU per request, 100 connections, Zipf 0.99", 0.42, "× nginx", |r| cpu(r, "zipf")),
    at_most("CPU per write of 1 KiB, 100 connections", 0.75, "× webdis", |r| {
        Some(r.total_us("put", OURS)? / r.total_us("put", Cast::Webdis)?)
    }),
    at_most("CPU per key of a batch of 100", 1.5, "µs", |r| {
        Some(r.total_us("batch", OURS)? / BATCH)
    }),
    at_most("a node's memory per entry of 20 B + 1 KiB", 1_430.0, "bytes", |r| {
        Some(r.entry_bytes.iter().find(|(name, _)| name == "Ringway")?.1)
    }),
    at_most("a gateway's memory, 100 connections", 16.0, "MB", |r| {
        Some(r.middle("get-c100", OURS)?.front_bytes as f64 / MEGABYTE)
    }),
    at_most("an empty node's memory", 12.0, "MB", |r| Some(r.empty_node_bytes? as f64 / MEGABYTE)),
    at_most("CPU per request with 30 nodes", 1.25, "× with 3", |r| {
        Some(r.total_us("nodes", Cast::Ringway(30))? / r.total_us("nodes", OURS)?)
    }),
    at_least("less CPU per request than Go-Cache", 6.0, "×", |r| {
        Some(GO_CACHE * r.total_us("get-c100", BAR)? / r.total_us("get-c100", OURS)?)
    }),
];

const fn at_most(
    what: &'static str,
    limit: f64,
    unit: &'static str,
    read: fn(&Results) -> Option<f64>,
) -> Goal {
    Goal { what, side: Side::AtMost, limit, unit, read }
}

const fn at_least(
    what: &'static str,
    limit: f64,
    unit: &'static str,
    read: fn(&Results) -> Option<f64>,
) -> Goal {
    Goal { what, side: Side::AtLeast, limit, unit, read }
}

fn cpu(results: &Results, scene: &str) -> Option<f64> {
    Some(results.total_us(scene, OURS)? / results.total_us(scene, BAR)?)
}

fn p99(results: &Results, scene: &str) -> Option<f64> {
    let p99 = |cast| Some(results.middle(scene, cast)?.p99.as_secs_f64());
    Some(p99(OURS)? / p99(BAR)?)
}

/// Holds results against every goal.
pub fn judge(results: &Results) -> Vec<Judged> {
    let judged = |goal: &Goal| Judged {
        what: goal.what,
        figure: (goal.read)(results).filter(|figure| figure.is_finite()),
        side: goal.side,
        limit: goal.limit,
        unit: goal.unit,
    };
    GOALS.iter().map(judged).collect()
}

impl Judged {
    /// Whether it was measured and reached.
    pub fn is_reached(&self) -> bool {
        self.figure.is_some_and(|figure| match self.side {
            Side::AtMost => figure <= self.limit,
            Side::AtLeast => figure >= self.limit,
        })
    }

    /// The goal, as `≤ 0.62 × nginx`.
    pub fn goal(&self) -> String {
        let sign = if self.side == Side::AtMost { "≤" } else { "≥" };
        format!("{sign} {} {}", self.limit, self.unit)
    }

    /// The figure with its unit, or that there is none.
    pub fn measured(&self) -> String {
        match self.figure {
            None => "not measured".to_owned(),
            Some(figure) if figure >= 100.0 => format!("{figure:.0} {}", self.unit),
            // Three digits behind the point: rounding must not make a goal look reached.
            Some(figure) => format!("{figure:.3} {}", self.unit),
        }
    }

    /// `ok`, or by how much it was missed.
    pub fn verdict(&self) -> String {
        match self.figure {
            Some(_) if self.is_reached() => "ok".to_owned(),
            Some(figure) => format!("MISSED ({:.2} × the goal)", figure / self.limit),
            None => "not measured".to_owned(),
        }
    }
}

impl fmt::Display for Judged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}, goal {}: {}", self.what, self.measured(), self.goal(), self.verdict())
    }
}

#[cfg(test)]
mod tests {
    use super::super::results::tests::{place, results};
    use super::*;

    /// What everybody costs when every goal is reached with a margin.
    fn good(scene: &str, cast: Cast) -> f64 {
        match (scene, cast) {
            ("zipf", Cast::Ringway(_)) => 9.0,
            ("batch", Cast::Ringway(_)) => 120.0,
            (_, Cast::Ringway(30)) => 14.0,
            (_, Cast::Ringway(_)) => 13.0,
            (_, Cast::Bare) => 7.0,
            _ => 23.0,
        }
    }

    fn missed(results: &Results) -> Vec<&'static str> {
        judge(results).iter().filter(|line| !line.is_reached()).map(|line| line.what).collect()
    }

    #[test]
    fn good_results_reach_every_goal() {
        let results = results(good);
        assert_eq!(missed(&results), Vec::<&str>::new());
        let lines = judge(&results);
        assert_eq!(
            lines[0].to_string(),
            "CPU per request, 100 connections, uniform: 0.565 × nginx, goal ≤ 0.62 × nginx: ok"
        );
    }

    #[test]
    fn each_goal_is_missed_on_its_own() {
        let worse = |scene: &'static str, cast: Cast, factor: f64| {
            results(move |at, who| {
                good(at, who) * if at == scene && who == cast { factor } else { 1.0 }
            })
        };
        let cases = [
            ("zipf", OURS, 1.2, "CPU per request, 100 connections, Zipf 0.99"),
            ("put", OURS, 1.5, "CPU per write of 1 KiB, 100 connections"),
            ("batch", OURS, 1.3, "CPU per key of a batch of 100"),
            ("nodes", Cast::Ringway(30), 1.2, "CPU per request with 30 nodes"),
            ("get-c100", Cast::Bare, 0.8, "the same, against the responder"),
        ];
        for (scene, cast, factor, what) in cases {
            assert_eq!(missed(&worse(scene, cast, factor)), [what]);
        }
        let eight = missed(&worse("get-c8", OURS, 2.0));
        assert_eq!(eight, ["CPU per request, 8 connections", "p99, 8 connections"]);
        let hundred = missed(&worse("get-c100", OURS, 2.0));
        assert_eq!(hundred.len(), 5, "CPU twice, rate, p99 and Go-Cache: {hundred:?}");
        let mut fat = results(good);
        fat.entry_bytes[0].1 = 1_430.5;
        fat.empty_node_bytes = Some(12_000_001);
        assert_eq!(missed(&fat).len(), 2);
    }

    #[test]
    fn what_was_not_measured_is_not_reached() {
        let empty = Results::new(place());
        assert_eq!(missed(&empty).len(), GOALS.len());
        assert_eq!(judge(&empty)[0].verdict(), "not measured");
    }

    #[test]
    fn a_miss_is_told_with_its_size() {
        let line = judge(&results(|_, _| 23.0)).remove(0);
        assert_eq!(line.verdict(), "MISSED (1.61 × the goal)");
        assert_eq!(line.measured(), "1.000 × nginx");
    }
}
