//! Changes that a page of another site makes a browser ask for are refused.
//!
//! A browser sends a POST of another site's page without asking first, as long as it looks like a form, and
//! the person behind it may reach a gateway that the page's author can't. The browser says where a
//! request comes from: by `Sec-Fetch-Site`, older ones and those without TLS only by `Origin`. Whatever is
//! no browser sends neither. Reading is let through, since the page does not get to see the answer.

use common::error::{Code, Error, Result};
use http::{HeaderMap, HeaderName, Method, Uri, header};

/// Where the page stands to the server that is asked.
const SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Lets a request through unless it would change something on behalf of another site.
///
/// # Errors
/// [`Code::Forbidden`]
pub(super) fn check(method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<()> {
    if method.is_safe() || is_from_here(uri, headers) {
        return Ok(());
    }
    let text = "a browser sent this for a page of another site; only pages served from the gateway's \
                own host and port may change anything";
    Err(Error::new(Code::Forbidden, text))
}

fn is_from_here(uri: &Uri, headers: &HeaderMap) -> bool {
    if let Some(site) = headers.get(SITE) {
        // "none": a person typed it.
        return site == "same-origin" || site == "none";
    }
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let asked = headers.get(header::HOST).map(http::HeaderValue::as_bytes);
    let asked = asked.or_else(|| Some(uri.authority()?.as_str().as_bytes()));
    let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    origin.is_some_and(|(_, host)| asked.is_some_and(|it| it.eq_ignore_ascii_case(host.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(method: &Method, headers: &[(HeaderName, &str)]) -> bool {
        let header = |(name, value): &(HeaderName, &str)| (name.clone(), value.parse().unwrap());
        check(method, &Uri::from_static("/"), &headers.iter().map(header).collect()).is_ok()
    }

    #[test]
    fn what_is_no_browser_changes_what_it_likes() {
        for method in [Method::PUT, Method::POST, Method::DELETE] {
            assert!(passes(&method, &[(header::HOST, "gateway:8080")]));
        }
    }

    #[test]
    fn a_browser_changes_nothing_for_other_sites() {
        for (site, may) in
            [("same-origin", true), ("none", true), ("same-site", false), ("cross-site", false)]
        {
            let headers = [(SITE, site), (header::ORIGIN, "https://proxy.example")];
            assert_eq!(passes(&Method::POST, &headers), may, "{site}");
            assert!(passes(&Method::GET, &headers) && passes(&Method::HEAD, &headers));
        }
    }

    #[test]
    fn a_browser_that_tells_no_site_is_judged_by_its_origin() {
        for (origin, may) in [
            ("http://gateway:8080", true),
            ("http://GATEWAY:8080", true),
            ("http://gateway", false),
            ("http://elsewhere:8080", false),
            ("null", false),
        ] {
            let headers = [(header::HOST, "gateway:8080"), (header::ORIGIN, origin)];
            assert_eq!(passes(&Method::POST, &headers), may, "{origin}");
        }
        let uri = Uri::from_static("http://gateway:8080/");
        let headers =
            HeaderMap::from_iter([(header::ORIGIN, "http://gateway:8080".parse().unwrap())]);
        assert!(check(&Method::POST, &uri, &headers).is_ok(), "HTTP/2 has it in its target");
    }
}
