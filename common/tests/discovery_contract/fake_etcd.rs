//! An etcd in this process that can be told to misbehave.
//!
//! [`keyspace`] is honest; what lies is in between: [`Faults`] say what the services ([`serve`])
//! do with renewals, lists, watches and writes. It fakes what discovery uses of etcd and nothing
//! else, keeps no time (leases end when a test ends them), and has as many endpoints as are asked
//! for, each with faults of its own.

mod keyspace;
mod serve;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use common::discovery::{Discovery, EtcdOptions, NodeRecord};
use etcd_client::proto::{
    PbEvent, PbKvServer, PbLeaseServer, PbPutRequest, PbResponseHeader, PbWatchResponse,
    PbWatchServer,
};
use tokio::{net::TcpListener, sync::mpsc::UnboundedSender};
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::task::AbortOnDropHandle;
use tonic::{Status, transport::Server};

use self::keyspace::{Keyspace, is_within};
use crate::{
    backend::{Answering, LONG, SHORT},
    etcd::{SERVICE, key, start},
};

/// How long its clients wait for an answer.
const PATIENCE: Duration = Duration::from_millis(500);

/// How renewals are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Renewals {
    Honest,
    /// With success, whatever became of the lease.
    Granted,
    /// Not at all.
    Unanswered,
    /// Honestly, so much later.
    Late(Duration),
}

/// How the state is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lists {
    Honest,
    /// As if nothing were there, with a revision as if all were well.
    Empty,
    /// Only their first pages are answered.
    CutShort,
}

/// How watches are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Watches {
    Honest,
    /// Open, but what happens is not told, and no progress either.
    Silent,
    /// Not even that they are open is told.
    Unanswered,
}

/// Something that happens to the keys.
type Change = Box<dyn FnOnce(&mut Keyspace) + Send>;

/// What one endpoint does wrong.
pub(crate) struct Faults {
    pub(crate) renewals: Renewals,
    pub(crate) lists: Lists,
    pub(crate) watches: Watches,
    /// Nothing can be written that takes room.
    pub(crate) no_space: bool,
    /// The members of its cluster are gone: who requires a leader is refused, others are told
    /// what was true before.
    pub(crate) leaderless: bool,
    /// What else happens between the list and the watch of the next session.
    slips_in: Option<Change>,
}

const NONE: Faults = Faults {
    renewals: Renewals::Honest,
    lists: Lists::Honest,
    watches: Watches::Honest,
    no_space: false,
    leaderless: false,
    slips_in: None,
};

/// An endpoint, and what all endpoints share. Ends when it is dropped.
pub(crate) struct FakeEtcd {
    pub(crate) address: String,
    service: Service,
    _serving: AbortOnDropHandle<()>,
}

/// What answers at one endpoint.
#[derive(Clone)]
struct Service {
    shared: Arc<Mutex<Shared>>,
    faults: Arc<Mutex<Faults>>,
}

/// What all endpoints share. Locked before an endpoint's faults.
struct Shared {
    keyspace: Keyspace,
    /// The last revision that watchers were told of.
    told: i64,
    watchers: Vec<Watcher>,
    watches_opened: usize,
    /// Renewals that were asked for, by lease.
    renewals: BTreeMap<i64, usize>,
}

/// An open watch.
struct Watcher {
    from: Arc<Mutex<Faults>>,
    first: Vec<u8>,
    end: Vec<u8>,
    answers: UnboundedSender<Result<PbWatchResponse, Status>>,
}

impl FakeEtcd {
    pub(crate) async fn start() -> Self {
        Self::sharing(Arc::new(Mutex::new(Shared {
            keyspace: Keyspace::new(),
            told: 1,
            watchers: Vec::new(),
            watches_opened: 0,
            renewals: BTreeMap::new(),
        })))
        .await
    }

    /// Another endpoint of the same cluster, without faults.
    pub(crate) async fn another_endpoint(&self) -> Self {
        Self::sharing(Arc::clone(&self.service.shared)).await
    }

    async fn sharing(shared: Arc<Mutex<Shared>>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let service = Service { shared, faults: Arc::new(Mutex::new(NONE)) };
        let serving = Server::builder()
            .add_service(PbKvServer::new(service.clone()))
            .add_service(PbWatchServer::new(service.clone()))
            .add_service(PbLeaseServer::new(service.clone()))
            .serve_with_incoming(TcpListenerStream::new(listener));
        let serving = tokio::spawn(async move { serving.await.unwrap() });
        Self { address, service, _serving: AbortOnDropHandle::new(serving) }
    }

    /// A process that follows at this endpoint, and looks after what it may have missed so often.
    pub(crate) fn handle(&self, anti_entropy: Duration) -> Arc<dyn Discovery> {
        follow(&[self], anti_entropy)
    }

