//! The cluster state as raw keys and values, kept in step and read into views.
//!
//! Backends feed it lists and changes; it never fails and never panics on what others wrote. A
//! record that can't be read is skipped, counted, and logged once per revision of its key.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use uuid::Uuid;

use crate::{
    discovery::{
        NodeId, NodeRecord, RingSettings, View,
        carried::read_carried,
        flaps::History,
        groups::{GroupRecord, GroupRecords, MAX_GROUP_RECORDS},
        layout::{Layout, Place, read_settings},
        settle::Raw,
    },
    key::GroupName,
};

/// Most skipped records that are told apart; more of them are counted each time they are read.
const MAX_SKIPPED_KNOWN: usize = 1024;

/// One key as it stands in the cluster state.
pub(crate) struct Entry<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) value: &'a [u8],
    pub(crate) mod_revision: u64,
    /// Whether it goes away with a lease.
    pub(crate) leased: bool,
}

/// A value that exactly one key holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Single<T> {
    Absent,
    /// Why it can't be read, in plain words.
    Malformed(String),
    Known(T),
}

impl<T: Clone> Single<T> {
    fn known(&self, what: &str) -> Result<T, String> {
        match self {
            Self::Absent => Err(format!("{what} is missing")),
            Self::Malformed(why) => Err(format!("{what} can't be read: {why}")),
            Self::Known(value) => Ok(value.clone()),
        }
    }
}

/// What is in the cluster state, as far as it is of interest here.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Contents {
    generation: Single<Uuid>,
    ring: Single<RingSettings>,
    /// Who is registered.
    live: BTreeMap<NodeId, NodeRecord>,
    /// Who is carried, registered or not; `None` if nobody who can be read is.
    carried: Option<BTreeMap<NodeId, NodeRecord>>,
    /// Which revision wrote what stands where carried members do, 0 if nothing does.
    carried_revision: u64,
    /// Who wrote down that he left.
    left: BTreeSet<NodeId>,
    groups: Arc<GroupRecords>,
}

impl Contents {
    /// What is known before anything was heard.
    fn nothing() -> Self {
        Self {
            generation: Single::Absent,
            ring: Single::Absent,
            live: BTreeMap::new(),
            carried: None,
            carried_revision: 0,
            left: BTreeSet::new(),
            groups: Arc::default(),
        }
    }
}

/// The cluster state, as last heard.
pub(crate) struct Mirror {
    layout: Layout,
    as_of: u64,
    contents: Contents,
    /// Node keys that could not be read, with the revision that wrote them.
    skipped_known: BTreeMap<String, u64>,
    skipped: u64,
}

impl Mirror {
    pub(crate) fn new(layout: Layout) -> Self {
        let contents = Contents::nothing();
        Self { layout, as_of: 0, contents, skipped_known: BTreeMap::new(), skipped: 0 }
    }

    /// The revision up to which history has been seen.
    pub(crate) fn as_of(&self) -> u64 {
        self.as_of
    }

    /// How many records were skipped so far.
    pub(crate) fn skipped(&self) -> u64 {
        self.skipped
    }

    pub(crate) fn generation(&self) -> &Single<Uuid> {
        &self.contents.generation
    }

    pub(crate) fn ring(&self) -> &Single<RingSettings> {
        &self.contents.ring
    }

    /// Who is registered.
    pub(crate) fn live(&self) -> &BTreeMap<NodeId, NodeRecord> {
        &self.contents.live
    }

    /// The revision of what members to be carried may replace; 0 is nothing at all.
    pub(crate) fn carried_revision(&self) -> u64 {
        self.contents.carried_revision
    }

