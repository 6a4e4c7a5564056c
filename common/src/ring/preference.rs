//! The order in which to turn to members for a position: owner, replicas, stand-ins.
//!
//! It is an iterator, because nearly everybody wants the first, few the second, and hardly anyone
//! the last. Whether a member answers is for the caller to find out.

use std::{collections::BTreeMap, iter::FusedIterator};

use super::{Circle, RingMember};

/// Which member stands in which zone. Members without a zone count as standing in one together,
/// so where zones are not used, the order is simply clockwise.
pub(super) struct Zones {
    /// By member; the zones are numbered.
    of: Vec<u32>,
    /// Zones of members that have points.
    placed_zones: usize,
    /// Members that have points.
    placed: usize,
    /// Members that have none, by index.
    unplaced: Vec<u32>,
}

impl Zones {
    pub(super) fn new(members: &[RingMember]) -> Self {
        let mut numbers: BTreeMap<&str, u32> = BTreeMap::new();
        let mut zones =
            Self { of: vec![0; members.len()], placed_zones: 0, placed: 0, unplaced: Vec::new() };
        for (index, member) in members.iter().enumerate() {
            if member.weight == 0 {
                zones.unplaced.push(index as u32);
                continue;
            }
            let unused = numbers.len() as u32;
            zones.of[index] = *numbers.entry(&member.zone).or_insert(unused);
            zones.placed += 1;
        }
        zones.placed_zones = numbers.len();
        zones
    }
}

/// An iterator over members; see [`Ring::preference`](super::Ring::preference). It allocates only
/// when asked for more than the owner.
pub struct Preference<'a> {
    circle: &'a Circle,
    zones: &'a Zones,
    /// The owner's point, where both walks begin; `None` if there are no points.
    first: Option<usize>,
    /// The next point to look at.
    next: usize,
    taken: usize,
    taken_members: Bits,
    seen_zones: Bits,
    seen_zone_count: usize,
    walk: Walk,
}

/// What is looked for on the way round.
#[derive(PartialEq)]
enum Walk {
    /// Members of zones not seen yet.
    NewZones,
    /// All members not taken yet.
    Others,
}

impl<'a> Preference<'a> {
    pub(super) fn new(circle: &'a Circle, zones: &'a Zones, position: u64) -> Self {
        let first = circle.at_or_after(position);
        Self {
            circle,
            zones,
            first,
            next: first.unwrap_or(0),
            taken: 0,
            taken_members: Bits::default(),
            seen_zones: Bits::default(),
            seen_zone_count: 0,
            walk: Walk::NewZones,
        }
    }

    /// Remembers that a member, and so its zone, has had its turn.
    fn note(&mut self, member: usize) {
        self.taken_members.set(member, self.zones.of.len());
        if self.seen_zones.set(self.zones.of[member] as usize, self.zones.placed_zones) {
            self.seen_zone_count += 1;
        }
    }

    /// The next member in the walk that is wanted. Both walks end before they come round, because
    /// they know how many zones and members there are to be met.
    fn walk_on(&mut self) -> usize {
        loop {
            let member = self.circle.owner(self.next);
            self.next = self.circle.next(self.next);
            let passed = match self.walk {
                Walk::NewZones => self.seen_zones.get(self.zones.of[member] as usize),
                Walk::Others => self.taken_members.get(member),
            };
            if !passed {
                self.note(member);
                return member;
            }
        }
    }
}

impl Iterator for Preference<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let first = self.first?;
        let turn = self.taken;
        let member = if turn == 0 {
            self.circle.owner(first)
        } else if turn >= self.zones.placed {
            *self.zones.unplaced.get(turn - self.zones.placed)? as usize
        } else {
            if turn == 1 {
                // Not noted at its own turn: that allocates, and most never ask on.
                self.note(self.circle.owner(first));
            }
            if self.walk == Walk::NewZones && self.seen_zone_count == self.zones.placed_zones {
                self.walk = Walk::Others;
                self.next = first;
            }
            self.walk_on()
        };
        self.taken += 1;
        Some(member)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let all = if self.first.is_some() { self.zones.of.len() } else { 0 };
        (all - self.taken, Some(all - self.taken))
    }
}

impl ExactSizeIterator for Preference<'_> {}
impl FusedIterator for Preference<'_> {}

/// A set of small numbers.
#[derive(Default)]
struct Bits(Vec<u64>);

impl Bits {
    /// Adds a number below `bound`; whether it is new.
    fn set(&mut self, number: usize, bound: usize) -> bool {
        if self.0.is_empty() {
            self.0 = vec![0; bound.div_ceil(64)];
        }
        let (word, bit) = (&mut self.0[number / 64], 1 << (number % 64));
        let new = *word & bit == 0;
        *word |= bit;
        new
    }

    fn get(&self, number: usize) -> bool {
        self.0[number / 64] & (1 << (number % 64)) != 0
    }
}
