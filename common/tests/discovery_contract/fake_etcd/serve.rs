//! The three services of etcd that discovery calls, with the faults of their endpoint.

use etcd_client::proto::{
    PbCompactionRequest, PbCompactionResponse, PbDeleteRequest, PbDeleteResponse, PbKvService,
    PbLeaseGrantRequest, PbLeaseGrantResponse, PbLeaseKeepAliveRequest, PbLeaseKeepAliveResponse,
    PbLeaseLeasesRequest, PbLeaseLeasesResponse, PbLeaseRevokeRequest, PbLeaseRevokeResponse,
    PbLeaseService, PbLeaseTimeToLiveRequest, PbLeaseTimeToLiveResponse, PbPutRequest,
    PbPutResponse, PbRangeRequest, PbRangeResponse, PbRangeStreamResponse, PbTxnOpRequest,
    PbTxnRequest, PbTxnResponse, PbWatchRequest, PbWatchRequestUnion, PbWatchResponse,
    PbWatchService,
};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{Faults, Lists, Renewals, Service, Watcher, Watches};

/// What is left of a lease by an answer that lies, in seconds.
const NEVER_OVER: i64 = 600;

type Answer<T> = Result<Response<T>, Status>;
type Answers<T> = UnboundedReceiverStream<Result<T, Status>>;

impl Service {
    fn with_faults<T>(&self, look: impl FnOnce(&mut Faults) -> T) -> T {
        look(&mut self.faults.lock().unwrap())
    }

    /// Refuses who requires a leader where there is none.
    fn admit<T>(&self, request: Request<T>) -> Result<T, Status> {
        if self.with_faults(|faults| faults.leaderless)
            && request.metadata().get("hasleader").is_some()
        {
            return Err(Status::unavailable("etcdserver: no leader"));
        }
        Ok(request.into_inner())
    }

    fn needs_room(&self) -> Result<(), Status> {
        if self.with_faults(|faults| faults.no_space) {
            return Err(Status::resource_exhausted("etcdserver: mvcc: database space exceeded"));
        }
        Ok(())
    }

    fn open_watch(
        &self,
        request: PbWatchRequest,
        answers: UnboundedSender<Result<PbWatchResponse, Status>>,
    ) {
        let Some(PbWatchRequestUnion::CreateRequest(asked)) = request.request_union else { return };
        if let Some(slips_in) = self.with_faults(|faults| faults.slips_in.take()) {
            self.change(slips_in);
        }
        let mut shared = self.shared.lock().unwrap();
        shared.watches_opened += 1;
        let header = Some(shared.keyspace.header());
        if self.with_faults(|faults| faults.watches) != Watches::Unanswered {
            let created = PbWatchResponse { header, created: true, ..PbWatchResponse::default() };
            let _ = answers.send(Ok(created));
        }
        let mut watcher =
            Watcher { from: self.faults.clone(), first: asked.key, end: asked.range_end, answers };
        let compacted = shared.keyspace.compacted();
        if asked.start_revision > 0 && asked.start_revision < compacted {
            let told = PbWatchResponse {
                header,
                canceled: true,
                compact_revision: compacted,
                ..PbWatchResponse::default()
            };
            let _ = watcher.answers.send(Ok(told));
            // The stream stays open, and hears nothing any more.
            (watcher.first, watcher.end) = (Vec::new(), Vec::new());
        }
        if asked.start_revision > 0 {
            for (revision, events) in shared.keyspace.since(asked.start_revision) {
                watcher.hears(&shared.keyspace, revision, &events);
            }
        }
        shared.watchers.push(watcher);
    }

    /// The answer to one renewal, if there is one.
    async fn renew(&self, lease: i64) -> Option<PbLeaseKeepAliveResponse> {
        let renewals = self.with_faults(|faults| faults.renewals);
        if let Renewals::Late(by) = renewals {
            tokio::time::sleep(by).await;
        }
        let shared = self.shared.lock().unwrap();
        let ttl = match renewals {
            Renewals::Unanswered => return None,
            Renewals::Granted => NEVER_OVER,
            Renewals::Honest | Renewals::Late(_) => shared.keyspace.renewed(lease),
        };
        let header = Some(shared.keyspace.header());
        Some(PbLeaseKeepAliveResponse { header, id: lease, ttl })
    }
}

#[tonic::async_trait]
impl PbKvService for Service {
    type RangeStreamStream = Answers<PbRangeStreamResponse>;

