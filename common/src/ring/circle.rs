//! Points on the circle, and finding the one that follows a position.
//!
//! Positions are hashes, hence uniform: a table by their leading bits leads straight to the right
//! handful of points, where halving would take nineteen dependent steps for 400,000. The table is
//! coarse enough to stay in a core's own cache, and a handful is counted through without a branch
//! that could be mispredicted; one bucket per point was measured slower (cache misses), and so was
//! halving within the bucket. What a point's owner is beyond an index is not known here.

use std::ops::Range;

/// Most points per bucket of the table, on average; at least half as many.
const POINTS_PER_BUCKET: usize = 16;

/// A place on the circle that belongs to a member, which owns what lies between it and the point
/// before. The position is held in halves, so that a point takes 12 bytes, not 16; points order
/// by position, then owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Point {
    high: u32,
    low: u32,
    /// Index into the ring's members, which are ordered by id: of points at one position, that of
    /// the smallest id comes first and so wins.
    owner: u32,
}

impl Point {
    pub(super) fn new(position: u64, owner: usize) -> Self {
        Self { high: (position >> 32) as u32, low: position as u32, owner: owner as u32 }
    }

    pub(super) fn position(&self) -> u64 {
        u64::from(self.high) << 32 | u64::from(self.low)
    }

    pub(super) fn owner(&self) -> usize {
        self.owner as usize
    }
}

/// All points, in order. Colliding ones are all kept: when the winner leaves, the other is there.
pub(super) struct Circle {
    points: Vec<Point>,
    /// By the leading bits of a position: the first point whose leading bits are at least those.
    /// One more than there are buckets, so that every bucket has an end.
    starts: Vec<u32>,
    /// How far to shift a position to be left with its leading bits.
    shift: u32,
}

impl Circle {
    /// Takes points that are in order.
    pub(super) fn new(points: Vec<Point>) -> Self {
        debug_assert!(points.is_sorted());
        let bits = points.len().div_ceil(POINTS_PER_BUCKET).next_power_of_two().ilog2().max(1);
        let shift = u64::BITS - bits;
        let buckets = 1 << bits;
        let mut starts = Vec::with_capacity(buckets + 1);
        for (index, point) in points.iter().enumerate() {
            let bucket = (point.position() >> shift) as usize;
            while starts.len() <= bucket {
                starts.push(index as u32);
            }
        }
        starts.resize(buckets + 1, points.len() as u32);
        Self { points, starts, shift }
    }

    /// These points without those of members that are gone and with the fresh ones. `kept` tells,
    /// by old index, the new index of a member that stays; fresh points are in order.
    pub(super) fn merged(&self, kept: &[Option<u32>], fresh: Vec<Point>) -> Vec<Point> {
        let mut merged = Vec::with_capacity(self.points.len() + fresh.len());
        let mut fresh = fresh.into_iter().peekable();
        for old in &self.points {
            // Members stay in order of id, so renumbering keeps colliding points in order too.
            let Some(owner) = kept[old.owner()] else { continue };
            let point = Point { owner, ..*old };
            while let Some(before) = fresh.next_if(|new| *new < point) {
                merged.push(before);
            }
            merged.push(point);
        }
        merged.extend(fresh);
        merged
    }

    /// The first point at or after a position, going round; `None` if there are no points.
    pub(super) fn at_or_after(&self, position: u64) -> Option<usize> {
        if self.points.is_empty() {
            return None;
        }
        let bucket = self.bucket(position);
        let points = &self.points[bucket.clone()];
        let before = points.iter().filter(|point| point.position() < position).count();
        let found = bucket.start + before;
        Some(if found == self.points.len() { 0 } else { found })
    }

    /// The points that share a position's leading bits; those before them are before it, those
    /// after them after it.
    fn bucket(&self, position: u64) -> Range<usize> {
        let bucket = (position >> self.shift) as usize;
        self.starts[bucket] as usize..self.starts[bucket + 1] as usize
    }

