//! `/admin/groups`: the groups of the cluster state, shown, made, changed and deleted.
//!
//! A group's ETag is the revision of its definition. What is answered has been written to the cluster
//! state, and this gateway goes by it; nodes follow, at the latest when they are asked for the group.

use axum::{
    Json,
    body::Body,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use common::{
    config::{GroupDefinition, Keys},
    discovery::GroupRecord,
    error::{Code, Error, Result},
    key::GroupName,
    topology::{Defined, When},
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Serialize;

use super::{
    super::{AppState, body, conditional::tags},
    Named, answered, read_json,
};

/// Where a definition comes from, in complaints about it.
const FROM: &str = "request body";

#[derive(Serialize)]
struct Groups<'a> {
    count: usize,
    groups: Vec<Group<'a>>,
}

/// A group as it is defined for the cluster.
#[derive(Serialize)]
struct Group<'a> {
    name: &'a str,
    id: String,
    revision: u64,
    /// Its keys, as in a file. Secrets are the names of the variables that hold them.
    definition: &'a Keys,
}

impl<'a> Group<'a> {
    fn of(name: &'a GroupName, record: &'a GroupRecord) -> Option<Self> {
        let (name, id, revision) = (name.as_str(), record.id.to_string(), record.revision);
        let definition = record.definition.as_ref()?.keys();
        Some(Self { name, id, revision, definition })
    }
}

/// `GET /admin/groups`
pub(super) async fn list(State(worker): AppState) -> Response {
    let topology = worker.cache.topology();
    let groups: Vec<_> =
        topology.groups().iter().filter_map(|(name, record)| Group::of(name, record)).collect();
    Json(Groups { count: groups.len(), groups }).into_response()
}

/// `GET /admin/groups/{name}`
pub(super) async fn show(
    State(worker): AppState,
    Named(name): Named,
    headers: HeaderMap,
) -> Response {
    let shown = || {
        let name = name?;
        let topology = worker.cache.topology();
        let record = topology.group(name.as_str());
        let shown = record.and_then(|record| shown(StatusCode::OK, &name, record));
        let none = || {
            let text = format!("the cluster state defines no group {:?}", name.as_str());
            Error::new(Code::GroupNotFound, text)
        };
        shown.ok_or_else(none)
    };
    match shown() {
        Ok(mut response) if is_known(&headers, &response) => {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            response.headers_mut().remove(header::CONTENT_TYPE);
            response.headers_mut().remove(header::CONTENT_LENGTH);
            response.map(|_| Body::empty())
        }
        Ok(response) => response,
        Err(error) => worker.refuse(&error),
    }
}

/// `PUT /admin/groups/{name}`
pub(super) async fn put(State(worker): AppState, Named(name): Named, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let answer = async {
        let asked = name.and_then(|name| Ok((name, condition(&parts.headers)?)));
        let (name, when) = match asked {
            Ok(asked) => asked,
            Err(error) => {
                body::discard(&parts.headers, body);
                return Err(error);
            }
        };
        let keys: Keys = read_json(&worker, &parts.headers, body).await?;
        let definition = read(&name, &keys)?;
        let topologies = &worker.process.route.topologies;
        let Defined { record, created } = topologies.put_group(&name, &definition, &when).await?;
        let (id, revision) = (record.id, record.revision);
        tracing::info!(group = %name, %id, revision, created, "a group was defined");
        let status = if created { StatusCode::CREATED } else { StatusCode::OK };
        let gone = || Error::new(Code::Internal, "what was written has no definition");
        shown(status, &name, &record).ok_or_else(gone)
    };
    answered(&worker, answer.await)
}

/// `DELETE /admin/groups/{name}`
pub(super) async fn delete(
    State(worker): AppState,
    Named(name): Named,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    body::discard(&parts.headers, body);
    let answer = async {
        let name = name?;
        let when = condition(&parts.headers)?;
        worker.process.route.topologies.delete_group(&name, &when).await?;
        tracing::info!(group = %name, "a group was deleted");
        Ok(StatusCode::NO_CONTENT.into_response())
    };
    answered(&worker, answer.await)
}

