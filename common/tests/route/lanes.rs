//! Which stream a value travels on.

use common::{
    link::frame::BULK_OVER,
    route::{Ask, Write},
};
use proto::v1::{self, op::Kind};

use crate::{PATIENT, fleet::*};

#[tokio::test]
async fn a_large_value_is_asked_for_again_on_the_bulk_lane_of_the_same_node() {
    let fleet = Fleet::new(2).await;
    let key = fleet.key(&[1]);
    let first = v1::Reply { use_bulk: true, ..Default::default() };
    let large = v1::Reply { value: vec![7; BULK_OVER + 1].into(), ..Default::default() };
    let calls = std::sync::atomic::AtomicUsize::new(0);
    fleet.on(1, move |_| {
        let is_first = calls.fetch_add(1, std::sync::atomic::Ordering::SeqCst).is_multiple_of(2);
        Some(Kind::Reply(if is_first { first.clone() } else { large.clone() }))
    });
    for _ in 0..2 {
        let answered = fleet.call(get(&key)).await.unwrap();
        assert_eq!((node_of(&answered), answered.reply.value.len()), (1, BULK_OVER + 1));
        let seen = fleet.seen();
        let lanes: Vec<_> = seen.iter().map(|seen| (seen.node, seen.lane)).collect();
        assert_eq!(lanes, [(1, v1::Lane::Small), (1, v1::Lane::Bulk)]);
        assert!(seen[1].request.try_ms > PATIENT.as_millis() as u32, "large ones may take longer");
    }
    assert_eq!(fleet.nodes[1].opened(), 2, "one stream for each lane");
    assert_eq!(fleet.shared.metrics.retries(), 0);
}

#[tokio::test]
async fn a_large_write_takes_the_bulk_lane_at_once() {
    let fleet = Fleet::new(1).await;
    let key = fleet.key(&[0]);
    for (bytes, lane) in [(BULK_OVER, v1::Lane::Small), (BULK_OVER + 1, v1::Lane::Bulk)] {
        let write = Write { value: vec![7; bytes].into(), ..Write::default() };
        fleet.call(Ask::set(group(), key.clone(), write)).await.unwrap();
        let seen = fleet.seen();
        assert_eq!((seen.len(), seen[0].lane, seen[0].request.value.len()), (1, lane, bytes));
    }
}
