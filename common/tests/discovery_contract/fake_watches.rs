//! Watches that miss, repeat, confuse or end: nothing is lost by it, and nothing old comes back.

use std::time::Duration;

use common::discovery::Discovery;
use etcd_client::proto::{PbEvent, PbKeyValue, PbWatchResponse};
use tonic::Status;

use crate::{
    backend::*,
    etcd::{key, until_told},
    fake_etcd::{FakeEtcd, Watches},
};

fn told(events: Vec<PbEvent>) -> PbWatchResponse {
    PbWatchResponse { events, ..PbWatchResponse::default() }
}

fn deleted(id: &str, at: u64) -> PbEvent {
    let kv = PbKeyValue { key: key(id).into(), mod_revision: at as i64, ..PbKeyValue::default() };
    PbEvent { r#type: 1, kv: Some(kv), prev_kv: None }
}

async fn until_ids(handle: &dyn Discovery, wanted: &[&str]) {
    until_view(handle, |view| ids(view) == wanted).await;
}

/// Records at A and B, seen by a process that lists only when it has a reason to.
async fn two_members() -> (FakeEtcd, std::sync::Arc<dyn Discovery>) {
    let fake = FakeEtcd::start().await;
    let handle = fake.handle(LONG);
    fake.put(&node(A));
    fake.put(&node(B));
    until_ids(&*handle, &[A, B]).await;
    until(handle.status(), |status| status.connected).await;
    (fake, handle)
}

/// A record at C of which no watch tells: only who lists again learns of it.
fn hide_one(fake: &FakeEtcd) {
    fake.faults().watches = Watches::Silent;
    fake.put(&node(C));
    fake.faults().watches = Watches::Honest;
}

#[tokio::test]
async fn a_watch_begins_where_the_list_ended() {
    let fake = FakeEtcd::start().await;
    fake.put(&node(A));
    fake.slip_in(node(B));
    let handle = fake.handle(LONG);
    until_ids(&*handle, &[A, B]).await;
    assert_eq!(fake.watches_opened(), 1);
}

#[tokio::test]
async fn history_compacted_between_the_list_and_the_watch_is_listed() {
    let fake = FakeEtcd::start().await;
    fake.put(&node(A));
    fake.slip_in_and_compact(node(B));
    let handle = fake.handle(LONG);
    until_ids(&*handle, &[A, B]).await;
    fake.put(&node(C));
    until_ids(&*handle, &[A, B, C]).await;
}

#[tokio::test]
async fn compaction_told_without_a_cancel_is_heard() {
    let (fake, handle) = two_members().await;
    hide_one(&fake);
    let revision = fake.revision();
    fake.tell(PbWatchResponse { compact_revision: 1, ..told(vec![]) }, revision);
    until_ids(&*handle, &[A, B, C]).await;
}

#[tokio::test]
async fn what_is_told_twice_or_late_changes_nothing() {
    let (fake, handle) = two_members().await;
    fake.put(&node(C));
    until_ids(&*handle, &[A, B, C]).await;
    let old = fake.event(A);
    let written = old.kv.as_ref().unwrap().mod_revision.unsigned_abs();
    fake.end_lease(A);
    until_ids(&*handle, &[B, C]).await;
    let now = fake.revision();
    // Once gone stays gone, and what was written since is not undone by an older delete.
    fake.tell(told(vec![old.clone()]), now);
    fake.tell(told(vec![fake.event(B), old, deleted(C, written)]), now);
    fake.put(&node_at("d", A));
    let after = until_view(&*handle, |view| ids(view).contains(&"d")).await;
    assert_eq!(ids(&after), [B, C, "d"]);
    assert_eq!(fake.watches_opened(), 1, "no reason to list again");
}

#[tokio::test]
async fn an_unknown_type_of_event_is_no_reason_to_panic() {
    let (fake, handle) = two_members().await;
    fake.faults().watches = Watches::Silent;
    fake.put(&node(C));
    let strange = PbEvent { r#type: 7, ..fake.event(C) };
    fake.tell(told(vec![strange]), fake.revision());
    fake.faults().watches = Watches::Honest;
    until_ids(&*handle, &[A, B, C]).await;
    fake.put(&node_at("d", A));
    until_ids(&*handle, &[A, B, C, "d"]).await;
}

#[tokio::test]
async fn an_event_about_nothing_is_passed_over() {
    let (fake, handle) = two_members().await;
    fake.tell(told(vec![PbEvent { r#type: 0, kv: None, prev_kv: None }]), fake.revision());
    fake.put(&node(C));
    until_ids(&*handle, &[A, B, C]).await;
}

#[tokio::test]
async fn a_watch_that_ends_is_followed_by_a_list() {
    let refused = || Status::unavailable("etcdserver: server stopped");
    for error in [None, Some(refused())] {
        let (fake, handle) = two_members().await;
        hide_one(&fake);
        fake.end_watches(error);
        until_ids(&*handle, &[A, B, C]).await;
    }
}

#[tokio::test]
async fn a_cancelled_watch_is_followed_by_a_list() {
    let (fake, handle) = two_members().await;
    hide_one(&fake);
    let cancel = PbWatchResponse { canceled: true, ..told(vec![]) };
    fake.tell(cancel, fake.revision());
    until_ids(&*handle, &[A, B, C]).await;
}

#[tokio::test]
async fn a_watch_whose_revisions_go_backwards_is_left() {
    let (fake, handle) = two_members().await;
    hide_one(&fake);
    fake.tell(told(vec![]), 1);
    until_ids(&*handle, &[A, B, C]).await;
}

#[tokio::test]
async fn what_a_watch_loses_the_next_list_finds() {
    let fake = FakeEtcd::start().await;
    let handle = fake.handle(Duration::from_millis(200));
    fake.put(&node(A));
    until_ids(&*handle, &[A]).await;
    // Silent at first, then worse: it says that nothing has happened.
    for (address, lies) in [(B, false), (C, true)] {
        let opened = fake.watches_opened();
        fake.faults().watches = Watches::Silent;
        let revision = fake.put(&node(address));
        if lies {
            fake.tell(told(vec![]), revision);
        }
        until_view(&*handle, |view| ids(view).contains(&address)).await;
        fake.faults().watches = Watches::Honest;
        // A watch that has lost something is not trusted again.
        eventually("another watch is opened", || fake.watches_opened() > opened).await;
    }
}

#[tokio::test]
async fn a_watch_that_does_not_begin_is_given_up() {
    let fake = FakeEtcd::start().await;
    fake.put(&node(A));
    fake.faults().watches = Watches::Unanswered;
    let handle = fake.handle(LONG);
    until_told(&*handle, "did not answer the request for a watch").await;
    assert!(!handle.status().borrow().connected);
    // The list is worth something all the same, and the next one more.
    until_ids(&*handle, &[A]).await;
    fake.put(&node(B));
    until_ids(&*handle, &[A, B]).await;
    fake.faults().watches = Watches::Honest;
    until(handle.status(), |status| status.connected).await;
}
