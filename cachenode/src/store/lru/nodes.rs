//! The entries of a shard, packed without gaps, each linked to the next older and newer one.
//!
//! Packed, so that a shard which held a million small entries and now holds a hundred large ones
//! gives the rest of its memory back; in chunks, so that growing copies nothing. The price: taking
//! one out moves the last one into its place, and the shard has to be told.

use std::ops::{Index, IndexMut};

use crate::store::Stored;

/// Nodes of a chunk: 3 KiB, of which half is unused in each shard on average.
const CHUNK: usize = 128;

/// "No node".
pub(super) const NONE: u32 = u32::MAX;

/// An entry in its place.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) slot: u64,
    pub(super) entry: Stored,
    pub(super) older: u32,
    pub(super) newer: u32,
}

/// All nodes of a shard, numbered from zero.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    chunks: Vec<Vec<Node>>,
    count: usize,
}

impl Nodes {
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// For how many nodes there is memory.
    #[cfg(test)]
    pub(super) fn allocated(&self) -> usize {
        self.chunks.iter().map(Vec::capacity).sum()
    }

    /// Adds a node; its number.
    pub(super) fn push(&mut self, node: Node) -> u32 {
        let at = self.count;
        if at / CHUNK == self.chunks.len() {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        self.chunks[at / CHUNK].push(node);
        self.count += 1;
        at as u32
    }

    /// Takes a node out. The last one has its number afterwards, unless it was the last.
    pub(super) fn swap_remove(&mut self, at: u32) -> Option<Node> {
        let last = self.count.checked_sub(1)?;
        let mut node = self.chunks[last / CHUNK].pop()?;
        self.count = last;
        // One empty chunk stays, for who goes to and fro over a boundary.
        self.chunks.truncate(last / CHUNK + 2);
        if at as usize != last {
            std::mem::swap(&mut node, &mut self[at]);
        }
        Some(node)
    }
}

impl Index<u32> for Nodes {
    type Output = Node;

    fn index(&self, at: u32) -> &Node {
        &self.chunks[at as usize / CHUNK][at as usize % CHUNK]
    }
}

impl IndexMut<u32> for Nodes {
    fn index_mut(&mut self, at: u32) -> &mut Node {
        &mut self.chunks[at as usize / CHUNK][at as usize % CHUNK]
    }
}
