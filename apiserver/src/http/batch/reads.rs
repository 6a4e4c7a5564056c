//! The reads of a batch, asked for as there is room for their answers.
//!
//! Values come as fast as nodes send them and leave as fast as a client reads. What is held of a
//! batch in between is bounded; a read that is under way counts with as much as it may bring. The
//! outcome that is to be written next is always asked for, or nothing would ever move.
//!
//! Dropping it cancels the reads that are under way.

use std::{
    collections::BTreeMap,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
    vec,
};

use common::{
    link::frame::BULK_OVER,
    route::{Ask, Done, Event, Large, Many},
};
use tokio::time::Instant;

use crate::http::Worker;

/// Bytes of values that are held for a batch or may come for it, at most; one more value, if it is
/// the next to be written.
const MAX_HELD: usize = 16 << 20;

/// See the module. Outcomes have the numbers of their reads, from 0 on.
pub(super) struct Reads {
    many: Many,
    worker: Arc<Worker>,
    waiting: vec::IntoIter<Ask>,
    /// Values that there was no room for when they turned out to be large.
    large: BTreeMap<usize, Large>,
    room: Room,
}

impl Reads {
    pub(super) fn new(worker: &Arc<Worker>, asks: Vec<Ask>, started: Instant) -> Self {
        Self {
            many: worker.cache.many(asks.len(), started),
            worker: Arc::clone(worker),
            room: Room::new(asks.len()),
            waiting: asks.into_iter(),
            large: BTreeMap::new(),
        }
    }

    /// Puts the deadline off: so long the client kept everybody waiting, not a node.
    pub(super) fn put_off(&mut self, by: Duration) {
        self.many.put_off(by);
    }

    /// Asks for as much as there is room for; `next` is the outcome to be written next. False:
    /// nothing.
    pub(super) fn ask(&mut self, next: usize) -> bool {
        let before = (self.waiting.len(), self.large.len());
        while let Some(large) = self.large.first_entry()
            && let most = self.worker.process.max_value(large.get().group())
            && self.room.reserve(*large.key(), most, next)
        {
            let (number, large) = large.remove_entry();
            self.many.fetch(number, large);
        }
        if self.waiting.len() > 0 {
            let now = Instant::now();
            let begun = |waiting: &vec::IntoIter<Ask>, all: usize| all - waiting.len();
            while self.room.reserve(begun(&self.waiting, self.room.len()), BULK_OVER, next)
                && let Some(ask) = self.waiting.next()
            {
                self.many.begin(ask, now);
            }
        }
        before != (self.waiting.len(), self.large.len())
    }

    /// The next outcome and its number. Pending also when no read is under way.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<(usize, Box<Done>)> {
        while let Poll::Ready(Some(event)) = self.many.poll_next(cx) {
            match event {
                Event::Done(number, done) => {
                    let bytes = done.result.as_ref().map_or(0, |reply| reply.value.len());
                    self.room.settle(number, bytes);
                    return Poll::Ready((number, done));
                }
                Event::Large(number, large) => {
                    self.room.settle(number, 0);
                    self.large.insert(number, large);
                }
            }
        }
        Poll::Pending
    }

    /// That outcome has been written, and its value is no longer held.
    pub(super) fn written(&mut self, number: usize) {
        self.room.settle(number, 0);
    }
}

/// Who takes how much of [`MAX_HELD`].
struct Room {
    taken: usize,
    by: Vec<usize>,
}

impl Room {
    fn new(count: usize) -> Self {
        Self { taken: 0, by: vec![0; count] }
    }

    fn len(&self) -> usize {
        self.by.len()
    }

    /// Keeps room for one that has none, if there is that much, or if it is the `next`.
    fn reserve(&mut self, number: usize, bytes: usize, next: usize) -> bool {
        let fits = number < self.by.len() && (number == next || self.taken + bytes <= MAX_HELD);
        if fits {
            self.settle(number, bytes);
        }
        fits
    }

    /// It takes as much as that now. Numbers that are no reads' take nothing.
    fn settle(&mut self, number: usize, bytes: usize) {
        if let Some(own) = self.by.get_mut(number) {
            self.taken = self.taken - *own + bytes;
            *own = bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_take_what_they_may_bring_and_then_what_they_brought() {
        let at_once = MAX_HELD / BULK_OVER;
        let mut room = Room::new(at_once + 2);
        for number in 0..at_once {
            assert!(room.reserve(number, BULK_OVER, 0), "{number}");
        }
        assert!(!room.reserve(at_once, BULK_OVER, 0), "it is full");
        room.settle(3, 1024);
        assert!(!room.reserve(at_once, BULK_OVER, 0), "not enough came back");
        room.settle(4, 1024);
        assert!(room.reserve(at_once, BULK_OVER, 0));
        for number in 0..=at_once {
            room.settle(number, 0);
        }
        assert_eq!(room.taken, 0);
    }

    #[test]
    fn the_next_one_to_be_written_is_asked_for_room_or_not() {
        let mut room = Room::new(3);
        assert!(room.reserve(1, MAX_HELD, 0));
        assert!(!room.reserve(2, 1, 0));
        assert!(room.reserve(0, MAX_HELD, 0));
        assert_eq!(room.taken, 2 * MAX_HELD);
        room.settle(0, 0);
        room.settle(1, 0);
        assert!(!room.reserve(3, 1, 3), "there is no such read");
    }
}
