//! Meeting somebody who goes by another generation of the cluster state.
//!
//! Revisions of two generations can't be compared, so nobody can say who has seen more: whoever
//! notices reads the state again. The other side may be the one that is behind, and may go on
//! asking; so that is done at most once in a while, and by one for all.

use std::time::Duration;

use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};

use crate::{
    error::{Code, Error, Result},
    topology::Topologies,
};

/// How often the cluster state is read again for that.
const MEET_EVERY: Duration = Duration::from_secs(1);

/// When the state was last read for that.
#[derive(Debug, Default)]
pub(super) struct Foreign {
    last: Mutex<Option<Instant>>,
}

impl Foreign {
    /// Reads the state again; whoever comes meanwhile waits, and goes by what that found.
    pub(super) async fn meet(&self, topologies: &Topologies, patience: Duration) -> Result<()> {
        let late = |_| Error::new(Code::Timeout, "the cluster state is being read");
        let mut last = timeout(patience, self.last.lock()).await.map_err(late)?;
        if last.is_some_and(|last| last.elapsed() < MEET_EVERY) {
            return Ok(());
        }
        let read = topologies.catch_up_within(0, patience).await;
        *last = Some(Instant::now());
        read.map(drop)
    }
}
