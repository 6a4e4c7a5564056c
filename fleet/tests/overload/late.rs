//! A node whose operations come late, one and all, refuses them; what comes in time it does.

use std::time::Duration;

use fleet::{
    eventually, http,
    local::{LocalFleet, Plan},
};
use proto::v1::{self, op::Kind};
use tokio::time::timeout;

use super::tiny::{Stream, now_us};

/// How soon that is noticed at the latest, on however slow a machine.
const NOTICED: Duration = Duration::from_secs(20);
/// How soon something that is asked is in time.
const IN_TIME_WITHIN: Duration = Duration::from_secs(2);

/// What a node answers to one operation, sent with that stamp.
async fn asked(stream: &mut Stream, stamp_us: u64) -> Result<v1::Reply, String> {
    stream.ask(1, stamp_us)?;
    loop {
        let op = stream.next().await?.ops.pop().ok_or("an empty batch")?;
        match op.kind {
            Some(Kind::Reply(reply)) => return Ok(reply),
            // The node stood still for a moment, and answers when it has asked the others.
            Some(Kind::Pending(_)) => {}
            other => return Err(format!("{other:?}")),
        }
    }
}

#[tokio::test]
async fn a_node_that_is_behind_refuses_what_comes_late_until_it_has_caught_up() {
    let fleet = LocalFleet::start(Plan { nodes: 1, ..Plan::default() }).await.unwrap();
    let node = fleet.nodes().next().unwrap();
    let mut stream = Stream::open(node.grpc_address()).await.unwrap();
    let first = now_us();
    assert_eq!(asked(&mut stream, first).await.unwrap().value, "630");

    // From here on every batch seems to have been sent then, and waited since.
    let refused = async {
        loop {
            let reply = asked(&mut stream, first).await.unwrap();
            if reply.code() == v1::Code::Overloaded {
                return reply;
            }
        }
    };
    let refused = timeout(NOTICED, refused).await.expect("late operations are refused");
    assert!(refused.value.is_empty());
    let metrics = http::get(node.http_address(), "/metrics").await.unwrap().text();
    let refused = fleet::metrics::value(&metrics, "ringway_refused_late_total").unwrap();
    assert!(refused >= 1.0, "{refused}");

    // One of these is in time, on however slow a machine.
    eventually("what comes in time is done", IN_TIME_WITHIN, async || {
        let reply = asked(&mut stream, now_us()).await?;
        if reply.value == "630" { Ok(()) } else { Err(reply.message) }
    })
    .await;
    drop(stream);
    fleet.stop().await;
}
