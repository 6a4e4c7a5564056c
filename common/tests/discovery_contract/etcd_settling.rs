//! A single member vanishes: it is waited for, for a moment, and nothing newer is shown meanwhile.

use std::{sync::Arc, time::Duration};

use common::discovery::{Discovery, NodeState, Registration, Serving, View};
use etcd_client::Client;
use tokio::time::Instant;

use crate::{
    backend::*,
    etcd::{Etcd, key, put_leased},
};

/// How long a member that vanished is waited for.
const SETTLE: Duration = Duration::from_millis(500);

/// How often a test may begin again because it was too late to see what it is about: a machine may
/// stand still for a moment.
const MOST_LATE: usize = 10;

/// Tries with one cluster after another, until one try was in time.
async fn in_time(mut is_in_time: impl AsyncFnMut() -> bool) {
    for _ in 0..=MOST_LATE {
        if is_in_time().await {
            return;
        }
    }
    panic!("not once within {SETTLE:?}");
}

fn shown(handle: &dyn Discovery) -> Arc<View> {
    handle.views().borrow().clone().unwrap()
}

/// Ends a node's lease, and waits until it is registered again. Whether that was in time: so soon
/// that nobody may have been shown anything.
async fn is_back_in_time(
    backend: &Etcd,
    there: &dyn Discovery,
    registration: &Registration,
    id: &str,
) -> bool {
    let revision = until_registered(registration).await;
    let before = until_view(there, |view| ids(view) == [A, B, C]).await;
    let seen = record_views(there.views());
    let began = Instant::now();
    backend.end_lease(&id.parse().unwrap()).await;
    let revision = until_registered_after(registration, Some(revision)).await;
    until_view(there, |view| view.as_of >= revision).await;
    let in_time = began.elapsed() < SETTLE;
    let seen = seen.lock().unwrap();
    let same = seen.iter().all(|view| digest(view) == digest(&before));
    assert!(same || !in_time, "{seen:#?}");
    in_time
}

#[tokio::test]
async fn a_node_that_lost_its_lease_is_back_before_anybody_is_shown_that() {
    let mut left = vec![C, C, B, B, A, A];
    in_time(async || {
        let backend = Etcd::start(LONG).await;
        let (here, there) = (backend.any_handle(), backend.any_handle());
        let registrations = [A, B, C].map(|address| (address, here.register(node(address))));
        until_view(&*there, |view| ids(view) == [A, B, C]).await;
        until(there.status(), |status| status.connected).await;
        while let Some(&id) = left.last() {
            let (_, registration) = registrations.iter().find(|(of, _)| *of == id).unwrap();
            // Who was late may have to wait before it joins again: what is left goes on elsewhere.
            if !is_back_in_time(&backend, &*there, registration, id).await {
                return false;
            }
            left.pop();
        }
        true
    })
    .await;
}

/// A handle that knows of three members, of which nobody lives.
async fn of_three() -> (Etcd, Client, Arc<dyn Discovery>) {
    let backend = Etcd::start(LONG).await;
    let mut client = backend.server.client().await;
    for address in [A, B, C] {
        put_leased(&mut client, address, &node(address).to_json().unwrap()).await;
    }
    let handle = backend.any_handle();
    until_view(&*handle, |view| ids(view) == [A, B, C]).await;
    until(handle.status(), |status| status.connected).await;
    (backend, client, handle)
}

#[tokio::test]
async fn who_is_gone_is_shown_so_after_a_moment_in_which_nothing_newer_is_shown() {
    in_time(async || {
        let (_backend, mut client, handle) = of_three().await;
        let before = shown(&*handle);
        let seen = record_views(handle.views());
        let began = Instant::now();
        client.delete(key(A), None).await.unwrap();
        let status = until(handle.status(), |status| status.serving.is_some()).await;
        let Some(Serving::Keeping { members, .. }) = status.serving else { unreachable!() };
        assert_eq!(members, [A.parse().unwrap()]);
        // Neither a change elsewhere nor a newcomer is shown before.
        put_leased(&mut client, ELSEWHERE, &node(ELSEWHERE).to_json().unwrap()).await;
        let in_time = began.elapsed() < SETTLE;
        let after = until_view(&*handle, |view| view.as_of > before.as_of).await;
        assert!(began.elapsed() >= SETTLE, "after {:?}", began.elapsed());
        if in_time {
            assert_eq!(ids(&after), [B, C, ELSEWHERE]);
            let seen = seen.lock().unwrap();
            assert!(seen.iter().all(|view| **view == *before || **view == *after), "{seen:#?}");
        }
        in_time
    })
    .await;
}

#[tokio::test]
async fn what_others_show_already_is_not_waited_with() {
    in_time(async || {
        let (_backend, mut client, handle) = of_three().await;
        let before = shown(&*handle);
        let began = Instant::now();
        let deleted = client.delete(key(A), None).await.unwrap();
        until(handle.status(), |status| status.serving.is_some()).await;
        // Asked for what it shows, it goes on waiting.
        let still = handle.catch_up(before.as_of).await.unwrap();
        let revision = deleted.header().unwrap().revision().unsigned_abs();
        let after = handle.catch_up(revision).await.unwrap();
        if began.elapsed() >= SETTLE {
            return false;
        }
        assert_eq!((ids(&still), ids(&after)), (vec![A, B, C], vec![B, C]));
        assert_eq!(shown(&*handle), after);
        true
    })
    .await;
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
