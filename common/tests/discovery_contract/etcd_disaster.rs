//! etcd loses most members at once: the ring stays, and it is the same ring for everybody.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use common::discovery::{Discovery, Registration, RegistrationState, Serving, View, WantedRing};
use etcd_client::{AlarmAction, AlarmType, Client, DeleteOptions};
use rustix::process::Signal;
use tokio::time::{Instant, sleep};

use crate::{
    backend::*,
    etcd::{Etcd, SERVICE, key, put_leased},
    gate::Gate,
};

/// How long members are carried after the last lease that bound them.
const CARRIED: Duration = Duration::from_secs(2 * SHORT.as_secs());

/// Three nodes and two more processes, and what each of the five is shown.
struct Fleet {
    handles: Vec<Arc<dyn Discovery>>,
    registrations: Vec<Registration>,
    seen: Vec<Arc<Mutex<Vec<Arc<View>>>>>,
    before: Arc<View>,
}

impl Fleet {
    async fn start(backend: &Etcd, endpoint: &str) -> Self {
        let endpoints = [endpoint.to_owned()];
        let wanted = WantedRing { virtual_nodes: Some(7), seed: Some("s".into()) };
        let first = backend.handle_at(&endpoints, &wanted);
        first.ready().await.unwrap();
        let others = (1..5).map(|_| backend.handle_at(&endpoints, &WantedRing::default()));
        let handles: Vec<_> = [first].into_iter().chain(others).collect();
        let nodes = handles.iter().zip([A, B, C]);
        let registrations: Vec<_> = nodes.map(|(on, at)| on.register(node(at))).collect();
        let mut before = None;
        for handle in &handles {
            before = Some(until_view(&**handle, |view| ids(view) == [A, B, C]).await);
            until(handle.status(), |status| status.connected).await;
        }
        let seen = handles.iter().map(|handle| record_views(handle.views())).collect();
        Self { handles, registrations, seen, before: before.unwrap() }
    }

    async fn until_all(&self, wanted: impl Fn(&View) -> bool) {
        for handle in &self.handles {
            until_view(&**handle, &wanted).await;
        }
    }

    /// All are registered again, and all that was ever shown was the same ring.
    async fn is_whole_and_never_was_less(&self) {
        for registration in &self.registrations {
            until_registered(registration).await;
        }
        self.until_all(|view| ids(view) == [A, B, C] && view.carried.is_empty()).await;
        for handle in &self.handles {
            until(handle.status(), |status| status.connected && status.serving.is_none()).await;
        }
        for seen in &self.seen {
            for view in &*seen.lock().unwrap() {
                assert_eq!(digest(view), digest(&self.before), "{view:#?}");
            }
        }
    }
}

async fn delete_prefix(client: &mut Client, prefix: String) {
    let all = DeleteOptions::new().with_prefix();
    client.delete(prefix, Some(all)).await.unwrap();
}

#[tokio::test]
async fn a_wiped_etcd_changes_no_ring() {
    let mut backend = Etcd::start(SHORT).await;
    let address = backend.server.address().to_string();
    let fleet = Fleet::start(&backend, &address).await;
    backend.server.stop();
    backend.server.wipe();
    assert!(backend.server.resume().await);
    let generation = fleet.before.generation;
    fleet.until_all(|view| view.generation != generation).await;
    fleet.is_whole_and_never_was_less().await;
}

#[tokio::test]
async fn who_knows_nothing_may_be_the_first_in_a_wiped_etcd() {
    let mut backend = Etcd::start(SHORT).await;
    let gate = Gate::to(backend.server.address()).await;
    let fleet = Fleet::start(&backend, &gate.address).await;
    gate.shut();
    backend.server.stop();
    backend.server.wipe();
    assert!(backend.server.resume().await);
    let fresh = backend.any_handle();
    let empty = until_view(&*fresh, |_| true).await;
    assert!(empty.members.is_empty() && empty.generation != fleet.before.generation);
    assert_ne!(empty.ring, fleet.before.ring);
    gate.open();
    let same = |view: &View| digest(view) == digest(&fleet.before);
    until_view(&*fresh, same).await;
    fleet.until_all(|view| view.generation == empty.generation).await;
    fleet.is_whole_and_never_was_less().await;
}

#[tokio::test]
async fn keys_deleted_by_hand_change_no_ring() {
    for what in ["nodes/", ""] {
        let backend = Etcd::start(SHORT).await;
        let address = backend.server.address().to_string();
        let fleet = Fleet::start(&backend, &address).await;
        let mut client = backend.server.client().await;
        delete_prefix(&mut client, format!("/{SERVICE}/{what}")).await;
        let revision = client.get("/", None).await.unwrap().header().unwrap().revision();
        fleet.until_all(|view| view.as_of > revision.unsigned_abs()).await;
        fleet.is_whole_and_never_was_less().await;
    }
}

