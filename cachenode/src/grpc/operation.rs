//! One operation: from its frame, through the group, to the frame of its answer.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use common::{
    entry::Version,
    error::{Code, Error, Result},
    key::{GroupName, Key},
    link::frame::{BULK_OVER, uuid_of},
    topology::Topology,
};
use proto::v1::{self, Lane, not_started::Reason, op::Kind};

use super::{
    NodeService,
    ownership::{Refusal, Standing, judge},
    passed::Passed,
    unknown::{self, Looked},
};
use crate::{
    group::{
        Authority, Before, Condition, Delete, Found, Group, Item, Leased, Lending, OpId, Partition,
        TOKEN_RETRY, Waiting, Way, Write,
    },
    groups::GroupMap,
    loans::Holder,
};

/// Who sent an operation, and what is known of its way.
pub(super) struct Sender<'a> {
    pub(super) epoch: &'a v1::Epoch,
    /// How long its batch waited on the way.
    pub(super) age: Duration,
    pub(super) lane: Lane,
    pub(super) moment: &'a Moment,
    /// It has heard that this takes longer, and waits for its whole budget.
    pub(super) pending: bool,
    /// Its generation is another one, and this node has read the cluster state because of that.
    pub(super) met: bool,
    /// Whether this node has looked for the request's group because of it.
    pub(super) looked: Looked,
    /// The owner that could not be reached from here either, and whoever else was passed by.
    pub(super) stands_in_for: Option<&'a Passed>,
    /// To whom values may be lent over the stream that it came on.
    pub(super) holder: Option<&'a Arc<Holder>>,
}

impl Sender<'_> {
    /// How long a request of its waits for this node.
    fn patience(&self, request: &v1::Request) -> Duration {
        let is_patient = self.pending || request.verb() == v1::Verb::Get;
        Duration::from_millis(if is_patient { request.budget_ms } else { request.try_ms }.into())
    }
}

/// What holds for all operations of a batch: looked up once, as each look costs its share.
pub(super) struct Moment {
    topology: Arc<Topology>,
    pub(super) now: Duration,
    is_steady: bool,
    pub(super) leaving: bool,
    groups: Arc<GroupMap>,
}

impl Moment {
    pub(super) fn of(node: &NodeService) -> Self {
        let (now, leaving) = (node.clock.monotonic(), node.leaving.is_cancelled());
        // A node that has left does nothing any more, steady or not, and its pulse has ended.
        let is_steady = leaving || node.steady.is_steady(now);
        let groups = node.groups.snapshot();
        Self { topology: node.topology(), now, is_steady, leaving, groups }
    }
}

/// Why an operation can't be done at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Later {
    /// The sender's ring is newer: catch up first.
    Behind,
    /// The sender's ring is of another generation: read the cluster state again first.
    Foreign,
    /// This node stood still: ask the others first.
    Unsteady,
    /// The sender passes over the owner: ask the owner first.
    PassedOver,
    /// The group is not known here as the sender knows it: look for it first.
    Group,
}

/// Why an operation has no answer yet.
#[derive(Debug)]
pub(super) enum NotYet {
    /// Something has to happen before it can be done.
    Later(Later),
    /// Its key is being loaded.
    Loading(Waiting),
}

/// The answer to something this version does not know.
pub(super) fn unsupported(what: &'static str) -> v1::Reply {
    Error::new(Code::Unsupported, format!("this node does not know that {what}")).to_reply()
}

/// The refusal to begin.
pub(super) fn not_started(reason: Reason) -> Kind {
    Kind::NotStarted(v1::NotStarted { reason: reason.into() })
}

/// Does one operation of a stream.
pub(super) fn execute(
    node: &NodeService,
    request: &v1::Request,
    sender: &Sender<'_>,
) -> std::result::Result<Kind, NotYet> {
    if sender.age > sender.patience(request) {
        return Ok(not_started(Reason::Expired));
    }
    match apply_steadily(node, request, sender) {
        Ok(reply) => Ok(Kind::Reply(reply)),
        Err(Failure::Error(error)) => Ok(Kind::Reply(error.to_reply())),
        Err(Failure::NoGroup(error, as_of)) => {
            Ok(Kind::Reply(v1::Reply { version_hi: as_of, ..error.to_reply() }))
        }
        Err(Failure::Refused(Refusal::Moved(moved))) => Ok(Kind::Moved(moved)),
        Err(Failure::Refused(Refusal::NotStarted(reason))) => Ok(not_started(reason)),
        Err(Failure::Refused(Refusal::Later(later))) => Err(NotYet::Later(later)),
        Err(Failure::Loading(waiting)) => Err(NotYet::Loading(waiting)),
    }
}

