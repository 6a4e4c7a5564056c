//! Stale mail: batches that waited somewhere on their way.
//!
//! The two clocks are not compared. A sender's stamp differs from our clock by some offset plus
//! the time on the way; the least difference ever seen on a stream is taken for the offset, and
//! what a later batch shows beyond it is how long that one waited, in a stopped process or a full
//! socket. Writes older than their try are refused: their sender has given them up.

use std::time::Duration;

use common::clock::{Clock, SystemClock};
use proto::v1;

/// Follows one stream's stamps.
#[derive(Debug, Default)]
pub(super) struct MailAge {
    least: Option<i128>,
}

impl MailAge {
    /// How long a batch that has just arrived waited on its way.
    pub(super) fn of(&mut self, batch: &v1::Batch) -> Duration {
        self.at(batch.stamp_us, SystemClock.monotonic())
    }

    fn at(&mut self, stamp_us: u64, now: Duration) -> Duration {
        let difference = now.as_micros() as i128 - i128::from(stamp_us);
        let least = self.least.map_or(difference, |least| least.min(difference));
        self.least = Some(least);
        Duration::from_micros((difference - least) as u64)
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
}
