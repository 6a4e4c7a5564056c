//! A gateway with as many requests under way as it may have: the next one is refused before anything
//! is done for it, and those that are not about keys are not.

use std::time::Duration;

use fleet::{
    cluster::{Cluster, Extras, Plan},
    eventually,
    http::{self, Response},
    process::Signal,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

/// The least that can be set.
const MOST: usize = 256;
const PATH: &str = "/api/cache/scores/Tom";
/// How soon so many requests have come in.
const IN_FLIGHT_WITHIN: Duration = Duration::from_secs(2);
/// How soon a node that was stopped has caught up.
const SERVES_WITHIN: Duration = Duration::from_secs(2);

fn assert_refused(answer: &Response) {
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    assert_eq!(answer.json()["error"], "overloaded", "{}", answer.text());
}

#[tokio::test]
async fn one_request_too_many_is_refused_at_once_and_costs_nobody_anything() {
    let gateway = Extras::default()
        .arg("--workers=1")
        .env("RINGWAY_GATEWAY__MAX_IN_FLIGHT", MOST.to_string())
        .env("RINGWAY_GATEWAY__TRY_TIMEOUT", "30s")
        .env("RINGWAY_GATEWAY__REQUEST_TIMEOUT", "30s");
    let plan = Plan { nodes: 1, gateway, ..Plan::default() };
    let cluster = Cluster::start(plan).await.unwrap();
    let (gateway, node) = (cluster.gateway(0), cluster.node(0));
    let address = gateway.address();

    // Nobody answers these until the node goes on.
    node.signal(Signal::STOP).unwrap();
    let mut waiting = JoinSet::new();
    for _ in 0..MOST {
        waiting.spawn(http::get(address, PATH));
    }
    eventually("all of them are under way", IN_FLIGHT_WITHIN, async || {
        let name = "ringway_gateway_in_flight{worker=\"0\"}";
        let under_way = gateway.metric(name).await? as usize;
        if under_way == MOST { Ok(()) } else { Err(format!("{under_way} are")) }
    })
    .await;

    for method in ["GET", "HEAD", "PUT", "DELETE"] {
        let answer = http::request(address, method, PATH, &[], "").await.unwrap();
        assert_eq!(answer.status, 503, "{method}");
    }
    assert_refused(&http::get(address, PATH).await.unwrap());
    // Whoever asks before it sends its body need not send it.
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "PUT {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\nExpect: 100-continue\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 503");
    for path in ["/livez", "/readyz", "/health", "/api/nodes", "/api/ring?group=scores&key=Tom"] {
        assert_eq!(gateway.get(path).await.unwrap().status, 200, "{path}");
    }
    let shed = gateway.metric("ringway_gateway_shed_total{reason=\"full\"}").await.unwrap();
    assert_eq!(shed, 6.0);

    node.signal(Signal::CONT).unwrap();
    let mut answered = 0;
    while let Some(answer) = waiting.join_next().await {
        let answer = answer.unwrap().unwrap();
        if answer.status == 200 {
            assert_eq!(answer.text(), "630");
            answered += 1;
        } else {
            // All of them came late. A node that takes long to read them may refuse the rest.
            assert_refused(&answer);
            assert!(answer.text().contains("is behind with its work"), "{}", answer.text());
        }
    }
    assert!(answered > 0, "the node has answered nobody");
    eventually("the gateway serves again", SERVES_WITHIN, async || {
        let answer = gateway.get(PATH).await.map_err(|error| error.to_string())?;
        if answer.status == 200 { Ok(()) } else { Err(answer.text()) }
    })
    .await;
}
