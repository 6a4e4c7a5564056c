//! The steps that are counted: what a hit passes through, without sockets and runtimes.

use std::{hint::black_box, sync::Arc};

use bytes::Bytes;
use cachenode::{
    group::{Authority, Definition, Group, Write},
    store::Eviction,
};
use common::{
    clock::{Clock, ManualClock},
    discovery::{NodeId, RingSettings},
    entry::HybridClock,
    error::Error,
    key::GroupName,
    link::{
        frame::MAX_BATCH_OPS,
        wire::{Outgoing, OutgoingOp, Written, read_batch},
    },
    ring::{Ring, RingMember},
    topology::Epoch,
};
use proto::v1::{self, op::Kind};

/// Keys to go through: enough that no step gets used to one.
const KEYS: u64 = 4096;
/// Members of the ring.
const NODES: usize = 1000;
/// Batches that are encoded or decoded.
const BATCHES: u64 = 64;
const VALUE_BYTES: usize = 1024;
const GROUP: &str = "default";

/// One step.
pub(crate) struct Step {
    pub(crate) name: &'static str,
    /// How many operations one run of the work has; counts are of one.
    pub(crate) operations: u64,
    /// Sets up; what is returned is counted.
    pub(crate) prepare: fn() -> Box<dyn FnMut()>,
}

/// All of them. Frames are counted whole, everything else by the key.
pub(crate) const STEPS: [Step; 9] = [
    Step { name: "request target, query form", operations: KEYS, prepare: || targets(query_form) },
    Step { name: "request target, path form", operations: KEYS, prepare: || targets(path_form) },
    Step { name: "ring lookup, 1,000 nodes", operations: KEYS, prepare: ring_lookup },
    Step { name: "frame of 64 GETs, encode", operations: BATCHES, prepare: encode_gets },
    Step { name: "frame of 64 GETs, decode", operations: BATCHES, prepare: decode_gets },
    Step { name: "frame of 64 replies, encode", operations: BATCHES, prepare: encode_replies },
    Step { name: "frame of 64 replies, decode", operations: BATCHES, prepare: decode_replies },
    Step { name: "store hit, lru", operations: KEYS, prepare: || store_hit(Eviction::Lru) },
    Step { name: "store hit, tinylfu", operations: KEYS, prepare: || store_hit(Eviction::TinyLfu) },
];

/// 20 bytes each, as in the load bench.
fn keys() -> impl Iterator<Item = String> {
    (0..KEYS).map(|n| format!("user:{:015}", n * 7_919))
}

fn query_form(key: &str) -> String {
    format!("/api/cache?group={GROUP}&key={key}")
}

fn path_form(key: &str) -> String {
    format!("/api/cache/{GROUP}/{key}")
}

fn targets(form: fn(&str) -> String) -> Box<dyn FnMut()> {
    let uris: Vec<http::Uri> = keys().map(|key| form(&key).parse().unwrap()).collect();
    Box::new(move || {
        for uri in &uris {
            black_box(apiserver::target::of(black_box(uri)).unwrap());
        }
    })
}

fn ring_lookup() -> Box<dyn FnMut()> {
    let member = |n: usize| RingMember {
        id: NodeId::new(format!("10.{}.{}.{}:7000", n % 7, n / 250, n % 250)).unwrap(),
        weight: 100,
        zone: String::new(),
    };
    let ring = Ring::build(&RingSettings::default(), (0..NODES).map(member).collect());
    let keys: Vec<String> = keys().collect();
    Box::new(move || {
        for key in &keys {
            black_box(ring.owner(ring.position(GROUP, black_box(key))));
        }
    })
}

fn id(n: usize) -> u64 {
    n as u64 | 7 << 32
}

fn epoch() -> Epoch {
    Epoch { digest: 0x1234_5678_9abc_def0, ..Epoch::default() }
}

/// As a link sends it.
fn gets() -> Outgoing {
    let op = |(n, key)| OutgoingOp::Request {
        id: id(n),
        request: Arc::new(v1::Request {
            verb: v1::Verb::Get.into(),
            group: GROUP.to_owned(),
            key,
            group_id_hi: 0x1234_5678_9abc_4def,
            group_id_lo: 0x8fed_cba9_8765_4321,
            group_revision: 1_000,
            ..Default::default()
        }),
        try_ms: 250,
        budget_ms: 2000,
        stand_in: false,
    };
    let ops = keys().take(MAX_BATCH_OPS).enumerate().map(op).collect();
    Outgoing { hello: None, epoch: Some(epoch()), stamp_us: 1 << 40, ops }
}

/// As a node sends it.
fn replies() -> v1::Batch {
    let value = Bytes::from(vec![7; VALUE_BYTES]);
    let op = |n| {
        let reply = v1::Reply {
            value: value.clone(),
            version_hi: 5,
            version_lo: 1 << 60,
            age_ms: 12_345,
            ..Default::default()
        };
        v1::Op { id: id(n), kind: Some(Kind::Reply(reply)) }
    };
    let ops = (0..MAX_BATCH_OPS).map(op).collect();
    v1::Batch { hello: None, epoch: Some(epoch().to_wire()), stamp_us: 1 << 40, ops }
}

fn encode_gets() -> Box<dyn FnMut()> {
    let batch = gets();
    encode(move |frame| black_box(&batch).write(frame))
}

fn encode_replies() -> Box<dyn FnMut()> {
    let batch = replies();
    encode(move |frame| black_box(&batch).write(frame))
}

fn encode(write: impl Fn(&mut Vec<u8>) + 'static) -> Box<dyn FnMut()> {
    let mut frame = Vec::new();
    Box::new(move || {
        for _ in 0..BATCHES {
            // As tonic does: into a buffer that was there before.
            frame.clear();
            write(&mut frame);
            black_box(&frame);
        }
    })
}

fn decode_gets() -> Box<dyn FnMut()> {
    let mut frame = Vec::new();
    gets().write(&mut frame);
    decode(frame.into())
}

fn decode_replies() -> Box<dyn FnMut()> {
    let mut frame = Vec::new();
    replies().write(&mut frame);
    decode(frame.into())
}

fn decode(frame: Bytes) -> Box<dyn FnMut()> {
    Box::new(move || {
        for _ in 0..BATCHES {
            black_box(read_batch(black_box(&frame)).unwrap());
        }
    })
}

fn store_hit(eviction: Eviction) -> Box<dyn FnMut()> {
    let name = GroupName::new(GROUP).unwrap();
    let definition = Definition { eviction, ..Definition::new(name) };
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new());
    let now = clock.monotonic();
    let group = Group::new(definition, clock.clone(), HybridClock::new(clock));
    let owner = || Ok::<_, Error>(Authority::owner(1));
    let keys: Vec<String> = keys().collect();
    let value = vec![7; VALUE_BYTES];
    for key in &keys {
        group.set(&Write { key, value: &value, ..Write::default() }, owner).unwrap();
    }
    Box::new(move || {
        for key in &keys {
            let item = group.get(black_box(key), now, owner).unwrap().item().unwrap();
            black_box(item.entry.value());
        }
    })
}
