//! Values lent over a link, and called back.

use std::sync::{Arc, Mutex};

use common::near::{FEATURE, Holder};
use proto::v1::op::Kind;

use super::*;
use crate::fake_node::{request, value};

/// Writes down what it is told.
#[derive(Default)]
struct Told(Mutex<Vec<v1::Invalidate>>);

impl Holder for Told {
    fn invalidate(&self, invalidate: &v1::Invalidate) {
        self.0.lock().unwrap().push(invalidate.clone());
    }
}

fn invalidate(key: &str) -> Kind {
    let (group, key) = ("g".to_owned(), key.to_owned());
    Kind::Invalidate(v1::Invalidate { group, key, version_hi: 1, version_lo: 2 })
}

#[tokio::test]
async fn what_is_called_back_is_confirmed_once_the_holder_was_told() {
    let mut node = FakeNode::start("n").await;
    let told = Arc::new(Told::default());
    let link = Link::lending(&Handle::current(), gateway(), node.peer(), told.clone());
    let call = start(&link, get("k"));
    let mut stream = node.stream().await;
    assert_eq!(stream.hello.features & FEATURE, FEATURE);
    let asked = stream.op().await;
    assert_eq!(request(&asked).key, "k");
    // Ids of its own, which may be those of the requester's operations too.
    for id in [asked.id, u64::MAX] {
        stream.answer(id, invalidate("k")).await;
        let confirmed = stream.op().await;
        assert_eq!(
            (confirmed.id, confirmed.kind),
            (id, Some(Kind::InvalidateAck(v1::InvalidateAck {})))
        );
    }
    assert_eq!(told.0.lock().unwrap().len(), 2);
    stream.answer(asked.id, value("v")).await;
    assert_eq!(value_of(answer(call).await), "v");
}

#[tokio::test]
async fn a_link_without_a_holder_is_lent_nothing_and_confirms_nothing() {
    let mut node = FakeNode::start("n").await;
    let link = link_to(&node);
    let first = start(&link, get("k"));
    let mut stream = node.stream().await;
    assert_eq!(stream.hello.features, 0);
    let asked = stream.op().await;
    stream.answer(7, invalidate("k")).await;
    stream.answer(asked.id, value("v")).await;
    assert_eq!(value_of(answer(first).await), "v");
    let second = start(&link, get("x"));
    assert_eq!(request(&stream.op().await).key, "x", "nothing but the next request");
    drop(second);
}
