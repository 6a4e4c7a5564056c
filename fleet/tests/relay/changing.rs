//! Keys that a node loses and gets back within moments.

use proto::v1;

use crate::bench::*;

#[tokio::test]
async fn what_was_stored_before_somebody_passed_by_is_absent_where_he_owned_it() {
    let bench = Bench::start().await;
    let keys: Vec<_> = (0..40).map(|number| bench.key(false, number)).collect();
    for key in &keys {
        assert_eq!(reply(bench.ask(set(key, "old")).await).code(), v1::Code::Ok);
    }
    let passer_by = bench.passer_by().await;
    let between = passer_by.topology.clone();
    passer_by.leave().await;
    bench.rings_agree(2).await;
    let mut lost = 0;
    for key in &keys {
        let (owner, _) = between.owner("default", key).unwrap();
        let was_his = between.member(owner).id.as_str() == "passer-by";
        lost += usize::from(was_his);
        let expected = if was_his { Err(v1::Code::NotFound) } else { Ok("old".to_owned()) };
        assert_eq!(value(bench.ask(get(key)).await), expected, "{key}");
        assert_eq!(reply(bench.ask(set(key, "new")).await).code(), v1::Code::Ok);
        assert_eq!(value(bench.ask(get(key)).await).unwrap(), "new");
    }
    assert!(lost > 0 && lost < keys.len(), "{lost}");
}
