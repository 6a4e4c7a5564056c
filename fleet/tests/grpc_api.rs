//! The gRPC service of nodes, as simple clients and grpcurl use it: any node, any key.

#![allow(clippy::unwrap_used)]

#[path = "support/api.rs"]
mod api;
#[path = "support/h2.rs"]
mod h2;

use std::time::{Duration, Instant};

use bytes::Bytes;
use cachenode::Node;
use common::{
    error::{Code, Error},
    link::{Answer, Call, Identity, Link, Peer, Unsent, frame},
    topology::Epoch,
};
use proto::v1::{self, cache_client::CacheClient};
use tokio::time::timeout;
use tonic::{Status, transport::Channel};
use uuid::Uuid;

use api::{Api, query};

async fn client(node: &Node) -> CacheClient<Channel> {
    CacheClient::connect(format!("http://{}", node.grpc_address()))
        .await
        .unwrap()
        .max_decoding_message_size(frame::MAX_MESSAGE_BYTES)
}

async fn clients(api: &Api) -> Vec<CacheClient<Channel>> {
    let mut clients = Vec::new();
    for node in api.fleet.nodes() {
        clients.push(client(node).await);
    }
    clients
}

fn get(group: &str, key: &str) -> v1::GetRequest {
    v1::GetRequest { group: group.to_owned(), key: key.to_owned() }
}

fn set(group: &str, key: &str, value: impl Into<Bytes>) -> v1::SetRequest {
    let (group, key) = (group.to_owned(), key.to_owned());
    v1::SetRequest { group, key, value: value.into(), ..Default::default() }
}

fn delete(group: &str, key: &str) -> v1::DeleteRequest {
    v1::DeleteRequest { group: group.to_owned(), key: key.to_owned(), condition: None }
}

fn if_version(version: &[u8]) -> Option<v1::Condition> {
    let if_version = vec![Bytes::copy_from_slice(version)];
    Some(v1::Condition { if_version, ..Default::default() })
}

/// The code that an error carries in its details.
fn code<T: std::fmt::Debug>(answer: Result<T, Status>) -> Code {
    let status = answer.unwrap_err();
    let error = Error::from(&status);
    assert_eq!(status.code(), error.code().grpc_code(), "{status:?}");
    assert!(!error.message().is_empty(), "{status:?}");
    error.code()
}

#[tokio::test]
async fn any_node_answers_for_any_key_and_so_does_http() {
    let api = Api::start().await;
    let mut nodes = clients(&api).await;
    for n in 0..9 {
        let (key, value) = (format!("key {n}"), format!("value {n}"));
        let (writer, reader) = (n % 3, (n + 1) % 3);
        let request = v1::SetRequest {
            content_type: "text/plain".to_owned(),
            ttl_ms: 60_000,
            ..set("default", &key, value.clone())
        };
        let stored = nodes[writer].set(request).await.unwrap().into_inner();
        assert!(stored.created);
        assert_eq!(stored.version.len(), 16);

        let read = nodes[reader].get(get("default", &key)).await.unwrap().into_inner();
        assert_eq!((read.value, read.content_type.as_str()), (value.clone().into(), "text/plain"));
        assert_eq!((read.version, read.node_id), (stored.version, stored.node_id));
        assert!((30_000..=60_000).contains(&read.ttl_ms), "{}", read.ttl_ms);
        assert_eq!(read.source, v1::Source::Hit as i32);

        let over_http = api.get(&query("default", &key)).await;
        assert_eq!((over_http.status, over_http.text()), (200, value));
        assert_eq!(over_http.header("content-type"), Some("text/plain"));
        api.stored(&query("default", &key), "by HTTP").await;
        let read = nodes[writer].get(get("default", &key)).await.unwrap().into_inner();
        assert_eq!((read.value, read.ttl_ms), ("by HTTP".into(), 0));

        nodes[reader].delete(delete("default", &key)).await.unwrap();
        assert_eq!(code(nodes[writer].get(get("default", &key)).await), Code::NotFound);
    }
    let loaded = nodes[0].get(get("scores", "Jack")).await.unwrap().into_inner();
    assert_eq!((loaded.value, loaded.source), ("589".into(), v1::Source::Loaded as i32));
    api.fleet.stop().await;
}

