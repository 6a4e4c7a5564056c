//! The rings that a process has gone by, as its log tells them: none is too short to be seen.

use std::fs;

use fleet::cluster::Member;

/// A ring that took another's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ring {
    pub(super) digest: String,
    pub(super) members: usize,
}

/// All of them, in all lives of the process, oldest first.
pub(super) fn of(member: &Member) -> Vec<Ring> {
    let log = fs::read_to_string(member.process().log()).unwrap();
    log.lines().filter_map(ring).collect()
}

/// The ring of a log line that tells of one. (The last line may not be there wholly.)
fn ring(line: &str) -> Option<Ring> {
    let (_, told) = line.split_once(" new topology ")?;
    let field = |name: &str| told.split_whitespace().find_map(|word| word.strip_prefix(name));
    let digest = field("digest=")?.to_owned();
    Some(Ring { digest, members: field("members=")?.parse().ok()? })
}

/// The first, and those that differ from the one before. (Another generation with the same members
/// is the same ring.)
pub(super) fn changes(mut rings: Vec<Ring>) -> Vec<Ring> {
    rings.dedup_by(|next, before| next.digest == before.digest);
    rings
}

#[test]
fn rings_are_read_from_the_log() {
    let line = "… INFO new topology generation=x as_of=7 digest=00ff members=3 node_id=n";
    let three = Ring { digest: "00ff".to_owned(), members: 3 };
    assert_eq!(ring(line), Some(three.clone()));
    assert_eq!(ring("… INFO registered id=node-1"), None);
    assert_eq!(ring("… INFO new topology generation=x as_of=7 dig"), None);
    let two = Ring { digest: "11ff".to_owned(), members: 2 };
    let all = [&three, &three, &two, &three].map(Clone::clone).to_vec();
    assert_eq!(changes(all), [three.clone(), two, three]);
}
