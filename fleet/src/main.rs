//! `fleet`: a whole local cluster in one process, to try Ringway out.

use std::{io, process::ExitCode};

use clap::Parser;
use common::{
    lifecycle::Lifecycle,
    telemetry::{self, say},
};
use fleet::{
    demo,
    etcd::Etcd,
    local::{LocalFleet, Plan, Registry},
};

/// Starts a local cluster: nodes and a gateway, on real sockets, in one process.
#[derive(Debug, Parser)]
#[command(version)]
struct Flags {
    /// How many nodes
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100))]
    nodes: u16,
    /// The gateway's port; 0 takes a free one
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    api_port: u16,
    /// Find each other through the etcd at these endpoints instead of in memory
    #[arg(long, value_name = "HOST:PORT,…", value_delimiter = ',', conflicts_with = "etcd")]
    etcd_endpoints: Vec<String>,
    /// Start an etcd on free ports and find each other through it
    #[arg(long)]
    etcd: bool,
    /// What to log: error, warn, info, debug, or target=level
    #[arg(long, value_name = "LEVEL", default_value = "warn")]
    log_level: String,
}

/// What ends with exit code 1.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// A signal came first.
    #[error("stopped before the fleet was complete")]
    Interrupted,
    /// The deadline or a second signal did.
    #[error("not everything drained: what was left is cut off")]
    Cut,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Flags::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(io::stderr(), format!("fleet: {error}"));
            ExitCode::FAILURE
        }
    }
}

async fn run(flags: Flags) -> Result<(), Box<dyn std::error::Error>> {
    let mut plan = Plan { nodes: flags.nodes.into(), ..Plan::default() };
    plan.settings.telemetry.log_level = flags.log_level;
    plan.settings.gateway.port = flags.api_port;
    telemetry::init(&plan.settings.telemetry)?;
    let lifecycle = Lifecycle::new(plan.settings.node.drain_timeout);
    lifecycle.listen_for_signals()?;
    let stop = lifecycle.stop();
    // Kept until the end: dropping it kills the child.
    let mut etcd = None;
    let starting = async {
        if flags.etcd {
            let started = etcd.insert(Etcd::start().await?);
            plan.registry = Registry::Etcd(vec![started.endpoint()]);
        } else if !flags.etcd_endpoints.is_empty() {
            plan.registry = Registry::Etcd(flags.etcd_endpoints);
        }
        let registry = plan.registry.clone();
        let fleet = LocalFleet::start(plan).await?;
        say(io::stdout(), demo::welcome(&fleet, &registry));
        Ok::<_, Box<dyn std::error::Error>>(fleet)
    };
    let fleet = stop.soft.run_until_cancelled(starting).await.ok_or(Failure::Interrupted)??;
    stop.soft.cancelled().await;
    say(io::stdout(), "stopping");
    let drained = stop.hard.run_until_cancelled(fleet.stop()).await;
    if drained == Some(true) { Ok(()) } else { Err(Failure::Cut.into()) }
}
