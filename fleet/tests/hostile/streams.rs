//! Row 19, whole streams: wrong epochs, unknown operations, batches out of all proportion.

use bytes::Bytes;
use common::link::{Identity, frame};
use prost::Message;
use proto::v1::{self, op::Kind};
use uuid::Uuid;

use crate::{
    frames::{EXCHANGE, LARGE},
    h2::{self, Answer},
    server::Server,
};

/// The Hello of a gateway.
pub(crate) fn hello(lane: v1::Lane) -> v1::Batch {
    let identity = Identity {
        service: "ringway".to_owned(),
        role: v1::Role::Gateway,
        id: "hostile".to_owned(),
        instance: Uuid::from_u128(1),
    };
    let hello = Some(frame::hello(&identity, Uuid::from_u128(2), lane, None));
    v1::Batch { hello, stamp_us: 1, ..Default::default() }
}

pub(crate) fn request(id: u64, request: v1::Request) -> v1::Op {
    v1::Op { id, kind: Some(Kind::Request(request)) }
}

/// A read or write as a gateway would send it.
pub(crate) fn honest(verb: v1::Verb) -> v1::Request {
    v1::Request {
        verb: verb.into(),
        group: "default".to_owned(),
        key: "k".to_owned(),
        try_ms: 20_000,
        budget_ms: 20_000,
        ..Default::default()
    }
}

fn batch(epoch: Option<v1::Epoch>, ops: Vec<v1::Op>) -> v1::Batch {
    v1::Batch { hello: None, epoch, stamp_us: 2, ops }
}

/// Sends batches after a Hello, each a frame of its own.
async fn exchange(server: &Server, batches: &[v1::Batch]) -> Result<Answer, String> {
    let hello = hello(v1::Lane::Small);
    let frames = [&hello].into_iter().chain(batches);
    let frames = frames.map(|batch| h2::frame(&batch.encode_to_vec())).collect();
    h2::call(server.grpc, EXCHANGE, &[], frames).await
}

/// The answers to the operations, in any order.
fn answers(answer: &Answer) -> Vec<(u64, Kind)> {
    let batches = answer.messages::<v1::Batch>();
    assert!(batches[0].hello.is_some(), "the node says Hello first");
    let ops = batches.into_iter().flat_map(|batch| batch.ops);
    ops.filter_map(|op| Some((op.id, op.kind?))).collect()
}

/// The epoch of the node, from its Hello.
async fn epoch_of(server: &Server) -> v1::Epoch {
    let answer = exchange(server, &[]).await.unwrap();
    answer.messages::<v1::Batch>()[0].hello.clone().unwrap().epoch.unwrap()
}

#[tokio::test]
async fn wrong_epochs_are_answered_in_kind() {
    let server = Server::start().await;
    let real = epoch_of(&server).await;
    let other = Bytes::from_static(&[9; 16]);
    let epochs = [
        None,
        Some(v1::Epoch::default()),
        Some(v1::Epoch { digest: real.digest ^ 1, ..real.clone() }),
        Some(v1::Epoch { as_of: u64::MAX, digest: 0, ..real.clone() }),
        Some(v1::Epoch { as_of: u64::MAX, ..real.clone() }),
        Some(v1::Epoch { as_of: 0, digest: 1, ..real.clone() }),
        Some(v1::Epoch { generation: other.clone(), digest: 1, ..real.clone() }),
        Some(v1::Epoch { generation: other, as_of: u64::MAX, digest: u64::MAX }),
        Some(v1::Epoch { generation: Bytes::from_static(b"short"), as_of: 1, digest: 1 }),
    ];
    for epoch in epochs {
        let ops = (0..30).map(|id| {
            let verb = [v1::Verb::Get, v1::Verb::Set, v1::Verb::Delete][id as usize % 3];
            request(id, v1::Request { key: format!("key {id}"), ..honest(verb) })
        });
        let ops: Vec<_> = ops.collect();
        let answer = exchange(&server, &[batch(epoch.clone(), ops)]).await.unwrap();
        assert_eq!(answer.status, Some(0), "{epoch:?}: {answer:?}");
        let mut answers = answers(&answer);
        // Readers hear that the node has to catch up, and get their answer afterwards.
        answers.retain(|(_, kind)| !matches!(kind, Kind::Pending(_)));
        assert_eq!(answers.len(), 30, "{epoch:?}: every operation is answered");
        for (id, kind) in answers {
            let in_kind = matches!(kind, Kind::Reply(_) | Kind::Moved(_) | Kind::NotStarted(_));
            assert!(in_kind, "{epoch:?}: {id} {kind:?}");
        }
    }
    server.is_well().await;
}

