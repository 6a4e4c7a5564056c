//! `/metrics` of gateways and nodes is OpenMetrics, and counts what happens.

use std::{
    collections::{BTreeMap, HashSet},
    net::SocketAddr,
};

use crate::api::{Api, query};

/// Samples by their name with labels, as written.
type Samples = BTreeMap<String, f64>;

async fn scrape(address: SocketAddr) -> Samples {
    let answer = fleet::http::get(address, "/metrics").await.unwrap();
    assert_eq!(answer.status, 200);
    let content_type = answer.header("content-type").unwrap();
    assert!(content_type.starts_with("application/openmetrics-text; version=1.0.0"));
    parse(&answer.text())
}

/// Reads OpenMetrics text, strictly.
fn parse(text: &str) -> Samples {
    let body = text.strip_suffix("# EOF\n").expect("it ends with # EOF");
    let (mut samples, mut seen, mut family) = (Samples::new(), HashSet::new(), ("", ""));
    for line in body.lines() {
        if let Some(rest) = line.strip_prefix("# ") {
            let [what, name, text] = rest.splitn(3, ' ').collect::<Vec<_>>()[..] else {
                panic!("a comment that says nothing: {line}")
            };
            assert!(seen.insert((what.to_owned(), name.to_owned())), "twice: {line}");
            match what {
                "TYPE" => family = (name, text),
                "HELP" | "UNIT" => {}
                _ => panic!("{line}"),
            }
            assert_eq!(name.split('_').next(), Some("ringway"), "{line}");
        } else {
            let (series, value) = line.rsplit_once(' ').expect("a name and a value");
            check(series, family);
            let value = value.parse().unwrap_or_else(|_| panic!("not a number: {line}"));
            assert_eq!(samples.insert(series.to_owned(), value), None, "twice: {line}");
        }
    }
    samples
}

/// That a series is one of its family.
fn check(series: &str, (family, kind): (&str, &str)) {
    let name = series.split('{').next().unwrap();
    let labels = &series[name.len()..];
    let suffixes: &[&str] = match kind {
        "counter" => &["_total", "_created"],
        "histogram" => &["_bucket", "_sum", "_count", "_created"],
        "gauge" => &[""],
        "info" => &["_info"],
        _ => panic!("{family} is a {kind}"),
    };
    let suffix = name.strip_prefix(family).unwrap_or_else(|| panic!("{name} in {family}"));
    assert!(suffixes.contains(&suffix), "{name} is no {kind}");
    if !labels.is_empty() {
        let inside = labels.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
        for label in inside.expect("braces").split("\",") {
            let (name, value) = label.split_once("=\"").expect("name=\"value\"");
            assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'), "{series}");
            assert!(!value.trim_end_matches('"').contains('"'), "{series}");
        }
    }
}

/// The sum of all series of that name that carry these labels.
fn sum(samples: &Samples, name: &str, labels: &[&str]) -> f64 {
    let wanted = |series: &&String| {
        series.split('{').next() == Some(name) && labels.iter().all(|label| series.contains(label))
    };
    samples.keys().filter(wanted).map(|series| samples[series]).sum()
}

#[test]
#[should_panic(expected = "twice: # TYPE ringway_a")]
fn a_type_told_twice_is_seen() {
    parse("# TYPE ringway_a counter\n# TYPE ringway_a counter\n# EOF\n");
}

#[tokio::test]
async fn requests_are_counted_by_what_became_of_them() {
    let api = Api::start().await;
    let before = scrape(api.fleet.gateway()).await;
    let target = query("default", "counted");
    api.stored(&target, "x").await;
    for _ in 0..3 {
        api.get(&target).await;
    }
    api.get(&query("default", "none")).await;
    api.delete(&target).await;
    let after = scrape(api.fleet.gateway()).await;
    let grew = |name: &str, labels: &[&str]| sum(&after, name, labels) - sum(&before, name, labels);
    for (operation, status, count) in
        [("get", "2xx", 3.0), ("get", "4xx", 1.0), ("set", "2xx", 1.0), ("delete", "2xx", 1.0)]
    {
        let labels = [format!("operation=\"{operation}\""), format!("status=\"{status}\"")];
        let labels: Vec<_> = labels.iter().map(String::as_str).collect();
        assert_eq!(grew("ringway_gateway_requests_total", &labels), count, "{labels:?}");
    }
    let count = "ringway_gateway_request_duration_seconds_count";
    assert_eq!(grew(count, &["operation=\"get\""]), 4.0);
    assert!(grew("ringway_gateway_request_duration_seconds_sum", &[]) > 0.0);
}

#[tokio::test]
async fn nodes_count_each_read_once_whatever_its_lane() {
    let api = Api::start().await;
    for size in [10, 200 << 10] {
        let target = query("default", &format!("of {size}"));
        api.stored(&target, vec![0; size]).await;
        let hits = async || {
            let mut hits = 0.0;
            for node in api.fleet.nodes() {
                let samples = scrape(node.http_address()).await;
                hits += sum(&samples, "ringway_group_hits_total", &["group=\"default\""]);
            }
            hits
        };
        let before = hits().await;
        for _ in 0..3 {
            assert_eq!(api.get(&target).await.body.len(), size);
        }
        assert_eq!(hits().await - before, 3.0, "hits of a value of {size} bytes");
    }
}
