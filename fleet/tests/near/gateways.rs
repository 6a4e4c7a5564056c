//! A gateway that holds hot values, by HTTP.

use std::{net::SocketAddr, time::Duration};

use fleet::{
    http::{self, Response},
    local::{LocalFleet, Plan},
};
use tokio::time::Instant;

const TARGET: &str = "/api/cache?group=default&key=hot";
/// More than are needed for a key to be hot.
const READS: usize = 200;
/// Writes of a hot key, each with some reads: so many at least, and more, for so long, where a slow machine
/// does not read the key often enough.
const ROUNDS: usize = 20;
const NEAR_WITHIN: Duration = Duration::from_secs(60);

async fn put(gateway: SocketAddr, value: &str) {
    let stored = http::put(gateway, TARGET, value.to_owned()).await.unwrap();
    assert!(stored.status == 201 || stored.status == 204, "{}", stored.text());
}

async fn get(gateway: SocketAddr) -> Response {
    http::get(gateway, TARGET).await.unwrap()
}

fn is_near(response: &Response) -> bool {
    response.header("cache-status") == Some("ringway; hit; detail=near")
}

async fn fleet_of(near_capacity: u64) -> LocalFleet {
    let mut plan = Plan { nodes: 2, ..Plan::default() };
    plan.settings.gateway.near_capacity = near_capacity;
    plan.settings.gateway.workers = 2;
    // A node that gets no processor for a while is waited for: nobody else has the value.
    plan.settings.gateway.try_timeout = Duration::from_secs(5);
    plan.settings.gateway.request_timeout = Duration::from_secs(15);
    LocalFleet::start(plan).await.unwrap()
}

#[tokio::test]
async fn a_hot_key_is_read_from_memory_and_never_older_than_its_last_write() {
    let fleet = fleet_of(4 << 20).await;
    let gateway = fleet.gateway();
    let (mut near, mut rounds) = (0, 0);
    let began = Instant::now();
    while rounds < ROUNDS || (near <= READS / 2 && began.elapsed() < NEAR_WITHIN) {
        let value = rounds.to_string();
        put(gateway, &value).await;
        for _ in 0..READS / 10 {
            let read = get(gateway).await;
            assert_eq!(read.text(), value);
            near += usize::from(is_near(&read));
        }
        rounds += 1;
    }
    assert!(near > READS / 2, "only {near} reads in {rounds} rounds were answered from memory");
    let metrics = http::get(gateway, "/metrics").await.unwrap().text();
    assert_eq!(fleet::metrics::value(&metrics, "ringway_near_hits_total"), Some(near as f64));
    let deleted = http::delete(gateway, TARGET).await.unwrap();
    assert_eq!((deleted.status, get(gateway).await.status), (204, 404));
    fleet.stop().await;
}

#[tokio::test]
async fn what_is_hot_and_by_whom_it_is_held_can_be_seen() {
    let fleet = fleet_of(4 << 20).await;
    let gateway = fleet.gateway();
    put(gateway, "v").await;
    fleet::eventually("the key is shown", Duration::from_secs(5), async || {
        for _ in 0..READS / 10 {
            get(gateway).await;
        }
        let hot = http::get(gateway, "/api/hotkeys").await.unwrap().json();
        let shown = &hot["keys"][0];
        shown["key"] == "hot"
            && shown["group"] == "default"
            && shown["held"].as_u64() >= Some(1)
            && shown["loans"].as_u64() >= Some(1)
            && shown["reads_per_second"].as_f64() > Some(1.0)
    })
    .await;
    fleet.stop().await;
}

#[tokio::test]
async fn a_gateway_that_is_to_hold_nothing_does_not() {
    let fleet = fleet_of(0).await;
    put(fleet.gateway(), "v").await;
    for _ in 0..READS {
        assert!(!is_near(&get(fleet.gateway()).await));
    }
    fleet.stop().await;
}