#[tokio::test]
async fn unknown_operations_are_unsupported_and_the_stream_goes_on() {
    let server = Server::start().await;
    let epoch = Some(epoch_of(&server).await);
    let unknown_verb = v1::Request { verb: 99, ..honest(v1::Verb::Get) };
    let kinds = [
        None,
        Some(Kind::Request(unknown_verb)),
        Some(Kind::Request(v1::Request { group: String::new(), ..honest(v1::Verb::Get) })),
        Some(Kind::Reply(v1::Reply::default())),
        Some(Kind::Pong(v1::Pong::default())),
        Some(Kind::Goodbye(v1::Goodbye {})),
        Some(Kind::Moved(v1::Moved::default())),
        Some(Kind::Invalidate(v1::Invalidate::default())),
        Some(Kind::InvalidateAck(v1::InvalidateAck {})),
        Some(Kind::NotStarted(v1::NotStarted { reason: 77 })),
    ];
    let mut ops: Vec<_> =
        kinds.into_iter().enumerate().map(|(id, kind)| v1::Op { id: id as u64, kind }).collect();
    let unknown = ops.len() as u64;
    ops.push(v1::Op { id: 100, kind: Some(Kind::Cancel(v1::Cancel {})) });
    ops.push(v1::Op { id: 101, kind: Some(Kind::Ping(v1::Ping {})) });
    // Operation 20 of the reserved ones, as a later version would send it.
    let mut bytes = batch(epoch.clone(), ops).encode_to_vec();
    bytes.extend_from_slice(b"\x22\x07\x08\x66\xa2\x01\x02xy");
    let later = batch(epoch, vec![v1::Op { id: 103, kind: Some(Kind::Ping(v1::Ping {})) }]);
    let frames = [hello(v1::Lane::Small).encode_to_vec(), bytes, later.encode_to_vec()];
    let frames = frames.iter().map(|bytes| h2::frame(bytes)).collect();
    let answer = h2::call(server.grpc, EXCHANGE, &[], frames).await.unwrap();
    assert_eq!(answer.status, Some(0), "{answer:?}");
    let mut answers = answers(&answer);
    // A node that stood still says so first, and answers when it has asked the others.
    answers.retain(|(_, kind)| !matches!(kind, Kind::Pending(_)));
    let code = |id: u64| match answers.iter().find(|answer| answer.0 == id) {
        Some((_, Kind::Reply(reply))) => Some(reply.code()),
        _ => None,
    };
    // A confirmation of what nobody asked for is answered by nothing.
    for id in (0..unknown).filter(|&id| id != 2 && id != 8).chain([102]) {
        assert_eq!(code(id), Some(v1::Code::Unsupported), "operation {id}");
    }
    assert_eq!(code(2), Some(v1::Code::InvalidRequest), "a request without a group");
    assert!(answers.iter().all(|answer| answer.0 != 100), "nobody answers a Cancel");
    for id in [101, 103] {
        assert!(answers.iter().any(|answer| matches!(answer, (n, Kind::Pong(_)) if *n == id)));
    }
    server.is_well().await;
}

