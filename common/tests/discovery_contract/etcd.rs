//! The etcd backend under test, with a real etcd.

use std::{sync::Arc, time::Duration};

use common::{
    clock::{Clock, SystemClock},
    discovery::{Discovery, EtcdDiscovery, EtcdOptions, NodeId, WantedRing},
};
use etcd_client::{Client, PutOptions};

use crate::{
    backend::{Answering, Backend, LONG, until},
    etcd_server::EtcdServer,
};

/// The cluster's name in tests.
pub(crate) const SERVICE: &str = "contract";

pub(crate) struct Etcd {
    pub(crate) server: EtcdServer,
    lease_ttl: Duration,
    answering: Answering,
}

impl Etcd {
    pub(crate) fn on(server: EtcdServer, lease_ttl: Duration) -> Self {
        Self { server, lease_ttl, answering: Answering::default() }
    }

    /// A handle that reaches etcd at these endpoints.
    pub(crate) fn handle_at(
        &self,
        endpoints: &[String],
        wanted: &WantedRing,
    ) -> Arc<dyn Discovery> {
        follow(endpoints, self.lease_ttl, wanted, &self.answering)
    }

    /// A handle that lists everything this often.
    pub(crate) fn listing_every(&self, anti_entropy: Duration) -> Arc<dyn Discovery> {
        let endpoints = vec![self.server.address().to_string()];
        let options = EtcdOptions {
            endpoints,
            service: SERVICE.into(),
            anti_entropy,
            ..EtcdOptions::default()
        };
        start(options, &self.answering)
    }
}

/// A handle on whatever is or comes at these endpoints.
pub(crate) fn follow(
    endpoints: &[String],
    lease_ttl: Duration,
    wanted: &WantedRing,
    answering: &Answering,
) -> Arc<dyn Discovery> {
    let options = EtcdOptions {
        endpoints: endpoints.to_vec(),
        service: SERVICE.into(),
        lease_ttl,
        wanted: wanted.clone(),
        ..EtcdOptions::default()
    };
    start(options, answering)
}

/// A handle with these options.
pub(crate) fn start(options: EtcdOptions, answering: &Answering) -> Arc<dyn Discovery> {
    start_by(Arc::new(SystemClock), options, answering)
}

/// The same, by another clock.
pub(crate) fn start_by(
    clock: Arc<dyn Clock>,
    options: EtcdOptions,
    answering: &Answering,
) -> Arc<dyn Discovery> {
    Arc::new(EtcdDiscovery::start(options, clock, Arc::new(answering.clone())).unwrap())
}

/// Waits until the status tells of this; its words.
pub(crate) async fn until_told(handle: &dyn Discovery, words: &str) -> String {
    let told = |problem: &Option<String>| problem.as_ref().is_some_and(|p| p.contains(words));
    until(handle.status(), |status| told(&status.problem)).await.problem.unwrap()
}

pub(crate) fn key(id: &str) -> String {
    format!("/{SERVICE}/nodes/{id}")
}

/// Writes a node's record under a lease that outlives the test.
pub(crate) async fn put_leased(client: &mut Client, id: &str, value: &[u8]) {
    let lease = client.lease_grant(LONG.as_secs() as i64, None).await.unwrap().id();
    let options = PutOptions::new().with_lease(lease);
    client.put(key(id), value, Some(options)).await.unwrap();
}

impl Backend for Etcd {
    async fn start(lease_ttl: Duration) -> Self {
        Self::on(EtcdServer::start().await, lease_ttl)
    }

    fn handle(&self, wanted: &WantedRing) -> Arc<dyn Discovery> {
        self.handle_at(&[self.server.address().to_string()], wanted)
    }

    fn answering(&self) -> &Answering {
        &self.answering
    }

    async fn end_lease(&self, id: &NodeId) {
        let mut client = self.server.client().await;
        let found = client.get(key(id.as_str()), None).await.unwrap();
        client.lease_revoke(found.kvs()[0].lease()).await.unwrap();
    }

    async fn delete_record(&self, id: &NodeId) {
        let mut client = self.server.client().await;
        let deleted = client.delete(key(id.as_str()), None).await.unwrap();
        assert_eq!(deleted.deleted(), 1);
    }

    async fn put_raw(&self, id: &str, value: &[u8]) {
        put_leased(&mut self.server.client().await, id, value).await;
    }

    async fn put_raw_group(&self, name: &str, value: &[u8]) {
        let key = format!("/{SERVICE}/groups/{name}");
        self.server.client().await.put(key, value, None).await.unwrap();
    }
}
