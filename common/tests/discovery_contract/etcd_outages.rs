//! An etcd that hangs, is full, has lost its majority, or must be looked for: the view stays, the
//! words say what is wrong, and afterwards everybody is registered.

use std::{sync::Arc, time::Duration};

use common::discovery::{Discovery, EtcdOptions, RegistrationState, WantedRing};
use etcd_client::{AlarmAction, AlarmOptions, AlarmType, CompactionOptions};
use tokio::{net::TcpListener, time::Instant};

use crate::{
    backend::*,
    etcd::{Etcd, SERVICE, start, until_told},
    etcd_server::{EtcdServer, Ports},
    gate::Gate,
};

/// Looked for often, so that an etcd that says nothing is found out.
const OFTEN: Duration = Duration::from_millis(200);

/// A process that follows at these endpoints and lists often.
fn follow(endpoints: Vec<String>) -> Arc<dyn Discovery> {
    let options = EtcdOptions {
        endpoints,
        service: SERVICE.into(),
        lease_ttl: SHORT,
        anti_entropy: OFTEN,
        ..EtcdOptions::default()
    };
    start(options, &Answering::default())
}

/// A registration that is not there, and says why.
fn says(words: &str) -> impl Fn(&RegistrationState) -> bool {
    move |state| matches!(state, RegistrationState::Trying { problem: Some(p) } if p.contains(words))
}

#[tokio::test]
async fn an_etcd_that_hangs_is_told_and_waited_for() {
    let server = EtcdServer::start().await;
    let handle = follow(vec![server.address().to_string()]);
    let registrations = [A, B, C].map(|address| handle.register(node(address)));
    let before = until_view(&*handle, |view| ids(view) == [A, B, C]).await;
    until(handle.status(), |status| status.connected).await;
    for registration in &registrations {
        until_registered(registration).await;
    }

    server.suspend();
    until_told(&*handle, "did not answer a read within").await;
    for registration in &registrations {
        until(registration.state(), |s| matches!(s, RegistrationState::Trying { .. })).await;
    }
    let frozen = handle.views().borrow().clone().unwrap();
    assert_eq!((&frozen.members, frozen.generation), (&before.members, before.generation));

    server.wake();
    for registration in &registrations {
        until_registered(registration).await;
    }
    until(handle.status(), |status| status.connected).await;
    let after = until_view(&*handle, |view| ids(view) == [A, B, C] && view.as_of >= before.as_of);
    assert_eq!(after.await.generation, before.generation);
}

#[tokio::test]
async fn a_full_etcd_keeps_who_is_there_and_takes_others_when_there_is_space() {
    let mut backend = Etcd::start(SHORT).await;
    backend.server.resume_with(&["--quota-backend-bytes", "4194304"]).await;
    let handle = backend.any_handle();
    let (stays, crashes) = (handle.register(node(A)), handle.register(node(B)));
    let registered = RegistrationState::Registered { revision: until_registered(&stays).await };
    until_registered(&crashes).await;
    until_view(&*handle, |view| ids(view) == [A, B]).await;

    let mut client = backend.server.client().await;
    let ballast = vec![0; 1 << 20];
    while client.put("/ballast", ballast.clone(), None).await.is_ok() {}
    let comes = handle.register(node(C));
    until(comes.state(), says("is full and takes no writes")).await;
    // Longer than a lease: who renews stays, who does not goes, and the views tell.
    drop(crashes);
    until_view(&*handle, |view| ids(view) == [A]).await;
    assert_eq!(*stays.state().borrow(), registered);

    let now = client.get("/ballast", None).await.unwrap().header().unwrap().revision();
    // Done when it is answered, not only scheduled.
    let done = CompactionOptions::new().with_physical();
    client.compact(now, Some(done)).await.unwrap();
    client.defragment().await.unwrap();
    let (nospace, raised) = (AlarmType::Nospace, AlarmAction::Get);
    let raised = client.alarm(raised, nospace, None).await.unwrap();
    let mut by = AlarmOptions::new();
    by.with_member(raised.alarms()[0].member_id());
    client.alarm(AlarmAction::Deactivate, nospace, Some(by)).await.unwrap();
    until_registered(&comes).await;
    until_view(&*handle, |view| ids(view) == [A, C]).await;
}

#[tokio::test]
async fn a_member_without_a_majority_is_told_and_waited_for() {
    let [mut a, mut b, c] = EtcdServer::start_cluster().await;
    let handle = follow(vec![c.address().to_string()]);
    let before = handle.register(node(A));
    until_registered(&before).await;
    until_view(&*handle, |view| ids(view) == [A]).await;

    a.stop();
    b.stop();
    until_told(&*handle, "has no leader").await;
    until(before.state(), |s| matches!(s, RegistrationState::Trying { .. })).await;
    assert_eq!(ids(handle.views().borrow().as_ref().unwrap()), [A]);

    assert!(a.resume().await);
    until(handle.status(), |status| status.connected).await;
    until_registered(&before).await;
    let after = handle.register(node(B));
    until_registered(&after).await;
    until_view(&*handle, |view| ids(view) == [A, B]).await;
}

#[tokio::test]
async fn endpoints_are_tried_until_one_answers() {
    let backend = Etcd::start(SHORT).await;
    let dead = format!("127.0.0.1:{}", Ports::free().client);
    let hung = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let [first, second] =
        [Gate::to(backend.server.address()).await, Gate::to(backend.server.address()).await];
    first.shut();
    let hangs = hung.local_addr().unwrap().to_string();
    let endpoints = [dead, hangs, first.address.clone(), second.address.clone()];
    let options = EtcdOptions { lease_ttl: SHORT, ..EtcdOptions::default() };
    // Each endpoint costs no more than its answer may take, and a wait in between.
    let bound = (options.connect_timeout + options.request_timeout * 2) * 4;

    let began = Instant::now();
    let handle = backend.handle_at(&endpoints, &WantedRing::default());
    until(handle.status(), |status| status.connected).await;
    let registration = handle.register(node(A));
    until_registered(&registration).await;
    assert!(began.elapsed() < bound, "took {:?}", began.elapsed());

    second.shut();
    until(handle.status(), |status| !status.connected).await;
    first.open();
    let near = backend.any_handle().register(node(B));
    until_registered(&near).await;
    until_view(&*handle, |view| ids(view).contains(&B)).await;
    until_registered(&registration).await;
    until_view(&*handle, |view| ids(view) == [A, B]).await;
}
