//! A node that comes and goes stays out for a while, by what its own lives have written down.

use std::{sync::Arc, time::Duration};

use common::{
    clock::ManualClock,
    discovery::{Discovery, EtcdOptions, RegistrationState, WantedRing},
};

use crate::{
    backend::*,
    etcd::{Etcd, SERVICE, start_by},
};

/// A handle by this clock.
fn by(clock: &ManualClock, backend: &Etcd) -> Arc<dyn Discovery> {
    let options = EtcdOptions {
        endpoints: vec![backend.server.address().to_string()],
        service: SERVICE.into(),
        lease_ttl: SHORT,
        wanted: WantedRing::default(),
        ..EtcdOptions::default()
    };
    start_by(Arc::new(clock.clone()), options, backend.answering())
}

fn waits(state: &RegistrationState) -> bool {
    let told = |p: &String| p.contains("joined or left") && p.contains("waits until");
    matches!(state, RegistrationState::Trying { problem: Some(p) } if told(p))
}

#[tokio::test]
async fn a_node_that_flaps_stays_out_until_it_has_been_quiet() {
    let backend = Etcd::start(SHORT).await;
    let (clock, stays) = (ManualClock::new(), backend.any_handle().register(node(B)));
    until_registered(&stays).await;
    let there = backend.any_handle();
    until_view(&*there, |view| ids(view) == [B]).await;
    // Long a member before it begins to flap.
    let long = by(&clock, &backend).register(node(A));
    until_registered(&long).await;
    until_view(&*there, |view| ids(view) == [A, B]).await;
    clock.advance(Duration::from_secs(40));
    long.leave().await.unwrap();
    until_view(&*there, |view| ids(view) == [B]).await;

    let seen = record_views(there.views());
    let mut registered = 0;
    for _ in 0..30 {
        clock.advance(Duration::from_secs(1));
        let life = by(&clock, &backend).register(node(A));
        let state = until(life.state(), |state| {
            waits(state) || matches!(state, RegistrationState::Registered { .. })
        });
        registered += usize::from(!waits(&state.await));
        clock.advance(Duration::from_secs(1));
        life.leave().await.unwrap();
    }
    assert_eq!(registered, 1);
    {
        let seen = seen.lock().unwrap();
        let changes = seen.windows(2).filter(|two| digest(&two[0]) != digest(&two[1])).count();
        assert!(changes <= 2, "{seen:#?}");
    }
    // It stays up now: the last wishes have to be 30 s old.
    let life = by(&clock, &backend).register(node(A));
    until(life.state(), waits).await;
    clock.advance(Duration::from_secs(31));
    until_registered(&life).await;
    until_view(&*there, |view| ids(view) == [A, B]).await;
}

#[tokio::test]
async fn a_restart_is_not_damped_and_what_others_did_not_notice_does_not_count() {
    let backend = Etcd::start(LONG).await;
    let (here, there) = (backend.any_handle(), backend.any_handle());
    let a = node(A);
    let first = here.register(a.clone());
    let mut revision = until_registered(&first).await;
    until_view(&*there, |view| ids(view) == [A]).await;
    for _ in 0..6 {
        backend.end_lease(&a.id).await;
        revision = until_registered_after(&first, Some(revision)).await;
        until_view(&*there, |view| view.as_of >= revision).await;
    }
    first.leave().await.unwrap();
    until_registered(&here.register(node(A))).await;
}
