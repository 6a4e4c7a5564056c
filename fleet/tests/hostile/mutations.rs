//! Row 19, at random: honest messages with mistakes in them, by a seed that is printed.

use std::time::{Duration, Instant};

use bytes::Bytes;
use fastrand::Rng;
use prost::Message;
use proto::v1::{self, op::Kind};

use crate::{
    frames::EXCHANGE,
    h2,
    server::{Server, throw},
    streams::{hello, honest, request},
};

/// Streams at a time.
const AT_ONCE: usize = 4;

/// A batch of operations of every kind.
fn sound(random: &mut Rng) -> v1::Batch {
    let verbs = [v1::Verb::Get, v1::Verb::Set, v1::Verb::Delete, v1::Verb::Unspecified];
    let op = |random: &mut Rng| match random.u8(0..8) {
        0 => v1::Op { id: random.u64(..), kind: Some(Kind::Ping(v1::Ping {})) },
        1 => v1::Op { id: random.u64(..), kind: Some(Kind::Cancel(v1::Cancel {})) },
        _ => request(
            random.u64(..),
            v1::Request {
                key: format!("key {}", random.u8(..)),
                value: vec![random.u8(..); random.usize(..2000)].into(),
                try_ms: random.u32(..3000),
                budget_ms: random.u32(..3000),
                stand_in: random.bool(),
                ttl_ms: random.u64(..),
                op_link: vec![random.u8(..); random.usize(..20)].into(),
                op_seq: random.u64(..4),
                condition: random.bool().then(|| {
                    Box::new(v1::Condition {
                        if_absent: random.bool(),
                        if_present: random.bool(),
                        if_version: vec![vec![random.u8(..); random.usize(14..18)].into()],
                    })
                }),
                ..honest(verbs[random.usize(..verbs.len())])
            },
        ),
    };
    let ops = (0..random.usize(..20)).map(|_| op(random)).collect();
    let epoch = random.bool().then(|| v1::Epoch {
        generation: vec![random.u8(..); 16].into(),
        as_of: random.u64(..),
        digest: random.u64(..),
    });
    v1::Batch { hello: None, epoch, stamp_us: random.u64(..), ops }
}

/// Makes a few mistakes.
fn spoil(bytes: &mut Vec<u8>, random: &mut Rng) {
    for _ in 0..random.usize(..6) {
        let at = random.usize(..=bytes.len());
        match random.u8(0..5) {
            0 if at < bytes.len() => bytes[at] = random.u8(..),
            1 if at < bytes.len() => bytes[at] ^= 1 << random.u8(..8),
            2 => bytes.truncate(at),
            3 => bytes.insert(at, random.u8(..)),
            _ => {
                let piece =
                    bytes[at..].iter().copied().take(random.usize(..40)).collect::<Vec<_>>();
                bytes.splice(at..at, piece);
            }
        }
    }
}

/// The frames of one stream: mostly a Hello, then batches, some of them spoilt.
fn stream(random: &mut Rng) -> Vec<Bytes> {
    let lane = if random.bool() { v1::Lane::Small } else { v1::Lane::Bulk };
    let mut messages = vec![hello(lane).encode_to_vec()];
    messages.extend((0..random.usize(1..6)).map(|_| sound(random).encode_to_vec()));
    let frames = messages.into_iter().enumerate().map(|(number, mut message)| {
        if random.u8(0..10) < if number == 0 { 1 } else { 6 } {
            spoil(&mut message, random);
        }
        let length = message.len() as u32;
        let claimed = if random.u8(0..20) == 0 { random.u32(..1 << 20) } else { length };
        h2::frame_of(claimed, &message)
    });
    frames.collect()
}

/// Bothers a fleet for so long, with honest requests in between.
async fn bother(seed: u64, time: Duration) {
    eprintln!("seed {seed}");
    let server = Server::start().await;
    let mut random = Rng::with_seed(seed);
    let (started, mut streams) = (Instant::now(), 0);
    while started.elapsed() < time {
        let calls = (0..AT_ONCE).map(|_| h2::call(server.grpc, EXCHANGE, &[], stream(&mut random)));
        for answer in futures_util::future::join_all(calls).await {
            let late = answer.as_ref().is_err_and(|error| error.contains("no answer in time"));
            assert!(!late, "seed {seed}, stream {streams}: neither answered nor closed");
            streams += 1;
        }
        if streams % 20 == 0 {
            let mut raw = stream(&mut random).concat();
            spoil(&mut raw, &mut random);
            throw(server.grpc, &[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &raw[..]].concat()).await;
            throw(server.api, &raw).await;
            server.serves().await;
        }
    }
    eprintln!("seed {seed}: {streams} streams");
    server.is_well().await;
}

#[tokio::test]
async fn spoilt_messages_hurt_nobody() {
    bother(fastrand::u64(..), Duration::from_secs(2)).await;
}

#[tokio::test]
#[ignore = "long: make faults"]
async fn spoilt_messages_hurt_nobody_for_a_minute() {
    bother(fastrand::u64(..), Duration::from_secs(60)).await;
}
