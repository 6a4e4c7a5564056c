//! Which member owns a key: a consistent-hash ring, as a pure function of settings and members.
//!
//! Every process that has seen the same cluster state computes the same ring, whatever order it
//! learned it in and whether it built the ring at once ([`Ring::build`]) or followed joins and
//! leaves ([`Ring::rebuilt`]). Nothing here knows who is alive, draining or slow: that decides
//! whom a process calls, never who owns. No I/O, no clock, no randomness.

mod circle;
mod hash;
mod preference;

use std::{fmt, sync::OnceLock};

use crate::discovery::{NORMAL_WEIGHT, NodeId, RingSettings};

use circle::{Circle, Point};
use hash::{KeyHash, PointHash};
use preference::Zones;

pub use preference::Preference;

/// Most virtual nodes of one member (four points of 12 bytes each), whatever settings and weight
/// say: a bound on what one record can cost every process. Part of the ring's definition.
pub const MAX_VIRTUAL_NODES: u32 = 100_000;

/// What the ring knows of a member.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RingMember {
    /// Who it is; the ring hashes this and nothing else of it.
    pub id: NodeId,
    /// Its share relative to the others; 100 is ordinary, 0 owns nothing.
    pub weight: u32,
    /// Where it stands; empty if zones are not used.
    pub zone: String,
}

/// The ring: members and their points on the circle of 2⁶⁴ positions.
pub struct Ring {
    settings: RingSettings,
    members: Vec<RingMember>,
    circle: Circle,
    zones: Zones,
    keys: KeyHash,
    digest: u64,
    shares: OnceLock<Vec<f64>>,
}

impl Ring {
    /// The ring of these members. Their order does not matter; of several with the same id one
    /// is kept.
    pub fn build(settings: &RingSettings, members: Vec<RingMember>) -> Self {
        let members = in_order(members);
        let points = points_of(settings, &members, 0..members.len());
        Self::assemble(settings.clone(), members, Circle::new(points))
    }

    /// What [`Ring::build`] would give, made from this ring: members that are in both keep their
    /// points, so that one joining or leaving costs a merge instead of hashing and sorting.
    #[must_use]
    pub fn rebuilt(&self, settings: &RingSettings, members: Vec<RingMember>) -> Self {
        if *settings != self.settings {
            return Self::build(settings, members);
        }
        let members = in_order(members);
        let mut fresh = vec![true; members.len()];
        let kept: Vec<Option<u32>> = self
            .members
            .iter()
            .map(|old| {
                let now = index_of(&members, &old.id)?;
                let same_points = members[now].weight == old.weight;
                fresh[now] = !same_points;
                same_points.then_some(now as u32)
            })
            .collect();
        let joining = (0..members.len()).filter(|&index| fresh[index]);
        let points = self.circle.merged(&kept, points_of(settings, &members, joining));
        Self::assemble(settings.clone(), members, Circle::new(points))
    }

    fn assemble(settings: RingSettings, members: Vec<RingMember>, circle: Circle) -> Self {
        Self {
            zones: Zones::new(&members),
            keys: KeyHash::new(&settings.seed),
            digest: hash::digest(&settings, &members),
            shares: OnceLock::new(),
            settings,
            members,
            circle,
        }
    }

    /// Where a key lies on the circle.
    pub fn position(&self, group: &str, key: &str) -> u64 {
        self.keys.position(group, key)
    }

    /// The owner of a position, as an index into [`Ring::members`]: that of the first point at or
    /// after it. `None` if nobody owns anything.
    pub fn owner(&self, position: u64) -> Option<usize> {
        self.circle.at_or_after(position).map(|point| self.circle.owner(point))
    }

    /// Every member once, as indices into [`Ring::members`], in the order in which to turn to
    /// them: the owner; the next distinct ones clockwise, but first those that stand in zones not
    /// seen yet; last the members of weight 0. Empty if there is no owner.
    pub fn preference(&self, position: u64) -> Preference<'_> {
        Preference::new(&self.circle, &self.zones, position)
    }

    /// The members, ordered by id.
    pub fn members(&self) -> &[RingMember] {
        &self.members
    }

    /// What the ring was made with.
    pub fn settings(&self) -> &RingSettings {
        &self.settings
    }

    /// The index of a member in [`Ring::members`].
    pub fn index_of(&self, id: &NodeId) -> Option<usize> {
        index_of(&self.members, id)
    }

    /// The part of the circle that a member owns, 0 to 1; all shares together are 1 (if anybody
    /// owns anything). Worked out when first asked for.
    ///
    /// # Panics
    /// When there is no member of that index.
    pub fn share(&self, index: usize) -> f64 {
        self.shares.get_or_init(|| self.circle.shares(self.members.len()))[index]
    }

    /// A hash of settings and members. Processes with equal digests have equal rings.
    pub fn digest(&self) -> u64 {
        self.digest
    }
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring")
            .field("settings", &self.settings)
            .field("members", &self.members.len())
            .field("points", &self.circle.len())
            .field("digest", &format_args!("{:016x}", self.digest))
            .finish_non_exhaustive()
    }
}

/// How many virtual nodes a member has: weight hundredths of the setting, rounded, at least one
/// unless the weight is 0.
fn virtual_nodes(settings: &RingSettings, weight: u32) -> u32 {
    if weight == 0 {
        return 0;
    }
    let normal = u64::from(NORMAL_WEIGHT);
    let rounded = (u64::from(settings.virtual_nodes) * u64::from(weight) + normal / 2) / normal;
    rounded.clamp(1, u64::from(MAX_VIRTUAL_NODES)) as u32
}

/// Members sorted by id, each id once. Which of several is kept does not depend on their order.
fn in_order(mut members: Vec<RingMember>) -> Vec<RingMember> {
    members.sort_unstable();
    members.dedup_by(|later, earlier| later.id == earlier.id);
    members
}

fn index_of(members: &[RingMember], id: &NodeId) -> Option<usize> {
    members.binary_search_by(|member| member.id.cmp(id)).ok()
}

/// The points of the members of these indices, in order.
fn points_of(
    settings: &RingSettings,
    members: &[RingMember],
    indices: impl Iterator<Item = usize>,
) -> Vec<Point> {
    let mut points = Vec::new();
    for index in indices {
        let member = &members[index];
        let hash = PointHash::new(&settings.seed, &member.id);
        let positions = (0..virtual_nodes(settings, member.weight)).flat_map(|i| hash.points(i));
        points.extend(positions.map(|position| Point::new(position, index)));
    }
    points.sort_unstable();
    points
}

#[cfg(test)]
mod tests;
