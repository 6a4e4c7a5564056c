//! An origin of kind `http`: real gateways and nodes, and a server that counts what it is asked.

use std::{
    collections::HashMap,
    future::pending,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use fleet::{
    cluster::{Cluster, Extras, Plan},
    descriptors::make_room,
    eventually, http,
};
use tokio::{net::TcpListener, sync::Semaphore, task::JoinSet, time::sleep};

use crate::{
    api::{assert_error, query},
    asking::{all_wait, refusal},
};

/// What every request has to bring along.
const TOKEN: &str = "Bearer sesame";
/// By what it recognises what it says of `tagged`.
const TAG: &str = "\"v1\"";
/// How long it thinks about a key, so that readers meet.
const THINKS: Duration = Duration::from_millis(300);

/// How often the server was asked for each path.
type Asked = Arc<Mutex<HashMap<String, usize>>>;
/// Answers for `gated` wait for a permit.
type Gate = Arc<Semaphore>;

async fn answer(
    State((asked, gate)): State<(Asked, Gate)>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let path = uri.path().to_owned();
    let call = {
        let mut asked = asked.lock().unwrap();
        let calls = asked.entry(path.clone()).or_default();
        *calls += 1;
        *calls
    };
    if headers.get("authorization").is_none_or(|token| token != TOKEN) {
        return StatusCode::FORBIDDEN.into_response();
    }
    match path.as_str() {
        "/users/nobody" => StatusCode::NOT_FOUND.into_response(),
        "/users/broken" => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        "/users/hangs" => pending().await,
        "/users/tagged" if headers.get("if-none-match").is_some_and(|tag| tag == TAG) => {
            (StatusCode::NOT_MODIFIED, [("cache-control", "max-age=60")]).into_response()
        }
        "/users/tagged" => {
            ([("etag", TAG), ("cache-control", "max-age=1")], format!("tagged {call}"))
                .into_response()
        }
        _ => {
            if path == "/users/gated" {
                gate.acquire().await.unwrap().forget();
            } else {
                sleep(THINKS).await;
            }
            ([("content-type", "text/plain")], format!("{path} {call}")).into_response()
        }
    }
}

/// A server, and how often it was asked.
async fn server() -> (SocketAddr, Asked) {
    server_behind(Arc::new(Semaphore::new(0))).await
}

async fn server_behind(gate: Gate) -> (SocketAddr, Asked) {
    let asked = Asked::default();
    let app = Router::new().fallback(answer).with_state((Arc::clone(&asked), gate));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    (address, asked)
}

/// A group `users` that asks the server.
fn config(server: SocketAddr) -> String {
    format!(
        "[groups.users]\n\
         origin = {{ kind = \"http\", url = \"http://{server}/users/{{key}}\", timeout = \"60s\", \
         headers = {{ Authorization = \"Bearer ${{ORIGIN_TOKEN}}\" }} }}\n"
    )
}

/// Three nodes that ask the server.
async fn cluster(server: SocketAddr, gateways: usize, gateway: Extras) -> Cluster {
    let node = Extras::default().config(config(server)).env("ORIGIN_TOKEN", "sesame");
    Cluster::start(Plan { gateways, node, gateway, ..Plan::default() }).await.unwrap()
}

/// Row 14: many readers, at all gateways, of a key that is nowhere.
#[tokio::test]
async fn whoever_asks_wherever_the_origin_is_asked_once() {
    const READERS: usize = 1500;
    make_room(READERS);
    let gate = Arc::new(Semaphore::new(0));
    let (server, asked) = server_behind(Arc::clone(&gate)).await;
    let patient = Extras::patient().env("RINGWAY_GATEWAY__REQUEST_TIMEOUT", "60s");
    let cluster = cluster(server, 3, patient).await;
    let gateways = cluster.gateway_addresses();
    let mut readers = JoinSet::new();
    for n in 0..READERS {
        let gateway = gateways[n % gateways.len()];
        readers.spawn(async move { http::get(gateway, &query("users", "gated")).await.unwrap() });
    }
    // A node that gets no processor just when the value comes does not keep it: who came later would make
    // it ask again.
    all_wait(&gateways, READERS).await;
    gate.add_permits(READERS);
    for answer in readers.join_all().await {
        assert_eq!((answer.status, answer.text().as_str()), (200, "/users/gated 1"));
    }
    assert_eq!(*asked.lock().unwrap(), HashMap::from([("/users/gated".to_owned(), 1)]));
}

/// Row 13: hits go on, whatever the origin does; what it does not answer is told apart.
#[tokio::test]
async fn a_slow_or_failing_origin_holds_up_nobody_else() {
    let (server, asked) = server().await;
    // Another node would ask for the hits' value once more: their owner is waited for to the end.
    let patient = Extras::default().env("RINGWAY_GATEWAY__TRY_TIMEOUT", "2s");
    let cluster = cluster(server, 1, patient).await;
    let gateway = cluster.gateway(0);
    assert_eq!(gateway.read("users", "a/b c").await.unwrap().text(), "/users/a%2Fb%20c 1");
    let address = gateway.address();
    let get =
        |key: &'static str| async move { http::get(address, &query("users", key)).await.unwrap() };
    let hanging: Vec<_> = (0..50).map(|_| tokio::spawn(get("hangs"))).collect();
    eventually("the origin hangs", Duration::from_secs(5), async || {
        let asked = asked.lock().unwrap();
        asked.get("/users/hangs").map(drop).ok_or("it was not asked")
    })
    .await;
    for _ in 0..20 {
        let hit = get("a/b c").await;
        assert!(hit.header("cache-status").is_some_and(|it| it.starts_with("ringway; hit")));
        assert_error("broken", &get("broken").await, 502, "origin_error");
        assert_error("nobody", &get("nobody").await, 404, "not_found");
    }
    assert_error("parent", &get("..").await, 400, "invalid_request");
    for answer in hanging {
        assert_error("hangs", &answer.await.unwrap(), 504, "timeout");
    }
    let asked = asked.lock().unwrap();
    assert_eq!((asked["/users/hangs"], asked["/users/a%2Fb%20c"]), (1, 1));
    assert!(!asked.contains_key("/"), "the parent was not asked for: {asked:?}");
}

#[tokio::test]
async fn what_has_not_changed_is_not_sent_again() {
    let (server, asked) = server().await;
    let cluster = cluster(server, 1, Extras::patient()).await;
    let address = cluster.gateway(0).address();
    let get = async || http::get(address, &query("users", "tagged")).await.unwrap();
    let first = get().await;
    assert_eq!(first.header("cache-status"), Some("ringway; fwd=miss; stored"));
    eventually("its time is over", Duration::from_secs(10), async || {
        let answer = get().await;
        assert_eq!((answer.text(), answer.header("etag")), (first.text(), first.header("etag")));
        match answer.header("cache-status") {
            Some("ringway; fwd=stale; fwd-status=304; stored") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    assert_eq!(get().await.header("cache-status"), Some("ringway; hit"), "it was renewed");
    assert_eq!(asked.lock().unwrap()["/users/tagged"], 2);
}

#[tokio::test]
async fn while_their_owner_is_gone_keys_are_loaded_elsewhere() {
    let (server, _) = server().await;
    let cluster = cluster(server, 1, Extras::default()).await;
    let gateway = cluster.gateway(0);
    let keys: Vec<_> = (0..40).map(|n| n.to_string()).collect();
    let owners = cluster.owners(0, "users", &keys).await.unwrap();
    let dead = cluster.node(0).address().to_string();
    assert!(owners.contains(&dead), "{dead} owns none of {owners:?}");
    cluster.node(0).kill();
    let mut readers = JoinSet::new();
    let address = gateway.address();
    for key in keys {
        readers.spawn(async move {
            let answer = http::get(address, &query("users", &key)).await.unwrap();
            (key, answer)
        });
    }
    for (key, answer) in readers.join_all().await {
        let text = answer.text();
        assert_eq!(answer.status, 200, "{key}: {text}");
        assert!(text.starts_with(&format!("/users/{key} ")), "{key}: {text}");
    }
}

#[tokio::test]
async fn a_secret_that_is_not_set_is_asked_for_by_name() {
    let lines = refusal(&config("127.0.0.1:1".parse().unwrap())).await;
    for part in ["groups.users.origin.headers.Authorization", "ORIGIN_TOKEN"] {
        assert!(lines.contains(part), "{part}: {lines}");
    }
}
