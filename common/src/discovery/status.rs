//! How well a backend is reached and what is shown meanwhile: plain data, and the same in words.

use std::fmt::Write;

use jiff::Timestamp;

use super::record::NodeId;

/// Most members that are named in words; the others are counted.
const MAX_NAMED: usize = 5;

/// How well a backend is reached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DiscoveryStatus {
    /// Whether changes of the cluster state arrive.
    pub connected: bool,
    /// Since when `connected` has been as it is, in wall-clock milliseconds.
    pub since_unix_ms: u64,
    /// When the backend was last heard, in wall-clock milliseconds; `None` where it is nobody who
    /// could be. Watching the status does not tell of it: it moves with every message.
    pub heard_unix_ms: Option<u64>,
    /// What is wrong, in plain words.
    pub problem: Option<String>,
    /// Records skipped since the start because they are malformed or too large.
    pub skipped_records: u64,
    /// This process's ring settings contradict the cluster's; see [`super::Discovery::ready`].
    pub conflict: Option<String>,
    /// Why the view that is shown is not simply what the backend says now, if it is not.
    pub serving: Option<Serving>,
}

/// What is shown in place of, or beyond, what the backend says now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Serving {
    /// The view of a snapshot: the backend has not been reached since this process began.
    Snapshot {
        /// When it was saved, in wall-clock milliseconds.
        saved_unix_ms: u64,
    },
    /// A view with members that are not registered (any more).
    Keeping {
        /// Who they are, in order.
        members: Vec<NodeId>,
        /// Since when, in wall-clock milliseconds.
        since_unix_ms: u64,
        /// Why others may not know of it, in plain words: the cluster state could not be written.
        problem: Option<String>,
    },
}

impl DiscoveryStatus {
    /// All of it that an operator should know, in plain words, in one line.
    pub fn in_words(&self) -> String {
        let since = moment(self.since_unix_ms);
        let mut words = match (&self.problem, self.connected) {
            (_, true) => format!("the cluster state is followed since {since}"),
            (None, false) => format!("the cluster state is not followed since {since}"),
            (Some(why), false) => format!("the cluster state is not followed since {since}: {why}"),
        };
        if let Some(serving) = &self.serving {
            words = format!("{words}; {}", serving.in_words());
        }
        if let Some(conflict) = &self.conflict {
            words = format!("{words}; {conflict}");
        }
        if self.skipped_records > 0 {
            let _ = write!(words, "; {} records were skipped", self.skipped_records);
        }
        words
    }
}

impl Serving {
    /// The same in plain words.
    pub fn in_words(&self) -> String {
        match self {
            Self::Snapshot { saved_unix_ms } => {
                let saved = moment(*saved_unix_ms);
                format!("the ring is that of a snapshot, saved at {saved}")
            }
            Self::Keeping { members, since_unix_ms, problem } => {
                let (names, since) = (named(members), moment(*since_unix_ms));
                let kept =
                    format!("kept in the ring since {since} although not registered: {names}");
                match problem {
                    None => kept,
                    Some(why) => format!("{kept} (only here: {why})"),
                }
            }
        }
    }
}

fn named(members: &[NodeId]) -> String {
    let named: Vec<_> = members.iter().take(MAX_NAMED).map(NodeId::as_str).collect();
    match members.len().saturating_sub(MAX_NAMED) {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

/// A moment as RFC 3339, to the millisecond.
pub fn moment(unix_ms: u64) -> String {
    let unix_ms = i64::try_from(unix_ms).unwrap_or(i64::MAX);
    Timestamp::from_millisecond(unix_ms).map_or_else(|_| "(unknown)".into(), |t| t.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_told_in_one_line() {
        let mut status =
            DiscoveryStatus { connected: true, since_unix_ms: 1_000, ..DiscoveryStatus::default() };
        assert_eq!(status.in_words(), "the cluster state is followed since 1970-01-01T00:00:01Z");
        status.connected = false;
        status.problem = Some("etcd at a:1 can't be reached".into());
        status.serving = Some(Serving::Snapshot { saved_unix_ms: 500 });
        status.skipped_records = 2;
        assert_eq!(
            status.in_words(),
            "the cluster state is not followed since 1970-01-01T00:00:01Z: etcd at a:1 can't be \
             reached; the ring is that of a snapshot, saved at 1970-01-01T00:00:00.5Z; 2 records \
             were skipped"
        );
    }

    #[test]
    fn kept_members_are_named_and_many_are_counted() {
        let members: Vec<_> = (1..=7).map(|n| NodeId::new(format!("n{n}")).unwrap()).collect();
        let keeping = |members: &[NodeId], problem| Serving::Keeping {
            members: members.to_vec(),
            since_unix_ms: 0,
            problem,
        };
        assert_eq!(
            keeping(&members[..2], None).in_words(),
            "kept in the ring since 1970-01-01T00:00:00Z although not registered: n1, n2"
        );
        let words = keeping(&members, Some("no space".into())).in_words();
        assert!(words.ends_with("n1, n2, n3, n4, n5 and 2 more (only here: no space)"), "{words}");
    }
}
