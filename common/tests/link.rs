//! Links, tried against a node that does what the test says.
#![allow(clippy::unwrap_used)]

#[path = "link/batching.rs"]
mod batching;
#[path = "link/deadlines.rs"]
mod deadlines;
#[path = "support/fake_node.rs"]
mod fake_node;
#[path = "link/lending.rs"]
mod lending;
#[path = "link/life.rs"]
mod life;

use std::time::Duration;

use common::{
    link::{Answer, Call, Link, Unsent},
    topology::Epoch,
};
use proto::v1;
use tokio::{runtime::Handle, task::JoinHandle, time::Instant};

use fake_node::{FakeNode, FakeStream, gateway, soon, value};

/// Long enough that no test meets it unless it means to.
const LONG: Duration = Duration::from_secs(60);

fn link_to(node: &FakeNode) -> Link {
    Link::spawn(&Handle::current(), gateway(), node.peer(), v1::Lane::Small)
}

fn call(verb: v1::Verb, key: &str) -> Call {
    let deadline = Instant::now() + LONG;
    let request = v1::Request {
        verb: verb.into(),
        group: "g".to_owned(),
        key: key.to_owned(),
        ..Default::default()
    };
    Call {
        request: request.into(),
        stand_in: false,
        other: None,
        epoch: Epoch::default(),
        position: 7,
        try_deadline: deadline,
        deadline,
    }
}

fn get(key: &str) -> Call {
    call(v1::Verb::Get, key)
}

fn set(key: &str, value: &'static [u8]) -> Call {
    let mut call = call(v1::Verb::Set, key);
    std::sync::Arc::make_mut(&mut call.request).value = value.into();
    call
}

fn within(mut call: Call, try_timeout: Duration, timeout: Duration) -> Call {
    let now = Instant::now();
    (call.try_deadline, call.deadline) = (now + try_timeout, now + timeout);
    call
}

/// With one deadline, for calls of which none may wait longer than another.
fn until(mut call: Call, deadline: Instant) -> Call {
    (call.try_deadline, call.deadline) = (deadline, deadline);
    call
}

/// A link whose stream is open, and the stream: a slow machine may take a try's time to open one.
async fn opened(node: &mut FakeNode) -> (Link, FakeStream) {
    let link = link_to(node);
    let first = start(&link, get("opens the stream"));
    let mut stream = node.stream().await;
    let op = stream.op().await;
    stream.answer(op.id, value("open")).await;
    assert_eq!(value_of(answer(first).await), "open");
    (link, stream)
}

/// Makes a call in a task of its own.
fn start(link: &Link, call: Call) -> JoinHandle<Answer> {
    let link = link.clone();
    tokio::spawn(async move { link.call(call).await })
}

async fn answer(call: JoinHandle<Answer>) -> Answer {
    soon("an answer", call).await.unwrap()
}

/// The value of an answer that must be a reply.
fn value_of(answer: Answer) -> String {
    match answer {
        Answer::Reply(reply) => String::from_utf8(reply.value.to_vec()).unwrap(),
        other => panic!("not a reply: {other:?}"),
    }
}

/// Why an operation that must not have left has not.
fn unsent(answer: Answer) -> Unsent {
    match answer {
        Answer::Unsent(why) => why,
        other => panic!("it has left: {other:?}"),
    }
}
