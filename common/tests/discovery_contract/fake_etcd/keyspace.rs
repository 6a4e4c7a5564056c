//! The fake's keys, leases and history: as much of etcd as discovery uses, and honest.
//!
//! Nothing is fast and nothing is kept on a disk. Leases never run out by themselves: a test says
//! when. History is kept whole; compacting only makes it inaccessible, as in etcd.

use std::collections::BTreeMap;

use etcd_client::proto::{
    PbCompare, PbDeleteRequest, PbDeleteResponse, PbEvent, PbKeyValue, PbPutRequest, PbPutResponse,
    PbRangeRequest, PbRangeResponse, PbResponseHeader, PbResponseOp, PbTargetUnion, PbTxnOpRequest,
    PbTxnOpResponse, PbTxnRequest, PbTxnRequestOp, PbTxnResponse,
};
use tonic::Status;

/// The types of events.
const PUT: i32 = 0;
const DELETE: i32 = 1;

/// Everything the fake knows.
#[derive(Default)]
pub(super) struct Keyspace {
    revision: i64,
    keys: BTreeMap<Vec<u8>, PbKeyValue>,
    /// One entry per revision, in order.
    history: Vec<(i64, Vec<PbEvent>)>,
    compacted: i64,
    /// With the seconds they were granted for.
    leases: BTreeMap<i64, i64>,
    last_lease: i64,
}

impl Keyspace {
    pub(super) fn new() -> Self {
        // As a new etcd, whose first write is revision 2.
        Self { revision: 1, ..Self::default() }
    }

    pub(super) fn header(&self) -> PbResponseHeader {
        PbResponseHeader { cluster_id: 1, member_id: 1, revision: self.revision, raft_term: 1 }
    }

    pub(super) fn revision(&self) -> i64 {
        self.revision
    }

    pub(super) fn compacted(&self) -> i64 {
        self.compacted
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<&PbKeyValue> {
        self.keys.get(key)
    }

    pub(super) fn range(&self, asked: &PbRangeRequest) -> Result<PbRangeResponse, Status> {
        if asked.revision > 0 && asked.revision < self.compacted {
            return Err(Status::out_of_range(
                "etcdserver: mvcc: required revision has been compacted",
            ));
        }
        let now;
        let keys = match asked.revision {
            0 => &self.keys,
            then => {
                now = self.as_of(then);
                &now
            }
        };
        let found = keys.values().filter(|kv| is_within(&kv.key, &asked.key, &asked.range_end));
        let mut kvs: Vec<_> = found.cloned().collect();
        let count = kvs.len();
        if asked.limit > 0 {
            kvs.truncate(asked.limit as usize);
        }
        let more = kvs.len() < count;
        Ok(PbRangeResponse { header: Some(self.header()), kvs, more, count: count as i64 })
    }

    /// The keys as they were.
    fn as_of(&self, revision: i64) -> BTreeMap<Vec<u8>, PbKeyValue> {
        let mut keys = BTreeMap::new();
        for event in self.history.iter().filter(|(at, _)| *at <= revision).flat_map(|(_, e)| e) {
            let kv = event.kv.clone().unwrap();
            match event.r#type {
                DELETE => keys.remove(&kv.key),
                _ => keys.insert(kv.key.clone(), kv),
            };
        }
        keys
    }

    /// Whole revisions from `first` on, as a watch has them.
    pub(super) fn since(&self, first: i64) -> Vec<(i64, Vec<PbEvent>)> {
        self.history.iter().filter(|(at, _)| *at >= first).cloned().collect()
    }

    /// Goes back to what was at an earlier revision, as an etcd that was restored does.
    pub(super) fn rewind(&mut self, revision: i64) {
        self.keys = self.as_of(revision);
        self.history.retain(|(at, _)| *at <= revision);
        self.revision = revision;
    }

    pub(super) fn compact(&mut self, revision: i64) {
        self.compacted = self.compacted.max(revision);
    }

    pub(super) fn put(&mut self, asked: PbPutRequest) -> Result<PbPutResponse, Status> {
        let events = self.put_op(asked, self.revision + 1)?;
        self.commit(events);
        Ok(PbPutResponse { header: Some(self.header()), prev_kv: None })
    }

    pub(super) fn delete(&mut self, asked: &PbDeleteRequest) -> PbDeleteResponse {
        let events = self.delete_op(asked, self.revision + 1);
        let deleted = events.len() as i64;
        self.commit(events);
        PbDeleteResponse { header: Some(self.header()), deleted, prev_kvs: Vec::new() }
    }

