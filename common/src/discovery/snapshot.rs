//! The last view, kept in a file: what a process begins with when the backend can't be reached.
//!
//! The file is replaced as a whole or not at all, and only its owner may read it, because it holds
//! the ring's seed. What can't be read is logged and ignored; what can't be written is logged, and
//! tried again. Whether a snapshot is used at all is not decided here.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{sync::watch, time::timeout};
use uuid::Uuid;

use crate::{
    clock::Clock,
    discovery::{
        NodeId, NodeRecord, RingSettings, View, groups::GroupRecord, layout::MAX_VIRTUAL_NODES,
    },
    key::GroupName,
};

/// The layout of the file, its field `v`.
const SNAPSHOT_VERSION: u32 = 1;
/// Largest file that is read.
const MAX_SNAPSHOT_BYTES: u64 = 64 << 20;
/// How long until a file that could not be written is tried again.
const SAVE_AGAIN: Duration = Duration::from_secs(10);

/// A view that was known once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Snapshot {
    pub(crate) view: Arc<View>,
    /// When it was saved, in wall-clock milliseconds.
    pub(crate) saved_unix_ms: u64,
}

/// The place of one cluster's snapshot.
#[derive(Clone)]
pub(crate) struct SnapshotFile {
    dir: PathBuf,
    service: String,
    clock: Arc<dyn Clock>,
}

#[derive(Serialize, Deserialize)]
struct Written {
    v: u32,
    service: String,
    saved_unix_ms: u64,
    generation: String,
    as_of: u64,
    virtual_nodes: u32,
    seed: String,
    members: Vec<NodeRecord>,
    carried: BTreeSet<NodeId>,
    #[serde(default)]
    groups: Vec<WrittenGroup>,
}

/// A group's record, and where it stood.
#[derive(Serialize, Deserialize)]
struct WrittenGroup {
    name: String,
    revision: u64,
    record: serde_json::Value,
}

/// What every version of the file says.
#[derive(Deserialize)]
struct Heading {
    v: u32,
    service: String,
}

impl SnapshotFile {
    pub(crate) fn new(dir: &Path, service: &str, clock: Arc<dyn Clock>) -> Self {
        Self { dir: dir.to_owned(), service: service.to_owned(), clock }
    }

    fn path(&self) -> PathBuf {
        self.dir.join(format!("{}.snapshot.json", self.service))
    }

    /// The snapshot, if there is one that can be used.
    pub(crate) fn read(&self) -> Option<Snapshot> {
        let path = self.path();
        match self.try_read(&path) {
            Ok(snapshot) => snapshot,
            Err(why) => {
                tracing::warn!(path = %path.display(), why, "the snapshot can't be used");
                None
            }
        }
    }

