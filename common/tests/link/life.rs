//! How a link begins, breaks, begins again and ends.

use common::link::frame;
use proto::v1::op::Kind;
use tokio::net::TcpListener;

use super::*;
use crate::fake_node::{FakeStream, Greeting, another_instance, request, value};

/// That the peer ended its side in order, having sent nothing more.
async fn ended(mut stream: FakeStream) {
    assert!(matches!(stream.next().await, Ok(None)));
}

fn goodbye() -> Kind {
    Kind::Goodbye(v1::Goodbye {})
}

fn refusal_of(answer: Answer) -> String {
    match unsent(answer) {
        Unsent::Unreachable(unreachable) => unreachable.why,
        other => panic!("{other:?}"),
    }
}

async fn ask(link: &Link, stream: &mut FakeStream, key: &str) {
    let call = start(link, get(key));
    let op = stream.op().await;
    assert_eq!(request(&op).key, key);
    stream.answer(op.id, value(key.to_owned())).await;
    assert_eq!(value_of(answer(call).await), key);
}

#[tokio::test]
async fn a_link_opens_on_first_use_and_says_who_it_is() {
    let mut node = FakeNode::start("n").await;
    let link = link_to(&node);
    tokio::task::yield_now().await;
    assert_eq!(node.opened(), 0);
    let _call = start(&link, get("k"));
    let stream = node.stream().await;
    let hello = &stream.hello;
    assert_eq!(
        (hello.id.as_str(), hello.role(), hello.lane()),
        ("gateway", v1::Role::Gateway, v1::Lane::Small)
    );
    assert_eq!(frame::accept_hello(&node.identity, Some(hello)), Ok(()));
    assert_eq!(hello.to_id, "n");
    assert_eq!(hello.to_instance[..], node.identity.instance.as_bytes()[..]);
}

#[tokio::test]
async fn after_goodbye_what_is_outstanding_is_answered_and_the_link_ends_its_side() {
    let mut node = FakeNode::start("n").await;
    let link = link_to(&node);
    let outstanding = [start(&link, get("a")), start(&link, get("b"))];
    let mut stream = node.stream().await;
    let ops = stream.ops(2).await;
    stream.send(vec![v1::Op { id: 0, kind: Some(goodbye()) }]).await;
    stream.answer(ops[0].id, value("a")).await;
    let [first, second] = outstanding;
    // Its answer came after the Goodbye, so the link has heard that.
    assert_eq!(value_of(answer(first).await), "a");
    assert_eq!(unsent(link.call(get("new")).await), Unsent::Leaving);
    assert!(stream.is_quiet(Duration::from_millis(50)).await, "open while something is owed");
    stream.answer(ops[1].id, value("b")).await;
    assert_eq!(value_of(answer(second).await), "b");
    ended(stream).await;

    let again = start(&link, get("again"));
    let mut stream = node.stream().await;
    let op = stream.op().await;
    stream.answer(op.id, value("again")).await;
    assert_eq!(value_of(answer(again).await), "again");
    assert_eq!(node.opened(), 2);
}

#[tokio::test]
async fn a_goodbye_to_an_idle_link_ends_it() {
    let mut node = FakeNode::start("n").await;
    let link = link_to(&node);
    let call = start(&link, get("k"));
    let mut stream = node.stream().await;
    let op = stream.op().await;
    stream.answer(op.id, value("k")).await;
    answer(call).await;
    stream.answer(0, goodbye()).await;
    ended(stream).await;
}

#[tokio::test]
async fn a_node_may_say_goodbye_with_its_hello() {
    let mut node = FakeNode::start("n").await;
    node.greet(Greeting::With(vec![goodbye()]));
    let link = link_to(&node);
    assert_eq!(unsent(soon("a refusal", link.call(get("k"))).await), Unsent::Leaving);
    ended(node.stream().await).await;
}

