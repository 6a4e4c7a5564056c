//! The bytes of bodies that a gateway holds, over all of its connections.
//!
//! Clients decide how many bodies are under way and how slowly they are sent and read; without a
//! common bound a thousand of them with a megabyte each are a gigabyte. So bodies of requests are
//! counted while they are read and until they are stored, and values of answers until the last
//! byte is in the socket. What does not fit is refused as `overloaded`.
//!
//! A small body that is alone on its connection is not counted, if it comes in one piece: it fits into
//! what a connection has anyway, and the hot path has nothing to do with this. Left out: what links
//! hold on their way to nodes, which has its own bounds.

use std::sync::Arc;

use bytes::Bytes;
use common::error::{Code, Error, Result};
use prometheus_client::metrics::{counter::Counter, gauge::Gauge};

use crate::admission::COME_AGAIN;

/// Bodies up to this size are small: sockets take as much.
pub(crate) const COUNTED_OVER: usize = 16 << 10;
/// What is counted at a time while a body comes in, so that one which never comes takes little.
const STEP: usize = 16 << 10;

/// What all connections may hold together. Cheap to clone: clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Budget(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    most: i64,
    held: Gauge,
    refused: Counter,
}

impl Budget {
    /// A budget of `most` bytes, shown and counted there.
    pub(crate) fn new(most: u64, held: Gauge, refused: Counter) -> Self {
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        Self(Arc::new(Inner { most, held, refused }))
    }

    /// Whether a body of that size would fit in now.
    ///
    /// # Errors
    /// [`Code::Overloaded`] if not.
    pub(crate) fn look(&self, bytes: usize) -> Result<()> {
        let fits = self.0.held.get().saturating_add(bytes as i64) <= self.0.most;
        if bytes <= COUNTED_OVER || fits { Ok(()) } else { Err(self.refusal()) }
    }

    /// Nothing yet, of a body that comes in.
    pub(crate) fn begin(&self) -> Held {
        Held { budget: self.clone(), bytes: 0 }
    }

    /// The same value, counted until all of it is gone. `alone`: its connection holds no other.
    ///
    /// # Errors
    /// [`Code::Overloaded`] if it does not fit in.
    pub(crate) fn hold(&self, value: Bytes, alone: bool) -> Result<Bytes> {
        if value.is_empty() || (alone && value.len() <= COUNTED_OVER) {
            return Ok(value);
        }
        let mut held = self.begin();
        held.take(value.len())?;
        Ok(Bytes::from_owner(HeldValue { value, _held: held }))
    }

    fn refusal(&self) -> Error {
        self.0.refused.inc();
        let text = "the gateway holds as many bytes of bodies as it may";
        Error::new(Code::Overloaded, text).retry_after(COME_AGAIN)
    }
}

/// Bytes of a body, counted until this is dropped.
#[derive(Debug)]
#[must_use]
pub(crate) struct Held {
    budget: Budget,
    bytes: usize,
}

impl Held {
    /// Counts so many bytes in all, rounded up to a step.
    ///
    /// # Errors
    /// [`Code::Overloaded`] if they don't fit in; then as many are counted as before.
    pub(crate) fn cover(&mut self, bytes: usize) -> Result<()> {
        if bytes <= self.bytes {
            return Ok(());
        }
        self.take(bytes.next_multiple_of(STEP) - self.bytes)
    }

    fn take(&mut self, more: usize) -> Result<()> {
        let Inner { most, held, .. } = &*self.budget.0;
        if held.inc_by(more as i64).saturating_add(more as i64) > *most {
            held.dec_by(more as i64);
            return Err(self.budget.refusal());
        }
        self.bytes += more;
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.0.held.dec_by(self.bytes as i64);
    }
}

struct HeldValue {
    value: Bytes,
    _held: Held,
}

impl AsRef<[u8]> for HeldValue {
    fn as_ref(&self) -> &[u8] {
        &self.value
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A budget that nobody reads the numbers of.
    pub(crate) fn budget(most: usize) -> Budget {
        Budget::new(most as u64, Gauge::default(), Counter::default())
    }

    fn held(budget: &Budget) -> i64 {
        budget.0.held.get()
    }

    #[test]
    fn a_body_is_counted_as_it_comes_and_until_it_is_gone() {
        let budget = budget(4 * STEP);
        let mut body = budget.begin();
        body.cover(1).expect("fits");
        body.cover(STEP).expect("is counted already");
        assert_eq!(held(&budget), STEP as i64);
        body.cover(3 * STEP + 1).expect("fits");
        assert_eq!(held(&budget), 4 * STEP as i64);
        assert!(budget.look(COUNTED_OVER).is_ok() && budget.look(COUNTED_OVER + 1).is_err());
        let refused = body.cover(4 * STEP + 1).expect_err("over the budget");
        assert_eq!((refused.code(), held(&budget)), (Code::Overloaded, 4 * STEP as i64));
        assert!(refused.retry_hint().is_some());
        drop(body);
        assert_eq!((held(&budget), budget.0.refused.get()), (0, 2));
    }

    #[test]
    fn a_value_is_counted_until_its_last_piece_is_gone() {
        let budget = budget(100 << 10);
        let value = budget.hold(Bytes::from(vec![7; 60 << 10]), true).expect("fits");
        assert_eq!(held(&budget), 60 << 10);
        assert!(budget.hold(Bytes::from(vec![7; 60 << 10]), true).is_err(), "two are too much");
        let piece = value.slice(100..200);
        drop(value);
        assert_eq!((held(&budget), piece.len()), (60 << 10, 100));
        drop(piece);
        assert_eq!(held(&budget), 0);
        let small = Bytes::from(vec![7; COUNTED_OVER]);
        let same = budget.hold(small.clone(), true).expect("not counted");
        assert_eq!((held(&budget), same.as_ptr()), (0, small.as_ptr()));
        let one_of_many = budget.hold(small, false).expect("fits");
        assert_eq!(held(&budget), COUNTED_OVER as i64);
        drop(one_of_many);
    }

    #[test]
    fn a_thousand_bodies_of_a_megabyte_don_t_take_a_gigabyte() {
        let budget = budget(256 << 20);
        let all: Vec<_> = (0..1_000)
            .filter_map(|_| {
                let mut body = budget.begin();
                body.cover(1 << 20).ok()?;
                Some(body)
            })
            .collect();
        assert_eq!((all.len(), held(&budget)), (256, 256 << 20));
    }
}