#[tokio::test]
async fn an_etcd_that_stood_still_for_longer_than_all_leases_changes_no_ring() {
    let backend = Etcd::start(SHORT).await;
    let address = backend.server.address().to_string();
    let fleet = Fleet::start(&backend, &address).await;
    backend.server.signal(Signal::STOP);
    for registration in &fleet.registrations {
        until(registration.state(), |s| matches!(s, RegistrationState::Trying { .. })).await;
    }
    // Nothing tells that a lease is over while etcd stands still.
    sleep(SHORT * 2).await;
    backend.server.signal(Signal::CONT);
    fleet.is_whole_and_never_was_less().await;
}

/// Records of nodes that nobody renews or brings back, and processes that see them.
async fn dead_nodes(backend: &Etcd, addresses: &[&str]) -> (Client, Vec<Arc<dyn Discovery>>) {
    let mut client = backend.server.client().await;
    for address in addresses {
        put_leased(&mut client, address, &node(address).to_json().unwrap()).await;
    }
    let handles: Vec<_> = (0..3).map(|_| backend.any_handle()).collect();
    for handle in &handles {
        until_view(&**handle, |view| ids(view) == addresses).await;
        until(handle.status(), |status| status.connected).await;
    }
    (client, handles)
}

#[tokio::test]
async fn carried_members_are_told_and_their_time_runs_out() {
    let backend = Etcd::start(SHORT).await;
    let (mut client, handles) = dead_nodes(&backend, &[A, B, C]).await;
    let alive = handles[0].register(node(ELSEWHERE));
    until_registered(&alive).await;
    let began = Instant::now();
    delete_prefix(&mut client, format!("/{SERVICE}/nodes/127.0.0.1:700")).await;
    for handle in &handles {
        let view = until_view(&**handle, |view| !view.carried.is_empty()).await;
        assert_eq!(ids(&view), [A, B, C, ELSEWHERE]);
        assert!(view.live(A).is_none() && view.live(ELSEWHERE).is_some());
        let status = handle.status().borrow().clone();
        let Some(Serving::Keeping { members, problem: None, .. }) = &status.serving else {
            panic!("{status:?}");
        };
        assert_eq!(members.iter().map(|id| id.as_str()).collect::<Vec<_>>(), [A, B, C]);
    }
    for handle in &handles {
        until_view(&**handle, |view| ids(view) == [ELSEWHERE]).await;
        until(handle.status(), |status| status.serving.is_none()).await;
    }
    assert!(began.elapsed() >= CARRIED, "after {:?}", began.elapsed());
}

#[tokio::test]
async fn half_of_the_members_may_go_and_the_last_one_is_carried() {
    let backend = Etcd::start(SHORT).await;
    let (mut client, handles) = dead_nodes(&backend, &[A, B]).await;
    let seen = record_views(handles[0].views());
    for (goes, stays) in [(B, vec![A]), (A, vec![])] {
        let found = client.get(key(goes), None).await.unwrap();
        client.lease_revoke(found.kvs()[0].lease()).await.unwrap();
        for handle in &handles {
            until_view(&**handle, |view| ids(view) == stays).await;
        }
    }
    let seen = seen.lock().unwrap();
    let carried = seen.iter().flat_map(|view| view.carried.iter().map(|id| id.as_str()));
    assert!(carried.clone().count() > 0 && carried.clone().all(|id| id == A), "{seen:#?}");
}

#[tokio::test]
async fn a_fleet_that_leaves_is_no_disaster() {
    let backend = Etcd::start(SHORT).await;
    let address = backend.server.address().to_string();
    let fleet = Fleet::start(&backend, &address).await;
    for leaving in &fleet.registrations {
        leaving.leave().await.unwrap();
    }
    fleet.until_all(|view| view.members.is_empty()).await;
    for seen in &fleet.seen {
        assert!(seen.lock().unwrap().iter().all(|view| view.carried.is_empty()));
    }
}

#[tokio::test]
async fn members_that_can_not_be_carried_are_held_as_long() {
    let backend = Etcd::start(SHORT).await;
    let (mut client, handles) = dead_nodes(&backend, &[A, B, C]).await;
    let before = handles[0].views().borrow().clone();
    let mut maintenance = client.maintenance_client();
    maintenance.alarm(AlarmAction::Activate, AlarmType::Nospace, None).await.unwrap();
    let began = Instant::now();
    delete_prefix(&mut client, format!("/{SERVICE}/nodes/")).await;
    for handle in &handles {
        let problem = |serving: &Option<Serving>| match serving {
            Some(Serving::Keeping { problem, .. }) => problem.clone(),
            _ => None,
        };
        let status = until(handle.status(), |status| problem(&status.serving).is_some()).await;
        let words = status.in_words();
        assert!(words.contains(A) && words.contains("space"), "{words}");
        assert!(status.connected, "{status:?}");
        assert_eq!(*handle.views().borrow(), before);
    }
    for handle in &handles {
        until_view(&**handle, |view| view.members.is_empty()).await;
    }
    assert!(began.elapsed() >= CARRIED, "after {:?}", began.elapsed());
}
