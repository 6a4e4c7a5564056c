//! Whether a node whose record is gone stayed in everybody's ring all the same.
//!
//! When the backend lost its members they are carried: nobody's ring changes, nobody else owns
//! their keys, and what they hold is as good as before. Without that a cluster state that was wiped
//! would empty every cache. A node that only fell out by itself was not carried: others may have
//! owned its keys meanwhile. Who is carried is decided elsewhere.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

use crate::discovery::{NodeRecord, View};

type Views = watch::Receiver<Option<Arc<View>>>;

/// Waits, at most for `patience`, until it can be told; then whether the node is carried.
pub(crate) async fn is_carried(
    ours: &NodeRecord,
    mut raw: Views,
    shown: &Views,
    patience: Duration,
) -> bool {
    let until = Instant::now() + patience;
    let shown = shown.borrow().clone();
    let is_told = |view: &Option<Arc<View>>| match view {
        None => false,
        // Where so many are lost, somebody is about to write who is carried.
        Some(raw) => {
            carries(raw, ours) || (!is_live(raw, ours) && !is_disaster(raw, shown.as_deref()))
        }
    };
    match timeout_at(until, raw.wait_for(is_told)).await {
        Ok(Ok(view)) => view.as_ref().is_some_and(|view| carries(view, ours)),
        // Not in time, or nobody follows the state any more.
        Ok(Err(_)) | Err(_) => false,
    }
}

fn is_live(raw: &View, ours: &NodeRecord) -> bool {
    raw.live(ours.id.as_str()).is_some_and(|live| live.instance == ours.instance)
}

fn carries(raw: &View, ours: &NodeRecord) -> bool {
    let carried = raw.members.get(&ours.id).filter(|_| raw.carried.contains(&ours.id));
    carried.is_some_and(|carried| carried.instance == ours.instance)
}

/// Whether the step from what is shown to what there is now is one after which members are
/// carried: another life of the cluster state, or most of them gone.
fn is_disaster(raw: &View, shown: Option<&View>) -> bool {
    let live = |view: &View| view.members.len() - view.carried.len();
    shown.is_some_and(|shown| raw.generation != shown.generation || live(raw) * 2 < live(shown))
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use uuid::Uuid;

    use super::*;
    use crate::discovery::RingSettings;

    const PATIENCE: Duration = Duration::from_secs(3);

    fn record(id: &str, life: u128) -> NodeRecord {
        NodeRecord::new(id.parse().unwrap(), Uuid::from_u128(life), "h:1")
    }

    fn view(generation: u128, live: &[&str], carried: &[(&str, u128)]) -> Option<Arc<View>> {
        let live = live.iter().map(|id| record(id, 1));
        let members = live.chain(carried.iter().map(|(id, life)| record(id, *life)));
        let members: BTreeMap<_, _> = members.map(|it| (it.id.clone(), it)).collect();
        let carried: BTreeSet<_> = carried.iter().map(|(id, _)| id.parse().unwrap()).collect();
        let (generation, ring) = (Uuid::from_u128(generation), RingSettings::default());
        let members = members.into_values();
        Some(Arc::new(View { carried, ..View::new(generation, 1, ring, members) }))
    }

    async fn told(raw: &[Option<Arc<View>>]) -> bool {
        let (_shown_in, shown) = watch::channel(view(1, &["a", "b", "c"], &[]));
        let (raw_in, raw_out) = watch::channel(raw[0].clone());
        let later = raw[1..].to_vec();
        let (ours, news) = (record("a", 1), async {
            for view in later {
                tokio::time::sleep(PATIENCE / 10).await;
                raw_in.send_replace(view);
            }
            std::future::pending::<()>().await;
        });
        tokio::select! {
            told = is_carried(&ours, raw_out, &shown, PATIENCE) => told,
            () = news => unreachable!(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_fell_out_alone_is_not_carried_and_knows_it_at_once() {
        let began = Instant::now();
        assert!(!told(&[view(1, &["b", "c"], &[])]).await);
        assert_eq!(began.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_disaster_it_waits_until_it_is_carried() {
        let all = [("a", 1), ("b", 1), ("c", 1)];
        let wiped = [view(1, &["a", "b", "c"], &[]), view(2, &[], &[]), view(2, &[], &all)];
        assert!(told(&wiped).await);
        assert!(told(&[view(1, &["c"], &[]), view(1, &["c"], &all[..2])]).await);
    }

    #[tokio::test(start_paused = true)]
    async fn without_proof_it_is_not_carried() {
        assert!(!told(&[view(1, &["a", "b", "c"], &[])]).await, "nothing is heard");
        assert!(!told(&[view(2, &[], &[])]).await, "nobody writes it");
        assert!(!told(&[view(2, &[], &[("a", 9), ("b", 1)])]).await, "a former life of it");
    }
}