    fn try_read(&self, path: &Path) -> Result<Option<Snapshot>, String> {
        // Not `open`, which waits for a writer where somebody put a pipe.
        match fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.to_string()),
            Ok(found) if !found.is_file() => return Err("it is not a file".into()),
            Ok(_) => {}
        }
        let file = File::open(path).map_err(|error| error.to_string())?;
        let mut json = Vec::new();
        let read = file.take(MAX_SNAPSHOT_BYTES + 1).read_to_end(&mut json);
        read.map_err(|error| error.to_string())?;
        if json.len() as u64 > MAX_SNAPSHOT_BYTES {
            return Err(format!("it is over {MAX_SNAPSHOT_BYTES} bytes long"));
        }
        parse(&json, &self.service).map(Some)
    }

    /// Saves what is shown whenever anything but its revision has changed. Ends with the sender
    /// of the views. `known` is what the file holds.
    pub(crate) async fn keep(
        self,
        mut views: watch::Receiver<Option<Arc<View>>>,
        known: Option<Arc<View>>,
    ) {
        let mut saved = known;
        let mut problem = None;
        loop {
            let shown = views.borrow_and_update().clone();
            if let Some(view) = shown.filter(|view| !is_saved(saved.as_deref(), view)) {
                let (file, to_save) = (self.clone(), Arc::clone(&view));
                // To its end, even if this future is dropped meanwhile.
                let writing = tokio::task::spawn_blocking(move || file.write(&to_save));
                let written = writing.await.unwrap_or_else(|died| Err(io::Error::other(died)));
                let failed = written.err().map(|error| error.to_string());
                if let Some(why) = failed.as_ref().filter(|why| problem.as_ref() != Some(*why)) {
                    tracing::warn!(path = %self.path().display(), why, "the snapshot can't be saved");
                }
                problem = failed;
                if problem.is_none() {
                    saved = Some(view);
                }
            }
            let changed = match problem {
                None => views.changed().await,
                Some(_) => timeout(SAVE_AGAIN, views.changed()).await.unwrap_or(Ok(())),
            };
            if changed.is_err() {
                return;
            }
        }
    }

    fn write(&self, view: &View) -> io::Result<()> {
        let View { generation, as_of, ring, members, carried, groups } = view.clone();
        let written = Written {
            v: SNAPSHOT_VERSION,
            service: self.service.clone(),
            saved_unix_ms: self.clock.unix().as_millis() as u64,
            generation: generation.to_string(),
            as_of,
            virtual_nodes: ring.virtual_nodes,
            seed: ring.seed,
            members: members.into_values().collect(),
            carried,
            groups: groups.iter().filter_map(write_group).collect(),
        };
        let json = serde_json::to_vec(&written).map_err(io::Error::other)?;
        DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        // Several processes may share the directory; each writes a file of its own.
        let aside = self.dir.join(format!(".{}.{}.tmp", self.service, Uuid::new_v4()));
        let replaced = write_aside(&aside, &json).and_then(|()| fs::rename(&aside, self.path()));
        if replaced.is_err() {
            let _ = fs::remove_file(&aside);
        }
        replaced?;
        File::open(&self.dir)?.sync_all()
    }
}

fn write_aside(path: &Path, json: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(json)?;
    file.sync_all()
}

/// Whether nothing but the revision differs.
fn is_saved(saved: Option<&View>, view: &View) -> bool {
    saved.is_some_and(|saved| {
        let View { generation, as_of: _, ring, members, carried, groups } = saved;
        (generation, ring, members, carried, groups)
            == (&view.generation, &view.ring, &view.members, &view.carried, &view.groups)
    })
}

fn write_group((name, record): (&GroupName, &Arc<GroupRecord>)) -> Option<WrittenGroup> {
    let json = record.to_json().ok()?;
    let (name, revision) = (name.to_string(), record.revision);
    Some(WrittenGroup { name, revision, record: serde_json::from_slice(&json).ok()? })
}

/// One that can't be read is left out: the backend knows it better, once it is reached.
fn read_group(written: WrittenGroup) -> Option<(GroupName, Arc<GroupRecord>)> {
    let WrittenGroup { name, revision, record } = written;
    let name = GroupName::new(name).ok()?;
    let record = GroupRecord::parse(&name, revision, record.to_string().as_bytes()).ok()?;
    Some((name, Arc::new(record)))
}