/// Why an operation has no result.
#[derive(Debug)]
pub(super) enum Failure {
    /// It failed.
    Error(Error),
    /// There is no such group; the revision as of which that is certain, for the sender to look.
    NoGroup(Error, u64),
    /// It was not begun.
    Refused(Refusal),
    /// It is not there yet.
    Loading(Waiting),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

fn apply_steadily(
    node: &NodeService,
    request: &v1::Request,
    sender: &Sender<'_>,
) -> std::result::Result<v1::Reply, Failure> {
    if !sender.moment.is_steady {
        return Err(Refusal::Later(Later::Unsteady).into());
    }
    apply(node, request, sender)
}

/// Does one operation on this node, whoever asks.
fn apply(
    node: &NodeService,
    request: &v1::Request,
    sender: &Sender<'_>,
) -> std::result::Result<v1::Reply, Failure> {
    GroupName::check(&request.group).map_err(Error::from)?;
    Key::check(&request.key).map_err(Error::from)?;
    let group = &unknown::find(&sender.moment.groups, request, sender.looked)?.group;
    match request.verb() {
        v1::Verb::Get => get(node, group, request, sender),
        v1::Verb::Set => set(node, group, request, sender),
        v1::Verb::Delete => delete(node, group, request, sender),
        v1::Verb::Unspecified => Ok(unsupported("verb")),
    }
}

/// By what right this node does the operation, by this topology.
fn authority(
    node: &NodeService,
    topology: &Topology,
    request: &v1::Request,
    sender: &Sender<'_>,
) -> std::result::Result<Authority, Failure> {
    let as_of = topology.epoch.as_of;
    // Whoever asks, and by whatever ring: there may be another owner.
    if node.newer.is_ahead_of(&topology.epoch) {
        return Err(Refusal::Later(Later::Behind).into());
    }
    let standing = judge(topology, &node.id, sender.epoch, request, sender.met);
    if standing == Err(Refusal::Later(Later::Behind)) {
        node.newer.told(sender.epoch);
    }
    let standing = standing?;
    // A node that has left says who owns the key now; where that is not known yet, others may.
    if sender.moment.leaving {
        return Err(Refusal::NotStarted(Reason::Draining).into());
    }
    match (standing, sender.stands_in_for) {
        (Standing::Owner, _) => Ok(Authority::owner(as_of)),
        (Standing::PassedOver, None) => Err(Refusal::Later(Later::PassedOver).into()),
        (Standing::PassedOver, Some(passed)) => {
            let are_the_same =
                passed.are_the_same(topology, &node.id, &request.group, &request.key);
            let moved_on = || Refusal::NotStarted(Reason::CatchingUp).into();
            are_the_same.then(|| Authority::stand_in(as_of)).ok_or_else(moved_on)
        }
    }
}

/// The same for a change, asked when it applies: the key may have another owner by then.
fn authority_now(
    node: &NodeService,
    request: &v1::Request,
    sender: &Sender<'_>,
) -> std::result::Result<Authority, Failure> {
    // A process that is stopped in the middle of a batch may be woken up right here, and a thread that
    // got no processor may come here when the sender has given the operation up.
    let now = node.clock.monotonic();
    if !sender.moment.leaving && !node.steady.is_steady(now) {
        return Err(Refusal::Later(Later::Unsteady).into());
    }
    let (age, patience) =
        (sender.age + now.saturating_sub(sender.moment.now), sender.patience(request));
    // A simple call, which came by no frame, has none.
    if age > patience && !patience.is_zero() {
        return Err(Refusal::NotStarted(Reason::Expired).into());
    }
    authority(node, &node.topology(), request, sender)
}

/// The same for a write. What a stand-in writes is held for those who were passed by from here on, inside the key's
/// critical section: when one of them is heard of, it is either not there yet, and held when it comes, or found and
/// dropped.
fn authority_to_write(
    node: &NodeService,
    request: &v1::Request,
    sender: &Sender<'_>,
) -> std::result::Result<Authority, Failure> {
    let authority = authority_now(node, request, sender)?;
    if authority.is_stand_in() {
        hold(node, request, sender);
    }
    Ok(authority)
}

fn hold(node: &NodeService, request: &v1::Request, sender: &Sender<'_>) {
    let passed = sender.stands_in_for.into_iter().flat_map(Passed::all);
    passed.for_each(|member| node.away.hold(member, &request.group, &request.key));
}

/// By what right this node stores what was loaded for a key; `None`: it may not any more. As a
/// stand-in only by the ring by which it began.
pub(super) fn authority_to_store(
    node: &NodeService,
    group: &str,
    key: &str,
    began: Authority,
) -> Option<Authority> {
    let topology = node.topology();
    if node.leaving.is_cancelled()
        || !node.steady.is_steady_now()
        || node.newer.is_ahead_of(&topology.epoch)
    {
        return None;
    }
    let as_of = topology.epoch.as_of;
    let (owner, _) = topology.owner(group, key)?;
    if topology.member(owner).id == node.id {
        return Some(Authority::owner(as_of));
    }
    Some(began).filter(|_| began.is_stand_in() && began.as_of == as_of)
}

/// What a group does when a key's owner can't be reached.
pub(super) fn partition_of(group: &Group) -> Partition {
    group.definition().partition
}

fn get(
    node: &NodeService,
    group: &Group,
    request: &v1::Request,
    sender: &Sender<'_>,
) -> std::result::Result<v1::Reply, Failure> {
    let Moment { topology, now, .. } = sender.moment;
    let most = most_on(sender.lane);
    if let Some(lent) = lend(node, group, request, sender)? {
        return Ok(lent);
    }
    let allowed = authority(node, topology, request, sender)?;
    let loading = || {
        hold(node, request, sender);
        Ok::<_, Failure>(allowed)
    };
    // An origin is asked by one for all anyway.
    let found = if request.lease && !group.has_origin() {
        let owned = || authority_now(node, request, sender);
        match group.get_leased(most, &request.key, owned)? {
            // Somebody is about to bring another value.
            Leased::Found(Found::Stale(item)) => Found::Hit(item),
            Leased::Found(found) => found,
            Leased::Token(token) => {
                let to_bring = true;
                return Ok(v1::Reply { to_bring, version_lo: token, ..Default::default() });
            }
            Leased::Taken => return Err(absent().retry_after(TOKEN_RETRY).into()),
        }
    } else {
        group.get_up_to(most, &request.key, *now, loading)?
    };
    let item = match found {
        Found::Hit(item) | Found::Loaded(item) => item,
        // The origin has just failed.
        Found::Stale(item) => return Ok(reply_up_to(most, &item, v1::Source::Stale)),
        Found::Absent => return Err(absent().into()),
        Found::Waiting(waiting) => return Err(Failure::Loading(waiting)),
        Found::Failed(error) => return Err(error.into()),
    };
    Ok(reply_up_to(most, &item, source_of(&item)))
}

/// The answer where there is no value.
pub(super) fn absent() -> Error {
    Error::new(Code::NotFound, "the group has no such key")
}

/// How a value came that is not answered because there is no other.
pub(super) fn source_of(item: &Item) -> v1::Source {
    match item.way {
        Way::Kept if item.times.over_for().is_zero() => v1::Source::Hit,
        Way::Kept => v1::Source::Outdated,
        Way::Loaded { before: Before::Nothing, .. } => v1::Source::Loaded,
        Way::Loaded { before: Before::Replaced, .. } => v1::Source::Reloaded,
        Way::Loaded { before: Before::Renewed, .. } => v1::Source::Renewed,
    }
}

/// The answer with a value, as a lane carries it.
pub(super) fn reply_on(lane: Lane, item: &Item, source: v1::Source) -> v1::Reply {
    reply_up_to(most_on(lane), item, source)
}

/// The largest value that a lane carries.
fn most_on(lane: Lane) -> usize {
    if lane == Lane::Small { BULK_OVER } else { usize::MAX }
}

fn reply_up_to(most: usize, item: &Item, source: v1::Source) -> v1::Reply {
    if item.entry.value_len() > most {
        return v1::Reply { use_bulk: true, ..Default::default() };
    }
    value_reply(item, source)
}

/// Reads a value for somebody who wants to hold it; `None`: it is not lent.
fn lend(
    node: &NodeService,
    group: &Group,
    request: &v1::Request,
    sender: &Sender<'_>,
) -> std::result::Result<Option<v1::Reply>, Failure> {
    let Some(holder) = sender.holder.filter(|_| request.loan_ms > 0) else { return Ok(None) };
    let asked = Duration::from_millis(request.loan_ms.into());
    let owned = || authority_now(node, request, sender);
    match group.lend(BULK_OVER, &request.key, holder, asked, owned)? {
        Lending::Refused => Ok(None),
        Lending::Early(waiting) => Err(Failure::Loading(waiting)),
        Lending::Lent(item, loan) => {
            let loan_ms = loan.as_millis() as u32;
            Ok(Some(v1::Reply { loan_ms, ..value_reply(&item, v1::Source::Hit) }))
        }
    }
}

fn value_reply(item: &Item, source: v1::Source) -> v1::Reply {
    let version = item.entry.version();
    v1::Reply {
        version_hi: version.as_of,
        version_lo: version.clock,
        age_ms: millis(item.times.age()),
        // Zero would mean that it never expires.
        ttl_ms: item.times.ttl_left().map_or(0, |left| millis(left).max(1)),
        source: source.into(),
        not_stored: matches!(item.way, Way::Loaded { is_stored: false, .. }),
        stale_ms: item.times.over_for().as_millis().try_into().unwrap_or(u32::MAX),
        value: item.entry.value(),
        content_type: item.entry.content_type().to_owned(),
        ..Default::default()
    }
}

fn set(
    node: &NodeService,
    group: &Group,
    request: &v1::Request,
    sender: &Sender<'_>,
) -> std::result::Result<v1::Reply, Failure> {
    let write = Write {
        key: &request.key,
        value: &request.value,
        content_type: &request.content_type,
        tags: &request.tags,
        ttl: (request.ttl_ms > 0).then(|| Duration::from_millis(request.ttl_ms)),
        condition: condition(request.condition.as_deref())?,
        token: Some(request.lease_token).filter(|token| *token != 0),
        op: op_id(request)?,
    };
    let applied = group.set(&write, || authority_to_write(node, request, sender))?;
    Ok(v1::Reply {
        version_hi: applied.version.as_of,
        version_lo: applied.version.clock,
        created: applied.created,
        ..Default::default()
    })
}

fn delete(
    node: &NodeService,
    group: &Group,
    request: &v1::Request,
    sender: &Sender<'_>,
) -> std::result::Result<v1::Reply, Failure> {
    let condition = condition(request.condition.as_deref())?;
    let delete = Delete { key: &request.key, condition, op: op_id(request)? };
    group.delete(&delete, || authority_to_write(node, request, sender))?;
    Ok(v1::Reply::default())
}

fn condition(wire: Option<&v1::Condition>) -> Result<Condition> {
    let Some(wire) = wire else { return Ok(Condition::default()) };
    let version = |bytes: &Bytes| {
        let malformed = || Error::new(Code::InvalidRequest, "a version is 16 bytes");
        Version::from_bytes(bytes).ok_or_else(malformed)
    };
    Ok(Condition {
        if_absent: wire.if_absent,
        if_present: wire.if_present,
        if_version: wire.if_version.iter().map(version).collect::<Result<_>>()?,
    })
}

fn op_id(request: &v1::Request) -> Result<Option<OpId>> {
    match request.op_link.len() {
        0 => Ok(None),
        16 => Ok(Some(OpId { link: uuid_of(&request.op_link), seq: request.op_seq })),
        // Made up, it could be another client's.
        _ => Err(Error::new(Code::InvalidRequest, "op_link is 16 bytes, or absent")),
    }
}

fn millis(time: Duration) -> u64 {
    time.as_millis() as u64
}
