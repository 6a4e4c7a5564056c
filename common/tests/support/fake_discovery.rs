//! Cluster state that a test publishes, and another that only catching up finds.

use std::sync::{Arc, Mutex};

use common::{
    discovery::{Discovery, DiscoveryStatus, NodeRecord, Registration, View},
    error::Result,
};
use futures_util::future::BoxFuture;
use tokio::sync::watch;

/// A discovery in the hands of a test.
pub(crate) struct FakeDiscovery {
    views: watch::Sender<Option<Arc<View>>>,
    status: watch::Sender<DiscoveryStatus>,
    /// What catching up waits for and finds.
    ahead: watch::Sender<Option<Arc<View>>>,
    asked: Mutex<Vec<u64>>,
}

impl FakeDiscovery {
    pub(crate) fn new() -> Arc<Self> {
        let (views, ahead) = (watch::Sender::new(None), watch::Sender::new(None));
        Arc::new(Self { views, ahead, status: watch::Sender::default(), asked: Mutex::default() })
    }

    pub(crate) fn publish(&self, view: View) {
        self.views.send_replace(Some(Arc::new(view)));
    }

    /// Lets catching up find this view, which is not published.
    pub(crate) fn hold_ahead(&self, view: View) {
        self.ahead.send_replace(Some(Arc::new(view)));
    }

    /// The revisions that were asked for so far.
    pub(crate) fn caught_up(&self) -> Vec<u64> {
        self.asked.lock().unwrap().clone()
    }
}

impl Discovery for FakeDiscovery {
    fn views(&self) -> watch::Receiver<Option<Arc<View>>> {
        self.views.subscribe()
    }

    fn status(&self) -> watch::Receiver<DiscoveryStatus> {
        self.status.subscribe()
    }

    fn catch_up(&self, as_of: u64) -> BoxFuture<'_, Result<Arc<View>>> {
        self.asked.lock().unwrap().push(as_of);
        let mut ahead = self.ahead.subscribe();
        Box::pin(async move {
            let far_enough =
                |view: &Option<Arc<View>>| view.as_ref().is_some_and(|view| view.as_of >= as_of);
            let view = ahead.wait_for(far_enough).await.expect("the sender is part of self");
            Ok(view.clone().expect("it was looked at"))
        })
    }

    fn register(&self, _record: NodeRecord) -> Registration {
        unreachable!("routing registers nobody")
    }
}
