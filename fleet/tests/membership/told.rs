//! What operators are told while something is wrong: `/readyz?verbose`, `/api/nodes`, `/health`, the log
//! and the metrics, in the words that docs/operations.md explains.

use std::time::Duration;

use fleet::{
    cluster::{Cluster, Extras, Member, Plan},
    etcd::Data,
    eventually,
    process::Signal,
};

/// How soon a process tells what it has noticed.
const TOLD_WITHIN: Duration = Duration::from_secs(2);

/// The line of a check in `/readyz?verbose`.
async fn check(member: &Member, name: &str) -> Result<String, String> {
    let answer = member.get("/readyz?verbose").await.map_err(|error| error.to_string())?;
    let text = answer.text();
    let verdict = if answer.status == 200 { "passed" } else { "failed" };
    assert!(text.ends_with(&format!("readyz check {verdict}\n")), "{}: {text}", answer.status);
    let is_it = |line: &&str| line.get(3..).is_some_and(|rest| rest.starts_with(name));
    text.lines().find(is_it).map(str::to_owned).ok_or(text)
}

/// Waits until a check says all of that, in this order.
async fn says(member: &Member, name: &str, all: &[&str]) {
    let what = format!("{} says {all:?}", member.name());
    eventually(&what, TOLD_WITHIN, async || {
        let line = check(member, name).await?;
        let mut rest = line.as_str();
        for part in all {
            rest = rest.split_once(part).ok_or_else(|| line.clone())?.1;
        }
        Ok::<_, String>(())
    })
    .await;
}

/// Waits for a line of the log.
async fn logs(member: &Member, wanted: &[&str]) {
    let is_it = |line: &str| wanted.iter().all(|part| line.contains(part));
    let awaited = wanted.join(" … ");
    member.process().wait_for_line(&awaited, TOLD_WITHIN * 10, is_it).await.unwrap();
}

#[tokio::test]
async fn a_fleet_that_is_well_says_so_line_by_line() {
    let cluster = Cluster::start(Plan { nodes: 2, ..Plan::default() }).await.unwrap();
    let (gateway, node) = (cluster.gateway(0), cluster.node(0));
    for member in [gateway, node] {
        says(member, "stopping", &["[+]stopping ok"]).await;
        says(member, "members", &["[+]members ok: 2 nodes"]).await;
        says(member, "discovery", &["[+]discovery ok: followed since 20"]).await;
        says(member, "ejected", &["[+]ejected ok: nobody"]).await;
    }
    says(node, "registration", &["[+]registration ok: registered since 20", " s)"]).await;
    says(node, "serving", &["[+]serving ok: by the ring with the digest "]).await;
    for (query, verbose) in
        [("", false), ("?exclude=etcd&timeout=1s", false), ("?x=1&verbose", true)]
    {
        for member in [gateway, node] {
            let answer = member.get(&format!("/readyz{query}")).await.unwrap();
            assert_eq!((answer.status, answer.text() == "ok\n"), (200, !verbose), "{query}");
        }
    }
    let nodes = gateway.get("/api/nodes").await.unwrap().json();
    assert_eq!(nodes["discovery"]["connected"], true, "{nodes}");
    assert_eq!(
        (&nodes["discovery"]["ring"], &nodes["nodes"][0]["registered"]),
        (&"live".into(), &true.into())
    );
    let registered = "ringway_node_registration{state=\"registered\"}";
    assert_eq!(node.metric(registered).await, Ok(1.0));
    for (name, value) in [
        ("ringway_discovery_connected", 1.0),
        ("ringway_ring_members", 2.0),
        ("ringway_ring_kept_members", 0.0),
        ("ringway_nodes_ejected", 0.0),
    ] {
        for member in [gateway, node] {
            assert_eq!(member.metric(name).await, Ok(value), "{name} of {}", member.name());
        }
    }
}

