//! For how long an answer may be kept, by what its head says (RFC 9111, 4.2).

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, header};

/// The time that is left; zero: it may not be kept. `None`: it does not say.
pub(super) fn of(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: HeaderName| headers.get(name).and_then(|it: &HeaderValue| it.to_str().ok());
    let directives = headers
        .get_all(header::CACHE_CONTROL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim);
    let (mut shared, mut own) = (None, None);
    for directive in directives {
        let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
        let seconds = || value.trim_matches('"').parse().ok().map(Duration::from_secs);
        match name.to_ascii_lowercase().as_str() {
            "no-store" | "no-cache" | "private" => return Some(Duration::ZERO),
            "s-maxage" => shared = shared.or_else(seconds),
            "max-age" => own = own.or_else(seconds),
            _ => {}
        }
    }
    let lifetime = shared.or(own).or_else(|| {
        let expires = text(header::EXPIRES)?;
        // An invalid date, such as 0, is one in the past.
        let Ok(expires) = httpdate::parse_http_date(expires) else { return Some(Duration::ZERO) };
        let date = text(header::DATE).and_then(|date| httpdate::parse_http_date(date).ok())?;
        Some(expires.duration_since(date).unwrap_or_default())
    })?;
    let age = text(header::AGE).and_then(|age| age.trim().parse().ok()).map(Duration::from_secs);
    Some(lifetime.saturating_sub(age.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_says_for_how_long() {
        const DATE: (&str, &str) = ("date", "Sat, 21 Nov 2026 10:00:00 GMT");
        const IN_A_MINUTE: (&str, &str) = ("expires", "Sat, 21 Nov 2026 10:01:00 GMT");
        for (head, seconds) in [
            (&[][..], None),
            (&[("cache-control", "public")], None),
            (&[("cache-control", "max-age=60")], Some(60)),
            (&[("cache-control", "Public, Max-Age=\"60\"")], Some(60)),
            (&[("cache-control", "max-age=60, s-maxage=5")], Some(5)),
            (&[("cache-control", "max-age=60"), ("age", "45")], Some(15)),
            (&[("cache-control", "max-age=60"), ("age", "61")], Some(0)),
            (&[("cache-control", "max-age=60"), ("cache-control", "no-store")], Some(0)),
            (&[("cache-control", "private, max-age=60")], Some(0)),
            (&[("cache-control", "no-cache")], Some(0)),
            (&[DATE, IN_A_MINUTE], Some(60)),
            (&[DATE, IN_A_MINUTE, ("cache-control", "max-age=7")], Some(7)),
            (&[DATE, ("expires", DATE.1)], Some(0)),
            (&[("expires", "0")], Some(0)),
            (&[IN_A_MINUTE], None),
            (&[("cache-control", "max-age=soon")], None),
        ] {
            let mut headers = HeaderMap::new();
            for (name, value) in head {
                let name: HeaderName = name.parse().unwrap();
                headers.append(name, HeaderValue::from_static(value));
            }
            assert_eq!(of(&headers), seconds.map(Duration::from_secs), "{head:?}");
        }
    }
}
