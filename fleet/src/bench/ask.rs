//! A request, how it goes over the wire, and which answer is right.
//!
//! Every system has its own dialect for the same wish; a system that can't do what is wished for
//! has none.

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde_json::json;

use crate::http::Response;

/// What goes on top of an answer's head and body: the status line with `200 OK`, the empty line.
const STATUS_LINE_BYTES: usize = "HTTP/1.1 200 OK\r\n\r\n".len();
/// `: ` and the line break of a header.
const HEADER_BYTES: usize = 4;
/// How much of a wrong body is shown.
const SHOWN_BYTES: usize = 120;

/// How a system is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// Ringway's own API.
    Ringway {
        /// The group the values are in.
        group: &'static str,
    },
    /// The same reads; nginx's memcached module knows nothing else.
    ReadOnly,
    /// The same reads, all answered with the same bytes.
    Constant,
    /// redis commands as paths.
    Webdis,
}

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// GET, PUT or POST.
    pub method: &'static str,
    /// With the query.
    pub path: String,
    /// Empty for a GET.
    pub body: Bytes,
    /// What a right answer looks like.
    pub expect: Expect,
}

/// The body of a right answer; its status is 2xx in any case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expect {
    /// This one.
    Body(Bytes),
    /// One of this length.
    Length(usize),
    /// One of at least this length.
    AtLeast(usize),
}

impl Dialect {
    /// Reads a key that has this value.
    pub fn get(self, key: &str, value: &Bytes) -> Ask {
        let path = match self {
            Self::Ringway { group } => format!("/api/cache?group={group}&key={key}"),
            Self::ReadOnly | Self::Constant => format!("/api/cache?group=default&key={key}"),
            // The extension asks for the bare value as text.
            Self::Webdis => format!("/GET/{key}.txt"),
        };
        let expect = match self {
            Self::Constant => Expect::Length(value.len()),
            _ => Expect::Body(value.clone()),
        };
        Ask { method: "GET", path, body: Bytes::new(), expect }
    }

    /// Stores a value.
    pub fn put(self, key: &str, value: &Bytes) -> Option<Ask> {
        let path = match self {
            Self::Ringway { group } => format!("/api/cache?group={group}&key={key}"),
            Self::Webdis => format!("/SET/{key}"),
            Self::ReadOnly | Self::Constant => return None,
        };
        Some(Ask { method: "PUT", path, body: value.clone(), expect: Expect::AtLeast(0) })
    }

    /// Reads many keys, whose values have so many bytes together, with one request.
    pub fn batch(self, keys: &[&str], bytes: usize) -> Option<Ask> {
        // Values may be escaped or encoded, which makes them longer, never shorter.
        let expect = Expect::AtLeast(bytes);
        match self {
            Self::Ringway { group } => {
                let gets: Vec<_> =
                    keys.iter().map(|key| json!({"group": group, "key": key})).collect();
                let body = json!({ "get": gets }).to_string().into();
                Some(Ask { method: "POST", path: "/api/cache/batch".to_owned(), body, expect })
            }
            Self::Webdis => {
                let path = format!("/MGET/{}", keys.join("/"));
                Some(Ask { method: "GET", path, body: Bytes::new(), expect })
            }
            Self::ReadOnly | Self::Constant => None,
        }
    }
}

impl Ask {
    /// The whole request as it goes over the wire.
    pub(super) fn wire(&self) -> Vec<u8> {
        let Self { method, path, body, .. } = self;
        let mut wire = format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n");
        if *method != "GET" {
            wire += &format!("Content-Length: {}\r\n", body.len());
        }
        if *method == "POST" {
            wire += "Content-Type: application/json\r\n";
        }
        wire += "\r\n";
        [wire.as_bytes(), body].concat()
    }

    /// The same for a client of ours.
    pub(super) fn request(&self) -> Result<Request<Full<Bytes>>, http::Error> {
        let mut request = Request::builder().method(self.method).uri(&self.path);
        if self.method == "POST" {
            request = request.header("content-type", "application/json");
        }
        request.body(Full::new(self.body.clone()))
    }

