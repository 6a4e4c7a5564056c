//! Load tokens: one of all who miss a key brings its value, and stores it only if nothing happened to
//! the key meanwhile.

use axum::response::Response;
use common::{
    error::{Code, Error, Result},
    key::{GroupName, Key},
    serve::Payload,
};
use http::{HeaderMap, HeaderName, HeaderValue, request::Parts};
use tokio::time::Instant;

use super::{Answer, answered};
use crate::{cache::Leased, http::Worker};

/// Carries the token: in the answer to who is to bring the value, and in the request that does.
const LEASE: HeaderName = HeaderName::from_static("ringway-lease");

/// `GET` with `lease=1`.
pub(super) async fn get(
    worker: &Worker,
    parts: &Parts,
    (group, key): (GroupName, Key),
    started: Instant,
) -> Result<Answer> {
    match worker.cache.get_leased(group, key, started).await? {
        Leased::Entry(entry) => answered(worker, entry, parts, started),
        Leased::Token(token) => Ok((to_bring(worker, token), None)),
    }
}

fn to_bring(worker: &Worker, token: u64) -> Response<Payload> {
    let text = "the group has no such key: bring its value, with this Ringway-Lease";
    let mut response = worker.refuse(&Error::new(Code::NotFound, text)).map(Payload::Streamed);
    if let Ok(token) = HeaderValue::from_str(&format!("{token:016x}")) {
        response.headers_mut().insert(LEASE, token);
    }
    response
}

/// The token that a write comes with.
pub(super) fn token(headers: &HeaderMap) -> Result<Option<u64>> {
    let mut given = headers.get_all(LEASE).into_iter();
    let Some(text) = given.next() else { return Ok(None) };
    let is_token = |text: &&str| text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
    let text = text.to_str().ok().filter(is_token).filter(|_| given.next().is_none());
    let token = text.and_then(|text| u64::from_str_radix(text, 16).ok()).filter(|it| *it != 0);
    token.map(Some).ok_or_else(|| {
        let text =
            "Ringway-Lease is not what a GET with lease=1 answers: 16 hexadecimal digits, once";
        Error::new(Code::InvalidRequest, text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[&'static str]) -> Result<Option<u64>> {
        let named = |value: &&'static str| (LEASE, HeaderValue::from_static(value));
        token(&values.iter().map(named).collect())
    }

    #[test]
    fn a_token_is_read_as_it_was_written() {
        assert_eq!(read(&[]).unwrap(), None);
        assert_eq!(read(&["00000000000000ff"]).unwrap(), Some(255));
    }

    #[test]
    fn what_is_no_token_is_refused_and_not_taken_for_none() {
        for bad in [&["ff"][..], &[""], &["0000000000000000"], &["+0000000000000ff"]] {
            assert_eq!(read(bad).unwrap_err().code(), Code::InvalidRequest, "{bad:?}");
        }
        assert!(read(&["00000000000000ff", "00000000000000ff"]).is_err());
    }
}