#[tokio::test]
async fn large_values_go_through_any_node() {
    let api = Api::start().await;
    let mut nodes = clients(&api).await;
    let value = Bytes::from(vec![7; 1 << 20]);
    for n in 0..3 {
        let key = format!("large {n}");
        nodes[n].set(set("default", &key, value.clone())).await.unwrap();
        for node in &mut nodes {
            assert!(node.get(get("default", &key)).await.unwrap().into_inner().value == value);
        }
    }
    let over = vec![7; (1 << 20) + 1];
    for node in &mut nodes {
        assert_eq!(code(node.set(set("default", "large", over.clone())).await), Code::TooLarge);
    }
}

#[tokio::test]
async fn errors_carry_their_code() {
    let api = Api::start().await;
    let mut nodes = clients(&api).await;
    let long = "k".repeat(1025);
    for node in &mut nodes {
        for (group, key) in [("", "k"), ("default", ""), ("a b", "k"), ("default", &long)] {
            assert_eq!(code(node.get(get(group, key)).await), Code::InvalidRequest);
            assert_eq!(code(node.set(set(group, key, "x")).await), Code::InvalidRequest);
            assert_eq!(code(node.delete(delete(group, key)).await), Code::InvalidRequest);
        }
        assert_eq!(code(node.get(get("nowhere", "k")).await), Code::GroupNotFound);
        assert_eq!(code(node.set(set("nowhere", "k", "x")).await), Code::GroupNotFound);
        assert_eq!(code(node.get(get("default", "none")).await), Code::NotFound);
        assert_eq!(code(node.delete(delete("default", "none")).await), Code::NotFound);

        let key = node.stats(v1::StatsRequest {}).await.unwrap().into_inner().node_id;
        let first = node.set(set("default", &key, "x")).await.unwrap().into_inner();
        let second = node.set(set("default", &key, "y")).await.unwrap().into_inner();
        let mut cas = set("default", &key, "z");
        cas.condition = if_version(&first.version);
        assert_eq!(code(node.set(cas.clone()).await), Code::PreconditionFailed);
        cas.condition = if_version(b"short");
        assert_eq!(code(node.set(cas.clone()).await), Code::InvalidRequest);
        cas.condition = if_version(&second.version);
        assert!(!node.set(cas).await.unwrap().into_inner().created);
        let mut gone = delete("default", &key);
        gone.condition = if_version(&second.version);
        assert_eq!(code(node.delete(gone).await), Code::PreconditionFailed);
    }
}

#[tokio::test]
async fn stats_tell_what_a_node_is_and_did() {
    let api = Api::start().await;
    let mut epochs = Vec::new();
    for node in api.fleet.nodes() {
        let mut client = client(node).await;
        let key = format!("of {}", node.id());
        let stored = client.set(set("default", &key, "x")).await.unwrap().into_inner();
        let owner = api.fleet.nodes().find(|node| node.id().as_str() == stored.node_id).unwrap();
        let stats = self::client(owner).await.stats(v1::StatsRequest {}).await.unwrap();
        let stats = stats.into_inner();
        assert_eq!((stats.node_id, stats.draining), (owner.id().to_string(), false));
        assert_eq!(stats.instance.len(), 16);
        epochs.push(stats.epoch.unwrap().digest);
        let names: Vec<_> = stats.groups.iter().map(|group| group.name.as_str()).collect();
        assert_eq!(names.len(), 2);
        assert!(names.contains(&"default") && names.contains(&"scores"), "{names:?}");
        let default = stats.groups.iter().find(|group| group.name == "default").unwrap();
        assert!(default.sets > 0 && default.capacity_bytes == 64 << 20);
    }
    assert!(epochs.iter().all(|digest| *digest == epochs[0]), "one ring: {epochs:?}");
}

#[tokio::test]
async fn health_serves_and_reflection_lists_the_service() {
    use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };

    let api = Api::start().await;
    let node = api.fleet.nodes().next().unwrap();
    let channel = Channel::from_shared(format!("http://{}", node.grpc_address())).unwrap();
    let channel = channel.connect().await.unwrap();
    for service in ["", "ringway.v1.Cache"] {
        let request = HealthCheckRequest { service: service.to_owned() };
        let mut health = HealthClient::new(channel.clone());
        fleet::eventually("the node is serving", Duration::from_secs(1), async || {
            health.check(request.clone()).await.unwrap().into_inner().status == 1
        })
        .await;
    }
    let ask = MessageRequest::ListServices(String::new());
    let ask = ServerReflectionRequest { host: String::new(), message_request: Some(ask) };
    let asked = only(ask);
    let mut client = ServerReflectionClient::new(channel);
    let mut answers = client.server_reflection_info(asked).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response.unwrap();
    let MessageResponse::ListServicesResponse(list) = answer else { panic!("{answer:?}") };
    let names: Vec<_> = list.service.iter().map(|service| service.name.as_str()).collect();
    for name in ["ringway.v1.Cache", "grpc.health.v1.Health"] {
        assert!(names.contains(&name), "{names:?}");
    }
}

