//! Near leases: what the lender of a value and its holder must agree on (docs/adr/008).
//!
//! An owner lends a value for a while; until the loan is over it acknowledges no write of the key
//! that the holder has not heard of. Each measures that while by its own clock and from its own
//! moment, so it is the rates of clocks that have to agree, within [`RATES_WITHIN`], never their times.
//! Who holds what, and who lends to whom, is the business of gateways and nodes.

use std::time::Duration;

use proto::v1;

/// For how long a value may be lent: by so much at most is a write late because of a holder that
/// hangs. The same in all processes of a cluster, as a node that starts waits for so long, because of
/// loans of its former life.
pub const LEASE: Duration = Duration::from_millis(250);

/// By how much the rate of a clock may be off: a holder whose clock is slow by this, and a lender
/// whose clock is fast by it, still end a loan in the right order, as 0.9 / 0.95 < 1 / 1.05.
pub const RATES_WITHIN: f64 = 0.05;

/// The part of a loan for which its holder believes it.
const BELIEVED: f64 = 0.9;

/// Says in a Hello that values may be lent over this stream: `Invalidate` is understood.
pub const FEATURE: u64 = 1;

/// For how long a holder goes by a loan, from a moment before it asked for it.
pub fn believed(loan: Duration) -> Duration {
    loan.mul_f64(BELIEVED)
}

/// Who holds what is lent over a link.
pub trait Holder: Send + Sync {
    /// The key was written: holds nothing older from now on. Called by the link's task before it
    /// confirms that.
    fn invalidate(&self, invalidate: &v1::Invalidate);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_holder_ends_before_a_fast_lender() {
        let real_end_of_holder = believed(LEASE).as_secs_f64() / (1.0 - RATES_WITHIN);
        let real_end_of_lender = LEASE.as_secs_f64() / (1.0 + RATES_WITHIN);
        assert!(real_end_of_holder < real_end_of_lender);
    }
}