#[tokio::test]
async fn lost_etcd_is_told_with_its_time_and_the_ring_that_is_served() {
    let mut cluster =
        Cluster::start(Plan { nodes: 2, ..Plan::default() }.lease_ttl(Duration::from_secs(2)))
            .await
            .unwrap();
    let etcd = cluster.etcd().address().to_string();
    cluster.etcd_mut().stop().await;
    let (gateway, node) = (cluster.gateway(0), cluster.node(0));
    for member in [gateway, node] {
        let told = [
            "[-]discovery: etcd at ",
            &etcd,
            ", since 20",
            " s); serving the last known ring, 2 nodes",
        ];
        says(member, "discovery", &told).await;
        assert_eq!(member.metric("ringway_discovery_connected").await, Ok(0.0));
        logs(member, &["WARN", &etcd, "the cluster state is not followed; the last view stays"])
            .await;
    }
    gateway.ready().await.expect("it can serve");
    says(node, "registration", &["[-]registration: registering: ", &etcd, ", since 20"]).await;
    says(node, "serving", &["[+]serving ok"]).await;
    assert!(
        node.ready().await.unwrap_err().contains("registering"),
        "it is not in the cluster state"
    );

    let health = gateway.get("/health").await.unwrap().json();
    assert_eq!(health["status"], "degraded", "{health}");
    let problem = health["problem"].as_str().unwrap_or_default();
    assert!(
        problem.starts_with("discovery: etcd at ") && problem.contains(", since 20"),
        "{problem}"
    );
    let discovery = gateway.get("/api/nodes").await.unwrap().json()["discovery"].clone();
    assert_eq!((&discovery["connected"], &discovery["ring"]), (&false.into(), &"last".into()));
    for moment in ["since", "heard", "ring_since"] {
        discovery[moment].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    }
    eventually("the silence grows", TOLD_WITHIN, async || {
        gateway.metric("ringway_discovery_silence_seconds").await.is_ok_and(|silence| silence > 1.0)
    })
    .await;

    cluster.etcd_mut().restart(Data::Kept).await.unwrap();
    cluster.wait_ready().await;
    let (gateway, node) = (cluster.gateway(0), cluster.node(0));
    for member in [gateway, node] {
        says(member, "discovery", &["[+]discovery ok"]).await;
        logs(member, &["INFO", "the cluster state is followed again after "]).await;
    }
}

#[tokio::test]
async fn an_ejection_is_told_with_its_time_and_reason_and_its_end() {
    let cluster =
        Cluster::start(Plan { nodes: 3, ..Plan::default() }.lease_ttl(Duration::from_secs(60)))
            .await
            .unwrap();
    let gateway = cluster.gateway(0);
    let stopped = cluster.node(1);
    let id = gateway.nodes().await.unwrap().nodes.into_iter();
    let id = id.map(|node| node.id).find(|id| *id == stopped.address().to_string()).unwrap();
    stopped.signal(Signal::STOP).unwrap();
    let ejected = format!("node {id} ejected");
    eventually("the node that stands still is ejected", TOLD_WITHIN, async || {
        for n in 0..20 {
            // Whatever is answered: the calls are what matters.
            let _ = gateway.read("default", &format!("key {n}")).await;
        }
        let line = check(gateway, "ejected").await?;
        if line.contains(&ejected) { Ok(()) } else { Err(line) }
    })
    .await;
    says(gateway, "ejected", &[&ejected, " since 20", " s) because "]).await;
    logs(gateway, &["WARN", &ejected, " because ", "calls go to the next one meanwhile"]).await;
    gateway.ready().await.expect("the others serve");
    assert_eq!(gateway.metric("ringway_nodes_ejected").await, Ok(1.0));
    let nodes = gateway.get("/api/nodes").await.unwrap().json();
    let listed = nodes["nodes"].as_array().unwrap();
    let listed = listed.iter().find(|node| node["id"] == id.as_str()).unwrap();
    assert_eq!(listed["health"], "ejected", "{listed}");
    assert!(listed["problem"].as_str().is_some_and(|why| !why.is_empty()), "{listed}");
    for moment in ["ejected_since", "next_probe"] {
        listed[moment].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    }
    let health = gateway.get("/health").await.unwrap().json();
    assert_eq!(
        (&health["status"], &health["ejected"]),
        (&"degraded".into(), &1.into()),
        "{health}"
    );

    stopped.signal(Signal::CONT).unwrap();
    logs(gateway, &["INFO", &format!("node {id} is back after ")]).await;
    says(gateway, "ejected", &["[+]ejected ok: nobody"]).await;
}

#[tokio::test]
async fn a_node_whose_id_is_taken_says_who_has_it() {
    let mut cluster = Cluster::start(Plan { nodes: 1, ..Plan::default() }).await.unwrap();
    let holder = cluster.node(0).address().to_string();
    let twin = Extras::default().arg(format!("--node-id={holder}"));
    let twin = cluster.add_node(&twin).await.unwrap();
    let told =
        ["[-]registration: another node (instance ", " holds this id at ", &holder, ", since 20"];
    says(cluster.node(twin), "registration", &told).await;
    let held = "ringway_node_registration{state=\"held_by_other\"}";
    assert_eq!(cluster.node(twin).metric(held).await, Ok(1.0));
}
