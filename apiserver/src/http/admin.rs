//! `/admin`: what changes the cluster, and not a value.
//!
//! Who may call it is the listener's business. What comes with a body has to say that it is JSON.

mod groups;
mod purge;

use std::{convert::Infallible, sync::Arc};

use axum::{
    Router,
    body::Body,
    extract::{FromRequestParts, Path},
    response::Response,
    routing::{get, post},
};
use common::{
    discovery::MAX_GROUP_RECORD_BYTES,
    error::{Code, Error, Result},
    key::GroupName,
};
use http::{HeaderMap, header, request::Parts};
use serde::de::DeserializeOwned;

use super::{Worker, body};

/// The routes.
pub(super) fn router() -> Router<Arc<Worker>> {
    let one = get(groups::show).put(groups::put).delete(groups::delete);
    Router::new()
        .route("/admin/groups", get(groups::list))
        .route("/admin/groups/{name}", one)
        .route("/admin/groups/{name}/purge", post(purge::run))
}

/// The group that the path names, or why it names none.
struct Named(Result<GroupName>);

impl FromRequestParts<Arc<Worker>> for Named {
    type Rejection = Infallible;

    async fn from_request_parts(
        parts: &mut Parts,
        worker: &Arc<Worker>,
    ) -> std::result::Result<Self, Infallible> {
        let name = Path::<String>::from_request_parts(parts, worker).await;
        let not_text = |_| {
            let text = format!("the group's name in {} is not UTF-8", parts.uri.path());
            Error::new(Code::InvalidRequest, text)
        };
        Ok(Self(name.map_err(not_text).and_then(|Path(name)| Ok(GroupName::new(name)?))))
    }
}

/// Reads a body of JSON.
async fn read_json<T: DeserializeOwned>(
    worker: &Worker,
    headers: &HeaderMap,
    body: Body,
) -> Result<T> {
    if !is_json(headers) {
        body::discard(headers, body);
        let text = "send the body as JSON, with Content-Type: application/json";
        return Err(Error::new(Code::UnsupportedMedia, text));
    }
    let too_large = |limit| {
        let text = format!("the body is over {limit} bytes");
        Error::new(Code::TooLarge, text)
    };
    let bodies = &worker.process.bodies;
    let whole = body::read_or(headers, body, MAX_GROUP_RECORD_BYTES, bodies, too_large).await?;
    serde_json::from_slice(&whole.bytes).map_err(|error| {
        Error::new(
            Code::InvalidRequest,
            format!("the body is not the JSON that is wanted: {error}"),
        )
    })
}

fn answered(worker: &Worker, answer: Result<Response>) -> Response {
    answer.unwrap_or_else(|error| worker.refuse(&error))
}

fn is_json(headers: &HeaderMap) -> bool {
    let text = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = text.map(|text| text.split(';').next().unwrap_or(text).trim());
    essence.is_some_and(|essence| essence.eq_ignore_ascii_case("application/json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_says_so_is_json() {
        let of = |text: &str| {
            is_json(&HeaderMap::from_iter([(header::CONTENT_TYPE, text.parse().unwrap())]))
        };
        assert!(of("application/json") && of("Application/JSON; charset=utf-8"));
        for other in ["text/plain", "application/jsonp", "application/x-www-form-urlencoded", ""] {
            assert!(!of(other), "{other}");
        }
        assert!(!is_json(&HeaderMap::new()));
    }
}
