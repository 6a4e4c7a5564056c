//! Frames as we write them and prost reads them.

use std::sync::Arc;

use bytes::Bytes;
use proptest::{collection::vec, option, prelude::*};
use proto::v1::{self, op::Kind};

use super::{Outgoing, OutgoingOp, Written, read_batch};
use crate::topology::Epoch;

fn bytes() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..300).prop_map(Bytes::from)
}

fn text() -> impl Strategy<Value = String> {
    "\\PC{0,40}"
}

/// Small and large numbers, of every length on the wire.
fn number() -> impl Strategy<Value = u64> {
    (any::<u64>(), 0_u32..64).prop_map(|(number, shift)| number >> shift)
}

prop_compose! {
    fn condition()(
        (if_absent, if_present) in any::<(bool, bool)>(), if_version in vec(bytes(), 0..3),
    ) -> v1::Condition {
        v1::Condition { if_absent, if_present, if_version }
    }
}

prop_compose! {
    fn request()(
        verb in -1..5_i32, (group, key, content_type) in (text(), text(), text()),
        (try_ms, budget_ms, stand_in) in prop_oneof![
            Just((0, 0, false)),
            any::<(u32, u32, bool)>(),
        ],
        (group_id_hi, group_id_lo, group_revision) in (number(), number(), number()),
        (op_link, op_seq, ttl_ms) in (bytes(), number(), number()), loan_ms in any::<u32>(),
        condition in option::weighted(0.2, condition()), value in bytes(),
        (tags, lease, lease_token) in prop_oneof![
            4 => Just((String::new(), false, 0)),
            1 => (text(), any::<bool>(), number()),
        ],
    ) -> v1::Request {
        v1::Request {
            verb, group, key, try_ms, budget_ms, stand_in, group_id_hi, group_id_lo, group_revision, op_link,
            op_seq, condition: condition.map(Box::new), value, content_type, ttl_ms, loan_ms, tags, lease, lease_token,
        }
    }
}

prop_compose! {
    fn reply()(
        (code, source) in (-1..20_i32, 0..7_i32), (message, content_type) in (text(), text()),
        value in bytes(), (version_hi, version_lo) in (number(), number()),
        (age_ms, ttl_ms) in (number(), number()), (created, use_bulk, loan_ms) in any::<(bool, bool, u32)>(),
        (collapsed, not_stored, stale_ms) in any::<(bool, bool, u32)>(),
        to_bring in prop::bool::weighted(0.2),
    ) -> v1::Reply {
        v1::Reply {
            code, message, value, content_type, version_hi, version_lo, age_ms, ttl_ms, source,
            created, use_bulk, loan_ms, collapsed, not_stored, stale_ms, to_bring,
        }
    }
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        4 => request().prop_map(Kind::Request),
        4 => reply().prop_map(Kind::Reply),
        1 => Just(Kind::Pending(v1::Pending {})),
        1 => (text(), number()).prop_map(|(owner, as_of)| {
            let epoch = Some(v1::Epoch { as_of, ..Default::default() });
            Kind::Moved(v1::Moved { owner, epoch })
        }),
    ]
}

prop_compose! {
    fn batch()(
        hello in option::weighted(0.1, text().prop_map(|id| v1::Hello { id, ..Default::default() })),
        epoch in option::of((bytes(), number(), number()).prop_map(|(generation, as_of, digest)| {
            v1::Epoch { generation, as_of, digest }
        })),
        stamp_us in number(),
        ops in vec((number(), option::weighted(0.95, kind())), 0..20),
    ) -> v1::Batch {
        let ops = ops.into_iter().map(|(id, kind)| v1::Op { id, kind }).collect();
        v1::Batch { hello, epoch, stamp_us, ops }
    }
}

fn written(batch: &v1::Batch) -> Bytes {
    let mut frame = Vec::new();
    batch.write(&mut frame);
    frame.into()
}

proptest! {
    #[test]
    fn prost_reads_what_we_write(batch in batch()) {
        let frame = written(&batch);
        prop_assert_eq!(read_batch(&frame).unwrap(), batch);
    }

    #[test]
    fn a_links_requests_are_read_as_meant(
        requests in vec((number(), request(), any::<(u32, u32, bool)>()), 0..10), as_of in number(),
    ) {
        let epoch = Epoch { as_of, digest: 9, ..Epoch::default() };
        let ping = v1::Op { id: 3, kind: Some(Kind::Ping(v1::Ping {})) };
        let mut ops = vec![OutgoingOp::Whole(Box::new(ping.clone()))];
        let mut meant = vec![ping];
        for (id, request, (try_ms, budget_ms, stand_in)) in requests {
            let asked = Arc::new(request.clone());
            ops.push(OutgoingOp::Request { id, request: asked, try_ms, budget_ms, stand_in });
            // What the link does not say, the request may have said itself.
            let request = v1::Request {
                try_ms: if try_ms == 0 { request.try_ms } else { try_ms },
                budget_ms: if budget_ms == 0 { request.budget_ms } else { budget_ms },
                stand_in: stand_in || request.stand_in,
                ..request
            };
            meant.push(v1::Op { id, kind: Some(Kind::Request(request)) });
        }
        let mut frame = Vec::new();
        Outgoing { hello: None, epoch: Some(epoch), stamp_us: 77, ops }.write(&mut frame);
        let read = read_batch(&frame.into()).unwrap();
        prop_assert_eq!(read.ops, meant);
        prop_assert_eq!(read.epoch, Some(epoch.to_wire()));
        prop_assert_eq!(read.stamp_us, 77);
    }
}

#[test]
fn values_are_parts_of_the_frame() {
    let reply = v1::Reply { value: vec![7; 1000].into(), ..Default::default() };
    let op = v1::Op { id: 1, kind: Some(Kind::Reply(reply)) };
    let frame = written(&v1::Batch { ops: vec![op], ..Default::default() });
    let read = read_batch(&frame).unwrap();
    let Some(Kind::Reply(reply)) = &read.ops[0].kind else { panic!("{read:?}") };
    let at = reply.value.as_ptr() as usize - frame.as_ptr() as usize;
    assert!(at < frame.len(), "copied");
}
