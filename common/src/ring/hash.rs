//! Everything about the ring that is hashed, byte for byte.
//!
//! This is a contract between processes, also of different versions: `testdata/ring_golden.json`
//! holds what another implementation of MD5 says. MD5 is here for its even spread and because
//! the seeds of this project use it; it protects nothing.

use md5::{Digest, Md5};

use crate::discovery::{NodeId, RingSettings};

use super::RingMember;

/// Hashes keys: the first 8 bytes of `MD5(seed ‖ u16 length of group ‖ group ‖ key)`.
pub(super) struct KeyHash {
    seeded: Md5,
}

impl KeyHash {
    pub(super) fn new(seed: &str) -> Self {
        Self { seeded: Md5::new_with_prefix(seed) }
    }

    pub(super) fn position(&self, group: &str, key: &str) -> u64 {
        // The length keeps ("ab", "c") and ("a", "bc") apart. Names of groups are far shorter
        // than what it can say.
        let length = u16::try_from(group.len()).unwrap_or(u16::MAX);
        let mut md5 = self.seeded.clone();
        md5.update(length.to_be_bytes());
        md5.update(group);
        md5.update(key);
        halves(md5)[0]
    }
}

/// Hashes one member's virtual nodes: both halves of
/// `MD5(seed ‖ id ‖ 0x00 ‖ u32 virtual node ‖ h)` for h = 0 and 1.
pub(super) struct PointHash {
    named: Md5,
}

impl PointHash {
    pub(super) fn new(seed: &str, id: &NodeId) -> Self {
        Self { named: Md5::new_with_prefix(seed).chain_update(id.as_str()).chain_update([0]) }
    }

    /// The four points of a virtual node.
    pub(super) fn points(&self, virtual_node: u32) -> [u64; 4] {
        let [a, b, c, d] = virtual_node.to_be_bytes();
        let [p, q] = halves(self.named.clone().chain_update([a, b, c, d, 0]));
        let [r, s] = halves(self.named.clone().chain_update([a, b, c, d, 1]));
        [p, q, r, s]
    }
}

/// The ring's digest: the first 8 bytes of `MD5(u32 virtual nodes ‖ seed ‖ members by id)`, a
/// member being `id ‖ u32 weight ‖ zone`, and each text preceded by its length as u32.
pub(super) fn digest(settings: &RingSettings, members: &[RingMember]) -> u64 {
    let mut md5 = Md5::new_with_prefix(settings.virtual_nodes.to_be_bytes());
    let text = |md5: &mut Md5, text: &str| {
        md5.update((text.len() as u32).to_be_bytes());
        md5.update(text);
    };
    text(&mut md5, &settings.seed);
    for member in members {
        text(&mut md5, member.id.as_str());
        md5.update(member.weight.to_be_bytes());
        text(&mut md5, &member.zone);
    }
    halves(md5)[0]
}

/// A digest as two big-endian numbers.
fn halves(md5: Md5) -> [u64; 2] {
    let digest = u128::from_be_bytes(md5.finalize().into());
    [(digest >> 64) as u64, digest as u64]
}
