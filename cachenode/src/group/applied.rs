//! What was answered to the last writes, so that one that is sent twice applies once.
//!
//! Only what a write found and did is remembered. A refusal before that (not ours, too large) did
//! nothing, and sending it again is harmless.

use std::time::Duration;

use common::{
    entry::Version,
    error::{Code, Error},
};
use foldhash::fast::RandomState;
use uuid::Uuid;

use super::{generations::Generations, tokens};

/// How long an answer is remembered: the longest that a request, with its retries, may take.
pub const REMEMBER_FOR: Duration = Duration::from_secs(30);

/// Most answers of a stripe. Two tables of 128 places of 65 bytes: at most 4.3 MB a group. Beyond
/// it the oldest go first.
const ANSWERS_PER_STRIPE: usize = 224;

/// Names a write once and for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct OpId {
    /// The link that it was first sent on.
    pub link: Uuid,
    /// Its number on that link.
    pub seq: u64,
}

/// A write that was applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    /// The version that it made.
    pub version: Version,
    /// Whether the key was absent before.
    pub created: bool,
}

/// How a write ended, as far as a retry has to hear of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Applied(Applied),
    NotFound,
    PreconditionFailed,
    LeaseLost,
}

impl From<Answer> for Result<Applied, Error> {
    fn from(answer: Answer) -> Self {
        match answer {
            Answer::Applied(applied) => Ok(applied),
            Answer::NotFound => Err(Error::new(Code::NotFound, "the group has no such key")),
            Answer::PreconditionFailed => {
                Err(Error::new(Code::PreconditionFailed, "the entry is not as the condition says"))
            }
            Answer::LeaseLost => Err(tokens::lost()),
        }
    }
}

#[derive(Debug)]
struct Remembered {
    answer: Answer,
    until: Duration,
}

#[derive(Debug)]
pub(super) struct Answers {
    by_op: Generations<OpId, Remembered, RandomState>,
}

impl Answers {
    pub(super) fn new() -> Self {
        Self { by_op: Generations::new(ANSWERS_PER_STRIPE) }
    }

    /// What was answered to this write, if it came before.
    pub(super) fn find(&self, op: Option<OpId>, now: Duration) -> Option<Answer> {
        let remembered = self.by_op.get(&op?)?;
        (remembered.until > now).then_some(remembered.answer)
    }

    pub(super) fn remember(&mut self, op: Option<OpId>, answer: Answer, now: Duration) {
        if let Some(op) = op {
            drop(self.by_op.put(op, Remembered { answer, until: now + REMEMBER_FOR }));
        }
    }

    /// Drops what has had its time.
    pub(super) fn tidy(&mut self, now: Duration) {
        self.by_op.retain(|_, remembered| remembered.until > now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_kept_for_their_time_and_within_their_bound() {
        let op = |seq| Some(OpId { link: Uuid::from_u128(1), seq });
        let start = Duration::from_secs(1);
        let mut answers = Answers::new();
        answers.remember(op(0), Answer::NotFound, start);
        assert_eq!(answers.find(op(0), start), Some(Answer::NotFound));
        assert_eq!(answers.find(op(1), start), None);
        assert_eq!(answers.find(None, start), None);
        assert_eq!(answers.find(op(0), start + REMEMBER_FOR), None);
        for seq in 1..=ANSWERS_PER_STRIPE as u64 {
            answers.remember(op(seq), Answer::PreconditionFailed, start);
        }
        assert_eq!(answers.find(op(0), start), None, "the oldest went");
        let half = ANSWERS_PER_STRIPE as u64 / 2;
        assert!((half + 1..=2 * half).all(|seq| answers.find(op(seq), start).is_some()));
    }
}
