//! `purge`: how long a purge of a large group takes, and when its memory is given back.

use std::{
    error::Error,
    fmt::Write as _,
    net::SocketAddr,
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Parser;
use fleet::{
    cluster::{Cluster, Extras, Plan},
    http::Connection,
    memory,
};
use futures_util::{StreamExt, TryStreamExt, stream};
use http::Request;
use http_body_util::Full;

/// What is to be reached (docs/performance.md).
const ACKNOWLEDGED: Duration = Duration::from_millis(100);
const GIVEN_BACK: Duration = Duration::from_secs(5);
/// Entries set by one request, and such requests at once.
const BATCH: usize = 1000;
const AT_ONCE: usize = 4;
/// What of the entries' memory is not given back is less than that part of it.
const KEPT: u64 = 4;
/// The whole group goes to one node at worst.
const CONFIG: &str = "[groups.purged]\ncapacity = \"2GiB\"\nttl = \"1h\"\n";
/// How often memory is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// Fills a group on three nodes, purges it by each kind of scope, and prints what that took. Ends with 1
/// if a goal is missed.
#[derive(Debug, Parser)]
struct Flags {
    /// Entries of the group
    #[arg(long, default_value_t = 1_000_000)]
    entries: usize,
    /// Bytes of each value
    #[arg(long, default_value_t = 100)]
    value: usize,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match measure(&Flags::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("purge: {error}");
            ExitCode::FAILURE
        }
    }
}

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

async fn measure(flags: &Flags) -> Result<bool> {
    let told = Extras::default().config(CONFIG);
    let plan = Plan { node: told.clone(), gateway: told, ..Plan::default() };
    let cluster = Cluster::start(plan).await?;
    let gateway = cluster.gateway(0).address();
    let pids: Vec<u32> = cluster.nodes().iter().map(|node| node.process().id()).collect();
    let empty = memory::resident_of_all(&pids);
    let (entries_set, bytes, resident) = (flags.entries, flags.value, empty >> 20);
    println!(
        "{entries_set} entries of {bytes} bytes on 3 nodes, which have {resident} MiB when empty"
    );
    println!("| purge of | acknowledged in | entries gone after | resident before | 5 s later |");
    println!("|---|--:|--:|--:|--:|");
    let mut reached = true;
    for (what, query) in [("the group", ""), ("a prefix", "?prefix=k"), ("a tag", "?tag=t")] {
        fill(gateway, flags).await?;
        let before = memory::resident_of_all(&pids);
        let began = Instant::now();
        let answer = post(gateway, &format!("/admin/groups/purged/purge{query}"), "").await?;
        let acknowledged = began.elapsed();
        if !answer.contains("\"nodes\"") {
            return Err(answer.into());
        }
        let mut gone = None;
        while began.elapsed() < GIVEN_BACK {
            if gone.is_none() && entries(&cluster).await? == 0 {
                gone = Some(began.elapsed());
            }
            tokio::time::sleep(LOOK).await;
        }
        let after = memory::resident_of_all(&pids);
        let when = gone.map_or_else(|| "more than 5 s".to_owned(), |gone| format!("{gone:.2?}"));
        let mib = |bytes: u64| bytes >> 20;
        let (before, after) = (mib(before), mib(after));
        println!("| {what} | {acknowledged:.1?} | {when} | {before} MiB | {after} MiB |");
        let (kept, held) = (after.saturating_sub(resident), before.saturating_sub(resident));
        reached &= acknowledged < ACKNOWLEDGED && gone.is_some() && kept < held / KEPT;
    }
    println!(
        "goals (under {ACKNOWLEDGED:?}; memory back within {GIVEN_BACK:?}): {}",
        if reached { "reached" } else { "MISSED" }
    );
    Ok(reached)
}

async fn fill(gateway: SocketAddr, flags: &Flags) -> Result<()> {
    let value = "x".repeat(flags.value);
    let batches = (0..flags.entries).step_by(BATCH).map(|first| {
        let mut body = String::from("{\"group\":\"purged\",\"set\":[");
        for n in first..(first + BATCH).min(flags.entries) {
            let comma = if n == first { "" } else { "," };
            let key = format!("k{n:08}");
            let _ =
                write!(body, "{comma}{{\"key\":\"{key}\",\"value\":\"{value}\",\"tags\":[\"t\"]}}");
        }
        body.push_str("]}");
        body
    });
    let sent = stream::iter(batches.map(|body| async move {
        let answer = post(gateway, "/api/cache/batch", &body).await?;
        if answer.contains("\"error\"") { Err(answer.into()) } else { Ok(()) }
    }));
    sent.buffer_unordered(AT_ONCE).try_collect().await
}

async fn post(gateway: SocketAddr, path: &str, body: &str) -> Result<String> {
    let request = Request::post(path).body(Full::new(body.to_owned().into()))?;
    Ok(Connection::open(gateway).await?.send(request).await?.text())
}

async fn entries(cluster: &Cluster) -> Result<u64> {
    let mut entries = 0;
    for node in cluster.nodes() {
        let stats = node.stats().await?;
        entries +=
            stats.groups.iter().filter(|it| it.name == "purged").map(|it| it.entries).sum::<u64>();
    }
    Ok(entries)
}