#[tokio::test]
async fn when_the_stream_ends_what_is_outstanding_is_lost_and_the_next_call_reconnects() {
    let mut node = FakeNode::start("n").await;
    let link = link_to(&node);
    let call = start(&link, get("lost"));
    let mut stream = node.stream().await;
    stream.op().await;
    drop(stream);
    assert!(matches!(answer(call).await, Answer::Lost { pending: false }));
    let again = start(&link, get("again"));
    let mut stream = node.stream().await;
    let op = stream.op().await;
    stream.answer(op.id, value("again")).await;
    assert_eq!(value_of(answer(again).await), "again");
}

#[tokio::test]
async fn a_crash_loses_what_is_outstanding_and_refuses_the_rest() {
    let mut node = FakeNode::start("n").await;
    let link = link_to(&node);
    let call = start(&link, get("lost"));
    node.stream().await.op().await;
    node.kill().await;
    assert!(matches!(answer(call).await, Answer::Lost { pending: false }));
    let started = Instant::now();
    let why = refusal_of(soon("a refusal", link.call(get("k"))).await);
    assert!(why.contains(&node.address) && why.contains("refused"), "{why}");
    assert!(started.elapsed() < LONG / 10, "long before the deadline");
    // The same node comes back on its address.
    let mut node = FakeNode::start_at("n", &node.address).await;
    let mut peer = node.peer();
    peer.instance = uuid::Uuid::nil();
    let link = Link::spawn(&Handle::current(), gateway(), peer, v1::Lane::Small);
    let _call = start(&link, get("k"));
    ask(
        &link,
        &mut {
            let mut s = node.stream().await;
            s.op().await;
            s
        },
        "back",
    )
    .await;
}

#[tokio::test]
async fn nothing_is_sent_to_whoever_is_not_the_node_that_was_meant() {
    let mut node = FakeNode::start("n").await;
    let own = node.hello();
    let others = [
        ("service", v1::Hello { service: "staging".to_owned(), ..own.clone() }),
        ("expected", v1::Hello { id: "m".to_owned(), ..own.clone() }),
        ("expected", another_instance(own.clone())),
        ("protocol", v1::Hello { protocol_min: 9, protocol_max: 9, ..own }),
    ];
    for (word, other) in others {
        node.greet(Greeting::Other(Box::new(other)));
        let why = refusal_of(soon("a refusal", link_to(&node).call(get("k"))).await);
        assert!(why.contains(word), "{why}");
        let mut stream = node.stream().await;
        assert!(!matches!(stream.next().await, Ok(Some(_))), "an operation was sent");
    }
}

#[tokio::test]
async fn a_node_that_refuses_the_hello_is_unreachable_and_says_why() {
    let node = FakeNode::start("n").await;
    node.greet(Greeting::Refuse);
    let why = refusal_of(soon("a refusal", link_to(&node).call(get("k"))).await);
    assert!(why.contains("not here"), "{why}");
}

#[tokio::test]
async fn a_node_that_never_answers_its_hello_is_unreachable_soon() {
    let node = FakeNode::start("n").await;
    node.greet(Greeting::Silent);
    let started = Instant::now();
    let why = refusal_of(soon("a refusal", link_to(&node).call(get("k"))).await);
    assert!(why.contains("no answer in"), "{why}");
    assert!(started.elapsed() >= Duration::from_millis(500));
    assert!(started.elapsed() < LONG / 10, "long before the deadline");
}

#[tokio::test]
async fn a_port_that_accepts_and_says_nothing_is_unreachable_soon() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let peer = common::link::Peer { id: "n".to_owned(), instance: uuid::Uuid::nil(), address };
    let link = Link::spawn(&Handle::current(), gateway(), peer, v1::Lane::Small);
    refusal_of(soon("a refusal", link.call(get("k"))).await);
}

#[tokio::test]
async fn a_link_ends_with_its_last_handle() {
    let mut node = FakeNode::start("n").await;
    let link = link_to(&node);
    let clone = link.clone();
    let call = start(&link, get("k"));
    let mut stream = node.stream().await;
    let op = stream.op().await;
    stream.answer(op.id, value("k")).await;
    answer(call).await;
    drop(link);
    assert!(stream.is_quiet(Duration::from_millis(50)).await, "a clone is left");
    drop(clone);
    ended(stream).await;
}
