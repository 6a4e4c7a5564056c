//! How the processes of a cluster reach each other: directly, through proxies, or by packets
//! between network namespaces.
//!
//! The harness itself always reaches them directly: what it asks must be answered while a fault
//! is on.

use std::net::{Ipv4Addr, SocketAddr};

use super::{ClusterError, Extras};
use crate::{
    etcd::free_address,
    netns::{Namespace, NetnsError, Network},
    process::Spec,
    proxy::Proxy,
};

/// Where proxied nodes are reached: 127.0.0.2 and on, so that each has an address of its own.
const ADVERTISED: std::ops::RangeInclusive<u8> = 2..=254;

/// How the processes of a cluster reach each other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Wiring {
    /// Over the loopback, as processes on one machine do.
    #[default]
    Direct,
    /// Over the loopback and through our proxies: one before each node, one between each process
    /// and etcd. Nodes are called node-0 …
    Proxied,
    /// Each in a network namespace, over a bridge. Nodes are called node-0 …
    Namespaces,
}

/// What is around one process.
#[derive(Debug, Default)]
pub(super) struct Surroundings {
    /// Its id, if it is a node that is told one.
    id: Option<String>,
    pub(super) to_etcd: Option<Proxy>,
    /// What a proxied node advertises.
    advertised: Option<Ipv4Addr>,
    pub(super) before_it: Option<Proxy>,
    pub(super) namespace: Option<Namespace>,
}

impl Wiring {
    /// The network that it takes, if it takes one.
    pub(super) fn network(self) -> Result<Option<Network>, NetnsError> {
        (self == Self::Namespaces).then(Network::new).transpose()
    }

    /// What is to be around a gateway, or around the node of that index.
    pub(super) fn surroundings(
        self,
        name: &str,
        node: Option<usize>,
        etcd: SocketAddr,
        network: Option<&mut Network>,
    ) -> Result<Surroundings, ClusterError> {
        let mut around = Surroundings::default();
        if self != Self::Direct && node.is_some() {
            around.id = Some(name.to_owned());
        }
        if self == Self::Proxied {
            around.to_etcd = Some(Proxy::start(free_address()?, etcd)?);
            around.advertised = node.map(advertised);
        }
        around.namespace = network.map(|network| network.join(name)).transpose()?;
        Ok(around)
    }
}

fn advertised(node: usize) -> Ipv4Addr {
    let last = ADVERTISED.start() + (node % ADVERTISED.len()) as u8;
    Ipv4Addr::new(127, 0, 0, last)
}

impl Surroundings {
    /// What the process is told: where it finds etcd, and who it is.
    pub(super) fn told(&self, etcd: SocketAddr) -> Extras {
        let etcd = self.to_etcd.as_ref().map_or(etcd, Proxy::address);
        let told = Extras::default().arg(format!("--etcd-endpoints={etcd}"));
        match &self.id {
            Some(id) => told.arg(format!("--node-id={id}")),
            None => told,
        }
    }

    /// Where it has to listen, if not on the loopback.
    pub(super) fn host(&self) -> Option<Ipv4Addr> {
        self.namespace.as_ref().map(Namespace::address)
    }

    /// Puts a proxy before that port, if there is to be one: what must then be advertised.
    pub(super) fn put_proxy_before(&mut self, port: u16) -> std::io::Result<Option<Ipv4Addr>> {
        if let Some(host) = self.advertised {
            let (listen, target) = ((host, port), (Ipv4Addr::LOCALHOST, port));
            self.before_it = Some(Proxy::start(listen.into(), target.into())?);
        }
        Ok(self.advertised)
    }

    /// The program, to be started where it belongs.
    pub(super) fn enter(&self, spec: &Spec) -> Spec {
        self.namespace.as_ref().map_or_else(|| spec.clone(), |namespace| namespace.enter(spec))
    }
}
