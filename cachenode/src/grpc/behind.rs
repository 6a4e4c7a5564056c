//! Whether a stream has fallen behind: its operations wait so long on their way that doing more of
//! them in vain helps nobody.
//!
//! The wait is that of stale mail ([`MailAge`]): in the requester's socket, in ours, and until this
//! worker came to read it. A burst, or a process that was stopped for a moment, makes some batches
//! late; only where every batch of a while is late has more been asked than can be done. Then the
//! late ones are refused before anything is done, which is quick, so that those behind them are in
//! time again. What becomes of a refused operation is the requester's business.
//!
//! [`MailAge`]: super::stale::MailAge

use std::time::Duration;

/// A batch that waited longer is late: well before requesters give a try up, and later than a worker
/// gets on a busy machine by chance.
const LATE_MAIL: Duration = Duration::from_millis(100);
/// For how long every batch must have been late.
const SUSTAINED: Duration = Duration::from_millis(100);

/// Follows the batches of one stream.
#[derive(Debug, Default)]
pub(super) struct Behind {
    /// Since when all of them are late.
    since: Option<Duration>,
    last: Duration,
}

impl Behind {
    /// Whether the operations of a batch are refused that waited for `age` and is read at `now`.
    pub(super) fn refuses(&mut self, age: Duration, now: Duration) -> bool {
        let pause = now.saturating_sub(self.last);
        self.last = now;
        // After a pause nobody can say what would have come meanwhile.
        if age <= LATE_MAIL || pause > SUSTAINED {
            self.since = None;
        }
        if age <= LATE_MAIL {
            return false;
        }
        now.saturating_sub(*self.since.get_or_insert(now)) >= SUSTAINED
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Batches one each 10 ms from `from` to `to`, of that age: how many are refused.
    fn refused(behind: &mut Behind, age: u64, from: u64, to: u64) -> usize {
        (from..to).step_by(10).filter(|&now| behind.refuses(at(age), at(now))).count()
    }

    #[test]
    fn late_batches_are_refused_when_they_have_been_late_for_a_while() {
        let mut behind = Behind::default();
        assert_eq!(refused(&mut behind, 100, 1_000, 2_000), 0, "not late");
        assert_eq!(refused(&mut behind, 101, 2_000, 2_100), 0, "not yet");
        assert_eq!(refused(&mut behind, 101, 2_100, 3_000), 90);
        assert!(!behind.refuses(at(99), at(3_000)), "one in time, and it is over");
        assert_eq!(refused(&mut behind, 101, 3_010, 3_110), 0);
        assert!(behind.refuses(at(101), at(3_110)));
    }

    #[test]
    fn mail_that_a_standstill_has_made_late_is_no_sign_of_too_much_work() {
        let mut behind = Behind::default();
        assert_eq!(refused(&mut behind, 0, 0, 1_000), 0);
        // Read at one go, and then nothing for a second, twice.
        for now in [2_000, 3_000] {
            assert!((0..100).all(|_| !behind.refuses(at(900), at(now))));
        }
        assert_eq!(refused(&mut behind, 0, 3_010, 3_500), 0);
    }
}