    /// The member that a point belongs to.
    pub(super) fn owner(&self, point: usize) -> usize {
        self.points[point].owner()
    }

    /// The point after a point, going round.
    pub(super) fn next(&self, point: usize) -> usize {
        if point + 1 == self.points.len() { 0 } else { point + 1 }
    }

    pub(super) fn len(&self) -> usize {
        self.points.len()
    }

    /// The part of the circle that each of so many members owns.
    pub(super) fn shares(&self, members: usize) -> Vec<f64> {
        let mut arcs = vec![0u128; members];
        let (Some(first), Some(last)) = (self.points.first(), self.points.last()) else {
            return vec![0.0; members];
        };
        // From the last point on round to the first: all of it, if they are at one position.
        arcs[first.owner()] = (1 << 64) - u128::from(last.position() - first.position());
        for pair in self.points.windows(2) {
            arcs[pair[1].owner()] += u128::from(pair[1].position() - pair[0].position());
        }
        let whole = 2f64.powi(64);
        arcs.into_iter().map(|arc| arc as f64 / whole).collect()
    }

    #[cfg(test)]
    pub(super) fn points(&self) -> &[Point] {
        &self.points
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(of: &[(u64, usize)]) -> Vec<Point> {
        of.iter().map(|&(position, owner)| Point::new(position, owner)).collect()
    }

    fn owner(circle: &Circle, position: u64) -> usize {
        circle.owner(circle.at_or_after(position).unwrap())
    }

    #[test]
    fn a_point_owns_what_lies_before_it_and_the_first_one_the_rest() {
        let circle = Circle::new(points(&[(10, 0), (1 << 63, 1), (u64::MAX - 5, 2)]));
        for (position, expected) in [
            (0, 0),
            (10, 0),
            (11, 1),
            (1 << 63, 1),
            ((1 << 63) + 1, 2),
            (u64::MAX - 5, 2),
            (u64::MAX - 4, 0),
            (u64::MAX, 0),
        ] {
            assert_eq!(owner(&circle, position), expected, "{position}");
        }
    }

    #[test]
    fn of_colliding_points_the_smaller_id_wins_and_the_other_inherits() {
        let circle = Circle::new(points(&[(10, 1), (50, 0), (50, 2), (90, 1)]));
        assert_eq!(owner(&circle, 50), 0);
        assert_eq!(owner(&circle, 51), 1);
        assert_eq!(circle.shares(3)[2], 0.0);

        let without = Circle::new(circle.merged(&[None, Some(0), Some(1)], Vec::new()));
        assert_eq!(owner(&without, 50), 1, "the loser's point comes to light");

        let joined = without.merged(&[Some(1), Some(2)], points(&[(50, 0)]));
        assert_eq!(joined, circle.points, "a fresh point of a smaller id goes first");
    }

    #[test]
    fn crowded_buckets_are_searched_to_their_end() {
        let crowd: Vec<(u64, usize)> = (0..100).map(|i| (1000 + i * 2, i as usize)).collect();
        let circle = Circle::new(points(&crowd));
        for i in 0..100 {
            assert_eq!(owner(&circle, 1000 + i * 2), i as usize);
            assert_eq!(owner(&circle, 999 + i * 2), i as usize);
        }
        assert_eq!(owner(&circle, 1199), 0);
        assert_eq!(owner(&circle, u64::MAX), 0);
    }

    #[test]
    fn one_point_owns_everything() {
        let circle = Circle::new(points(&[(7, 0)]));
        assert_eq!((owner(&circle, 7), owner(&circle, 8)), (0, 0));
        assert_eq!(circle.shares(1), [1.0]);
    }

    #[test]
    fn no_points_own_nothing() {
        let circle = Circle::new(Vec::new());
        assert_eq!(circle.at_or_after(0), None);
        assert_eq!(circle.shares(1), [0.0]);
    }
}
