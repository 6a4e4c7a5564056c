//! Who stands in for an owner may have lent the key itself, when it was the owner.

use common::near::FEATURE;
use proto::v1::Lane;

use crate::{
    bench::{Bench, get, reply, set, value},
    fake_node::soon,
    raw::Raw,
};

#[tokio::test]
async fn a_write_in_an_owners_stead_waits_for_what_this_node_lent_before_it() {
    let bench = Bench::start().await;
    bench.clock.skip(common::near::LEASE);
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
    // It is a member, and nobody listens at its address.
    let passer_by = bench.passer_by().await;
    let goes_to_him_and_here = |key: &&String| {
        let ring = &passer_by.topology;
        let first = ring.preference(ring.ring.position("default", key)).take(2);
        first
            .map(|member| ring.member(member).id.as_str())
            .eq(["passer-by", bench.node.id().as_str()])
    };
    let key = keys.iter().find(goes_to_him_and_here).expect("one of 40");
    let write = bench.begin(set(key, "new"));
    let (id, _) = holder.called_back(key).await;
    assert_eq!(value(bench.ask(get(key)).await), Ok("new".to_owned()), "it is applied");
    assert!(!write.is_finished(), "and not acknowledged");
    holder.confirm(id).await;
    let written = reply(soon("an acknowledgement", write).await.unwrap());
    assert_eq!(written.code(), proto::v1::Code::Ok);
}
