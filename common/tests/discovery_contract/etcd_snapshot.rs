//! A process that starts while etcd can't be reached begins with what was known last.

use std::{path::Path, sync::Arc};

use common::{
    clock::SystemClock,
    discovery::{Discovery, EtcdOptions, Serving, WantedRing},
};

use crate::{
    backend::*,
    etcd::{Etcd, SERVICE, start_by},
};

/// A handle that keeps a snapshot in this directory.
fn keeping(backend: &Etcd, dir: &Path, wanted: &WantedRing) -> Arc<dyn Discovery> {
    let options = EtcdOptions {
        endpoints: vec![backend.server.address().to_string()],
        service: SERVICE.into(),
        lease_ttl: SHORT,
        state_dir: Some(dir.into()),
        wanted: wanted.clone(),
        ..EtcdOptions::default()
    };
    start_by(Arc::new(SystemClock), options, backend.answering())
}

fn file(dir: &Path) -> std::path::PathBuf {
    dir.join(format!("{SERVICE}.snapshot.json"))
}

/// Waits until the file holds all of this.
async fn until_saved(dir: &Path, what: &[&str]) {
    let began = tokio::time::Instant::now();
    loop {
        let saved = std::fs::read_to_string(file(dir)).unwrap_or_default();
        if what.iter().all(|what| saved.contains(what)) {
            return;
        }
        assert!(began.elapsed() < DEADLINE, "still {saved:?}");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_start_without_etcd_begins_with_the_snapshot_and_goes_on_with_etcd() {
    let mut backend = Etcd::start(SHORT).await;
    let dir = tempfile::tempdir().unwrap();
    let wanted = WantedRing { virtual_nodes: Some(7), seed: Some("hush".into()) };
    let first = keeping(&backend, dir.path(), &wanted);
    let registrations = [A, B].map(|address| first.register(node(address)));
    let before = until_view(&*first, |view| ids(view) == [A, B]).await;
    until_saved(dir.path(), &[A, B]).await;
    backend.server.stop();

    let later = keeping(&backend, dir.path(), &WantedRing::default());
    let shown = until_view(&*later, |_| true).await;
    assert_eq!((digest(&shown), shown.generation), (digest(&before), before.generation));
    assert_eq!(shown.members, before.members);
    let status = later.status().borrow().clone();
    let Some(Serving::Snapshot { saved_unix_ms }) = status.serving else { panic!("{status:?}") };
    assert!(saved_unix_ms > 0 && !status.connected, "{status:?}");
    assert!(status.in_words().contains("snapshot"), "{}", status.in_words());
    // A snapshot is no proof of being up to date.
    assert!(later.catch_up(shown.as_of).await.is_err());

    assert!(backend.server.resume().await);
    until(later.status(), |status| status.connected && status.serving.is_none()).await;
    tokio::time::timeout(DEADLINE, later.ready()).await.unwrap().unwrap();
    for registration in &registrations {
        until_registered(registration).await;
    }
    until_view(&*later, |view| ids(view) == [A, B] && view.as_of > before.as_of).await;
}

#[tokio::test]
async fn a_snapshot_restores_a_wiped_etcd_when_nobody_else_can() {
    let mut backend = Etcd::start(SHORT).await;
    let dir = tempfile::tempdir().unwrap();
    let wanted = WantedRing { virtual_nodes: Some(7), seed: None };
    let first = keeping(&backend, dir.path(), &wanted);
    let registrations = [A, B].map(|address| first.register(node(address)));
    let before = until_view(&*first, |view| ids(view) == [A, B]).await;
    until_saved(dir.path(), &[A, B]).await;
    drop((first, registrations));
    backend.server.stop();
    backend.server.wipe();
    assert!(backend.server.resume().await);

    let later = keeping(&backend, dir.path(), &WantedRing::default());
    let seen = record_views(later.views());
    let reborn = until_view(&*later, |view| view.generation != before.generation).await;
    assert_eq!((ids(&reborn), reborn.carried.len()), (vec![A, B], 2));
    let other = until_view(&*backend.any_handle(), |_| true).await;
    assert_eq!((digest(&other), &other.carried), (digest(&before), &reborn.carried));
    assert!(seen.lock().unwrap().iter().all(|view| digest(view) == digest(&before)));
    // They don't come back: the ring is what is registered, in the end.
    until_view(&*later, |view| view.members.is_empty()).await;
}

#[tokio::test]
async fn what_can_not_be_read_or_contradicts_is_not_used() {
    let mut backend = Etcd::start(SHORT).await;
    let dir = tempfile::tempdir().unwrap();
    let wanted = WantedRing { virtual_nodes: Some(7), seed: None };
    let first = keeping(&backend, dir.path(), &wanted);
    first.ready().await.unwrap();
    until_saved(dir.path(), &[SERVICE]).await;
    backend.server.stop();

    let other = WantedRing { virtual_nodes: Some(8), seed: None };
    let contradicting = keeping(&backend, dir.path(), &other);
    std::fs::write(file(dir.path()), "{").unwrap();
    let corrupt = keeping(&backend, dir.path(), &wanted);
    for handle in [&contradicting, &corrupt] {
        // Once it has been tried to reach etcd a snapshot would be shown.
        until(handle.status(), |s| s.problem.as_ref().is_some_and(|p| p.contains("etcd"))).await;
        assert!(handle.views().borrow().is_none());
        assert_eq!(handle.status().borrow().serving, None);
    }
    assert!(backend.server.resume().await);
    tokio::time::timeout(DEADLINE, corrupt.ready()).await.unwrap().unwrap();
    until_saved(dir.path(), &[SERVICE]).await;
    tokio::time::timeout(DEADLINE, contradicting.ready()).await.unwrap().unwrap_err();
}