#[tokio::test]
async fn requests_that_cannot_be_are_refused_one_by_one() {
    let server = Server::start().await;
    let epoch = Some(epoch_of(&server).await);
    let with = |change: fn(&mut v1::Request)| {
        let mut request = honest(v1::Verb::Set);
        change(&mut request);
        request
    };
    let short = |bytes: &'static [u8]| v1::Condition {
        if_version: vec![Bytes::from_static(bytes)],
        ..Default::default()
    };
    let cases = [
        (with(|r| r.group = String::new()), v1::Code::InvalidRequest),
        (with(|r| r.group = "a/b".into()), v1::Code::InvalidRequest),
        (with(|r| r.group = "nowhere".into()), v1::Code::GroupNotFound),
        (with(|r| r.key = String::new()), v1::Code::InvalidRequest),
        (with(|r| r.key = "k".repeat(1 << 17)), v1::Code::InvalidRequest),
        (with(|r| r.key = "a\0b".into()), v1::Code::InvalidRequest),
        (with(|r| r.content_type = "t".repeat(70_000)), v1::Code::InvalidRequest),
        (with(|r| r.value = vec![0; (1 << 20) + 1].into()), v1::Code::TooLarge),
        (with(|r| r.ttl_ms = u64::MAX), v1::Code::Ok),
        (with(|r| r.op_link = Bytes::from_static(b"short")), v1::Code::InvalidRequest),
        (with(|r| (r.op_seq, r.group_revision) = (u64::MAX, u64::MAX)), v1::Code::Ok),
        (
            v1::Request { condition: Some(Box::new(short(b"x"))), ..honest(v1::Verb::Set) },
            v1::Code::InvalidRequest,
        ),
        (
            v1::Request { condition: Some(Box::new(short(&[0; 17]))), ..honest(v1::Verb::Delete) },
            v1::Code::InvalidRequest,
        ),
    ];
    let ops = cases.iter().zip(0..).map(|((case, _), id)| request(id, case.clone())).collect();
    let answer = exchange(&server, &[batch(epoch, ops)]).await.unwrap();
    let mut answers = answers(&answer);
    // A group that the node does not know is looked up first.
    answers.retain(|(_, kind)| !matches!(kind, Kind::Pending(_)));
    answers.sort_by_key(|answer| answer.0);
    assert_eq!(answers.len(), cases.len(), "{answer:?}");
    for ((id, kind), (_, expected)) in answers.iter().zip(&cases) {
        let Kind::Reply(reply) = kind else { panic!("{id}: {kind:?}") };
        assert_eq!(reply.code(), *expected, "{id}: {}", reply.message);
    }
    server.is_well().await;
}

/// A field of that tag with this content.
fn nested(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut field = vec![tag];
    let mut length = content.len();
    while length >= 0x80 {
        field.push(length as u8 | 0x80);
        length >>= 7;
    }
    field.push(length as u8);
    field.extend_from_slice(content);
    field
}

#[tokio::test]
async fn batches_out_of_proportion_are_refused_whole() {
    let server = Server::start().await;
    let before = server.resident();
    let epoch = Some(epoch_of(&server).await);
    let ops = (0..10_000).map(|id| request(id, honest(v1::Verb::Set))).collect();
    let answer = exchange(&server, &[batch(epoch.clone(), ops)]).await.unwrap();
    assert!(answer.status.is_some_and(|code| code != 0), "{:?} {}", answer.status, answer.message);
    // As many of the smallest operations, and of the smallest versions, as a message can hold.
    let operations = b"\x22\x00".repeat(LARGE / 2);
    let condition = nested(0x5a, &b"\x1a\x00".repeat(LARGE / 2 - 100));
    let versions = nested(0x22, &nested(0x12, &condition));
    for message in [operations, versions] {
        let frames = vec![h2::frame(&hello(v1::Lane::Small).encode_to_vec()), h2::frame(&message)];
        let answer = h2::call(server.grpc, EXCHANGE, &[], frames).await.unwrap();
        let refused = Some(tonic::Code::InvalidArgument as i32);
        assert_eq!(answer.status, refused, "{}", answer.message);
    }
    let grew = server.peak().saturating_sub(before);
    eprintln!("{} KiB more at the peak", grew >> 10);
    // The message itself, and once more while its buffer grows.
    assert!(grew < 4 * LARGE, "grew by {grew} bytes");
    server.is_well().await;
}

#[tokio::test]
async fn a_stream_that_says_hello_wrongly_or_never_is_closed() {
    let server = Server::start().await;
    let mut wrong = hello(v1::Lane::Small);
    wrong.hello.as_mut().unwrap().service = "\u{0}\n\"other\"".repeat(1000);
    let none = batch(None, vec![request(1, honest(v1::Verb::Set))]);
    for first in [wrong, none, v1::Batch::default()] {
        let frames = vec![h2::frame(&first.encode_to_vec())];
        let answer = h2::call(server.grpc, EXCHANGE, &[], frames).await;
        let refused = answer.as_ref().map_or(true, |answer| {
            answer.status.is_some_and(|code| code != 0) && answer.body.is_empty()
        });
        assert!(refused, "{answer:?}");
    }
    // Only half a Hello: the node waits for five seconds, not for ever.
    let half = h2::frame_of(100, b"half");
    let answer = h2::call_and_hang(server.grpc, EXCHANGE, &[], half).await.unwrap();
    assert_eq!(answer.status, Some(tonic::Code::DeadlineExceeded as i32), "{answer:?}");
    server.is_well().await;
}
