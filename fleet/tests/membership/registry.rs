//! etcd is not there, not there yet, or away for a while.

use std::time::Duration;

use fleet::{
    cluster::{Cluster, Extras, Plan},
    etcd::Data,
    eventually,
};

use crate::support::{calm, keys, load, under_load};

#[tokio::test]
async fn without_etcd_a_gateway_says_so_and_keeps_trying() {
    let mut cluster =
        Cluster::start(Plan { nodes: 0, gateways: 0, ..Plan::default() }).await.unwrap();
    cluster.etcd_mut().stop().await;
    cluster.add_gateway(&Extras::default()).await.unwrap();
    cluster.add_node(&Extras::default()).await.unwrap();

    let (gateway, node) = (cluster.gateway(0), cluster.node(0));
    let etcd = cluster.etcd().address().to_string();
    let answer = gateway.read("scores", "Tom").await.unwrap();
    assert_eq!((answer.status, answer.json()["error"].as_str()), (503, Some("no_nodes")));
    for member in [gateway, node] {
        eventually("its /readyz names etcd", Duration::from_secs(1), async || {
            match member.ready().await {
                Err(why) if why.contains(&etcd) && why.contains("refused") => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
        let says_so = |line: &str| line.contains("WARN") && line.contains(&etcd);
        member.process().wait_for_line("etcd", Duration::from_secs(10), says_so).await.unwrap();
    }
    let health = gateway.get("/health").await.unwrap();
    assert_eq!((health.status, health.json()["status"].as_str()), (503, Some("unavailable")));

    cluster.etcd_mut().restart(Data::Kept).await.unwrap();
    // The pause between tries grows to five seconds.
    eventually("it works", Duration::from_secs(5), async || {
        let answer = cluster.gateway(0).read("scores", "Tom").await.ok();
        answer.is_some_and(|answer| answer.status == 200 && answer.text() == "630")
    })
    .await;
    cluster.wait_ready().await;
}

#[tokio::test]
async fn requests_go_on_while_etcd_restarts() {
    under_load(async || {
        let mut cluster = Cluster::start(Plan { gateways: 2, ..Plan::default() }).await.unwrap();
        let before = cluster.gateway(0).nodes().await.unwrap();
        let running = load(&cluster, &keys(200)).await;
        cluster.etcd_mut().stop().await;
        let degraded = async |index: usize| {
            let health = cluster.gateway(index).get("/health").await.map_err(|e| e.to_string())?;
            let status = health.json()["status"].as_str().unwrap_or_default().to_owned();
            if status == "degraded" { Ok(()) } else { Err(health.text()) }
        };
        for index in 0..2 {
            eventually("the gateway notices", Duration::from_secs(1), async || {
                degraded(index).await
            })
            .await;
            cluster.gateway(index).ready().await.expect("it can serve");
        }
        calm().await;
        cluster.etcd_mut().restart(Data::Kept).await.unwrap();
        cluster.wait_ready().await;
        assert_eq!(cluster.gateway(1).nodes().await.unwrap().digest, before.digest);
        // Everybody follows again: a change reaches everyone.
        cluster.add_node(&Extras::default()).await.unwrap();
        cluster.wait_ready().await;
        assert_eq!(cluster.gateway(1).nodes().await.unwrap().count, 4);
        calm().await;
        running.stop().await.assert_none_failed("etcd restarted");
    })
    .await;
}
