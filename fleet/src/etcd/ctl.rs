//! What an operator does to an etcd: look at the records, revoke a lease, compact.
//!
//! With `etcdctl`, the tool that operators have, and against the etcd itself, whatever the fleet's
//! own way there is. It says nothing about what the fleet makes of it.

use std::{collections::BTreeMap, process::Stdio, time::Duration};

use serde_json::Value;
use tokio::{process::Command, time::timeout};

use super::Etcd;
use crate::tools::{self, MissingTool};

/// How long one command may take.
const ANSWERS_WITHIN: Duration = Duration::from_secs(20);

/// Where the nodes of the default service register.
const NODES: &str = "/ringway/nodes/";

/// A command that did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum CtlError {
    /// There is no etcdctl.
    #[error(transparent)]
    Missing(#[from] MissingTool),
    /// It could not be run.
    #[error("etcdctl: {0}")]
    System(#[from] std::io::Error),
    /// It failed, or took too long.
    #[error("etcdctl {command}: {problem}")]
    Failed {
        /// Its arguments.
        command: String,
        /// What it said.
        problem: String,
    },
}

impl Etcd {
    /// Runs etcdctl against this etcd, and returns what it printed.
    ///
    /// # Errors
    /// [`CtlError`]
    pub async fn ctl(&self, args: &[&str]) -> Result<String, CtlError> {
        let mut command = Command::new(tools::find("etcdctl")?);
        command.env("ETCDCTL_API", "3").arg("--endpoints").arg(self.endpoint()).args(args);
        command.stdin(Stdio::null()).kill_on_drop(true);
        let failed = |problem: String| CtlError::Failed { command: args.join(" "), problem };
        let output = timeout(ANSWERS_WITHIN, command.output())
            .await
            .map_err(|_| failed(format!("no end within {ANSWERS_WITHIN:?}")))??;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(failed(String::from_utf8_lossy(&output.stderr).into_owned()))
    }

    /// The registered nodes: id → lease.
    ///
    /// # Errors
    /// [`CtlError`]
    pub async fn registered(&self) -> Result<BTreeMap<String, i64>, CtlError> {
        let mut nodes = BTreeMap::new();
        for id in self.ctl(&["get", "--prefix", "--keys-only", NODES]).await?.lines() {
            let Some(id) = id.strip_prefix(NODES) else { continue };
            // A record that went in between has no lease.
            let answer = self.read(&format!("{NODES}{id}")).await?;
            if let Some(lease) = answer["kvs"][0]["lease"].as_i64() {
                nodes.insert(id.to_owned(), lease);
            }
        }
        Ok(nodes)
    }

    /// Takes a lease away, and with it every record that is bound to it.
    ///
    /// # Errors
    /// [`CtlError`]
    pub async fn revoke(&self, lease: i64) -> Result<(), CtlError> {
        self.ctl(&["lease", "revoke", &format!("{lease:x}")]).await.map(drop)
    }

    /// Forgets all history before the present revision.
    ///
    /// # Errors
    /// [`CtlError`]
    pub async fn compact(&self) -> Result<(), CtlError> {
        let answer = self.read(NODES).await?;
        let revision = answer["header"]["revision"].to_string();
        self.ctl(&["compaction", &revision]).await.map(drop)
    }

    async fn read(&self, key: &str) -> Result<Value, CtlError> {
        let text = self.ctl(&["get", key, "--write-out=json"]).await?;
        serde_json::from_str(&text).map_err(|error| CtlError::Failed {
            command: format!("get {key}"),
            problem: format!("{error} in {text}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_operator_sees_records_revokes_leases_and_compacts() {
        let etcd = Etcd::start().await.unwrap();
        let granted = etcd.ctl(&["lease", "grant", "60"]).await.unwrap();
        let lease = granted.split_whitespace().nth(1).unwrap();
        let key = format!("{NODES}node-1");
        etcd.ctl(&["put", &key, "x", &format!("--lease={lease}")]).await.unwrap();
        let nodes = etcd.registered().await.unwrap();
        let lease = i64::from_str_radix(lease, 16).unwrap();
        assert_eq!(nodes, BTreeMap::from([("node-1".to_owned(), lease)]));

        etcd.revoke(lease).await.unwrap();
        assert!(etcd.registered().await.unwrap().is_empty());
        etcd.compact().await.unwrap();
        let error = etcd.ctl(&["get", &key, "--rev=2"]).await.unwrap_err().to_string();
        assert!(error.contains("compacted"), "{error}");
    }
}
