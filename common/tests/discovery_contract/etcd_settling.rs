//! A single member vanishes: it is waited for, for a moment, and nothing newer is shown meanwhile.

use std::time::Duration;

use common::discovery::{NodeState, Serving};
use tokio::time::Instant;

use crate::{
    backend::*,
    etcd::{Etcd, key, put_leased},
};

/// How long a member that vanished is waited for.
const SETTLE: Duration = Duration::from_millis(500);

#[tokio::test]
async fn a_node_that_lost_its_lease_is_back_before_anybody_is_shown_that() {
    let backend = Etcd::start(LONG).await;
    let (here, there) = (backend.any_handle(), backend.any_handle());
    let registrations = [A, B, C].map(|address| here.register(node(address)));
    let before = until_view(&*there, |view| ids(view) == [A, B, C]).await;
    until(there.status(), |status| status.connected).await;
    let seen = record_views(there.views());
    for registration in &registrations {
        let mut revision = until_registered_after(registration, None).await;
        for _ in 0..2 {
            let id = [A, B, C]
                [registrations.iter().position(|r| std::ptr::eq(r, registration)).unwrap()];
            backend.end_lease(&id.parse().unwrap()).await;
            revision = until_registered_after(registration, Some(revision)).await;
            until_view(&*there, |view| view.as_of >= revision).await;
        }
    }
    let seen = seen.lock().unwrap();
    assert!(seen.iter().all(|view| digest(view) == digest(&before)), "{seen:#?}");
}

#[tokio::test]
async fn who_is_gone_is_shown_so_after_a_moment_in_which_nothing_newer_is_shown() {
    let backend = Etcd::start(LONG).await;
    let mut client = backend.server.client().await;
    for address in [A, B, C] {
        put_leased(&mut client, address, &node(address).to_json().unwrap()).await;
    }
    let handle = backend.any_handle();
    let before = until_view(&*handle, |view| ids(view) == [A, B, C]).await;
    until(handle.status(), |status| status.connected).await;
    let seen = record_views(handle.views());
    let began = Instant::now();
    client.delete(key(A), None).await.unwrap();
    let status = until(handle.status(), |status| status.serving.is_some()).await;
    let Some(Serving::Keeping { members, .. }) = status.serving else { unreachable!() };
    assert_eq!(members, [A.parse().unwrap()]);
    // Neither a change elsewhere nor a newcomer is shown before.
    put_leased(&mut client, ELSEWHERE, &node(ELSEWHERE).to_json().unwrap()).await;
    let after = until_view(&*handle, |view| view.as_of > before.as_of).await;
    assert_eq!(ids(&after), [B, C, ELSEWHERE]);
    assert!(began.elapsed() >= SETTLE, "after {:?}", began.elapsed());
    let seen = seen.lock().unwrap();
    assert!(seen.iter().all(|view| **view == *before || **view == *after), "{seen:#?}");
}

#[tokio::test]
async fn what_others_show_already_is_not_waited_with() {
    let backend = Etcd::start(LONG).await;
    let mut client = backend.server.client().await;
    for address in [A, B, C] {
        put_leased(&mut client, address, &node(address).to_json().unwrap()).await;
    }
    let handle = backend.any_handle();
    let before = until_view(&*handle, |view| ids(view) == [A, B, C]).await;
    until(handle.status(), |status| status.connected).await;
    let deleted = client.delete(key(A), None).await.unwrap();
    until(handle.status(), |status| status.serving.is_some()).await;
    // Asked for what it shows, it goes on waiting.
    assert_eq!(ids(&handle.catch_up(before.as_of).await.unwrap()), [A, B, C]);
    let revision = deleted.header().unwrap().revision().unsigned_abs();
    let shown = handle.catch_up(revision).await.unwrap();
    assert_eq!(ids(&shown), [B, C]);
    assert_eq!(handle.views().borrow().as_ref(), Some(&shown));
}

#[tokio::test]
async fn who_drains_is_not_waited_for() {
    let backend = Etcd::start(LONG).await;
    let (here, there) = (backend.any_handle(), backend.any_handle());
    let registrations = [A, B, C].map(|address| here.register(node(address)));
    until_view(&*there, |view| ids(view) == [A, B, C]).await;
    until(there.status(), |status| status.connected).await;
    let mut served = there.status();
    served.mark_unchanged();
    for leaving in &registrations[1..] {
        leaving.set_state(NodeState::Draining).await.unwrap();
        leaving.leave().await.unwrap();
    }
    until_view(&*there, |view| ids(view) == [A]).await;
    assert!(!served.has_changed().unwrap(), "{:?}", *served.borrow());
}