    /// Takes a whole list, which is true as of `revision`. Returns whether it brought anything
    /// else than a later revision.
    pub(crate) fn replace<'a>(
        &mut self,
        revision: u64,
        entries: impl IntoIterator<Item = Entry<'a>>,
    ) -> bool {
        let before = std::mem::replace(&mut self.contents, Contents::nothing());
        let mut skipped_before = std::mem::take(&mut self.skipped_known);
        for entry in entries {
            if let Some((key, known)) =
                std::str::from_utf8(entry.key).ok().and_then(|key| skipped_before.remove_entry(key))
            {
                self.skipped_known.insert(key, known);
            }
            self.put_after(&entry, &before.groups);
        }
        self.as_of = revision;
        if self.contents.groups == before.groups {
            // Shared, so that whoever compares views need not look at each of them.
            self.contents.groups = Arc::clone(&before.groups);
        }
        self.contents != before
    }

    /// Takes one key's new value.
    pub(crate) fn put(&mut self, entry: &Entry<'_>) {
        let before = Arc::clone(&self.contents.groups);
        self.put_after(entry, &before);
    }

    /// The same, where groups were known `before`.
    fn put_after(&mut self, entry: &Entry<'_>, before: &GroupRecords) {
        let Ok(key) = std::str::from_utf8(entry.key) else {
            return self.skip(&String::from_utf8_lossy(entry.key), entry, "its key is not UTF-8");
        };
        match self.layout.place(key) {
            Place::Ring => {
                self.contents.ring =
                    read_settings(entry.value).map_or_else(Single::Malformed, Single::Known);
            }
            Place::Generation => {
                let read = std::str::from_utf8(entry.value).ok().and_then(|text| text.parse().ok());
                self.contents.generation =
                    read.map_or_else(|| Single::Malformed("not a UUID".into()), Single::Known);
            }
            Place::Node(id) => match read_record(id, entry) {
                Ok(record) => {
                    self.skipped_known.remove(key);
                    self.contents.live.insert(record.id.clone(), record);
                }
                Err(why) => {
                    self.contents.live.remove(id);
                    self.skip(key, entry, &why);
                }
            },
            Place::Flaps(id) => {
                self.contents.left.remove(id);
                if let Ok(id) = NodeId::new(id)
                    && History::parse(entry.value).ends_with_leave()
                {
                    self.contents.left.insert(id);
                }
            }
            Place::Carried => self.put_carried(key, entry),
            Place::Group(name) => self.put_group(key, name, entry, before),
            Place::Other => {}
        }
    }

    /// Takes note that a key is gone.
    pub(crate) fn delete(&mut self, key: &[u8]) {
        let Ok(key) = std::str::from_utf8(key) else { return };
        match self.layout.place(key) {
            Place::Ring => self.contents.ring = Single::Absent,
            Place::Generation => self.contents.generation = Single::Absent,
            Place::Node(id) => {
                self.contents.live.remove(id);
                self.skipped_known.remove(key);
            }
            Place::Flaps(id) => drop(self.contents.left.remove(id)),
            Place::Carried => {
                (self.contents.carried, self.contents.carried_revision) = (None, 0);
                self.skipped_known.remove(key);
            }
            Place::Group(name) => {
                if self.contents.groups.contains_key(name) {
                    Arc::make_mut(&mut self.contents.groups).remove(name);
                }
                self.skipped_known.remove(key);
            }
            Place::Other => {}
        }
    }

    /// A record that can't be read changes nothing: the group stays as it was, so that nobody loses
    /// its entries by somebody's mistake.
    fn put_group(&mut self, key: &str, name: &str, entry: &Entry<'_>, before: &GroupRecords) {
        let is_full = self.contents.groups.len() >= MAX_GROUP_RECORDS;
        let read = GroupName::new(name).map_err(|error| error.to_string()).and_then(|name| {
            if is_full && !self.contents.groups.contains_key(&name) {
                return Err(format!("there are {MAX_GROUP_RECORDS} records of groups already"));
            }
            // Revisions alone don't tell: those of an etcd that was emptied begin anew.
            let record = GroupRecord::parse(&name, entry.mod_revision, entry.value)?;
            let same = before.get(&name).filter(|it| ***it == record).cloned();
            Ok((name, same.unwrap_or_else(|| Arc::new(record))))
        });
        match read {
            Ok((name, record)) => {
                self.skipped_known.remove(key);
                Arc::make_mut(&mut self.contents.groups).insert(name, record);
            }
            Err(why) => {
                if let Some((name, record)) = before.get_key_value(name) {
                    let groups = Arc::make_mut(&mut self.contents.groups);
                    groups.insert(name.clone(), Arc::clone(record));
                }
                self.skip(key, entry, &why);
            }
        }
    }

    fn put_carried(&mut self, key: &str, entry: &Entry<'_>) {
        self.contents.carried_revision = entry.mod_revision;
        let read = if entry.leased {
            read_carried(entry.value)
        } else {
            Err("it is not bound to a lease".to_owned())
        };
        let (members, problems) = match read {
            Ok((members, problems)) => (Some(members), problems),
            Err(why) => (None, vec![why]),
        };
        let by_id = |record: NodeRecord| (record.id.clone(), record);
        let members: Option<BTreeMap<_, _>> = members.map(|m| m.into_iter().map(by_id).collect());
        self.contents.carried = members.filter(|members| !members.is_empty());
        if problems.is_empty() {
            self.skipped_known.remove(key);
        } else {
            self.skip(key, entry, &problems.join("; "));
        }
    }

    /// Takes note that nothing else has happened up to `revision`.
    pub(crate) fn advance(&mut self, revision: u64) {
        self.as_of = self.as_of.max(revision);
    }

    /// The state, or in plain words why it is none.
    pub(crate) fn raw(&self) -> Result<Raw, String> {
        let Contents { generation, ring, live, carried, left, groups, .. } = &self.contents;
        let mut members = live.clone();
        let only_carried = carried.iter().flatten().filter(|(id, _)| !live.contains_key(*id));
        members.extend(only_carried.map(|(id, record)| (id.clone(), record.clone())));
        let carried_ids = members.keys().filter(|id| !live.contains_key(*id)).cloned().collect();
        let view = View {
            generation: generation.known(&self.layout.generation())?,
            as_of: self.as_of,
            ring: ring.known(&self.layout.ring())?,
            members,
            carried: carried_ids,
            groups: Arc::clone(groups),
        };
        Ok(Raw { view: Arc::new(view), left: left.clone(), is_carrying: carried.is_some() })
    }

    fn skip(&mut self, key: &str, entry: &Entry<'_>, why: &str) {
        if self.skipped_known.get(key) == Some(&entry.mod_revision) {
            return;
        }
        self.skipped += 1;
        if self.skipped_known.len() < MAX_SKIPPED_KNOWN || self.skipped_known.contains_key(key) {
            self.skipped_known.insert(key.to_owned(), entry.mod_revision);
            tracing::warn!(key, revision = entry.mod_revision, why, "a record is skipped");
        }
    }
}

