//! What a member says when it is asked: the ring, who owns a key, whether it is ready.

use common::link::frame::uuid_of;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use proto::v1::{StatsRequest, StatsResponse, cache_client::CacheClient};
use serde::Deserialize;
use tonic::transport::Endpoint;

use super::Member;
use crate::{
    http::{self, HttpError, Response},
    metrics,
};

/// `/api/nodes`, as far as tests look at it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Nodes {
    /// How many.
    pub count: usize,
    /// The ring's digest.
    pub digest: String,
    /// The members.
    pub nodes: Vec<NodeView>,
}

/// One member in `/api/nodes`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct NodeView {
    /// Its id.
    pub id: String,
    /// Where it serves gRPC.
    pub address: String,
    /// Its life.
    pub instance: String,
    /// `active` or `draining`.
    pub state: String,
    /// `healthy`, `ejected` or `unknown`.
    pub health: String,
    /// Its part of the ring, from 0 to 1.
    pub ring_share: f64,
}

impl Nodes {
    /// The member of that id.
    pub fn find(&self, id: &str) -> Option<&NodeView> {
        self.nodes.iter().find(|node| node.id == id)
    }
}

/// The canonical path of a key.
pub fn key_path(group: &str, key: &str) -> String {
    format!("/api/cache?{}", query(group, key))
}

fn query(group: &str, key: &str) -> String {
    let encode = |text| utf8_percent_encode(text, NON_ALPHANUMERIC);
    format!("group={}&key={}", encode(group), encode(key))
}

impl Member {
    /// `GET path`, of a gateway's API or a node's probes.
    ///
    /// # Errors
    /// No answer.
    pub async fn get(&self, path: &str) -> Result<Response, HttpError> {
        http::get(self.probes(), path).await
    }

    /// Reads a key from a gateway.
    ///
    /// # Errors
    /// No answer.
    pub async fn read(&self, group: &str, key: &str) -> Result<Response, HttpError> {
        self.get(&key_path(group, key)).await
    }

    /// Writes a key through a gateway.
    ///
    /// # Errors
    /// No answer.
    pub async fn write(&self, group: &str, key: &str, value: &str) -> Result<Response, HttpError> {
        http::put(self.address(), &key_path(group, key), value.to_owned()).await
    }

    /// The nodes that a gateway knows.
    ///
    /// # Errors
    /// What it answered instead.
    pub async fn nodes(&self) -> Result<Nodes, String> {
        let answer = self.get("/api/nodes").await.map_err(|error| error.to_string())?;
        serde_json::from_slice(&answer.body)
            .map_err(|error| format!("{}: {error}: {}", answer.status, answer.text()))
    }

    /// Whether it says that it is ready.
    ///
    /// # Errors
    /// What it says is wrong.
    pub async fn ready(&self) -> Result<(), String> {
        let answer = self.get("/readyz").await.map_err(|error| error.to_string())?;
        if answer.status == 200 { Ok(()) } else { Err(answer.text()) }
    }

    /// A number of its metrics, as [`metrics::value`].
    ///
    /// # Errors
    /// No answer, or no such metric.
    pub async fn metric(&self, name: &str) -> Result<f64, String> {
        let page = self.get("/metrics").await.map_err(|error| error.to_string())?.text();
        metrics::value(&page, name).ok_or_else(|| format!("{} has no {name}", self.name()))
    }

    /// Who owns a key, as a gateway says.
    ///
    /// # Errors
    /// What it answered instead.
    pub async fn owner(&self, group: &str, key: &str) -> Result<String, String> {
        let path = format!("/api/ring?{}", query(group, key));
        let answer = self.get(&path).await.map_err(|error| error.to_string())?;
        answer.json()["owner"].as_str().map(str::to_owned).ok_or_else(|| answer.text())
    }

    /// What a node tells of itself over gRPC.
    ///
    /// # Errors
    /// No answer.
    pub async fn stats(&self) -> Result<StatsResponse, String> {
        let failed = |what: &dyn std::fmt::Display| format!("{}: {what}", self.name());
        let channel = Endpoint::from_shared(format!("http://{}", self.address()))
            .map_err(|error| failed(&error))?
            .connect()
            .await
            .map_err(|error| failed(&error))?;
        let answer = CacheClient::new(channel).stats(StatsRequest {}).await;
        answer.map(tonic::Response::into_inner).map_err(|error| failed(&error))
    }

    /// The id and instance of a node that is ready, and the digest of the ring it serves by.
    pub(super) async fn life(&self) -> Result<((String, String), String), String> {
        self.ready().await.map_err(|why| format!("{} is not ready: {why}", self.name()))?;
        let stats = self.stats().await?;
        let digest = format!("{:016x}", stats.epoch.unwrap_or_default().digest);
        Ok(((stats.node_id, uuid_of(&stats.instance).to_string()), digest))
    }
}
