//! One part of a store: a table from slots to nodes, and the nodes in the order of their last use.

use hashbrown::HashTable;

use super::nodes::{NONE, Node, Nodes};
use crate::store::Stored;

/// The table is made smaller when it has room for so many times what it holds.
const ROOMY: usize = 8;
/// A table of that room is small enough.
const SMALL_TABLE: usize = 64;

/// A shard. It knows no bound; who owns it throws entries out. It has its cache lines to itself,
/// as workers are in different ones at once.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Shard {
    /// The number of each slot's node.
    table: HashTable<u32>,
    nodes: Nodes,
    /// The ends of the order of use.
    oldest: u32,
    newest: u32,
}

impl Shard {
    pub(super) fn new() -> Self {
        Self { table: HashTable::new(), nodes: Nodes::default(), oldest: NONE, newest: NONE }
    }

    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// The entry of a slot if it is that key's, which is the last used from now on.
    pub(super) fn get(&mut self, slot: u64, key: &str) -> Option<&Stored> {
        let at = self.find(slot)?;
        if !self.nodes[at].entry.is_of(key) {
            return None;
        }
        self.use_now(at);
        Some(&self.nodes[at].entry)
    }

    /// Puts an entry into its slot, as the last used; the one that was there.
    pub(super) fn put(&mut self, slot: u64, entry: Stored) -> Option<Stored> {
        if let Some(at) = self.find(slot) {
            self.use_now(at);
            return Some(std::mem::replace(&mut self.nodes[at].entry, entry));
        }
        let at = self.nodes.push(Node { slot, entry, older: NONE, newer: NONE });
        self.link_newest(at);
        let nodes = &self.nodes;
        self.table.insert_unique(slot, at, |&at| nodes[at].slot);
        None
    }

    /// The entry of a slot, without that counting as a use.
    pub(super) fn peek(&self, slot: u64) -> Option<&Stored> {
        self.find(slot).map(|at| &self.nodes[at].entry)
    }

    /// Takes the entry of a slot out.
    pub(super) fn remove(&mut self, slot: u64) -> Option<Stored> {
        let nodes = &self.nodes;
        let found = self.table.find_entry(slot, |&at| nodes[at].slot == slot).ok()?;
        let (at, _) = found.remove();
        self.unlink(at);
        let last = self.nodes.len() as u32 - 1;
        if at != last {
            self.renumber(last, at);
        }
        let removed = self.nodes.swap_remove(at)?;
        self.shrink();
        Some(removed.entry)
    }

    /// Which slot was not used for the longest time.
    pub(super) fn oldest(&self) -> Option<u64> {
        (self.oldest != NONE).then(|| self.nodes[self.oldest].slot)
    }

    /// The slots in the order of their last use.
    pub(super) fn oldest_first(&self) -> impl Iterator<Item = u64> {
        let next = |at: u32| (at != NONE).then_some(at);
        let nodes = std::iter::successors(next(self.oldest), move |&at| next(self.nodes[at].newer));
        nodes.map(|at| self.nodes[at].slot)
    }

    /// The nodes from `below` down, at most `count`: the slot and entry of each, and where to go on.
    ///
    /// Whoever goes down from the end misses no entry that is there all the time, whatever is
    /// changed in between: entries only ever move down from the end.
    pub(super) fn walk_down(
        &self,
        below: usize,
        count: usize,
    ) -> (impl Iterator<Item = (u64, &Stored)>, usize) {
        let end = below.min(self.nodes.len());
        let start = end.saturating_sub(count);
        let nodes = (start..end).rev().map(|at| {
            let node = &self.nodes[at as u32];
            (node.slot, &node.entry)
        });
        (nodes, start)
    }

    fn find(&self, slot: u64) -> Option<u32> {
        self.table.find(slot, |&at| self.nodes[at].slot == slot).copied()
    }

    fn use_now(&mut self, at: u32) {
        if at != self.newest {
            self.unlink(at);
            self.link_newest(at);
        }
    }

    fn link_newest(&mut self, at: u32) {
        let before = std::mem::replace(&mut self.newest, at);
        let node = &mut self.nodes[at];
        (node.older, node.newer) = (before, NONE);
        self.follow(before, at);
    }

    fn unlink(&mut self, at: u32) {
        let Node { older, newer, .. } = self.nodes[at];
        self.follow(older, newer);
        self.precede(newer, older);
    }

    /// Makes `at` the one that comes after `older`; without one before it, the oldest.
    fn follow(&mut self, older: u32, at: u32) {
        match older {
            NONE => self.oldest = at,
            older => self.nodes[older].newer = at,
        }
    }

    /// Makes `at` the one that comes before `newer`; without one after it, the newest.
    fn precede(&mut self, newer: u32, at: u32) {
        match newer {
            NONE => self.newest = at,
            newer => self.nodes[newer].older = at,
        }
    }

    /// Tells everybody who knows the node `from` that it is going to be `to`.
    fn renumber(&mut self, from: u32, to: u32) {
        let Node { slot, older, newer, .. } = self.nodes[from];
        if let Some(at) = self.table.find_mut(slot, |&at| at == from) {
            *at = to;
        }
        self.follow(older, to);
        self.precede(newer, to);
    }

    fn shrink(&mut self) {
        let held = self.table.len();
        if self.table.capacity() > SMALL_TABLE.max(held * ROOMY) {
            let nodes = &self.nodes;
            self.table.shrink_to(held * 2, |&at| nodes[at].slot);
        }
    }
}

#[cfg(test)]
mod tests;
