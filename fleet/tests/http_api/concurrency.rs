//! Many clients at once: no update is lost, and no read is older than what was acknowledged.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use tokio::task::JoinSet;

use crate::api::{Api, query};

const WRITERS: u64 = 50;
const READERS: usize = 100;
const READS: usize = 20;

/// Adds one by compare-and-set, however often it takes.
async fn increment(api: &Api, target: &str) {
    loop {
        let read = api.get(target).await;
        let (condition, next) = match read.status {
            200 => {
                let etag = read.header("etag").unwrap().to_owned();
                (("if-match", etag), read.text().parse::<u64>().unwrap() + 1)
            }
            404 => (("if-none-match", "*".to_owned()), 1),
            other => panic!("{other}: {}", read.text()),
        };
        let headers = [(condition.0, condition.1.as_str())];
        let write = api.send("PUT", target, &headers, next.to_string()).await;
        match write.status {
            201 | 204 => return,
            412 => {}
            other => panic!("{other}: {}", write.text()),
        }
    }
}

#[tokio::test]
async fn no_increment_is_lost() {
    let api = Arc::new(Api::start().await);
    let target = query("default", "counter");
    let mut writers = JoinSet::new();
    for _ in 0..WRITERS {
        let (api, target) = (Arc::clone(&api), target.clone());
        writers.spawn(async move { increment(&api, &target).await });
    }
    writers.join_all().await;
    assert_eq!(api.get(&target).await.text(), WRITERS.to_string());
}

/// What the writer is up to.
#[derive(Default)]
struct Progress {
    sent: AtomicU64,
    acknowledged: AtomicU64,
    done: AtomicBool,
}

#[tokio::test]
async fn no_read_is_older_than_what_was_acknowledged_before_it() {
    let api = Arc::new(Api::start().await);
    let target = query("default", "hot");
    api.stored(&target, "0").await;
    let progress = Arc::new(Progress::default());
    let mut readers = JoinSet::new();
    for _ in 0..READERS {
        let (api, target, progress) = (Arc::clone(&api), target.clone(), Arc::clone(&progress));
        readers.spawn(async move {
            for _ in 0..READS {
                let least = progress.acknowledged.load(Ordering::SeqCst);
                let read = api.get(&target).await;
                let most = progress.sent.load(Ordering::SeqCst);
                assert_eq!(read.status, 200, "{}", read.text());
                let version: u64 = read.text().parse().unwrap();
                assert!(least <= version && version <= most, "{least} <= {version} <= {most}");
            }
        });
    }
    let writer = {
        let (api, target, progress) = (Arc::clone(&api), target.clone(), Arc::clone(&progress));
        tokio::spawn(async move {
            for version in 1.. {
                if progress.done.load(Ordering::SeqCst) {
                    return;
                }
                progress.sent.store(version, Ordering::SeqCst);
                api.stored(&target, version.to_string()).await;
                progress.acknowledged.store(version, Ordering::SeqCst);
            }
        })
    };
    readers.join_all().await;
    progress.done.store(true, Ordering::SeqCst);
    writer.await.unwrap();
    let written = progress.acknowledged.load(Ordering::SeqCst);
    assert!(written >= 10, "only {written} writes among {} reads", READERS * READS);
}
