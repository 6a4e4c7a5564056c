//! The origin of the rows that are about origins: an HTTP server that counts what it is asked, and does
//! with each key what the first part of its name says.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::State,
    http::{StatusCode, Uri},
    response::{IntoResponse, Response},
};
use fleet::{
    cluster::{Cluster, Extras, Plan},
    eventually,
};
use futures_util::stream;
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
    time::sleep,
};

use super::row::NODES;

/// The group that asks it.
pub(super) const GROUP: &str = "asked";
/// How long keys that begin with `slow` take.
pub(super) const SLOW: Duration = Duration::from_secs(5);
/// How soon a load gets to the origin, even while builds run beside it.
const SOON: Duration = Duration::from_secs(10);

struct Served {
    calls: Mutex<HashMap<String, usize>>,
    /// Loads of keys that begin with `gated` wait for a permit.
    gate: Semaphore,
    /// The keys whose first load may end that wait for that.
    released: watch::Sender<HashSet<String>>,
    /// Everything fails.
    is_broken: AtomicBool,
}

/// A server that is up for as long as the test.
#[derive(Clone)]
pub(super) struct Origin {
    served: Arc<Served>,
    address: SocketAddr,
}

impl Origin {
    pub(super) async fn start() -> Self {
        let served = Arc::new(Served {
            calls: Mutex::default(),
            gate: Semaphore::new(0),
            released: watch::Sender::default(),
            is_broken: AtomicBool::new(false),
        });
        let app = Router::new().fallback(answer).with_state(Arc::clone(&served));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { served, address }
    }

    /// A fleet whose group asks it; `more` are further keys of the group.
    pub(super) async fn fleet(&self, gateways: usize, gateway: Extras, more: &str) -> Cluster {
        let group = format!(
            "[groups.{GROUP}]\n\
             {more}\n\
             origin = {{ kind = \"http\", url = \"http://{}/{{key}}\", timeout = \"60s\", \
             max_loads = 1000 }}\n",
            self.address
        );
        let node = Extras::default().config(group);
        let plan = Plan { nodes: NODES, gateways, node, gateway, ..Plan::default() };
        let cluster = Cluster::start(plan).await.unwrap();
        cluster.wait_ready().await;
        cluster
    }

    /// How often it was asked for a key.
    pub(super) fn calls(&self, key: &str) -> usize {
        self.served.calls.lock().unwrap().get(key).copied().unwrap_or_default()
    }

    /// Waits until it has been asked for a key so often.
    pub(super) async fn asked(&self, key: &str, times: usize) {
        eventually("the origin is asked", SOON, async || match self.calls(key) {
            calls if calls >= times => Ok(()),
            calls => Err(format!("{calls} calls for {key}")),
        })
        .await;
    }

    /// Lets so many gated loads go on.
    pub(super) fn open(&self, loads: usize) {
        self.served.gate.add_permits(loads);
    }

    /// Lets the first load of a key that begins with `paused` end.
    pub(super) fn release(&self, key: &str) {
        self.served.released.send_modify(|keys| {
            keys.insert(key.to_owned());
        });
    }

    /// From now on everything fails, or nothing does.
    pub(super) fn break_down(&self, is_broken: bool) {
        self.served.is_broken.store(is_broken, Ordering::SeqCst);
    }
}

async fn answer(State(served): State<Arc<Served>>, uri: Uri) -> Response {
    let key = uri.path()[1..].to_owned();
    let call = {
        let mut calls = served.calls.lock().unwrap();
        let calls = calls.entry(key.clone()).or_default();
        *calls += 1;
        *calls
    };
    let what = key.split('-').next().unwrap_or_default();
    if what == "failing" || served.is_broken.load(Ordering::SeqCst) {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    match what {
        "slow" => sleep(SLOW).await,
        "gated" => served.gate.acquire().await.unwrap().forget(),
        "paused" if call == 1 => {
            let mut released = served.released.subscribe();
            drop(released.wait_for(|keys| keys.contains(&key)).await.unwrap());
        }
        // It dies in the middle of its first answer.
        "dying" if call == 1 => {
            let parts = [Ok("a part"), Err("it died")];
            return Body::from_stream(stream::iter(parts)).into_response();
        }
        _ => {}
    }
    format!("{key} {call}").into_response()
}

/// A value as it is loaded by that call for a key.
pub(super) fn loaded(key: &str, call: usize) -> String {
    format!("{key} {call}")
}