/// A definition that may be kept where many can read it.
fn read(name: &GroupName, keys: &Keys) -> Result<GroupDefinition> {
    let read = GroupDefinition::read(name, keys, FROM).and_then(|definition| {
        definition.check_secrets(name, FROM)?;
        Ok(definition)
    });
    read.map_err(|error| {
        let problems: Vec<_> = error.problems().iter().map(ToString::to_string).collect();
        Error::new(Code::InvalidRequest, problems.join("; "))
    })
}

fn shown(status: StatusCode, name: &GroupName, record: &GroupRecord) -> Option<Response> {
    let mut response = (status, Json(Group::of(name, record)?)).into_response();
    // Digits between quotes are a header value.
    if let Ok(tag) = HeaderValue::try_from(format!("\"{}\"", record.revision)) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    Some(response)
}

fn is_known(headers: &HeaderMap, response: &Response) -> bool {
    let tag = response.headers().get(header::ETAG).and_then(|tag| tag.to_str().ok());
    let same = |it: &str| it == "*" || Some(it.trim_start_matches("W/")) == tag;
    tags(headers, &header::IF_NONE_MATCH).any(same)
}

/// What `If-Match` and `If-None-Match` of a write say.
fn condition(headers: &HeaderMap) -> Result<When> {
    let mut when =
        When { if_absent: headers.contains_key(header::IF_NONE_MATCH), ..When::default() };
    if when.if_absent {
        let mut tags = tags(headers, &header::IF_NONE_MATCH).peekable();
        if tags.peek().is_none() || tags.any(|tag| tag != "*") {
            let text = "If-None-Match of a write takes only *, which means: there is no such group";
            return Err(Error::new(Code::InvalidRequest, text));
        }
    }
    if headers.contains_key(header::IF_MATCH) {
        let all: Vec<_> = tags(headers, &header::IF_MATCH).collect();
        when.if_present = all.contains(&"*");
        let revision = |tag: &&str| tag.strip_prefix('"')?.strip_suffix('"')?.parse().ok();
        when.if_revision = all.iter().filter_map(revision).collect();
        if !when.if_present && when.if_revision.is_empty() {
            let text = "If-Match names no ETag of a group";
            return Err(Error::new(Code::PreconditionFailed, text));
        }
    }
    Ok(when)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: header::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, value.parse().unwrap())])
    }

    #[test]
    fn conditions_are_read_as_those_of_values() {
        let of = |name, value: &str| condition(&headers(name, value)).map_err(|it| it.code());
        assert!(of(header::IF_NONE_MATCH, "*").unwrap().if_absent);
        assert!(of(header::IF_MATCH, "*").unwrap().if_present);
        assert_eq!(of(header::IF_MATCH, "\"7\", \"9\"").unwrap().if_revision, [7, 9]);
        assert_eq!(condition(&HeaderMap::new()).unwrap(), When::default());
        assert_eq!(of(header::IF_NONE_MATCH, "\"7\""), Err(Code::InvalidRequest));
        for never in ["", "7", "W/\"7\"", "\"x\""] {
            assert_eq!(of(header::IF_MATCH, never), Err(Code::PreconditionFailed), "{never}");
        }
    }

    #[test]
    fn every_mistake_is_told_in_one_message() {
        let name = GroupName::new("users").unwrap();
        let keys = serde_json::from_str(r#"{"ttl": 5, "capcity": "1MiB"}"#).unwrap();
        let error = read(&name, &keys).unwrap_err();
        assert_eq!(error.code(), Code::InvalidRequest);
        for part in ["groups.users.ttl = 5", "did you mean capacity?", "; "] {
            assert!(error.message().contains(part), "{part}: {error}");
        }
    }
}
