//! Clients that read slowly, or go away.

use std::time::Duration;

use fleet::eventually;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::sleep,
};

use super::{BATCH, gets};
use crate::api::{Api, plan, query};

const MIB: usize = 1 << 20;
/// Values of a batch, in all: more than a gateway and two sockets hold.
const VALUES: usize = 40;
/// What a gateway holds of a batch, in values of this size, and what the sockets may.
const HELD: f64 = 16.0;
const IN_SOCKETS: f64 = 10.0;
/// How much waits for a client in its own socket, about.
const RECEIVE_BUFFER: u32 = 64 << 10;
/// How long a request may wait for nodes here. A busy machine needs some of it.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// A request on a connection of its own, of which no answer has been read.
async fn sent(api: &Api, batch: &Value) -> TcpStream {
    let body = batch.to_string();
    let head = format!(
        "POST {BATCH} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(RECEIVE_BUFFER).unwrap();
    let mut client = socket.connect(api.fleet.gateway()).await.unwrap();
    client.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    client
}

/// The body of a chunked answer.
fn unchunked(answer: &[u8]) -> Vec<u8> {
    let head_end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    let head = String::from_utf8_lossy(&answer[..head_end]).to_lowercase();
    assert!(head.contains("transfer-encoding: chunked"), "{head}");
    let (mut rest, mut body) = (&answer[head_end..], Vec::new());
    loop {
        let line_end = rest.windows(2).position(|two| two == b"\r\n").unwrap();
        let size = std::str::from_utf8(&rest[..line_end]).unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        let data = line_end + 2;
        body.extend_from_slice(&rest[data..data + size]);
        if size == 0 {
            return body;
        }
        rest = &rest[data + size + 2..];
    }
}

/// Reads of values on all nodes so far.
async fn hits(api: &Api) -> f64 {
    let mut hits = 0.0;
    for node in api.fleet.nodes() {
        let metrics = fleet::http::get(node.http_address(), "/metrics").await.unwrap().text();
        let of_default = |line: &&str| {
            line.starts_with("ringway_group_hits_total") && line.contains(r#"group="default""#)
        };
        let counts = metrics.lines().filter(of_default);
        hits += counts
            .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
            .sum::<f64>();
    }
    hits
}

#[tokio::test]
async fn a_client_that_reads_slowly_gets_everything_and_the_gateway_holds_little() {
    let mut plan = plan();
    plan.settings.gateway.request_timeout = REQUEST_TIMEOUT;
    let api = Api::of(plan).await;
    for i in 0..VALUES {
        api.stored(&query("default", &format!("k{i}")), vec![b'v'; MIB]).await;
    }
    let mut client = sent(&api, &json!({"group": "default", "get": gets("k", VALUES)})).await;
    // A slow client: slower than nodes may be with all of it, and not yet cut off as stalled.
    sleep(REQUEST_TIMEOUT.mul_f64(1.2)).await;
    let asked = hits(&api).await;
    assert!((1.0..=HELD + IN_SOCKETS).contains(&asked), "{asked} values were asked for");
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.unwrap();
    let json: Value = serde_json::from_slice(&unchunked(&answer)).unwrap();
    assert_eq!(json["get"].as_array().unwrap().len(), VALUES);
    for outcome in json["get"].as_array().unwrap() {
        let value = outcome["value"].as_str().unwrap_or_else(|| panic!("{outcome}"));
        assert_eq!(value.len(), MIB);
    }
    assert_eq!(hits(&api).await, VALUES as f64);
}

#[tokio::test]
async fn writes_run_to_their_end_though_their_client_has_gone() {
    let api = Api::start().await;
    let set = |i: usize| json!({"key": format!("k{i}"), "value": i});
    let sets: Value = (0..500).map(set).collect();
    let client = sent(&api, &json!({"group": "default", "set": sets, "get": gets("k", 500)})).await;
    // Once one of them is there the batch was understood, and all of them are on their way.
    let is_there =
        async |i: usize| api.get(&query("default", &format!("k{i}"))).await.status == 200;
    eventually("the first is written", Duration::from_secs(1), async || is_there(0).await).await;
    drop(client);
    for i in 0..500 {
        eventually("it is written", Duration::from_secs(1), async || is_there(i).await).await;
    }
}

#[tokio::test]
async fn reads_of_a_client_that_has_gone_are_counted_as_canceled() {
    let api = Api::start().await;
    for i in 0..VALUES {
        api.stored(&query("default", &format!("k{i}")), vec![b'v'; MIB]).await;
    }
    let mut client = sent(&api, &json!({"group": "default", "get": gets("k", VALUES)})).await;
    client.read_exact(&mut [0; 1024]).await.unwrap();
    drop(client);
    eventually("reads are canceled", Duration::from_secs(1), async || {
        let metrics = fleet::http::get(api.fleet.gateway(), "/metrics").await.unwrap().text();
        let canceled = |line: &&str| {
            line.starts_with("ringway_gateway_requests_total")
                && line.contains(r#"operation="get",status="canceled""#)
                && !line.ends_with(" 0")
        };
        metrics.lines().find(canceled).map(|_| ()).ok_or(metrics)
    })
    .await;
}
