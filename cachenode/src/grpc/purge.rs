//! Purges, as this node's part of what the whole fleet is asked for.
//!
//! What is purged is absent here before anything is waited for. The answer comes when nobody can
//! read it from a near cache any more: the same waiting as a write's (`grpc::recall`), for all keys of the
//! group.

use std::time::Duration;

use common::{
    error::{Code, Error, Result},
    key::{GroupName, MAX_KEY_BYTES},
    link::frame::wire_uuid,
    near::LEASE,
    tags::check_tag,
};
use proto::v1;

use super::NodeService;
use crate::group::Scope;

/// Prefixes and tags of one purge, at most.
const MAX_SCOPES: usize = 16;
/// How long the cluster state may take to be read for a group that is not known here.
const LOOK_TIME: Duration = Duration::from_millis(500);

/// Purges here, and waits until that may be acknowledged. Dropping the future ends the waiting only.
pub(super) async fn purge(
    node: &NodeService,
    request: v1::PurgeRequest,
) -> Result<v1::PurgeResponse> {
    let scopes = scopes(&request)?;
    if node.groups.snapshot().get(&request.group).is_none() {
        // It may have been made a moment ago. What can't be read is as if there were none: whoever does
        // not know a group has nothing of it.
        let group = request.group.clone();
        node.look_for_group(&v1::Request { group, ..v1::Request::default() }, LOOK_TIME).await;
    }
    let groups = node.groups.snapshot();
    let served = groups.get(&request.group).ok_or_else(|| {
        Error::new(Code::GroupNotFound, format!("there is no group {:?}", request.group))
    })?;
    let (purged, mut recall) = served.group.purge(&scopes);
    node.metrics.purges.inc();
    node.purged.notify_one();
    recall.not_before((node.started + LEASE).max(served.not_before));
    node.takeovers.delay_all(node, &mut recall);
    if !recall.is_over(node.clock.monotonic()) {
        node.wait_for(&recall).await;
    }
    Ok(v1::PurgeResponse {
        node_id: node.id.to_string(),
        instance: wire_uuid(node.identity.instance),
        // As late as can be: a member that has joined meanwhile is asked as well.
        epoch: Some(node.topology().epoch.to_wire()),
        entries: purged.entries,
        everything: purged.everything,
    })
}

fn scopes(request: &v1::PurgeRequest) -> Result<Vec<Scope>> {
    let v1::PurgeRequest { group, prefixes, tags } = request;
    GroupName::check(group)?;
    let count = prefixes.len() + tags.len();
    if count > MAX_SCOPES {
        let text = format!("{count} prefixes and tags were given, the most is {MAX_SCOPES}");
        return Err(Error::new(Code::InvalidRequest, text));
    }
    if count == 0 {
        return Ok(vec![Scope::Everything]);
    }
    if prefixes.iter().any(|prefix| prefix.is_empty() || prefix.len() > MAX_KEY_BYTES) {
        let text = format!(
            "a prefix is 1 to {MAX_KEY_BYTES} bytes long; give none at all to purge the group"
        );
        return Err(Error::new(Code::InvalidRequest, text));
    }
    tags.iter().try_for_each(|tag| check_tag(tag))?;
    let prefixes = prefixes.iter().map(|prefix| Scope::Prefix(prefix.as_str().into()));
    let tags = tags.iter().map(|tag| Scope::Tag(tag.as_str().into()));
    Ok(prefixes.chain(tags).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(prefixes: &[&str], tags: &[&str]) -> Result<Vec<Scope>> {
        let own = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        scopes(&v1::PurgeRequest {
            group: "g".to_owned(),
            prefixes: own(prefixes),
            tags: own(tags),
        })
    }

    #[test]
    fn a_purge_is_of_what_it_names_or_of_everything() {
        assert_eq!(of(&[], &[]).unwrap(), [Scope::Everything]);
        let both = [Scope::Prefix("a/".into()), Scope::Tag("t".into())];
        assert_eq!(of(&["a/"], &["t"]).unwrap(), both);
    }

    #[test]
    fn what_can_not_be_purged_is_refused_and_not_taken_for_everything() {
        for (prefixes, tags, why) in [
            (&[""][..], &[][..], "give none at all to purge the group"),
            (&[], &["a,b"], "visible ASCII characters without a comma"),
            (&["a"; MAX_SCOPES], &["b"], "the most is 16"),
        ] {
            let error = of(prefixes, tags).unwrap_err();
            assert_eq!(error.code(), Code::InvalidRequest);
            assert!(error.message().contains(why), "{error}");
        }
    }
}
