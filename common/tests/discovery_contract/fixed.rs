//! The static backend under test: a list that holds every address of the suite, and a bad one.

use std::{sync::Arc, time::Duration};

use common::{
    clock::SystemClock,
    discovery::{Discovery, NodeId, StaticDiscovery, WantedRing},
};

use crate::backend::{A, Answering, B, Backend, C};

pub(crate) struct Fixed {
    answering: Answering,
}

impl Backend for Fixed {
    const FIXED: bool = true;
    const MALFORMED: u64 = 1;

    async fn start(_: Duration) -> Self {
        Self { answering: Answering::default() }
    }

    fn handle(&self, wanted: &WantedRing) -> Arc<dyn Discovery> {
        let list = [A, "no-port", B, C].map(String::from);
        let (clock, prober) = (Arc::new(SystemClock), Arc::new(self.answering.clone()));
        Arc::new(StaticDiscovery::new("ringway", &list, wanted, clock, prober))
    }

    fn answering(&self) -> &Answering {
        &self.answering
    }

    // There is no lease to lose, no record to delete and none to write.
    async fn end_lease(&self, _: &NodeId) {}
    async fn delete_record(&self, _: &NodeId) {}
    async fn put_raw(&self, _: &str, _: &[u8]) {}

    async fn put_raw_group(&self, _: &str, _: &[u8]) {}
}
