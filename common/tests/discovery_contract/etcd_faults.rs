//! What only etcd can go through: being away, compacting, forgetting, going back in time.

use std::time::Duration;

use common::discovery::{RegistrationState, WantedRing};
use etcd_client::PutOptions;
use tokio::time::Instant;

use crate::{
    backend::*,
    etcd::{Etcd, SERVICE, follow, key, put_leased},
    etcd_server::{EtcdServer, Ports},
    gate::Gate,
};

#[tokio::test]
async fn etcd_may_come_after_the_process() {
    let wanted = WantedRing::default();
    loop {
        let ports = Ports::free();
        let address = format!("127.0.0.1:{}", ports.client);
        let url = format!("http://{address}/");
        let handle = follow(&[url], SHORT, &wanted, &Answering::default());
        let registration = handle.register(node(A));
        let refused = |p: &Option<String>| {
            p.as_ref().is_some_and(|p| p.contains(&address) && p.contains("refused"))
        };
        let status = until(handle.status(), |status| refused(&status.problem)).await;
        assert!(!status.connected && status.since_unix_ms > 0, "{status:?}");
        let trying = |state: &RegistrationState| matches!(state, RegistrationState::Trying { problem: Some(p) } if p.contains("refused"));
        until(registration.state(), trying).await;
        assert!(handle.views().borrow().is_none());
        assert!(handle.catch_up(0).await.is_err());

        let Some(_server) = EtcdServer::start_on(ports).await else {
            continue; // somebody took a port meanwhile
        };
        tokio::time::timeout(DEADLINE, handle.ready()).await.unwrap().unwrap();
        until_registered(&registration).await;
        until_view(&*handle, |view| ids(view) == [A]).await;
        return;
    }
}

#[tokio::test]
async fn the_view_is_kept_while_etcd_is_away_and_comes_up_to_date_after() {
    let mut backend = Etcd::start(SHORT).await;
    let handle = backend.any_handle();
    let registration = handle.register(node(A));
    let revision = until_registered(&registration).await;
    let before = until_view(&*handle, |view| ids(view) == [A]).await;
    until(handle.status(), |status| status.connected).await;

    backend.server.stop();
    let status = until(handle.status(), |status| !status.connected).await;
    assert!(status.problem.unwrap().contains("etcd at 127.0.0.1"));
    // The node can't renew its lease any more; of that the ring knows nothing.
    until(registration.state(), |s| matches!(s, RegistrationState::Trying { .. })).await;
    assert!(handle.catch_up(before.as_of).await.is_err());
    assert_eq!(handle.views().borrow().as_ref(), Some(&before));

    assert!(backend.server.resume().await);
    let status = until(handle.status(), |status| status.connected).await;
    assert_eq!(status.problem, None);
    assert!(until_registered(&registration).await >= revision);
    let another = handle.register(node(B));
    until_registered(&another).await;
    let after = until_view(&*handle, |view| ids(view) == [A, B]).await;
    assert_eq!(after.generation, before.generation);
    assert!(after.as_of > before.as_of);
}

#[tokio::test]
async fn history_compacted_while_the_watch_is_cut_is_not_missed() {
    let backend = Etcd::start(LONG).await;
    let gate = Gate::to(backend.server.address()).await;
    let cut = backend.handle_at(std::slice::from_ref(&gate.address), &WantedRing::default());
    let near = backend.any_handle();
    let stays = near.register(node(A));
    let goes = near.register(node(B));
    until_registered(&stays).await;
    until_registered(&goes).await;
    until_view(&*cut, |view| ids(view) == [A, B]).await;

    gate.shut();
    until(cut.status(), |status| !status.connected).await;
    goes.leave().await.unwrap();
    let comes = near.register(node(C));
    let revision = until_registered(&comes).await;
    backend.server.client().await.compact(revision as i64, None).await.unwrap();
    assert_eq!(ids(cut.views().borrow().as_ref().unwrap()), [A, B]);
    gate.open();
    until_view(&*cut, |view| ids(view) == [A, C] && view.as_of >= revision).await;

    // And one under a watch that lives.
    backend.server.client().await.compact(revision as i64, None).await.unwrap_err();
    stays.leave().await.unwrap();
    let view = until_view(&*cut, |view| ids(view) == [C]).await;
    backend.server.client().await.compact(view.as_of as i64, None).await.unwrap();
    let again = near.register(node(A));
    until_registered(&again).await;
    until_view(&*cut, |view| ids(view) == [A, C]).await;
}

