//! `/admin`: what changes the cluster, and not a value.
//!
//! Who may call it is the listener's business. What comes with a body has to say that it is JSON, which
//! a page of another site can't make a browser say without being asked first.

mod groups;
mod purge;

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    response::Response,
    routing::{get, post},
};
use common::{
    discovery::MAX_GROUP_RECORD_BYTES,
    error::{Code, Error, Result},
};
use http::{HeaderMap, header};
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