fn parse(json: &[u8], service: &str) -> Result<Snapshot, String> {
    let heading: Heading = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    if heading.v != SNAPSHOT_VERSION {
        return Err(format!("its v is {}, this program reads {SNAPSHOT_VERSION}", heading.v));
    }
    if heading.service != service {
        return Err(format!("it is of the service {:?}, not {service:?}", heading.service));
    }
    let written: Written = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    let Written { saved_unix_ms, as_of, virtual_nodes, seed, .. } = written;
    let generation =
        written.generation.parse().map_err(|_| "its generation is no UUID".to_owned())?;
    if !(1..=MAX_VIRTUAL_NODES).contains(&virtual_nodes) {
        return Err(format!("virtual_nodes is {virtual_nodes}, not 1 to {MAX_VIRTUAL_NODES}"));
    }
    let members: BTreeMap<_, _> =
        written.members.into_iter().map(|record| (record.id.clone(), record)).collect();
    let mut carried = written.carried;
    carried.retain(|id| members.contains_key(id));
    let ring = RingSettings { virtual_nodes, seed };
    let groups = Arc::new(written.groups.into_iter().filter_map(read_group).collect());
    let view = Arc::new(View { generation, as_of, ring, members, carried, groups });
    Ok(Snapshot { view, saved_unix_ms })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::clock::ManualClock;

    const NODE: &str =
        r#"{"v":1,"id":"a","instance":"00000000-0000-0000-0000-000000000007","grpc":"h:1"}"#;

    fn view(as_of: u64) -> View {
        let record = NodeRecord::parse(NODE.as_bytes()).unwrap();
        let ring = RingSettings { virtual_nodes: 7, seed: "hush".into() };
        let definition = Some(crate::config::GroupDefinition::default());
        let group = GroupRecord { id: Uuid::from_u128(4), revision: 5, definition };
        View {
            generation: Uuid::from_u128(3),
            as_of,
            ring,
            carried: BTreeSet::from([record.id.clone()]),
            members: BTreeMap::from([(record.id.clone(), record)]),
            groups: Arc::new(BTreeMap::from([("users".parse().unwrap(), Arc::new(group))])),
        }
    }

    fn file(dir: &Path, service: &str) -> SnapshotFile {
        SnapshotFile::new(dir, service, Arc::new(ManualClock::new()))
    }

    #[test]
    fn a_view_reads_back_and_only_its_owner_may_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = file(&dir.path().join("new/dir"), "s");
        assert_eq!(file.read(), None);
        for as_of in [5, 6] {
            file.write(&view(as_of)).unwrap();
            let read = file.read().unwrap();
            assert_eq!(*read.view, view(as_of));
            assert_eq!(read.saved_unix_ms, 1_767_225_601_000);
        }
        let mode = fs::metadata(file.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        // Nothing is left lying beside it.
        assert_eq!(fs::read_dir(&file.dir).unwrap().count(), 1);
    }

    #[test]
    fn what_can_not_be_used_is_ignored() {
        let dir = tempfile::tempdir().unwrap();
        let file = file(dir.path(), "s");
        file.write(&view(5)).unwrap();
        let good = fs::read_to_string(file.path()).unwrap();
        for (from, to, why) in [
            (r#""v":1,"service""#, r#""v":2,"service""#, "its v is 2"),
            (r#""service":"s""#, r#""service":"t""#, "of the service"),
            ("00000000-0000-0000-0000-000000000003", "x", "no UUID"),
            (r#""virtual_nodes":7"#, r#""virtual_nodes":0"#, "virtual_nodes is 0"),
            (r#""weight":100"#, r#""weight":100000"#, "weight is 100000"),
            (r#""as_of":5,"#, "", "missing field"),
            ("}]", "}", "expected"),
        ] {
            let bad = good.replacen(from, to, 1);
            assert_ne!(bad, good, "{from}");
            let error = parse(bad.as_bytes(), "s").unwrap_err();
            assert!(error.contains(why), "{error} should say {why}");
            fs::write(file.path(), bad).unwrap();
            assert_eq!(file.read(), None);
        }
        for cut in [0, 1, good.len() / 2, good.len() - 1] {
            fs::write(file.path(), &good[..cut]).unwrap();
            assert_eq!(file.read(), None, "{cut}");
        }
        fs::remove_file(file.path()).unwrap();
        fs::create_dir(file.path()).unwrap();
        assert_eq!(file.read(), None);
    }

    #[tokio::test]
    async fn it_is_saved_again_only_when_more_than_the_revision_changed() {
        let dir = tempfile::tempdir().unwrap();
        let file = file(dir.path(), "s");
        let (views, known) = (watch::Sender::new(Some(Arc::new(view(5)))), view(4));
        let nobody = View { members: BTreeMap::new(), carried: BTreeSet::new(), ..view(6) };
        let keeping = tokio::spawn(file.clone().keep(views.subscribe(), Some(Arc::new(known))));
        tokio::task::yield_now().await;
        assert_eq!(file.read(), None);
        views.send_replace(Some(Arc::new(nobody.clone())));
        drop(views);
        keeping.await.unwrap();
        assert_eq!(*file.read().unwrap().view, nobody);
    }
}
