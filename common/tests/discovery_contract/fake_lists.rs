//! Lists that lie, endpoints that refuse, and a past that comes back: the ring that is known stays.

use std::{sync::Arc, time::Duration};

use common::discovery::{Discovery, RegistrationState};

use crate::{
    backend::*,
    etcd::until_told,
    fake_etcd::{FakeEtcd, Lists, follow},
};

/// How often tests of lists want one.
const OFTEN: Duration = Duration::from_millis(100);

async fn three_members(fake: &FakeEtcd, handle: &dyn Discovery) {
    for address in [A, B, C] {
        fake.put(&node(address));
    }
    until_view(handle, |view| ids(view) == [A, B, C]).await;
}

#[tokio::test]
async fn an_empty_list_makes_no_empty_ring() {
    let fake = FakeEtcd::start().await;
    let handle = fake.handle(OFTEN);
    three_members(&fake, &*handle).await;
    let before = handle.views().borrow().clone().unwrap();
    let fewest = Fewest::of(&handle);
    fake.faults().lists = Lists::Empty;
    until_told(&*handle, "keep changing").await;
    fake.put(&node_at("d", A)); // so that there will be something to see
    fake.faults().lists = Lists::Honest;
    let after = until_view(&*handle, |view| ids(view) == [A, B, C, "d"]).await;
    assert_eq!(after.generation, before.generation);
    assert_eq!(fewest.members(), 3);
}

#[tokio::test]
async fn who_starts_with_an_empty_list_has_no_ring_rather_than_an_empty_one() {
    let fake = FakeEtcd::start().await;
    three_members(&fake, &*fake.handle(LONG)).await;
    fake.faults().lists = Lists::Empty;
    let handle = fake.handle(OFTEN);
    until_told(&*handle, "keep changing").await;
    assert_eq!(*handle.views().borrow(), None);
    fake.faults().lists = Lists::Honest;
    let first = until_view(&*handle, |_| true).await;
    assert_eq!(ids(&first), [A, B, C]);
}

#[tokio::test]
async fn half_a_list_is_none() {
    let fake = FakeEtcd::start().await;
    let handle = fake.handle(OFTEN);
    three_members(&fake, &*handle).await;
    let fewest = Fewest::of(&handle);
    fake.faults().lists = Lists::CutShort;
    until_told(&*handle, "timed out").await;
    let revision = fake.put(&node_at("d", A));
    assert!(handle.catch_up(revision).await.is_err());
    fake.faults().lists = Lists::Honest;
    until_view(&*handle, |view| ids(view) == [A, B, C, "d"]).await;
    assert_eq!(fewest.members(), 3);
}

#[tokio::test]
async fn revisions_that_come_again_are_another_life() {
    let fake = FakeEtcd::start().await;
    let handle = fake.handle(LONG);
    let first = handle.register(node(A));
    let early = until_registered(&first).await;
    let others = [B, C].map(|address| handle.register(node(address)));
    let before = until_view(&*handle, |view| ids(view) == [A, B, C]).await;
    fake.rewind(early);
    let reborn = |view: &common::discovery::View| view.generation != before.generation;
    until_view(&*handle, |view| reborn(view) && ids(view) == [A, B, C]).await;
    for registration in &others {
        until_registered(registration).await;
    }
}

#[tokio::test]
async fn without_space_who_is_there_stays_and_who_comes_waits() {
    let fake = FakeEtcd::start().await;
    let handle = fake.handle(LONG);
    let (stays, goes) = (handle.register(node(A)), handle.register(node(B)));
    let revision = until_registered(&stays).await;
    until_registered(&goes).await;
    until_view(&*handle, |view| ids(view) == [A, B]).await;
    fake.faults().no_space = true;
    let comes = handle.register(node(C));
    let refused = |state: &RegistrationState| matches!(state, RegistrationState::Trying { problem: Some(p) } if p.contains("database space exceeded"));
    until(comes.state(), refused).await;
    // Deletes need no room, and the views go on.
    goes.leave().await.unwrap();
    until_view(&*handle, |view| ids(view) == [A]).await;
    assert_eq!(*stays.state().borrow(), RegistrationState::Registered { revision });
    fake.faults().no_space = false;
    until_registered(&comes).await;
    until_view(&*handle, |view| ids(view) == [A, C]).await;
}

#[tokio::test]
async fn an_endpoint_without_a_leader_is_left_for_one_that_has_one() {
    let well = FakeEtcd::start().await;
    let cut_off = well.another_endpoint().await;
    let handle = follow(&[&well, &cut_off], LONG);
    let registration = handle.register(node(A));
    until_registered(&registration).await;
    until_view(&*handle, |view| ids(view) == [A]).await;
    cut_off.faults().leaderless = true;
    // An etcd that loses its leader ends the streams of those who require one.
    cut_off.end_watches(Some(tonic::Status::unavailable("etcdserver: no leader")));
    well.put(&node(B));
    until_view(&*handle, |view| ids(view) == [A, B]).await;
    until_registered(&registration).await;
    // Whoever starts now gets there, too, wherever it begins.
    for _ in 0..4 {
        let handle = follow(&[&well, &cut_off], LONG);
        until(handle.status(), |status| status.connected).await;
        well.put(&node(C));
        until_view(&*handle, |view| ids(view) == [A, B, C]).await;
        well.end_lease(C);
        until_view(&*handle, |view| ids(view) == [A, B]).await;
    }
}

#[tokio::test]
async fn no_leader_anywhere_leaves_the_view_as_it_is() {
    let fake = FakeEtcd::start().await;
    let handle = fake.handle(OFTEN);
    three_members(&fake, &*handle).await;
    let before: Option<Arc<_>> = handle.views().borrow().clone();
    fake.faults().leaderless = true;
    until_told(&*handle, "no leader").await;
    let members =
        |view: &Option<Arc<common::discovery::View>>| view.clone().unwrap().members.clone();
    assert_eq!(members(&handle.views().borrow()), members(&before));
    fake.faults().leaderless = false;
    until(handle.status(), |status| status.connected).await;
}
