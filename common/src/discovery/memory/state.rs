//! The registry behind the handles: keys, revisions, leases, and the views made of them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::sync::watch;
use uuid::Uuid;

use crate::{
    clock::Clock,
    discovery::{
        NodeId, RingSettings, View,
        layout::{Layout, write_settings},
        mirror::{Entry, Mirror, Single},
        registrar::{Holder, Setback, Try},
        standing::Standing,
    },
    key::GroupName,
};

/// The name of the cluster; a registry holds only one.
const SERVICE: &str = "memory";

/// One registry, shared by its handles.
pub(super) struct Shared {
    state: Mutex<State>,
    clock: Arc<dyn Clock>,
    layout: Layout,
    pub(super) lease_ttl: Duration,
    pub(super) views: watch::Sender<Option<Arc<View>>>,
    pub(super) standing: Standing,
}

struct State {
    revision: u64,
    /// Node records; bounded by the nodes of the process that hold or held one.
    records: BTreeMap<String, Stored>,
    /// Which revision wrote each group's record.
    groups: BTreeMap<String, u64>,
    /// When each lease ends, by the monotonic clock.
    leases: BTreeMap<u64, Duration>,
    next_lease: u64,
    mirror: Mirror,
}

struct Stored {
    value: Vec<u8>,
    revision: u64,
    lease: Option<u64>,
}

impl Shared {
    pub(super) fn new(clock: Arc<dyn Clock>, lease_ttl: Duration) -> Arc<Self> {
        let layout = Layout::new(SERVICE).expect("a plain word is a service name");
        let state = State {
            revision: 0,
            records: BTreeMap::new(),
            groups: BTreeMap::new(),
            leases: BTreeMap::new(),
            next_lease: 1,
            mirror: Mirror::new(layout.clone()),
        };
        let standing = Standing::new(Arc::clone(&clock));
        let views = watch::Sender::new(None);
        Arc::new(Self { state: Mutex::new(state), clock, layout, lease_ttl, views, standing })
    }

    pub(super) fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.clock)
    }

    /// The cluster's ring settings, which are `wanted` if there were none.
    pub(super) fn settings_or(&self, wanted: RingSettings) -> RingSettings {
        let mut state = self.lock();
        if let Single::Known(settings) = state.mirror.ring() {
            return settings.clone();
        }
        let generation = Uuid::new_v4().to_string();
        state.write(&self.layout.generation(), generation.as_bytes());
        state.write(&self.layout.ring(), &write_settings(&wanted));
        self.standing.connected();
        self.publish(&state);
        wanted
    }

    pub(super) fn holder(&self, id: &NodeId, lease: Option<u64>) -> Option<Holder> {
        let state = self.lock();
        let stored = state.records.get(&self.layout.node(id))?;
        let on_our_lease = lease.is_some() && stored.lease == lease;
        Some(Holder { value: stored.value.clone(), revision: stored.revision, on_our_lease })
    }

    /// A new lease, and the timer that ends it.
    pub(super) fn grant(self: &Arc<Self>) -> u64 {
        let mut state = self.lock();
        let lease = state.next_lease;
        state.next_lease += 1;
        state.leases.insert(lease, self.clock.monotonic() + self.lease_ttl);
        tokio::spawn(end_in_time(Arc::downgrade(self), lease, self.lease_ttl));
        lease
    }

    /// Returns whether the lease was still alive.
    pub(super) fn renew(&self, lease: u64) -> bool {
        let ends = self.clock.monotonic() + self.lease_ttl;
        self.lock().leases.get_mut(&lease).map(|until| *until = ends).is_some()
    }

    pub(super) fn put(&self, id: &NodeId, value: Vec<u8>, seen: u64, lease: u64) -> Try<u64> {
        let mut state = self.lock();
        if !state.leases.contains_key(&lease) {
            return Err(Setback::LeaseLost);
        }
        let key = self.layout.node(id);
        if state.records.get(&key).map_or(0, |stored| stored.revision) != seen {
            return Err(Setback::Raced);
        }
        let revision = state.write(&key, &value);
        state.records.insert(key, Stored { value, revision, lease: Some(lease) });
        self.publish(&state);
        Ok(revision)
    }

    pub(super) fn put_raw(&self, id: &NodeId, value: &[u8]) {
        let mut state = self.lock();
        let key = self.layout.node(id);
        let revision = state.write(&key, value);
        state.records.insert(key, Stored { value: value.to_vec(), revision, lease: None });
        self.publish(&state);
    }

    /// Writes a group's record if it still is as of `seen`; at which revision.
    pub(super) fn put_group(&self, name: &GroupName, value: &[u8], seen: u64) -> Option<u64> {
        let mut state = self.lock();
        let key = self.layout.group(name);
        if state.groups.get(&key).copied().unwrap_or_default() != seen {
            return None;
        }
        Some(self.write_group(&mut state, key, value))
    }

    pub(super) fn put_raw_group(&self, name: &str, value: &[u8]) {
        let key = format!("{}groups/{name}", self.layout.prefix());
        self.write_group(&mut self.lock(), key, value);
    }

    fn write_group(&self, state: &mut State, key: String, value: &[u8]) -> u64 {
        let revision = state.write(&key, value);
        state.groups.insert(key, revision);
        self.publish(state);
        revision
    }

    pub(super) fn delete(&self, id: &NodeId) {
        let mut state = self.lock();
        state.remove(&self.layout.node(id));
        self.publish(&state);
    }

    pub(super) fn expire_lease_of(&self, id: &NodeId) {
        let lease = self.lock().records.get(&self.layout.node(id)).and_then(|stored| stored.lease);
        if let Some(lease) = lease {
            self.revoke(lease);
        }
    }

    /// Ends a lease and all records bound to it.
    pub(super) fn revoke(&self, lease: u64) {
        let mut state = self.lock();
        state.leases.remove(&lease);
        let bound =
            |(key, stored): (&String, &Stored)| (stored.lease == Some(lease)).then(|| key.clone());
        for key in state.records.iter().filter_map(bound).collect::<Vec<_>>() {
            state.remove(&key);
        }
        self.publish(&state);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing is left half done by a panic: every change is one insertion or removal.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Called with the lock held, so that views go out in the order of their revisions.
    fn publish(&self, state: &State) {
        self.standing.skipped(state.mirror.skipped());
        if let Ok(raw) = state.mirror.raw() {
            self.views.send_replace(Some(raw.view));
        }
    }
}

impl State {
    fn write(&mut self, key: &str, value: &[u8]) -> u64 {
        self.revision += 1;
        let mod_revision = self.revision;
        self.mirror.put(&Entry { key: key.as_bytes(), value, mod_revision, leased: true });
        self.mirror.advance(mod_revision);
        mod_revision
    }

    fn remove(&mut self, key: &str) {
        if self.records.remove(key).is_some() {
            self.revision += 1;
            self.mirror.delete(key.as_bytes());
            self.mirror.advance(self.revision);
        }
    }
}

/// Ends a lease when its time is over, whether or not its owner still lives.
async fn end_in_time(shared: Weak<Shared>, lease: u64, ttl: Duration) {
    loop {
        let Some(registry) = shared.upgrade() else { return };
        let Some(ends) = registry.lock().leases.get(&lease).copied() else { return };
        let left = ends.saturating_sub(registry.clock.monotonic());
        if left.is_zero() {
            return registry.revoke(lease);
        }
        drop(registry);
        // The injected clock may run otherwise than the timer: look again before long.
        tokio::time::sleep(left.min(ttl / 3)).await;
    }
}
