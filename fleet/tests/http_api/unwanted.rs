//! Bodies that nobody wants: whoever sends one still reads why.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::api::{Api, query};

const BODY: usize = 1 << 20;

/// Sends a request whose body begins only once it has been answered, and goes on to its end before
/// the answer is read: its status and code.
async fn late_body(api: &Api, request: &str, header: &str) -> (u16, String) {
    let mut socket = TcpStream::connect(api.fleet.gateway()).await.unwrap();
    let head = format!(
        "{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {BODY}\r\n{header}\r\n"
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    socket.peek(&mut [0]).await.unwrap_or_else(|error| panic!("{request}: {error}"));
    for piece in vec![b'x'; BODY].chunks(16 << 10) {
        let sent = socket.write_all(piece).await;
        sent.unwrap_or_else(|error| panic!("{request}: the body can't be sent: {error}"));
    }
    let mut answer = String::new();
    let read = socket.read_to_string(&mut answer).await;
    read.unwrap_or_else(|error| panic!("{request}: the answer can't be read: {error}"));
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let json: serde_json::Value = serde_json::from_str(body).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, json["error"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn whoever_goes_on_sending_a_refused_body_reads_the_refusal() {
    let api = Api::start().await;
    let target = query("default", "k");
    let long = "x".repeat(8 << 10);
    let other_site = "Sec-Fetch-Site: cross-site\r\n";
    for (request, header, status, code) in [
        ("PUT /api/cache?group=default&key=%FF", "", 400, "invalid_request"),
        ("POST /api/cache/default/", "", 400, "invalid_request"),
        ("GET /api/cache/default/", "", 400, "invalid_request"),
        ("DELETE /api/cache/default/", "", 400, "invalid_request"),
        (&format!("PUT {target}&ttl=soon"), "", 400, "invalid_request"),
        (&format!("PUT {target}"), "If-None-Match: \"x\"\r\n", 400, "invalid_request"),
        (&format!("PUT {target}"), "If-Match: \"x\"\r\n", 412, "precondition_failed"),
        (&format!("PUT {target}"), "Content-Encoding: br\r\n", 415, "unsupported_media"),
        (&format!("PUT {target}&x={long}"), "", 414, "uri_too_long"),
        ("PUT /api/nowhere", "", 404, "not_found"),
        ("PATCH /api/cache/default/k", "", 405, "invalid_request"),
        ("POST /api/nodes", "", 405, "invalid_request"),
        (&format!("POST {target}"), other_site, 403, "forbidden"),
        ("POST /api/cache/batch", other_site, 403, "forbidden"),
        ("POST /admin/groups/default/purge", other_site, 403, "forbidden"),
        ("PUT /admin/groups/g", "If-None-Match: \"7\"\r\n", 400, "invalid_request"),
        ("PUT /admin/groups/%FF", "Content-Type: application/json\r\n", 400, "invalid_request"),
    ] {
        let got = late_body(&api, request, header).await;
        assert_eq!(got, (status, code.to_owned()), "{request} {header}");
    }
}
