//! `POST /admin/groups/{name}/purge`: a group, or what of it has a key prefix or a tag, is absent from
//! then on, on all nodes.

use axum::{
    Json,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use common::{
    error::{Code, Error, Result},
    key::GroupName,
};
use proto::v1::PurgeRequest;
use serde::Serialize;

use super::{
    super::{AppState, body, target},
    Named, answered,
};
use crate::purge::{Part, everywhere};

#[derive(Serialize)]
struct Purged<'a> {
    group: &'a str,
    prefixes: &'a [String],
    tags: &'a [String],
    nodes: Vec<Node>,
}

#[derive(Serialize)]
struct Node {
    id: String,
    /// Entries that the group had there, of whatever key or tag; about.
    entries: u64,
    /// The whole group was purged: that was asked for, or the node remembers too many prefixes and tags.
    everything: bool,
}

/// The handler.
pub(super) async fn run(State(worker): AppState, Named(name): Named, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let answer = async {
        // A body would be meant to say of what: it must not be passed over.
        let not_empty = |_| {
            let text = "a purge takes no body: give prefix= and tag= in the query";
            Error::new(Code::InvalidRequest, text)
        };
        body::read_or(&parts.headers, body, 0, &worker.process.bodies, not_empty).await?;
        let asked = asked(name?, parts.uri.query().unwrap_or_default())?;
        let _survey = worker.process.survey()?;
        let done = everywhere(&worker.process.route, &asked).await?;
        let node =
            |Part { node, entries, everything }| Node { id: node.to_string(), entries, everything };
        let nodes = done.into_iter().map(node).collect();
        let PurgeRequest { group, prefixes, tags } = &asked;
        Ok(Json(Purged { group, prefixes, tags, nodes }).into_response())
    };
    answered(&worker, answer.await)
}

/// What is to be purged. What is not understood is refused: it may have been meant to say that less is.
fn asked(name: GroupName, query: &str) -> Result<PurgeRequest> {
    let group = name.into_string();
    let mut asked = PurgeRequest { group, ..PurgeRequest::default() };
    for (name, value) in target::pairs(query).filter(|pair| *pair != ("", "")) {
        let list = match name {
            "prefix" => &mut asked.prefixes,
            "tag" => &mut asked.tags,
            _ => {
                let text = format!("a purge takes prefix= and tag=, or nothing, but not {name}=");
                return Err(Error::new(Code::InvalidRequest, text));
            }
        };
        list.push(target::form_decode(value, name)?);
    }
    Ok(asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_and_tags_are_read_and_nothing_else() {
        let read = |query| asked("g".parse().unwrap(), query);
        let all = read("").unwrap();
        assert_eq!((all.prefixes.len(), all.tags.len()), (0, 0));
        let some = read("prefix=a%2Fb+c&tag=x&tag=y").unwrap();
        assert_eq!(
            (some.prefixes, some.tags),
            (vec!["a/b c".into()], vec!["x".into(), "y".into()])
        );
        let error = read("prefx=a").unwrap_err();
        assert_eq!(error.message(), "a purge takes prefix= and tag=, or nothing, but not prefx=");
        assert!(read("prefix=%FF").is_err());
        assert!(read("=a").is_err() && read("&").is_ok());
        // An empty one is for the nodes to refuse, and not taken for none.
        assert_eq!(read("prefix=").unwrap().prefixes, [""]);
    }
}
