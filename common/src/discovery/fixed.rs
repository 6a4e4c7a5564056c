//! The static backend: the members are a list in the configuration, and never change.
//!
//! A member's id is its address; its instance is not known (the nil uuid), nor whether it lives.
//! All processes must be given the same list and ring settings: there is no place to compare them.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use md5::{Digest, Md5};
use tokio::{
    runtime::Handle,
    sync::{mpsc, watch},
};
use uuid::Uuid;

use crate::{
    clock::Clock,
    discovery::{
        Discovery, DiscoveryStatus, NodeId, NodeRecord, Prober, Registration, RegistrationState,
        View, WantedRing,
        backoff::Backoff,
        registration::{Keeper, Order},
        standing::Standing,
    },
    error::{Code, Error, Result},
};

/// The revision of a list that never changes.
const ONLY_REVISION: u64 = 0;
/// The longest wait until a held address is looked at again.
const LONGEST_WAIT: Duration = Duration::from_secs(3);

/// Members from a list.
pub struct StaticDiscovery {
    view: Arc<View>,
    views: watch::Sender<Option<Arc<View>>>,
    standing: Standing,
    prober: Arc<dyn Prober>,
    runtime: Handle,
}

impl StaticDiscovery {
    /// The members at `addresses`, each `host:port`. One that is not is skipped, counted and
    /// logged. Must be called on the runtime that is to run its registrations.
    pub fn new(
        service: &str,
        addresses: &[String],
        wanted: &WantedRing,
        clock: Arc<dyn Clock>,
        prober: Arc<dyn Prober>,
    ) -> Self {
        let standing = Standing::new(clock);
        let (mut members, mut skipped) = (BTreeMap::new(), 0);
        for address in addresses {
            match member(address.trim()) {
                Ok(record) => drop(members.insert(record.id.clone(), record)),
                Err(why) => {
                    skipped += 1;
                    tracing::warn!(address, why, "an address of the static list is skipped");
                }
            }
        }
        standing.skipped(skipped);
        standing.connected();
        let generation = generation(service, members.keys());
        let ring = wanted.or_default();
        let view = Arc::new(View::new(generation, ONLY_REVISION, ring, members.into_values()));
        let views = watch::Sender::new(Some(Arc::clone(&view)));
        Self { view, views, standing, prober, runtime: Handle::current() }
    }
}

impl Discovery for StaticDiscovery {
    fn views(&self) -> watch::Receiver<Option<Arc<View>>> {
        self.views.subscribe()
    }

    fn status(&self) -> watch::Receiver<DiscoveryStatus> {
        self.standing.subscribe()
    }

    fn catch_up(&self, as_of: u64) -> BoxFuture<'_, Result<Arc<View>>> {
        Box::pin(async move {
            if as_of > ONLY_REVISION {
                let message = "the static list of members has no later revision";
                return Err(Error::new(Code::NodeUnavailable, message));
            }
            Ok(Arc::clone(&self.view))
        })
    }

    fn register(&self, record: NodeRecord) -> Registration {
        let (registration, keeper) = Registration::new();
        let place = Place {
            listed: self.view.members.contains_key(&record.id) && record.id.as_str() == record.grpc,
            record,
            prober: Arc::clone(&self.prober),
            state: keeper.state.clone(),
        };
        self.runtime.spawn(place.run(keeper));
        registration
    }
}

/// A node's place in the list.
struct Place {
    listed: bool,
    record: NodeRecord,
    prober: Arc<dyn Prober>,
    state: watch::Sender<RegistrationState>,
}

impl Place {
    async fn run(self, Keeper { mut orders, .. }: Keeper) {
        tokio::select! {
            () = self.keep() => {}
            () = self.obey(&mut orders) => {}
        }
    }

    /// Looks who answers at our address until it is us or nobody.
    async fn keep(&self) {
        if !self.listed {
            let NodeRecord { id, grpc, .. } = &self.record;
            let why = format!(
                "node {id} at {grpc} is not in the static list; a node's id must be its address there"
            );
            tracing::warn!(problem = why, "not registered");
            self.state.send_replace(RegistrationState::Trying { problem: Some(why) });
            return std::future::pending().await;
        }
        let mut backoff = Backoff::up_to(LONGEST_WAIT);
        let address = &self.record.grpc;
        while let Some(instance) = self.prober.instance_at(address).await
            && instance != self.record.instance
        {
            let address = address.clone();
            self.state.send_replace(RegistrationState::HeldByOther { instance, address });
            tokio::time::sleep(backoff.next()).await;
        }
        self.state.send_replace(RegistrationState::Registered { revision: ONLY_REVISION });
        std::future::pending().await
    }

    /// There is nothing to write: orders are only answered.
    async fn obey(&self, orders: &mut mpsc::Receiver<Order>) {
        loop {
            match orders.recv().await {
                None => return,
                Some(Order::SetState(_, done)) => drop(done.send(Ok(()))),
                Some(Order::Leave(done)) => {
                    self.state.send_replace(RegistrationState::Left);
                    return drop(done.send(Ok(())));
                }
            }
        }
    }
}

fn member(address: &str) -> std::result::Result<NodeRecord, String> {
    let id = NodeId::new(address).map_err(|error| error.to_string())?;
    let record = NodeRecord::new(id, Uuid::nil(), address);
    // Reading it back applies the checks that every record has to pass.
    let json = record.to_json().map_err(|error| error.to_string())?;
    NodeRecord::parse(&json).map_err(|error| error.to_string())
}

/// Processes with the same list are in the same cluster state.
fn generation<'a>(service: &'a str, ids: impl Iterator<Item = &'a NodeId>) -> Uuid {
    let mut hash = Md5::new();
    for part in [service].into_iter().chain(ids.map(NodeId::as_str)) {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    Uuid::from_bytes(hash.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generation_is_that_of_the_service_and_the_list() {
        let [a, b] = ["a:1", "b:2"].map(|id| NodeId::new(id).unwrap());
        let both = generation("s", [&a, &b].into_iter());
        assert_eq!(both, generation("s", [&a, &b].into_iter()));
        assert_ne!(both, generation("t", [&a, &b].into_iter()));
        assert_ne!(both, generation("s", [&a].into_iter()));
    }

    #[test]
    fn only_addresses_are_members() {
        assert_eq!(member("[::1]:7000").unwrap().id.as_str(), "[::1]:7000");
        for bad in ["", "host", "host:", "host:0", "http://host:1", "ho st:1"] {
            assert!(member(bad).is_err(), "{bad:?}");
        }
    }
}
