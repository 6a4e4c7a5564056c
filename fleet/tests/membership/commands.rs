//! The commands that people know, as they stand.

use fleet::cluster::{Cluster, Extras, Plan};

use crate::support::keys;

#[tokio::test]
async fn the_go_cache_commands_work_as_they_stand() {
    // `apiserver --etcd-endpoints=… --api-port=…` and `cachenode --etcd-endpoints=…
    // --node-port=…`: the plan's members are told nothing else, but for the gateways' patience, which is
    // in their environment.
    let plan = Plan { gateways: 2, gateway: Extras::patient(), ..Plan::default() };
    let cluster = Cluster::start(plan).await.unwrap();
    for gateway in [cluster.gateway(0), cluster.gateway(1)] {
        for (key, score) in [("Tom", "630"), ("Jack", "589"), ("Sam", "567")] {
            let answer = gateway.read("scores", key).await.unwrap();
            assert_eq!((answer.status, answer.text().as_str()), (200, score), "{key}");
        }
        let health = gateway.get("/health").await.unwrap();
        assert_eq!(health.status, 200);
        assert_eq!(health.json()["status"], "healthy", "{}", health.text());
        assert_eq!(health.json()["nodes"], 3);
        gateway.ready().await.unwrap();
        let nodes = gateway.nodes().await.unwrap();
        assert_eq!((nodes.count, nodes.nodes.len()), (3, 3));
        for index in 0..3 {
            let address = cluster.node(index).address().to_string();
            let node = nodes.find(&address).expect("its id is its address");
            assert_eq!((node.address.as_str(), node.state.as_str()), (&*address, "active"));
        }
        let missing = gateway.read("scores", "Nobody").await.unwrap();
        assert_eq!((missing.status, missing.json()["error"].as_str()), (404, Some("not_found")));
    }
    two_gateways_agree(&cluster).await;
}

async fn two_gateways_agree(cluster: &Cluster) {
    let (one, other) = (cluster.gateway(0), cluster.gateway(1));
    assert_eq!(one.nodes().await.unwrap().digest, other.nodes().await.unwrap().digest);
    let keys = keys(200);
    let owners = cluster.owners(0, "default", &keys).await.unwrap();
    assert_eq!(owners, cluster.owners(1, "default", &keys).await.unwrap());
    // What one stores the other finds, and what the other deletes is gone for the first.
    for key in &keys[..20] {
        assert_eq!(one.write("default", key, key).await.unwrap().status, 201);
        assert_eq!(other.read("default", key).await.unwrap().text(), *key);
        let path = fleet::cluster::key_path("default", key);
        assert_eq!(fleet::http::delete(other.address(), &path).await.unwrap().status, 204);
        assert_eq!(one.read("default", key).await.unwrap().status, 404);
    }
}