    async fn range(&self, request: Request<PbRangeRequest>) -> Answer<PbRangeResponse> {
        let asked = self.admit(request)?;
        let shared = self.shared.lock().unwrap();
        let lists = match asked.range_end.is_empty() {
            true => Lists::Honest, // one key is no list
            false => self.with_faults(|faults| faults.lists),
        };
        let mut found = shared.keyspace.range(&asked)?;
        match lists {
            Lists::Honest => {}
            Lists::Empty => {
                (found.kvs, found.more, found.count) = (Vec::new(), false, 0);
            }
            Lists::CutShort if asked.revision > 0 => {
                return Err(Status::unavailable("etcdserver: request timed out"));
            }
            Lists::CutShort => {
                found.kvs.truncate(found.kvs.len().div_ceil(2));
                found.more = true;
            }
        }
        Ok(Response::new(found))
    }

    async fn range_stream(&self, _: Request<PbRangeRequest>) -> Answer<Self::RangeStreamStream> {
        Err(Status::unimplemented("unknown method RangeStream"))
    }

    async fn put(&self, request: Request<PbPutRequest>) -> Answer<PbPutResponse> {
        let asked = self.admit(request)?;
        self.needs_room()?;
        self.change(|keyspace| keyspace.put(asked)).map(Response::new)
    }

    async fn delete_range(&self, request: Request<PbDeleteRequest>) -> Answer<PbDeleteResponse> {
        let asked = self.admit(request)?;
        Ok(Response::new(self.change(|keyspace| keyspace.delete(&asked))))
    }

    async fn txn(&self, request: Request<PbTxnRequest>) -> Answer<PbTxnResponse> {
        let asked = self.admit(request)?;
        let mut ops = asked.success.iter().chain(&asked.failure);
        if ops.any(|op| matches!(op.request, Some(PbTxnOpRequest::RequestPut(_)))) {
            self.needs_room()?;
        }
        self.change(|keyspace| keyspace.txn(asked)).map(Response::new)
    }

    async fn compact(&self, request: Request<PbCompactionRequest>) -> Answer<PbCompactionResponse> {
        let revision = self.admit(request)?.revision;
        self.change(|keyspace| keyspace.compact(revision));
        Ok(Response::new(PbCompactionResponse::default()))
    }
}

#[tonic::async_trait]
impl PbWatchService for Service {
    type WatchStream = Answers<PbWatchResponse>;

    async fn watch(
        &self,
        request: Request<Streaming<PbWatchRequest>>,
    ) -> Answer<Self::WatchStream> {
        let mut asked = self.admit(request)?;
        let (answers, stream) = unbounded_channel();
        let service = self.clone();
        tokio::spawn(async move {
            // One watch to a stream, which ends when the watch is dropped.
            let mut answers = Some(answers);
            while let Ok(Some(request)) = asked.message().await {
                if let Some(answers) = answers.take() {
                    service.open_watch(request, answers);
                }
            }
        });
        Ok(Response::new(UnboundedReceiverStream::new(stream)))
    }
}

#[tonic::async_trait]
impl PbLeaseService for Service {
    type LeaseKeepAliveStream = Answers<PbLeaseKeepAliveResponse>;

    async fn lease_grant(
        &self,
        request: Request<PbLeaseGrantRequest>,
    ) -> Answer<PbLeaseGrantResponse> {
        let ttl = self.admit(request)?.ttl;
        self.needs_room()?;
        let id = self.change(|keyspace| keyspace.grant(ttl));
        Ok(Response::new(PbLeaseGrantResponse { id, ttl, ..PbLeaseGrantResponse::default() }))
    }

    async fn lease_revoke(
        &self,
        request: Request<PbLeaseRevokeRequest>,
    ) -> Answer<PbLeaseRevokeResponse> {
        let lease = self.admit(request)?.id;
        self.change(|keyspace| keyspace.revoke(lease))?;
        Ok(Response::new(PbLeaseRevokeResponse::default()))
    }

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<PbLeaseKeepAliveRequest>>,
    ) -> Answer<Self::LeaseKeepAliveStream> {
        let mut asked = self.admit(request)?;
        let (answers, stream) = unbounded_channel();
        let service = self.clone();
        tokio::spawn(async move {
            while let Ok(Some(PbLeaseKeepAliveRequest { id })) = asked.message().await {
                *service.shared.lock().unwrap().renewals.entry(id).or_default() += 1;
                if let Some(answer) = service.renew(id).await {
                    let _ = answers.send(Ok(answer));
                }
            }
        });
        Ok(Response::new(UnboundedReceiverStream::new(stream)))
    }

    async fn lease_time_to_live(
        &self,
        _: Request<PbLeaseTimeToLiveRequest>,
    ) -> Answer<PbLeaseTimeToLiveResponse> {
        Err(Status::unimplemented("the fake keeps no time"))
    }

    async fn lease_leases(
        &self,
        _: Request<PbLeaseLeasesRequest>,
    ) -> Answer<PbLeaseLeasesResponse> {
        Err(Status::unimplemented("nobody asks for all leases"))
    }
}
