//! Waiting between tries: longer each time, never beyond a bound, and never in step with others.

use std::time::Duration;

/// The first wait; short, because most troubles are over at once.
pub(crate) const FIRST_WAIT: Duration = Duration::from_millis(50);

/// How long to wait before the next try.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
    longest: Duration,
}

impl Backoff {
    /// Waits from [`FIRST_WAIT`] up to `longest`.
    pub(crate) fn up_to(longest: Duration) -> Self {
        Self { next: FIRST_WAIT.min(longest), longest }
    }

    /// The next wait: between half and all of a span that doubles from try to try.
    pub(crate) fn next(&mut self) -> Duration {
        let span = self.next;
        self.next = (span * 2).min(self.longest);
        between_half_and_all(span)
    }

    /// Begins again with short waits.
    pub(crate) fn reset(&mut self) {
        self.next = FIRST_WAIT.min(self.longest);
    }
}

/// A random time, so that many processes that met the same trouble don't come back together.
pub(crate) fn between_half_and_all(span: Duration) -> Duration {
    span.mul_f64(0.5 + fastrand::f64() / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_bound_and_begin_again() {
        let mut backoff = Backoff::up_to(Duration::from_millis(300));
        for span in [50, 100, 200, 300, 300] {
            let (wait, span) = (backoff.next(), Duration::from_millis(span));
            assert!(wait >= span / 2 && wait <= span, "{wait:?} of {span:?}");
        }
        backoff.reset();
        assert!(backoff.next() <= FIRST_WAIT);
        assert!(Backoff::up_to(Duration::from_millis(1)).next() <= Duration::from_millis(1));
    }
}