    /// What is wrong with an answer, in words.
    pub(super) fn complaint(&self, answer: &Response) -> Option<String> {
        let body = &answer.body;
        let fits = match &self.expect {
            Expect::Body(expected) => body == expected,
            Expect::Length(bytes) => body.len() == *bytes,
            Expect::AtLeast(bytes) => body.len() >= *bytes,
        };
        if (200..300).contains(&answer.status) && fits {
            return None;
        }
        let start = String::from_utf8_lossy(&body[..body.len().min(SHOWN_BYTES)]).into_owned();
        let (status, bytes) = (answer.status, body.len());
        Some(format!("answered {status} with {bytes} bytes that are not the value: {start}"))
    }
}

/// How many bytes an answer had on the wire, at least: what it takes to send a body of unknown
/// length is not counted.
pub(super) fn wire_bytes(answer: &Response) -> usize {
    let headers = answer.headers.iter();
    let headers: usize =
        headers.map(|(name, value)| name.as_str().len() + value.len() + HEADER_BYTES).sum();
    STATUS_LINE_BYTES + headers + answer.body.len()
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    const RINGWAY: Dialect = Dialect::Ringway { group: "default" };

    fn answer(status: u16, body: &'static str) -> Response {
        let headers = HeaderMap::from_iter([(http::header::ETAG, "\"1\"".parse().unwrap())]);
        Response { status, headers, body: body.into() }
    }

    #[test]
    fn every_dialect_says_what_it_can() {
        let value = Bytes::from("v");
        assert_eq!(RINGWAY.get("k", &value).path, "/api/cache?group=default&key=k");
        assert_eq!(Dialect::ReadOnly.get("k", &value).path, RINGWAY.get("k", &value).path);
        assert_eq!(Dialect::Webdis.get("k", &value).path, "/GET/k.txt");
        assert_eq!(Dialect::Webdis.put("k", &value).unwrap().path, "/SET/k");
        assert_eq!(Dialect::Webdis.batch(&["a", "b"], 2).unwrap().path, "/MGET/a/b");
        for dialect in [Dialect::ReadOnly, Dialect::Constant] {
            assert!(dialect.put("k", &value).is_none() && dialect.batch(&["k"], 1).is_none());
        }
        let batch = RINGWAY.batch(&["a", "b"], 2).unwrap();
        let expected = r#"{"get":[{"group":"default","key":"a"},{"group":"default","key":"b"}]}"#;
        assert_eq!((batch.method, &batch.body[..]), ("POST", expected.as_bytes()));
    }

    #[test]
    fn requests_go_out_whole() {
        let put = RINGWAY.put("k", &Bytes::from("value")).unwrap();
        let wire = String::from_utf8(put.wire()).unwrap();
        assert_eq!(
            wire,
            "PUT /api/cache?group=default&key=k HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\n\r\nvalue"
        );
        let get = Dialect::ReadOnly.get("k", &Bytes::new()).wire();
        assert!(get.ends_with(b"Host: 127.0.0.1\r\n\r\n"));
        assert_eq!(put.request().unwrap().method(), "PUT");
    }

    #[test]
    fn a_wrong_answer_is_told() {
        let value = Bytes::from("value");
        let get = RINGWAY.get("k", &value);
        assert_eq!(get.complaint(&answer(200, "value")), None);
        for (status, body) in [(200, "other"), (200, "valu"), (404, "value")] {
            let told = get.complaint(&answer(status, body)).unwrap();
            assert!(told.contains(&status.to_string()) && told.contains(body), "{told}");
        }
        let constant = Dialect::Constant.get("k", &value);
        assert!(constant.complaint(&answer(200, "12345")).is_none());
        assert!(constant.complaint(&answer(200, "1234")).is_some());
        let batch = RINGWAY.batch(&["k"], 5).unwrap();
        assert!(batch.complaint(&answer(200, "123456")).is_none());
        assert!(batch.complaint(&answer(200, "1234")).is_some());
    }

    #[test]
    fn answers_are_weighed_with_their_heads() {
        let wire = "HTTP/1.1 200 OK\r\netag: \"1\"\r\n\r\nvalue";
        assert_eq!(wire_bytes(&answer(200, "value")), wire.len());
    }
}
