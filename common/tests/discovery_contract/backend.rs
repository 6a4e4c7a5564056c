//! What the suite needs of a backend, and how it waits.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use common::{
    discovery::{
        Discovery, NodeId, NodeRecord, Prober, Registration, RegistrationState, View, WantedRing,
    },
    topology::Topology,
};
use futures_util::future::BoxFuture;
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

/// Long enough for a busy machine; what takes this long has failed.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);
/// How often it is looked whether something holds.
const POLL: Duration = Duration::from_millis(10);
/// A lease that can be waited for. etcd gives no shorter ones.
pub(crate) const SHORT: Duration = Duration::from_secs(2);
/// A lease that outlives every test.
pub(crate) const LONG: Duration = Duration::from_secs(600);

/// The addresses that tests register at; a static list holds them all.
pub(crate) const A: &str = "127.0.0.1:7001";
pub(crate) const B: &str = "127.0.0.1:7002";
pub(crate) const C: &str = "127.0.0.1:7003";
/// An address where the record of another id once stood.
pub(crate) const ELSEWHERE: &str = "127.0.0.1:7999";

/// A backend under test, and the faults that can be put into it.
pub(crate) trait Backend: Sized {
    /// The members are a fixed list: they are there whatever happens, and nothing is written.
    const FIXED: bool = false;
    /// What can't be read from the start.
    const MALFORMED: u64 = 0;

    async fn start(lease_ttl: Duration) -> Self;

    /// Another process's handle.
    fn handle(&self, wanted: &WantedRing) -> Arc<dyn Discovery>;

    /// Who answers where.
    fn answering(&self) -> &Answering;

    /// Ends the lease of a node's record.
    async fn end_lease(&self, id: &NodeId);

    /// Deletes a node's record, not its lease.
    async fn delete_record(&self, id: &NodeId);

    /// Writes anything as a node's record.
    async fn put_raw(&self, id: &str, value: &[u8]);

    /// Writes anything as a group's record.
    async fn put_raw_group(&self, name: &str, value: &[u8]);

    fn any_handle(&self) -> Arc<dyn Discovery> {
        self.handle(&WantedRing::default())
    }
}

/// A prober that is told who answers.
#[derive(Clone, Default)]
pub(crate) struct Answering(Arc<Mutex<BTreeMap<String, Uuid>>>);

impl Answering {
    pub(crate) fn at(&self, record: &NodeRecord) {
        self.0.lock().unwrap().insert(record.grpc.clone(), record.instance);
    }

    pub(crate) fn nobody_at(&self, record: &NodeRecord) {
        self.0.lock().unwrap().remove(&record.grpc);
    }
}

impl Prober for Answering {
    fn instance_at(&self, grpc: &str) -> BoxFuture<'_, Option<Uuid>> {
        let instance = self.0.lock().unwrap().get(grpc).copied();
        Box::pin(async move { instance })
    }
}

/// A new life of the node whose id is `id`, listening at `grpc`.
pub(crate) fn node_at(id: &str, grpc: &str) -> NodeRecord {
    NodeRecord {
        zone: "a".into(),
        version: "0.0.0".into(),
        started_at: "2026-01-01T00:00:00Z".into(),
        ..NodeRecord::new(NodeId::new(id).unwrap(), Uuid::new_v4(), grpc)
    }
}

/// A new life of the node whose id is its address.
pub(crate) fn node(address: &str) -> NodeRecord {
    node_at(address, address)
}

/// Waits until a watched value is as wanted, and shows what it was if it never is.
pub(crate) async fn until<T: Debug + Clone>(
    mut watched: watch::Receiver<T>,
    wanted: impl FnMut(&T) -> bool,
) -> T {
    let last = watched.clone();
    match tokio::time::timeout(DEADLINE, watched.wait_for(wanted)).await {
        Ok(value) => value.unwrap().clone(),
        Err(_) => panic!("still {:#?} after {DEADLINE:?}", last.borrow()),
    }
}

/// Waits for something that nobody tells of.
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < DEADLINE, "not after {DEADLINE:?}: {what}");
        sleep(POLL).await;
    }
}

/// The smallest ring that a process has had since.
pub(crate) struct Fewest {
    seen: Arc<AtomicUsize>,
    _watching: AbortOnDropHandle<()>,
}

impl Fewest {
    pub(crate) fn of(handle: &Arc<dyn Discovery>) -> Self {
        let seen = Arc::new(AtomicUsize::new(usize::MAX));
        let (mut views, fewest) = (handle.views(), Arc::clone(&seen));
        let watching = tokio::spawn(async move {
            loop {
                let members = views.borrow_and_update().as_ref().map(|view| view.members.len());
                fewest.fetch_min(members.unwrap_or(usize::MAX), Ordering::Relaxed);
                if views.changed().await.is_err() {
                    return;
                }
            }
        });
        Self { seen, _watching: AbortOnDropHandle::new(watching) }
    }

    pub(crate) fn members(&self) -> usize {
        self.seen.load(Ordering::Relaxed)
    }
}

/// Waits for a view.
pub(crate) async fn until_view(
    handle: &dyn Discovery,
    mut wanted: impl FnMut(&View) -> bool,
) -> Arc<View> {
    let view = until(handle.views(), |view| view.as_deref().is_some_and(&mut wanted));
    view.await.unwrap()
}

/// Waits until the node is registered; the revision that did it.
pub(crate) async fn until_registered(registration: &Registration) -> u64 {
    until_registered_after(registration, None).await
}

/// Waits until the node is registered by a later revision than `earlier`.
pub(crate) async fn until_registered_after(
    registration: &Registration,
    earlier: Option<u64>,
) -> u64 {
    let later = |state: &RegistrationState| match state {
        RegistrationState::Registered { revision } => earlier.is_none_or(|e| *revision > e),
        _ => false,
    };
    match until(registration.state(), later).await {
        RegistrationState::Registered { revision } => revision,
        other => unreachable!("{other:?}"),
    }
}

/// Waits until this very instance is in the view.
pub(crate) async fn until_seen(handle: &dyn Discovery, node: &NodeRecord) -> Arc<View> {
    until_view(handle, |view| {
        view.members.get(&node.id).is_some_and(|m| m.instance == node.instance)
    })
    .await
}

pub(crate) fn ids(view: &View) -> Vec<&str> {
    view.members.keys().map(NodeId::as_str).collect()
}

/// Everything that is shown from now on.
pub(crate) fn record_views(
    mut views: watch::Receiver<Option<Arc<View>>>,
) -> Arc<Mutex<Vec<Arc<View>>>> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let into = Arc::clone(&seen);
    tokio::spawn(async move {
        loop {
            into.lock().unwrap().extend(views.borrow_and_update().clone());
            if views.changed().await.is_err() {
                return;
            }
        }
    });
    seen
}

/// The digest of the ring that follows from a view.
pub(crate) fn digest(view: &View) -> u64 {
    Topology::empty().next(view).epoch.digest
}
