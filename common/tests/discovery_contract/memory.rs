//! The in-process backend under test.

use std::{sync::Arc, time::Duration};

use common::{
    clock::SystemClock,
    discovery::{Discovery, MemoryRegistry, NodeId, WantedRing},
};

use crate::backend::{Answering, Backend};

pub(crate) struct Memory {
    registry: MemoryRegistry,
    answering: Answering,
}

impl Backend for Memory {
    async fn start(lease_ttl: Duration) -> Self {
        let registry = MemoryRegistry::new(Arc::new(SystemClock), lease_ttl);
        Self { registry, answering: Answering::default() }
    }

    fn handle(&self, wanted: &WantedRing) -> Arc<dyn Discovery> {
        Arc::new(self.registry.join(wanted, Arc::new(self.answering.clone())))
    }

    fn answering(&self) -> &Answering {
        &self.answering
    }

    async fn end_lease(&self, id: &NodeId) {
        self.registry.expire_lease(id);
    }

    async fn delete_record(&self, id: &NodeId) {
        self.registry.delete_record(id);
    }

    async fn put_raw(&self, id: &str, value: &[u8]) {
        self.registry.put_raw(&NodeId::new(id).unwrap(), value);
    }

    async fn put_raw_group(&self, name: &str, value: &[u8]) {
        self.registry.put_raw_group(name, value);
    }
}