fn read_record(id: &str, entry: &Entry<'_>) -> Result<NodeRecord, String> {
    // A record without a lease would never go away: it is not part of the live ring.
    if !entry.leased {
        return Err("it is not bound to a lease".into());
    }
    let record = NodeRecord::parse(entry.value).map_err(|error| error.to_string())?;
    if record.id.as_str() != id {
        return Err(format!("its id is {:?}, its key says {id:?}", record.id.as_str()));
    }
    Ok(record)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::layout::write_settings;

    const GENERATION: &[u8] = b"00000000-0000-0000-0000-000000000001";
    const NODE: &[u8] =
        br#"{"v":1,"id":"a","instance":"00000000-0000-0000-0000-000000000007","grpc":"h:1"}"#;

    fn mirror() -> Mirror {
        Mirror::new(Layout::new("s").unwrap())
    }

    fn entry<'a>(key: &'a str, value: &'a [u8], mod_revision: u64) -> Entry<'a> {
        Entry { key: key.as_bytes(), value, mod_revision, leased: true }
    }

    #[test]
    fn a_view_needs_a_generation_and_ring_settings() {
        let mut mirror = mirror();
        assert!(mirror.raw().unwrap_err().contains("/s/generation is missing"));
        mirror.put(&entry("/s/generation", GENERATION, 1));
        mirror.put(&entry("/s/ring", b"?", 1));
        assert!(mirror.raw().unwrap_err().contains("/s/ring can't be read"));
        mirror.put(&entry("/s/ring", &write_settings(&RingSettings::default()), 2));
        mirror.put(&entry("/s/nodes/a", NODE, 3));
        mirror.advance(3);
        let view = mirror.raw().unwrap().view;
        assert_eq!((view.as_of, view.members.len()), (3, 1));
        mirror.delete(b"/s/nodes/a");
        assert!(mirror.raw().unwrap().view.members.is_empty());
        mirror.delete(b"/s/ring");
        assert!(mirror.raw().is_err());
    }

    #[test]
    fn bad_records_are_skipped_and_counted_once_per_revision() {
        let huge = vec![b' '; 1 << 20];
        let mut mirror = mirror();
        for bad in [b"{}".as_slice(), b"\xff", &huge, NODE] {
            let before = mirror.skipped();
            for _ in 0..2 {
                let list = [entry("/s/nodes/a", NODE, 1), entry("/s/nodes/b", bad, before + 2)];
                mirror.replace(9, list);
            }
            assert_eq!(mirror.skipped(), before + 1, "{:?}", &bad[..1]);
            assert_eq!(mirror.contents.live.len(), 1);
        }
        let unleased = Entry { leased: false, ..entry("/s/nodes/a", NODE, 3) };
        mirror.put(&unleased);
        assert_eq!((mirror.skipped(), mirror.contents.live.len()), (5, 0));
        mirror.put(&Entry { key: b"/s/nodes/\xff", ..entry("", NODE, 3) });
        assert_eq!(mirror.skipped(), 6);
    }

    #[test]
    fn live_members_go_before_carried_ones_and_bad_carried_ones_are_skipped() {
        let mut mirror = mirror();
        mirror.put(&entry("/s/generation", GENERATION, 1));
        mirror.put(&entry("/s/ring", &write_settings(&RingSettings::default()), 2));
        assert_eq!(mirror.carried_revision(), 0);
        let b =
            r#"{"v":1,"id":"b","instance":"00000000-0000-0000-0000-000000000007","grpc":"h:2"}"#;
        let old = b.replace(r#""b""#, r#""a""#);
        let carried = format!(r#"{{"v":1,"members":[{old},{b},{{}}]}}"#);
        mirror.put(&entry("/s/nodes/a", NODE, 3));
        for _ in 0..2 {
            mirror.put(&entry("/s/carried", carried.as_bytes(), 4));
        }
        let raw = mirror.raw().unwrap();
        let ids = |view: &View| view.members.keys().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(ids(&raw.view), ["a", "b"]);
        assert_eq!(raw.view.live("a").unwrap().grpc, "h:1");
        assert!(raw.view.live("b").is_none() && raw.is_carrying);
        assert_eq!((mirror.skipped(), mirror.carried_revision()), (1, 4));

        mirror.delete(b"/s/nodes/a");
        assert_eq!(mirror.raw().unwrap().view.members["a"].grpc, "h:2");
        mirror.put(&Entry { leased: false, ..entry("/s/carried", carried.as_bytes(), 5) });
        let raw = mirror.raw().unwrap();
        assert_eq!((raw.view.members.len(), raw.is_carrying), (0, false));
        // Who carries members may replace what nobody can read.
        assert_eq!((mirror.skipped(), mirror.carried_revision()), (2, 5));
        mirror.delete(b"/s/carried");
        assert_eq!(mirror.carried_revision(), 0);
    }

    #[test]
    fn who_wrote_down_that_he_left_has_left_until_that_is_forgotten_or_he_joins() {
        let mut mirror = mirror();
        mirror.put(&entry("/s/generation", GENERATION, 1));
        mirror.put(&entry("/s/ring", &write_settings(&RingSettings::default()), 2));
        let left = |mirror: &Mirror| mirror.raw().unwrap().left.contains("a");
        let mut history = History::default();
        history.left(1);
        for end in [b"?".as_slice(), br#"{"v":1,"events":[{"at":1,"what":"joined"}]}"#] {
            mirror.put(&entry("/s/flaps/a", &history.to_json(), 3));
            assert!(left(&mirror));
            mirror.put(&entry("/s/flaps/a", end, 4));
            assert!(!left(&mirror));
        }
        mirror.put(&entry("/s/flaps/a", &history.to_json(), 5));
        mirror.delete(b"/s/flaps/a");
        assert!(!left(&mirror));
    }

    #[test]
    fn a_list_says_whether_it_brought_news() {
        let mut mirror = mirror();
        assert!(mirror.replace(5, [entry("/s/nodes/a", NODE, 4)]));
        assert!(!mirror.replace(8, [entry("/s/nodes/a", NODE, 4), entry("/s/later/g", b"", 7)]));
        assert_eq!(mirror.as_of(), 8);
        assert!(mirror.replace(9, []));
    }

    #[test]
    fn a_groups_record_that_can_not_be_read_changes_nothing() {
        let record = GroupRecord::new(crate::config::GroupDefinition::default());
        let json = record.to_json().unwrap();
        let mut mirror = mirror();
        mirror.put(&entry("/s/groups/users", &json, 4));
        let stored = mirror.contents.groups["users"].clone();
        assert_eq!((stored.id, stored.revision), (record.id, 4));
        for bad in [b"{}".as_slice(), b"\xff", &vec![b' '; 1 << 20]] {
            let at = mirror.skipped() + 5;
            mirror.put(&entry("/s/groups/users", bad, at));
            let list = [
                entry("/s/groups/users", bad, at),
                entry("/s/groups/other", bad, at),
                entry("/s/groups/a b", &json, 1),
            ];
            mirror.replace(9, list);
            assert_eq!(mirror.contents.groups["users"], stored);
            assert_eq!(mirror.contents.groups.len(), 1);
        }
        assert_eq!(mirror.skipped(), 7);
        mirror.delete(b"/s/groups/users");
        assert!(mirror.contents.groups.is_empty());
    }

    #[test]
    fn a_record_of_the_same_revision_may_be_of_another_etcd() {
        let record = || GroupRecord::new(crate::config::GroupDefinition::default());
        let (before, after) = (record(), record());
        let json = [&before, &after].map(|it| it.to_json().unwrap());
        let mut mirror = mirror();
        mirror.replace(9, [entry("/s/groups/users", &json[0], 4)]);
        let held = mirror.contents.groups["users"].clone();
        mirror.replace(9, [entry("/s/groups/users", &json[0], 4)]);
        assert!(Arc::ptr_eq(&held, &mirror.contents.groups["users"]), "the same one is kept");
        mirror.replace(9, [entry("/s/groups/users", &json[1], 4)]);
        assert_eq!(mirror.contents.groups["users"].id, after.id);
    }

    #[test]
    fn there_is_a_bound_on_groups() {
        let json = GroupRecord::new(crate::config::GroupDefinition::default()).to_json().unwrap();
        let mut mirror = mirror();
        for n in 0..=MAX_GROUP_RECORDS {
            mirror.put(&entry(&format!("/s/groups/g{n}"), &json, 1));
        }
        mirror.put(&entry("/s/groups/g0", &json, 2));
        assert_eq!((mirror.contents.groups.len(), mirror.skipped()), (MAX_GROUP_RECORDS, 1));
        assert_eq!(mirror.contents.groups["g0"].revision, 2);
    }
}
