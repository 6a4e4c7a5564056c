//! The operations that have left and are not answered yet, found by correlation id.
//!
//! An id is a slot and the slot's generation, so that an answer that comes after its caller has
//! given up can never reach the slot's next user.

use tokio::time::Instant;

use super::{Answer, queue::Waiters};

/// An operation that has left.
pub(super) struct Outstanding {
    pub(super) waiters: Waiters,
    /// When it counts as timed out.
    pub(super) deadline: Instant,
    /// Where `deadline` moves to when the node says that it takes longer.
    pub(super) request_deadline: Instant,
    /// Whether it has said so.
    pub(super) pending: bool,
}

struct Slot {
    generation: u32,
    taken: Option<Outstanding>,
}

/// The slots of one stream.
pub(super) struct Slab {
    slots: Vec<Slot>,
    free: Vec<u32>,
    limit: usize,
}

impl Slab {
    pub(super) fn new(limit: usize) -> Self {
        Self { slots: Vec::new(), free: Vec::new(), limit }
    }

    pub(super) fn is_full(&self) -> bool {
        self.len() >= self.limit
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Keeps an operation and names it.
    pub(super) fn insert(&mut self, outstanding: Outstanding) -> u64 {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, taken: None });
            (self.slots.len() - 1) as u32
        });
        let slot = &mut self.slots[index as usize];
        slot.taken = Some(outstanding);
        id(index, slot.generation)
    }

    /// Takes out the operation of that id, if it is still waited for.
    pub(super) fn remove(&mut self, id: u64) -> Option<Outstanding> {
        let index = id as u32;
        let slot = self.slots.get_mut(index as usize)?;
        if slot.generation != (id >> 32) as u32 {
            return None;
        }
        let taken = slot.taken.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(index);
        Some(taken)
    }

    /// It takes longer: from now on only the request's own deadline counts.
    pub(super) fn pending(&mut self, id: u64) {
        if let Some(slot) = self.slots.get_mut(id as u32 as usize)
            && slot.generation == (id >> 32) as u32
            && let Some(outstanding) = &mut slot.taken
        {
            outstanding.deadline = outstanding.request_deadline;
            outstanding.pending = true;
        }
    }

    /// Answers those whose time is up, drops those nobody waits for, and names both.
    pub(super) fn sweep(&mut self, now: Instant) -> Vec<u64> {
        let over = |slot: &Slot| {
            slot.taken
                .as_ref()
                .is_some_and(|taken| taken.deadline <= now || taken.waiters.nobody_waits())
        };
        let ended: Vec<u64> = self
            .slots
            .iter()
            .enumerate()
            .filter(|(_, slot)| over(slot))
            .map(|(index, slot)| id(index as u32, slot.generation))
            .collect();
        for id in &ended {
            if let Some(outstanding) = self.remove(*id) {
                let pending = outstanding.pending;
                outstanding.waiters.answer(Answer::TimedOut { pending });
            }
        }
        ended
    }

    /// Takes out everything.
    pub(super) fn drain(&mut self) -> Vec<Outstanding> {
        let ids: Vec<u64> = (self.slots.iter().enumerate())
            .filter(|(_, slot)| slot.taken.is_some())
            .map(|(index, slot)| id(index as u32, slot.generation))
            .collect();
        ids.into_iter().filter_map(|id| self.remove(id)).collect()
    }
}

fn id(index: u32, generation: u32) -> u64 {
    (u64::from(generation) << 32) | u64::from(index)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::oneshot;

    use super::*;
    use crate::link::waiter::Waiter;

    fn outstanding(deadline: Instant) -> (Outstanding, oneshot::Receiver<Answer>) {
        let (answer, answered) = oneshot::channel();
        let waiters = Waiters::new(Waiter::Alone(answer));
        let request_deadline = deadline + Duration::from_secs(1);
        (Outstanding { waiters, deadline, request_deadline, pending: false }, answered)
    }

    #[test]
    fn a_late_answer_finds_nobody() {
        let mut slab = Slab::new(4);
        let now = Instant::now();
        let first = slab.insert(outstanding(now).0);
        assert!(slab.remove(first).is_some());
        let (second, _waiting) = outstanding(now);
        let second = slab.insert(second);
        assert_eq!(first as u32, second as u32, "the slot is used again");
        assert!(slab.remove(first).is_none());
        assert!(slab.remove(second).is_some());
    }

    #[test]
    fn time_runs_out_unless_the_node_is_loading() {
        let mut slab = Slab::new(4);
        let now = Instant::now();
        let (plain, mut plain_answer) = outstanding(now);
        let (loading, mut loading_answer) = outstanding(now);
        let plain = slab.insert(plain);
        let loading = slab.insert(loading);
        slab.pending(loading);
        assert_eq!(slab.sweep(now), [plain]);
        assert!(matches!(plain_answer.try_recv(), Ok(Answer::TimedOut { pending: false })));
        assert!(loading_answer.try_recv().is_err());
        assert_eq!(slab.sweep(now + Duration::from_secs(1)), [loading]);
        assert!(matches!(loading_answer.try_recv(), Ok(Answer::TimedOut { pending: true })));
        assert!(slab.is_empty());
    }

    #[test]
    fn slots_of_callers_that_left_are_freed() {
        let mut slab = Slab::new(1);
        let now = Instant::now();
        let (gone, answered) = outstanding(now + Duration::from_secs(9));
        let id = slab.insert(gone);
        assert!(slab.is_full());
        drop(answered);
        assert_eq!(slab.sweep(now), [id]);
        assert!(!slab.is_full());
    }
}