fn only<T: Send + 'static>(item: T) -> impl futures_util::Stream<Item = T> + Send {
    futures_util::stream::iter([item])
}

#[tokio::test]
async fn a_grpc_timeout_ends_a_call_that_takes_longer() {
    let api = Api::start().await;
    let address = api.fleet.nodes().next().unwrap().grpc_address();
    // Half a message: the call can't be answered, only given up.
    let half = h2::frame_of(100, b"half");
    let (path, limit) = ("/ringway.v1.Cache/Get", [("grpc-timeout", "200m")]);
    let started = Instant::now();
    let answer = h2::call_and_hang(address, path, &limit, half.clone()).await.unwrap();
    assert_eq!(answer.status, Some(tonic::Code::DeadlineExceeded as i32), "{answer:?}");
    assert!(started.elapsed() >= Duration::from_millis(200));
    let unbounded = h2::call_and_hang(address, path, &[], half);
    assert!(timeout(Duration::from_millis(400), unbounded).await.is_err(), "it waits");
}

fn identity(service: &str) -> Identity {
    let (service, id) = (service.to_owned(), "a test".to_owned());
    Identity { service, role: v1::Role::Gateway, id, instance: Uuid::new_v4() }
}

fn hello(service: &str) -> v1::Hello {
    frame::hello(&identity(service), Uuid::new_v4(), v1::Lane::Small, None)
}

/// How a stream that begins with this Hello ends.
async fn refusal(node: &Node, hello: Option<v1::Hello>) -> Status {
    let batch = v1::Batch { hello, ..Default::default() };
    let stream = futures_util::StreamExt::chain(only(batch), futures_util::stream::pending());
    let answer = client(node).await.exchange(stream).await;
    match answer {
        Ok(answers) => answers.into_inner().message().await.expect_err("a refusal"),
        Err(status) => status,
    }
}

#[tokio::test]
async fn a_wrong_hello_closes_the_stream_and_says_why() {
    let api = Api::start().await;
    let node = api.fleet.nodes().next().unwrap();
    let to = |id: &str, instance: Uuid| v1::Hello {
        to_id: id.to_owned(),
        to_instance: frame::wire_uuid(instance),
        ..hello("ringway")
    };
    let newer = v1::Hello { protocol_min: 2, protocol_max: 9, ..hello("ringway") };
    for (hello, reason) in [
        (None, "did not begin with a Hello"),
        (Some(hello("staging")), "the peer belongs to service \"staging\""),
        (Some(newer), "the peer speaks protocol 2 to 9"),
        (Some(to("another", Uuid::nil())), "another"),
        (Some(to(node.id().as_str(), Uuid::from_u128(1))), "was expected there"),
    ] {
        let status = refusal(node, hello).await;
        assert_eq!(status.code(), tonic::Code::FailedPrecondition, "{status:?}");
        assert!(status.message().contains(reason), "{reason}: {status:?}");
    }
}

#[tokio::test]
async fn clusters_of_different_names_never_link() {
    let mut plan = api::plan();
    (plan.nodes, plan.settings.discovery.service_name) = (1, "staging".to_owned());
    let api = Api::of(plan).await;
    let node = api.fleet.nodes().next().unwrap();
    let peer = Peer {
        id: node.id().to_string(),
        instance: Uuid::nil(),
        address: node.grpc_address().to_string(),
    };
    let ping = async |service: &str| {
        let runtime = tokio::runtime::Handle::current();
        let link = Link::spawn(&runtime, identity(service), peer.clone(), v1::Lane::Small);
        let epoch = Epoch { generation: Uuid::nil(), as_of: 0, digest: 0 };
        link.call(Call::ping(epoch, tokio::time::Instant::now() + Duration::from_secs(5))).await
    };
    let refused = ping("ringway").await;
    let Answer::Unsent(Unsent::Unreachable(refused)) = refused else { panic!("{refused:?}") };
    let why = refused.why;
    assert!(why.contains("service \"ringway\""), "{why}");
    let taken = ping("staging").await;
    assert!(matches!(taken, Answer::Reply(_)), "the name alone makes the difference: {taken:?}");
}