    /// Changes what this endpoint does wrong.
    pub(crate) fn faults(&self) -> MutexGuard<'_, Faults> {
        self.service.faults.lock().unwrap()
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.service.shared.lock().unwrap()
    }

    pub(crate) fn revision(&self) -> u64 {
        self.shared().keyspace.revision().unsigned_abs()
    }

    /// Writes a node's record under a lease of its own; the revision.
    pub(crate) fn put(&self, record: &NodeRecord) -> u64 {
        self.service.change(|keyspace| put(keyspace, record))
    }

    /// Ends the lease of a node's record, and so the record.
    pub(crate) fn end_lease(&self, id: &str) {
        self.service.change(|keyspace| {
            let lease = keyspace.get(key(id).as_bytes()).unwrap().lease;
            keyspace.revoke(lease).unwrap();
        });
    }

    /// The event that wrote the record which stands there now.
    pub(crate) fn event(&self, id: &str) -> PbEvent {
        let kv = self.shared().keyspace.get(key(id).as_bytes()).cloned();
        PbEvent { r#type: 0, kv: Some(kv.unwrap()), prev_kv: None }
    }

    /// How often a renewal of the lease of a node's record was asked for.
    pub(crate) fn renewals(&self, id: &str) -> usize {
        let shared = self.shared();
        let lease = shared.keyspace.get(key(id).as_bytes()).map_or(0, |kv| kv.lease);
        shared.renewals.get(&lease).copied().unwrap_or(0)
    }

    /// Tells all watchers of this endpoint something, true or not.
    pub(crate) fn tell(&self, mut response: PbWatchResponse, at: u64) {
        let shared = self.shared();
        let revision = at as i64;
        response.header = Some(PbResponseHeader { revision, ..shared.keyspace.header() });
        for watcher in shared.watchers.iter().filter(|watcher| watcher.is_of(&self.service)) {
            let _ = watcher.answers.send(Ok(response.clone()));
        }
    }

    /// Ends all watches of this endpoint, with an error if there is one.
    pub(crate) fn end_watches(&self, error: Option<Status>) {
        self.shared().watchers.retain(|watcher| {
            let ours = watcher.is_of(&self.service);
            if let (true, Some(error)) = (ours, &error) {
                let _ = watcher.answers.send(Err(error.clone()));
            }
            !ours
        });
    }

    /// How many watches were opened so far, at all endpoints.
    pub(crate) fn watches_opened(&self) -> usize {
        self.shared().watches_opened
    }

    /// A record is written between the list and the watch of the next session.
    pub(crate) fn slip_in(&self, record: NodeRecord) {
        self.faults().slips_in = Some(Box::new(move |keyspace| {
            put(keyspace, &record);
        }));
    }

    /// A record is written between the list and the watch of the next session, and then history
    /// is compacted up to it and beyond.
    pub(crate) fn slip_in_and_compact(&self, record: NodeRecord) {
        self.faults().slips_in = Some(Box::new(move |keyspace| {
            put(keyspace, &record);
            put(keyspace, &record);
            keyspace.compact(keyspace.revision());
        }));
    }

    /// Goes back to an earlier revision, and hangs up on everybody who watches.
    pub(crate) fn rewind(&self, revision: u64) {
        let mut shared = self.shared();
        shared.keyspace.rewind(revision as i64);
        shared.told = revision as i64;
        shared.watchers.clear();
    }
}

/// A process that follows at any of these endpoints.
pub(crate) fn follow(endpoints: &[&FakeEtcd], anti_entropy: Duration) -> Arc<dyn Discovery> {
    let options = EtcdOptions {
        endpoints: endpoints.iter().map(|fake| fake.address.clone()).collect(),
        service: SERVICE.into(),
        lease_ttl: SHORT,
        request_timeout: PATIENCE,
        anti_entropy,
        ..EtcdOptions::default()
    };
    start(options, &Answering::default())
}

/// Writes a node's record under a lease of its own; the revision.
fn put(keyspace: &mut Keyspace, record: &NodeRecord) -> u64 {
    let lease = keyspace.grant(LONG.as_secs() as i64);
    let (key, value) = (key(record.id.as_str()).into_bytes(), record.to_json().unwrap());
    keyspace.put(PbPutRequest { key, value, lease, ..PbPutRequest::default() }).unwrap();
    keyspace.revision().unsigned_abs()
}

impl Watcher {
    fn is_of(&self, service: &Service) -> bool {
        Arc::ptr_eq(&self.from, &service.faults)
    }

    /// Tells of a revision, if any of it is of interest.
    fn hears(&self, keyspace: &Keyspace, revision: i64, events: &[PbEvent]) {
        let (faults, mut header) = (self.from.lock().unwrap(), keyspace.header());
        header.revision = revision;
        let wanted = |event: &&PbEvent| {
            event.kv.as_ref().is_some_and(|kv| is_within(&kv.key, &self.first, &self.end))
        };
        let events: Vec<_> = events.iter().filter(wanted).cloned().collect();
        if !events.is_empty() && !faults.leaderless && faults.watches == Watches::Honest {
            let header = Some(header);
            let told = PbWatchResponse { header, events, ..PbWatchResponse::default() };
            let _ = self.answers.send(Ok(told));
        }
    }
}

impl Service {
    /// Changes the keyspace and tells the watchers.
    fn change<T>(&self, how: impl FnOnce(&mut Keyspace) -> T) -> T {
        let mut shared = self.shared.lock().unwrap();
        let answer = how(&mut shared.keyspace);
        for (revision, events) in shared.keyspace.since(shared.told + 1) {
            for watcher in &shared.watchers {
                watcher.hears(&shared.keyspace, revision, &events);
            }
        }
        shared.told = shared.keyspace.revision();
        answer
    }
}