#[tokio::test]
async fn a_wiped_etcd_is_another_life_with_the_same_ring_settings() {
    let mut backend = Etcd::start(SHORT).await;
    let wanted = WantedRing { virtual_nodes: Some(7), seed: Some("s".into()) };
    let first = backend.handle(&wanted);
    first.ready().await.unwrap();
    let handle = backend.any_handle();
    let registrations = [A, B, C].map(|address| handle.register(node(address)));
    let before = until_view(&*handle, |view| ids(view) == [A, B, C]).await;
    drop(first); // nobody is left whose configuration names the settings

    backend.server.stop();
    backend.server.wipe();
    assert!(backend.server.resume().await);
    let reborn = |view: &common::discovery::View| {
        view.generation != before.generation && ids(view) == [A, B, C]
    };
    let after = until_view(&*handle, reborn).await;
    assert_eq!(after.ring, before.ring);
    for registration in &registrations {
        until_registered(registration).await;
    }
}

#[tokio::test]
async fn a_rolled_back_etcd_is_another_life() {
    let mut backend = Etcd::start(SHORT).await;
    let handle = backend.any_handle();
    let registration = handle.register(node(A));
    until_registered(&registration).await;
    backend.server.stop();
    backend.server.back_up();
    assert!(backend.server.resume().await);
    let mut later = Vec::new();
    for address in [B, C] {
        later.push(handle.register(node(address)));
        until_registered(&later[later.len() - 1]).await;
    }
    let before = until_view(&*handle, |view| ids(view) == [A, B, C]).await;

    backend.server.stop();
    backend.server.restore();
    assert!(backend.server.resume().await);
    let after =
        until_view(&*handle, |view| view.generation != before.generation && ids(view) == [A, B, C]);
    after.await;
}

#[tokio::test]
async fn many_records_are_read_page_by_page() {
    let backend = Etcd::start(LONG).await;
    let mut client = backend.server.client().await;
    let lease = client.lease_grant(LONG.as_secs() as i64, None).await.unwrap().id();
    for n in 0..100 {
        let node = node_at(&format!("node-{n:03}"), A);
        let options = PutOptions::new().with_lease(lease);
        client.put(key(node.id.as_str()), node.to_json().unwrap(), Some(options)).await.unwrap();
    }
    // What is not of this cluster is not of interest.
    client.put("/contract0/nodes/a", "", None).await.unwrap();
    client.put("/contrac/nodes/a", "", None).await.unwrap();
    let handle = backend.any_handle();
    let view = until_view(&*handle, |_| true).await;
    assert_eq!(view.members.len(), 100);
    assert_eq!(handle.status().borrow().skipped_records, 0);
}

#[tokio::test]
async fn a_record_without_a_lease_is_not_part_of_the_ring() {
    let backend = Etcd::start(LONG).await;
    let handle = backend.any_handle();
    handle.ready().await.unwrap();
    let mut client = backend.server.client().await;
    let (a, b) = (node(A), node(B));
    client.put(key(A), a.to_json().unwrap(), None).await.unwrap();
    put_leased(&mut client, B, &b.to_json().unwrap()).await;
    let view = until_seen(&*handle, &b).await;
    assert_eq!(ids(&view), [B]);
    assert_eq!(handle.status().borrow().skipped_records, 1);
    put_leased(&mut client, A, &a.to_json().unwrap()).await;
    until_view(&*handle, |view| ids(view) == [A, B]).await;
}

#[tokio::test]
async fn a_dead_endpoint_is_passed_over() {
    let backend = Etcd::start(LONG).await;
    let dead = format!("127.0.0.1:{}", Ports::free().client);
    let endpoints = [dead, backend.server.address().to_string()];
    // Each begins with an endpoint by chance: all of them must end up at the living one.
    for n in 0..4 {
        let handle = backend.handle_at(&endpoints, &WantedRing::default());
        tokio::time::timeout(DEADLINE, handle.ready()).await.unwrap().unwrap();
        // Another node each time: one that comes and goes would damp itself.
        let registration = handle.register(node_at(&format!("node-{n}"), A));
        until_registered(&registration).await;
        registration.leave().await.unwrap();
    }
}

