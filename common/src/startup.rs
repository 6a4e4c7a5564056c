//! What the mains of both servers have in common: from a command line to an exit code.
//!
//! The configuration is read and judged before anything is opened; a bad one has an exit code of
//! its own. What is started then is the caller's business.

use std::{error::Error, future::Future, io, process::ExitCode, sync::Arc, time::Duration};

use clap::Parser;
use rustix::{
    process::{Resource, Rlimit, getrlimit, setrlimit},
    thread::disable_transparent_huge_pages,
};

use crate::{
    clock::SystemClock,
    config::{self, Backend, EXIT_BAD_CONFIG, Role, Settings, flags::Flags},
    discovery::{Discovery, EtcdDiscovery, EtcdOptions, GrpcProber, StaticDiscovery, WantedRing},
    lifecycle::Lifecycle,
    telemetry::{self, say},
};

/// How long a gateway's requests may take to finish once it is told to stop.
/// A body may take 10 s, and what is done with it 2 s more.
const GATEWAY_DRAIN: Duration = Duration::from_secs(15);

/// File descriptors beside those of a listener's connections: links, etcd, probes, logs.
const OTHER_DESCRIPTORS: u64 = 1024;

/// What a server's start answers: any error, since all there is to do is to print it.
pub type Started = Result<(), Box<dyn Error + Send + Sync>>;

/// Parses the command line, reads the configuration, starts the server and waits for its end.
///
/// `start` is given the settings, the discovery they ask for and the process's lifecycle; it
/// returns once the server runs, and leaves its tasks with the lifecycle.
pub fn run<F, Fut>(start: impl FnOnce(Settings, Arc<dyn Discovery>, Lifecycle) -> Fut) -> ExitCode
where
    F: Flags + Parser,
    Fut: Future<Output = Started>,
{
    let flags = F::parse();
    let loaded = match config::load(&flags, config::process_environment()) {
        Ok(loaded) => loaded,
        Err(error) => {
            say(io::stderr(), &error);
            return ExitCode::from(EXIT_BAD_CONFIG);
        }
    };
    if flags.common().check_config {
        say(io::stdout(), loaded.report().trim_end());
        return ExitCode::SUCCESS;
    }
    if let Err(error) = telemetry::init(&loaded.settings.telemetry) {
        say(io::stderr(), &error);
        return ExitCode::from(EXIT_BAD_CONFIG);
    }
    let connections = match flags.role() {
        Role::Gateway => loaded.settings.gateway.max_connections,
        Role::Node => loaded.settings.node.max_connections,
    };
    raise_descriptor_limit(connections);
    if flags.role() == Role::Gateway {
        use_small_pages();
    }
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "the runtime can't be started");
            return ExitCode::FAILURE;
        }
    };
    runtime.block_on(live(loaded.settings, flags.role(), start))
}

/// Lets this process open as many files as it may, and says so if that is not enough for its
/// connections: the usual soft limit of 1,024 is for programs that use `select`.
fn raise_descriptor_limit(connections: usize) {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let now = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => raised.current,
        Err(error) => {
            tracing::warn!(%error, "the limit of open files can't be raised");
            limit.current
        }
    };
    let needed = connections as u64 + OTHER_DESCRIPTORS;
    // No limit at all is none.
    if let Some(limit) = now.filter(|&now| now < needed) {
        tracing::warn!(
            limit,
            needed,
            "too few open files for max_connections: beyond them connections wait to be accepted; \
             raise the hard limit (ulimit -Hn, LimitNOFILE=)"
        );
    }
}

/// Keeps the kernel from backing this process with huge pages. What a connection holds is mostly
/// buffers of which only the beginning is ever touched: ten thousand of them take 30 KB each with
/// huge pages, and 18 KB without. A node's memory is full of values, which are better off with them.
fn use_small_pages() {
    if let Err(error) = disable_transparent_huge_pages(true) {
        tracing::debug!(%error, "huge pages can't be turned off");
    }
}

async fn live<Fut>(
    settings: Settings,
    role: Role,
    start: impl FnOnce(Settings, Arc<dyn Discovery>, Lifecycle) -> Fut,
) -> ExitCode
where
    Fut: Future<Output = Started>,
{
    let drain = match role {
        Role::Gateway => GATEWAY_DRAIN,
        Role::Node => settings.node.drain_timeout,
    };
    let lifecycle = Lifecycle::new(drain);
    let started = async {
        lifecycle.listen_for_signals()?;
        let discovery = discovery(&settings)?;
        watch_for_conflict(&lifecycle, Arc::clone(&discovery));
        start(settings, discovery, lifecycle.clone()).await
    };
    if let Err(error) = started.await {
        tracing::error!("{error}");
        return ExitCode::FAILURE;
    }
    let ending = lifecycle.run_until_stopped().await;
    tracing::info!(?ending, "stopped");
    ending.exit_code()
}

/// The discovery that the settings ask for.
fn discovery(settings: &Settings) -> crate::error::Result<Arc<dyn Discovery>> {
    let wanted = WantedRing {
        virtual_nodes: settings.ring.virtual_nodes,
        seed: settings.ring.seed.as_ref().map(|seed| seed.expose().to_owned()),
    };
    let clock = Arc::new(SystemClock);
    let prober = Arc::new(GrpcProber);
    let discovery = &settings.discovery;
    Ok(match discovery.backend {
        Backend::Etcd => {
            let options = EtcdOptions {
                endpoints: discovery.etcd_endpoints.clone(),
                access: discovery.etcd_access.clone(),
                service: discovery.service_name.clone(),
                lease_ttl: discovery.lease_ttl,
                wanted,
                state_dir: discovery.state_dir.clone(),
                ..EtcdOptions::default()
            };
            Arc::new(EtcdDiscovery::start(options, clock, prober)?)
        }
        Backend::Static => {
            let (service, nodes) = (&discovery.service_name, &discovery.nodes);
            Arc::new(StaticDiscovery::new(service, nodes, &wanted, clock, prober))
        }
    })
}

/// Ends the process when its ring settings contradict the cluster's: that does not mend itself.
fn watch_for_conflict(lifecycle: &Lifecycle, discovery: Arc<dyn Discovery>) {
    let soft = lifecycle.stop().soft;
    lifecycle.spawn_critical("ring settings", async move {
        let agreed = tokio::select! {
            () = soft.cancelled() => return,
            agreed = discovery.ready() => agreed,
        };
        match agreed {
            Ok(()) => soft.cancelled().await,
            Err(conflict) => tracing::error!("{}", conflict.message()),
        }
    });
}
