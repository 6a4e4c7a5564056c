//! Who stands in for an owner may have lent the key itself, when it was the owner. Of one that is absent
//! these loans are over before that is known; one that lives and refuses is not waited for.

use std::time::Duration;

use common::near::{FEATURE, LEASE};
use proto::v1::{self, Lane};

use crate::{
    bench::{Bench, get, hints, named, refusing, reply, set},
    fake_node::soon,
    raw::Raw,
};

#[tokio::test]
async fn a_write_in_an_owners_stead_waits_for_what_this_node_lent_before_it() {
    let bench = Bench::start().await;
    bench.clock.skip(LEASE);
    // One of these the next member will own, and this node come after it.
    let keys: Vec<_> = (0..40).map(|number| bench.key(false, number)).collect();
    for key in &keys {
        reply(bench.ask(set(key, "old")).await);
    }
    // From here on nothing but a confirmation can end a loan.
    bench.clock.stop();
    let epoch = bench.topology().epoch;
    let mut holder = Raw::open(&bench.node, epoch, FEATURE, Lane::Small).await;
    for key in &keys {
        assert!(holder.borrow(key).await.loan_ms > 0, "{key}");
    }
    // It owns some of them from now on, and does not begin with anything.
    let neighbour = bench.neighbour().await;
    neighbour.on(refusing);
    let ring = bench.topology();
    let goes_there_and_here = |key: &&String| {
        let first = ring.preference(ring.ring.position("default", key)).take(2);
        let first = first.map(|member| ring.member(member).id.as_str());
        first.eq(["neighbour", bench.node.id().as_str()])
    };
    let key = keys.iter().find(goes_there_and_here).expect("one of 40");
    let write = bench.begin(named(set(key, "new")));
    let (id, _) = holder.called_back(key).await;
    fleet::eventually("the owner has heard of it", Duration::from_secs(2), async || {
        neighbour.has_seen(|kind| hints(kind, key))
    })
    .await;
    // Only the holder can be what is waited for, after as much time as an answer takes.
    for _ in 0..3 {
        let _ = bench.ask(get("anything")).await;
    }
    assert!(!write.is_finished());
    holder.confirm(id).await;
    let written = reply(soon("an acknowledgement", write).await.unwrap());
    assert_eq!(written.code(), v1::Code::Ok);
}
