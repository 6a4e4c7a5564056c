//! A node's recent joins and leaves, which it keeps beside its record, and how long it has to
//! wait before it may join once more.
//!
//! Every join and every leave moves keys. A node that comes and goes damps itself, by what its
//! own lives have written down; nobody judges others. Times are wall-clock milliseconds, because
//! they outlive processes.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The layout of the JSON, its field `v`.
const HISTORY_VERSION: u32 = 1;
/// How far back joins and leaves count.
pub(crate) const FLAP_WINDOW: Duration = Duration::from_secs(30);
/// Most joins and leaves within [`FLAP_WINDOW`] that a node may have behind it when it joins.
pub(crate) const MAX_FLAPS: usize = 2;
/// How long a history is kept after its last change.
pub(crate) const HISTORY_LIFE: Duration = Duration::from_secs(60);
/// Most events that are kept; only the last few count.
const MAX_EVENTS: usize = 16;

/// What a node did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum What {
    Joined,
    Left,
    /// It wished to join and had to wait. That counts, so that who goes on flapping stays out.
    Wished,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Event {
    at: u64,
    what: What,
}

/// What a node did lately, the latest last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct History(Vec<Event>);

/// Why a node must not join yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Damped {
    /// How often it joined, left or wished to join within [`FLAP_WINDOW`].
    pub(crate) times: usize,
    /// How long it has to wait.
    pub(crate) wait: Duration,
}

#[derive(Serialize, Deserialize)]
struct Written {
    v: u32,
    events: Vec<Event>,
}

impl History {
    /// Reads a history. One that can't be read is as good as none: it only damps.
    pub(crate) fn parse(json: &[u8]) -> Self {
        let written = serde_json::from_slice(json).ok();
        let mut events = written
            .filter(|written: &Written| written.v == HISTORY_VERSION)
            .map_or_else(Vec::new, |written| written.events);
        events.drain(..events.len().saturating_sub(MAX_EVENTS));
        Self(events)
    }

    pub(crate) fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(&Written { v: HISTORY_VERSION, events: self.0.clone() })
            .expect("a struct of numbers and words is always JSON")
    }

    /// Whether the last that is known is that the node left, on purpose if it wrote that itself.
    pub(crate) fn ends_with_leave(&self) -> bool {
        self.last_move() == Some(What::Left)
    }

    /// The node is found not to be a member. If nobody wrote down that it left, it does so now.
    pub(crate) fn is_out(&mut self, now: u64) {
        if self.last_move() == Some(What::Joined) {
            self.push(now, What::Left);
        }
    }

    /// Whether the node has to wait before it joins.
    pub(crate) fn damped(&self, now: u64) -> Option<Damped> {
        let window = FLAP_WINDOW.as_millis() as u64;
        // Also what seems to be to come: the clock may have been set back.
        let recent = self.0.iter().map(|event| event.at).filter(|at| at.abs_diff(now) < window);
        let mut recent: Vec<_> = recent.collect();
        recent.sort_unstable();
        let over = recent.len().checked_sub(MAX_FLAPS + 1)?;
        let until = (recent[over] + window).saturating_sub(now).min(window);
        Some(Damped { times: recent.len(), wait: Duration::from_millis(until) })
    }

    pub(crate) fn joined(&mut self, now: u64) {
        self.push(now, What::Joined);
    }

    pub(crate) fn left(&mut self, now: u64) {
        self.push(now, What::Left);
    }

    pub(crate) fn wished(&mut self, now: u64) {
        self.push(now, What::Wished);
    }

    fn last_move(&self) -> Option<What> {
        self.0.iter().rev().map(|event| event.what).find(|what| *what != What::Wished)
    }

    fn push(&mut self, at: u64, what: What) {
        self.0.push(Event { at, what });
        self.0.drain(..self.0.len().saturating_sub(MAX_EVENTS));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A node that joins and leaves every second second, as long as it may: when it moved.
    fn flap(history: &mut History, from: u64, to: u64) -> Vec<u64> {
        let mut moves = Vec::new();
        for second in (from..to).step_by(2) {
            let now = second * 1000;
            if history.damped(now).is_some() {
                history.wished(now);
                continue;
            }
            history.joined(now);
            history.left(now + 1000);
            moves.extend([second, second + 1]);
        }
        moves
    }

    #[test]
    fn who_goes_on_flapping_stays_out_and_who_stops_may_return() {
        let mut history = History::default();
        history.joined(0);
        history.left(100_000);
        assert_eq!(flap(&mut history, 101, 160), [101, 102]);
        let damped = history.damped(160_000).unwrap();
        // The third last wish was at 155.
        assert_eq!(damped.wait, Duration::from_secs(25));
        assert_eq!(history.damped(160_000 + 25_000), None);
    }

    #[test]
    fn a_restart_is_no_flapping_but_the_third_start_in_a_row_is() {
        let mut history = History::default();
        assert_eq!(history.damped(0), None);
        history.joined(0);
        history.left(1_000);
        assert_eq!(history.damped(2_000), None);
        history.joined(2_000);
        // It crashed, which nobody wrote down.
        history.is_out(9_000);
        let damped = history.damped(9_000).unwrap();
        assert_eq!((damped.times, damped.wait), (4, Duration::from_secs(22)));
        history.is_out(10_000);
        assert_eq!(history.damped(10_000).unwrap().times, 4);
    }

    #[test]
    fn the_last_move_tells_who_left() {
        let mut history = History::default();
        assert!(!history.ends_with_leave());
        history.joined(0);
        assert!(!history.ends_with_leave());
        history.left(1);
        history.wished(2);
        assert!(history.ends_with_leave());
    }

    #[test]
    fn a_clock_that_was_set_back_keeps_nobody_out_for_long() {
        let mut history = History::default();
        for at in [3_600_000, 3_600_001, 3_600_002] {
            history.joined(at);
        }
        assert_eq!(history.damped(0), None);
        assert_eq!(history.damped(3_599_000).unwrap().wait, FLAP_WINDOW);
    }

    #[test]
    fn a_history_reads_back_and_is_bounded() {
        let mut history = History::default();
        history.joined(5);
        assert_eq!(history.to_json(), br#"{"v":1,"events":[{"at":5,"what":"joined"}]}"#);
        assert_eq!(History::parse(&history.to_json()), history);
        for at in 0..100 {
            history.wished(at);
        }
        assert_eq!(history.0.len(), MAX_EVENTS);
        assert_eq!(History::parse(&history.to_json()), history);
        for bad in [b"".as_slice(), b"{", br#"{"v":2,"events":[]}"#, b"\xff"] {
            assert_eq!(History::parse(bad), History::default());
        }
    }
}