    pub(super) fn txn(&mut self, asked: PbTxnRequest) -> Result<PbTxnResponse, Status> {
        let succeeded = asked.compare.iter().all(|compare| self.holds(compare));
        let ops = if succeeded { asked.success } else { asked.failure };
        let at = self.revision + 1;
        let (mut events, mut responses) = (Vec::new(), Vec::new());
        for PbTxnRequestOp { request } in ops {
            let response = match request.unwrap() {
                PbTxnOpRequest::RequestRange(asked) => {
                    PbTxnOpResponse::ResponseRange(self.range(&asked)?)
                }
                PbTxnOpRequest::RequestPut(asked) => {
                    events.extend(self.put_op(asked, at)?);
                    PbTxnOpResponse::ResponsePut(PbPutResponse::default())
                }
                PbTxnOpRequest::RequestDeleteRange(asked) => {
                    events.extend(self.delete_op(&asked, at));
                    PbTxnOpResponse::ResponseDeleteRange(PbDeleteResponse::default())
                }
                PbTxnOpRequest::RequestTxn(_) => {
                    return Err(Status::unimplemented("transactions within transactions"));
                }
            };
            responses.push(PbResponseOp { response: Some(response) });
        }
        self.commit(events);
        Ok(PbTxnResponse { header: Some(self.header()), succeeded, responses })
    }

    pub(super) fn grant(&mut self, seconds: i64) -> i64 {
        self.last_lease += 1;
        self.leases.insert(self.last_lease, seconds);
        self.last_lease
    }

    /// What is left of a lease that is renewed; 0 if there is none.
    pub(super) fn renewed(&self, lease: i64) -> i64 {
        self.leases.get(&lease).copied().unwrap_or(0)
    }

    /// Ends a lease; its keys go with it, in one revision.
    pub(super) fn revoke(&mut self, lease: i64) -> Result<(), Status> {
        if self.leases.remove(&lease).is_none() {
            return Err(no_lease());
        }
        let bound = self.keys.values().filter(|kv| kv.lease == lease);
        let bound: Vec<_> = bound.map(|kv| kv.key.clone()).collect();
        let at = self.revision + 1;
        let one = |key| PbDeleteRequest { key, ..PbDeleteRequest::default() };
        let events = bound.into_iter().flat_map(|key| self.delete_op(&one(key), at)).collect();
        self.commit(events);
        Ok(())
    }

    fn put_op(&mut self, asked: PbPutRequest, at: i64) -> Result<Vec<PbEvent>, Status> {
        let PbPutRequest { key, value, lease, .. } = asked;
        if lease != 0 && !self.leases.contains_key(&lease) {
            return Err(no_lease());
        }
        let before = self.keys.get(&key);
        let kv = PbKeyValue {
            create_revision: before.map_or(at, |kv| kv.create_revision),
            version: before.map_or(0, |kv| kv.version) + 1,
            mod_revision: at,
            key: key.clone(),
            value,
            lease,
        };
        self.keys.insert(key, kv.clone());
        Ok(vec![PbEvent { r#type: PUT, kv: Some(kv), prev_kv: None }])
    }

    fn delete_op(&mut self, asked: &PbDeleteRequest, at: i64) -> Vec<PbEvent> {
        let mut events = Vec::new();
        self.keys.retain(|key, _| {
            let goes = is_within(key, &asked.key, &asked.range_end);
            if goes {
                let kv = PbKeyValue { key: key.clone(), mod_revision: at, ..PbKeyValue::default() };
                events.push(PbEvent { r#type: DELETE, kv: Some(kv), prev_kv: None });
            }
            !goes
        });
        events
    }

    /// A revision is only used up by a change.
    fn commit(&mut self, events: Vec<PbEvent>) {
        if !events.is_empty() {
            self.revision += 1;
            self.history.push((self.revision, events));
        }
    }

    fn holds(&self, compare: &PbCompare) -> bool {
        let kv = self.keys.get(&compare.key);
        let number = |now: fn(&PbKeyValue) -> i64, wanted: i64| kv.map_or(0, now).cmp(&wanted);
        let order = match compare.target_union.as_ref().unwrap() {
            PbTargetUnion::Version(wanted) => number(|kv| kv.version, *wanted),
            PbTargetUnion::CreateRevision(wanted) => number(|kv| kv.create_revision, *wanted),
            PbTargetUnion::ModRevision(wanted) => number(|kv| kv.mod_revision, *wanted),
            PbTargetUnion::Lease(wanted) => number(|kv| kv.lease, *wanted),
            PbTargetUnion::Value(wanted) => match kv {
                Some(kv) => kv.value.cmp(wanted),
                None => return false,
            },
        };
        match compare.result {
            0 => order.is_eq(),
            1 => order.is_gt(),
            2 => order.is_lt(),
            _ => order.is_ne(),
        }
    }
}

/// etcd's ranges: one key without an end, all keys from the first on with an end of one zero byte.
pub(super) fn is_within(key: &[u8], first: &[u8], end: &[u8]) -> bool {
    match end {
        [] => key == first,
        [0] => key >= first,
        end => (first..end).contains(&key),
    }
}

fn no_lease() -> Status {
    Status::not_found("etcdserver: requested lease not found")
}
