//! `make demo`: a fleet in front of a database that takes its time, asked and counted.

use std::{io, net::SocketAddr, path::Path, process::ExitCode};

use clap::Parser;
use common::{
    config::{self, flags::NodeFlags},
    lifecycle::Lifecycle,
    telemetry::{self, say},
};
use fleet::{
    http,
    local::{LocalFleet, Plan},
    metrics,
    slowdb::{ANSWERS_AFTER, SlowDb},
};
use tokio::{task::JoinSet, time::Instant};

/// Callers who ask for the same key at once.
const CALLERS: usize = 200;

/// Starts a fleet whose values are in a slow database, and shows what that costs its readers.
#[derive(Debug, Parser)]
#[command(name = "demo", version)]
struct Flags {
    /// The gateway's port; 0 takes a free one
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    api_port: u16,
    /// Go on until Ctrl-C
    #[arg(long)]
    stay: bool,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Flags::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(io::stderr(), format!("demo: {error}"));
            ExitCode::FAILURE
        }
    }
}

async fn run(flags: Flags) -> Result<(), Failure> {
    let slowdb = SlowDb::start().await?;
    let mut settings = settings(&slowdb.config(), slowdb.dir())?;
    (settings.gateway.port, settings.telemetry.log_level) = (flags.api_port, "warn".to_owned());
    telemetry::init(&settings.telemetry)?;
    let lifecycle = Lifecycle::new(settings.node.drain_timeout);
    lifecycle.listen_for_signals()?;
    let stop = lifecycle.stop();
    let fleet = LocalFleet::start(Plan { settings, ..Plan::default() }).await?;
    let shown = stop.soft.run_until_cancelled(show(&fleet, &slowdb));
    let shown = shown.await.unwrap_or(Ok(()));
    if shown.is_ok() && flags.stay {
        say(io::stdout(), "\nCtrl-C ends it.");
        stop.soft.cancelled().await;
    }
    let _ = stop.hard.run_until_cancelled(fleet.stop()).await;
    shown
}

/// Settings from the text of a file, as a node reads them.
fn settings(text: &str, dir: &Path) -> Result<config::Settings, Failure> {
    let file = dir.join("ringway.toml");
    std::fs::write(&file, text)?;
    let flags =
        NodeFlags::try_parse_from(["cachenode".as_ref(), "--config".as_ref(), file.as_os_str()])?;
    Ok(config::load(&flags, [])?.settings)
}

async fn show(fleet: &LocalFleet, slowdb: &SlowDb) -> Result<(), Failure> {
    let api = fleet.gateway();
    let (took, steps) = (ANSWERS_AFTER.as_millis(), slowdb.steps());
    let hello = format!(
        "Three nodes and a gateway at http://{api}. Their values are in SlowDB, which takes {took} ms for an \
         answer."
    );
    say(io::stdout(), hello);
    let sqlite = format!("\nThe group users is a file of SQLite, which counts to {steps} first:");
    say(io::stdout(), sqlite);
    ask_twice(api, "users", "Tom").await?;
    let before = loads(fleet, "users").await?;
    ask_at_once(api, "users", "Jack").await?;
    once("SQLite", loads(fleet, "users").await? - before)?;

    say(io::stdout(), "\nThe group pages is a server over HTTP:");
    ask_twice(api, "pages", "news").await?;
    let before = slowdb.served();
    ask_at_once(api, "pages", "weather").await?;
    once("the server", slowdb.served() - before)
}

/// A first and a second call of a key.
async fn ask_twice(api: SocketAddr, group: &str, key: &str) -> Result<(), Failure> {
    let target = target(group, key);
    say(io::stdout(), format!("  curl -i 'http://{api}{target}'"));
    for call in ["first call ", "second call"] {
        let began = Instant::now();
        let answer = http::get(api, &target).await?;
        let took = began.elapsed();
        if answer.status != 200 {
            return Err(format!("{target}: {} {}", answer.status, answer.text()).into());
        }
        let (ms, text) = (took.as_secs_f64() * 1000.0, answer.text());
        let status = answer.header("cache-status").unwrap_or_default();
        say(io::stdout(), format!("    {call}  {ms:6.1} ms   {text:<12}  {status}"));
    }
    Ok(())
}

/// Many calls of another key at once.
async fn ask_at_once(api: SocketAddr, group: &str, key: &str) -> Result<(), Failure> {
    let target = target(group, key);
    let mut callers = JoinSet::new();
    let began = Instant::now();
    for _ in 0..CALLERS {
        let target = target.clone();
        callers.spawn(async move { http::get(api, &target).await.map(|answer| answer.status) });
    }
    for answer in callers.join_all().await {
        let status = answer?;
        if status != 200 {
            return Err(format!("{target}: {status}").into());
        }
    }
    let ms = began.elapsed().as_secs_f64() * 1000.0;
    say(io::stdout(), format!("  curl -i 'http://{api}{target}'"));
    say(io::stdout(), format!("    {CALLERS} callers   {ms:6.1} ms   for all of them"));
    Ok(())
}

fn target(group: &str, key: &str) -> String {
    format!("/api/cache?group={group}&key={key}")
}

/// That an origin was asked once for all of them.
fn once(origin: &str, asked: usize) -> Result<(), Failure> {
    if asked != 1 {
        return Err(format!("{origin} was asked {asked} times for {CALLERS} callers").into());
    }
    say(io::stdout(), format!("    {origin} was asked once"));
    Ok(())
}

/// How often the nodes have loaded a value of a group, as their metrics say.
async fn loads(fleet: &LocalFleet, group: &str) -> Result<usize, Failure> {
    let name = format!("ringway_group_loads_total{{group=\"{group}\"}}");
    let mut sum = 0.0;
    for node in fleet.nodes() {
        let page = http::get(node.http_address(), "/metrics").await?.text();
        let loads = metrics::value(&page, &name);
        sum += loads.ok_or_else(|| format!("no {name} in a node's metrics"))?;
    }
    Ok(sum as usize)
}
