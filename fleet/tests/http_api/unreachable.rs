//! Nodes that are listed and do not answer: real processes, stopped and killed.

use std::{net::SocketAddr, time::Duration};

use fleet::{
    eventually,
    http::{self, Response},
    process::{Process, Signal, Spec, binary},
};
use tempfile::TempDir;
use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::api::{assert_error, query};

const READY: Duration = Duration::from_secs(2);

/// A node and a gateway that find each other by a list.
struct Pair {
    node: Process,
    gateway: Process,
    api: SocketAddr,
    _logs: TempDir,
}

impl Pair {
    async fn start() -> Self {
        let logs = tempfile::tempdir().unwrap();
        let address = free_address();
        let port = address.port().to_string();
        let listed = [
            "--discovery".to_owned(),
            "static".into(),
            "--static-nodes".into(),
            address.to_string(),
        ];
        let spec = |name: &str| Spec::new(name, binary(name).unwrap()).args(&listed);
        let node = spec("cachenode").args(["--node-port", &port, "--http-port", "0"]);
        let node = Process::start(&node, logs.path()).unwrap();
        let gateway =
            Process::start(&spec("apiserver").args(["--api-port", "0"]), logs.path()).unwrap();
        let line = gateway
            .wait_for_line("its address", READY * 10, |line| line.contains("gateway listens"))
            .await
            .unwrap();
        let api = line.split("address=").nth(1).unwrap().split(' ').next().unwrap();
        let pair = Self { node, api: api.parse().unwrap(), gateway, _logs: logs };
        eventually("the pair serves", READY, async || {
            let answer = http::get(pair.api, &query("scores", "Tom")).await.unwrap();
            (answer.status == 200).then_some(()).ok_or(answer.text())
        })
        .await;
        pair
    }

    async fn send(&self, method: &str, headers: &[(&str, &str)]) -> Response {
        http::request(self.api, method, &query("default", "k"), headers, "x").await.unwrap()
    }
}

/// An address that was free a moment ago, outside of the range of outgoing connections.
fn free_address() -> SocketAddr {
    let free =
        |_: usize| std::net::TcpListener::bind(("127.0.0.1", fastrand::u16(15_000..32_000))).ok();
    (0..100).find_map(free).unwrap().local_addr().unwrap()
}

/// That a client which goes away before its answer is counted too.
async fn given_up_is_counted(gateway: SocketAddr) {
    let head = format!("GET {} HTTP/1.1\r\nHost: x\r\n\r\n", query("default", "k"));
    eventually("a canceled request is counted", READY, async || {
        // The scrape gives the request time to begin; one that goes before it has is no request.
        let mut client = TcpStream::connect(gateway).await.unwrap();
        client.write_all(head.as_bytes()).await.unwrap();
        let metrics = http::get(gateway, "/metrics").await.unwrap().text();
        let canceled = |line: &&str| {
            line.starts_with("ringway_gateway_requests_total")
                && line.contains(r#"operation="get""#)
                && line.contains(r#"status="canceled""#)
                && !line.ends_with(" 0")
        };
        metrics.lines().find(canceled).map(|_| ()).ok_or(metrics)
    })
    .await;
}

/// That lists which wait for a node are not asked for without bound.
async fn lists_are_bounded(gateway: SocketAddr) {
    const AT_ONCE: usize = 12;
    let lists = (0..AT_ONCE)
        .map(|n| http::get(gateway, if n % 2 == 0 { "/api/hotkeys" } else { "/api/groups" }));
    let answers = futures_util::future::join_all(lists).await;
    let (mut listed, mut refused) = (0, 0);
    for answer in answers.into_iter().map(Result::unwrap) {
        if answer.status == 200 {
            listed += 1;
        } else {
            assert_error("a list", &answer, 503, "overloaded");
            assert!(answer.header("retry-after").is_some());
            refused += 1;
        }
    }
    assert_eq!((listed, refused), (4, AT_ONCE - 4));
}

#[tokio::test]
async fn a_node_that_hangs_is_a_timeout_and_a_dead_one_is_unavailable() {
    let pair = Pair::start().await;
    assert_eq!(pair.send("PUT", &[]).await.status, 201);
    pair.node.signal(Signal::STOP).unwrap();
    // Whether it was applied can't be known, and it must not be tried again.
    let conditional = pair.send("PUT", &[("if-match", "*")]).await;
    assert_error("conditional", &conditional, 504, "timeout");
    assert!(conditional.text().contains("unknown"), "{}", conditional.text());
    assert_error("read", &pair.send("GET", &[]).await, 504, "timeout");
    given_up_is_counted(pair.api).await;
    lists_are_bounded(pair.api).await;
    pair.node.signal(Signal::CONT).unwrap();
    eventually("the node answers again", READY, async || pair.send("GET", &[]).await.status == 200)
        .await;

    pair.node.kill();
    for method in ["GET", "PUT", "DELETE"] {
        let answer = pair.send(method, &[]).await;
        assert_error(method, &answer, 503, "node_unavailable");
        assert!(answer.header("retry-after").is_some(), "{method}");
    }
    assert!(pair.gateway.ended().is_none());
}