#[tokio::test]
async fn ring_settings_deleted_by_hand_are_restored_and_unreadable_ones_reported() {
    let backend = Etcd::start(LONG).await;
    let wanted = WantedRing { virtual_nodes: Some(7), seed: None };
    let handle = backend.handle(&wanted);
    let before = until_view(&*handle, |_| true).await;
    until(handle.status(), |status| status.connected).await;
    let mut client = backend.server.client().await;
    let ring = format!("/{SERVICE}/ring");
    client.delete(ring.clone(), None).await.unwrap();
    until_view(&*handle, |view| view.as_of >= before.as_of + 2 && view.ring == before.ring).await;

    client.put(ring.clone(), "{", None).await.unwrap();
    let told = |problem: &Option<String>| problem.as_ref().is_some_and(|p| p.contains(&ring));
    until(handle.status(), |status| told(&status.problem)).await;
    assert_eq!(handle.views().borrow().as_ref().unwrap().ring, before.ring);
    client.put(ring.clone(), r#"{"v":1,"virtual_nodes":8}"#, None).await.unwrap();
    until_view(&*handle, |view| view.ring.virtual_nodes == 8).await;
    assert!(until(handle.status(), |s| s.connected).await.conflict.is_some());
}

#[tokio::test]
async fn who_knows_of_news_does_not_wait_for_the_next_try() {
    let backend = Etcd::start(LONG).await;
    let gate = Gate::to(backend.server.address()).await;
    let handle = backend.handle_at(std::slice::from_ref(&gate.address), &WantedRing::default());
    until(handle.status(), |status| status.connected).await;
    gate.shut();
    until(handle.status(), |status| !status.connected).await;
    // Meanwhile its pauses grow.
    let registration = backend.any_handle().register(node(A));
    let revision = until_registered(&registration).await;
    assert!(handle.catch_up(revision).await.is_err());
    gate.open();
    let seen = handle.catch_up(revision).await.unwrap();
    assert_eq!(ids(&seen), [A]);
}

/// Moves etcd's revision on without touching the cluster state.
async fn write_elsewhere(backend: &Etcd) -> u64 {
    let put = backend.server.client().await.put("/elsewhere", "", None).await.unwrap();
    put.header().unwrap().revision().unsigned_abs()
}

#[tokio::test]
async fn progress_notifications_advance_the_view() {
    let mut backend = Etcd::start(LONG).await;
    let arguments = ["--experimental-watch-progress-notify-interval", "200ms"];
    backend.server.resume_with(&arguments).await;
    let handle = backend.listing_every(LONG);
    until(handle.status(), |status| status.connected).await;
    let revision = write_elsewhere(&backend).await;
    until_view(&*handle, |view| view.as_of >= revision).await;
}

#[tokio::test]
async fn the_state_is_listed_again_from_time_to_time() {
    let backend = Etcd::start(LONG).await;
    let handle = backend.listing_every(Duration::from_millis(200));
    until(handle.status(), |status| status.connected).await;
    let revision = write_elsewhere(&backend).await;
    until_view(&*handle, |view| view.as_of >= revision).await;
}

#[tokio::test]
async fn catching_up_asks_etcd_itself() {
    let backend = Etcd::start(LONG).await;
    let handle = backend.listing_every(LONG);
    until(handle.status(), |status| status.connected).await;
    let revision = write_elsewhere(&backend).await;
    assert!(handle.views().borrow().as_ref().unwrap().as_of < revision);
    let all = (0..8).map(|_| handle.catch_up(revision));
    for view in futures_util::future::join_all(all).await {
        assert!(view.unwrap().as_of >= revision);
    }
}

#[tokio::test]
async fn an_unanswered_renewal_is_noticed_and_the_node_comes_back() {
    let backend = Etcd::start(SHORT).await;
    let gate = Gate::to(backend.server.address()).await;
    let cut = backend.handle_at(std::slice::from_ref(&gate.address), &WantedRing::default());
    let near = backend.any_handle();
    let a = node(A);
    let registration = cut.register(a.clone());
    let revision = until_registered(&registration).await;
    until_seen(&*near, &a).await;
    // One lease runs out: meanwhile the other has been renewed more than once.
    let b = node(B);
    let crashed = near.register(b.clone());
    until_seen(&*near, &b).await;
    drop(crashed);
    until_view(&*near, |view| ids(view) == [A]).await;

    gate.stall();
    let began = Instant::now();
    until(registration.state(), |s| matches!(s, RegistrationState::Trying { .. })).await;
    assert!(began.elapsed() < SHORT * 4, "took {:?}", began.elapsed());
    until_view(&*near, |view| view.members.is_empty()).await;
    assert!(registration.leave().await.is_err(), "etcd can't have confirmed");

    gate.open();
    registration.leave().await.unwrap();
    assert_eq!(*registration.state().borrow(), RegistrationState::Left);
    let again = cut.register(node(A));
    assert!(until_registered(&again).await > revision);
}
