//! Stale mail: batches that waited somewhere on their way.
//!
//! The two clocks are not compared. A sender's stamp differs from our clock by some offset plus
//! the time on the way; the least difference ever seen on a stream is taken for the offset, and
//! what a later batch shows beyond it is how long that one waited, in a stopped process or a full
//! socket. Writes older than their try are refused: their sender has given them up.
//!
//! "Ever" is the last minute or so: clocks run at slightly different rates, and a machine that was
//! suspended or moved has another offset afterwards (docs/adr/005-stale-mail-window.md).

use std::time::Duration;

use common::clock::{Clock, SystemClock};
use proto::v1;

/// How long a least difference counts at least; at most twice as long.
const WINDOW: Duration = Duration::from_secs(30);

/// Follows one stream's stamps.
#[derive(Debug, Default)]
pub(super) struct MailAge {
    /// The least difference of this window, in microseconds, and of the one before.
    least: Option<i128>,
    before: Option<i128>,
    window_began: Duration,
}

impl MailAge {
    /// How long a batch that has just arrived waited on its way.
    pub(super) fn of(&mut self, batch: &v1::Batch) -> Duration {
        self.at(batch.stamp_us, SystemClock.monotonic())
    }

    fn at(&mut self, stamp_us: u64, now: Duration) -> Duration {
        if now.saturating_sub(self.window_began) >= WINDOW {
            (self.before, self.least) = (self.least, None);
            self.window_began = now;
        }
        let difference = now.as_micros() as i128 - i128::from(stamp_us);
        self.least = Some(self.least.map_or(difference, |least| least.min(difference)));
        let known = [self.least, self.before].into_iter().flatten().min();
        Duration::from_micros((difference - known.unwrap_or(difference)) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_time_beyond_the_usual_counts() {
        let mut mail = MailAge::default();
        let at = |ms: u64| Duration::from_millis(ms);
        assert_eq!(mail.at(5_000_000, at(100)), at(0), "their clock may be ahead of ours");
        assert_eq!(mail.at(5_010_000, at(110)), at(0));
        assert_eq!(mail.at(5_020_000, at(620)), at(500));
        assert_eq!(mail.at(5_030_000, at(125)), at(0), "an even quicker one");
        assert_eq!(mail.at(5_040_000, at(140)), at(5));
    }

    #[test]
    fn clocks_of_different_rates_make_no_stale_mail() {
        let mut mail = MailAge::default();
        // A batch a second for an hour; the sender's clock loses a millisecond in each.
        let oldest =
            (0..3600_u64).map(|second| mail.at(second * 999_000, Duration::from_secs(second)));
        assert!(oldest.max() <= Some(Duration::from_millis(60)));
    }

    #[test]
    fn a_sender_whose_clock_has_jumped_back_is_believed_again_within_a_minute() {
        let mut mail = MailAge::default();
        mail.at(10_000_000, Duration::from_secs(10));
        assert_eq!(mail.at(9_000_000, Duration::from_secs(10)), Duration::from_secs(1));
        mail.at(39_000_000, Duration::from_secs(40));
        assert_eq!(mail.at(69_000_000, Duration::from_secs(70)), Duration::ZERO);
    }
}
