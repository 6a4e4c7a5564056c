//! What a process is told, and what of it concerns the others.

use std::time::Duration;

use fleet::{
    cluster::{Cluster, Extras, Member, Plan},
    etcd::free_address,
    eventually,
};

#[tokio::test]
async fn a_node_with_another_ring_ends_and_names_both_values() {
    let mut cluster = Cluster::start(Plan { nodes: 1, ..Plan::default() }).await.unwrap();
    let before = cluster.gateway(0).nodes().await.unwrap().digest;
    let odd = cluster.add_node(&Extras::default().arg("--virtual-nodes=50")).await.unwrap();
    let process = cluster.node(odd).process();
    let status = process.wait(Duration::from_secs(20)).await.unwrap();
    assert!(!status.success());
    let told = |line: &String| {
        line.contains("ERROR")
            && ["virtual_nodes", "50", "100"].iter().all(|word| line.contains(word))
    };
    let lines = process.lines();
    assert!(lines.iter().any(told), "{lines:#?}");
    assert!(!lines.iter().any(|line| line.contains("registered id=")), "never in the ring");
    assert_eq!(cluster.gateway(0).nodes().await.unwrap().digest, before);
    // Saying the same as the cluster is no conflict.
    cluster.add_node(&Extras::default().arg("--virtual-nodes=100")).await.unwrap();
    cluster.wait_ready().await;
}

#[tokio::test]
async fn files_and_variables_reach_the_processes() {
    let node = Extras::default()
        .config("[groups.colours]\norigin = { kind = \"static\", values = { sky = \"blue\" } }\n")
        .env("RINGWAY_NODE__ZONE", "east");
    let plan = Plan { nodes: 2, node, ..Plan::default() };
    let cluster = Cluster::start(plan).await.unwrap();
    let answer = cluster.gateway(0).read("colours", "sky").await.unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (200, "blue"));
    let nodes = cluster.gateway(0).get("/api/nodes").await.unwrap().json();
    assert_eq!(nodes["nodes"][1]["zone"], "east");
}

#[tokio::test]
async fn a_static_list_needs_no_etcd() {
    let dir = tempfile::tempdir().unwrap();
    // Members and list have to be known before anybody starts.
    let ports: Vec<u16> = (0..3).map(|_| free_address().unwrap().port()).collect();
    let list: Vec<_> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
    let told = Extras::default()
        .arg("--discovery=static")
        .arg(format!("--static-nodes={}", list.join(",")));
    let mut nodes = Vec::new();
    for (n, port) in ports.into_iter().enumerate() {
        let name = format!("node-{n}");
        nodes.push(Member::node_at(&name, port, told.clone(), dir.path()).await.unwrap());
    }
    let gateway = Member::gateway("gateway", told, dir.path()).await.unwrap();
    for node in &nodes {
        eventually("the node is ready", Duration::from_secs(2), async || node.ready().await).await;
    }
    gateway.ready().await.unwrap();
    assert_eq!(gateway.nodes().await.unwrap().count, 3);
    for (key, score) in [("Tom", "630"), ("Jack", "589"), ("Sam", "567")] {
        let answer = gateway.read("scores", key).await.unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (200, score), "{key}");
    }
    for n in 0..50 {
        let key = format!("key-{n}");
        assert_eq!(gateway.write("default", &key, &key).await.unwrap().status, 201);
        assert_eq!(gateway.read("default", &key).await.unwrap().text(), key);
    }
}
