//! HTTP/2 frames, byte by byte.

/// What an HTTP/2 client says first, before its SETTINGS.
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;
/// A type that no version knows.
pub(crate) const UNKNOWN: u8 = 0x77;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// The setting of the window that each stream begins with.
const INITIAL_WINDOW: u16 = 4;

/// One frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// The types and streams of the whole frames in what a server sent.
pub(crate) fn frames(mut bytes: &[u8]) -> impl Iterator<Item = (u8, u32)> {
    std::iter::from_fn(move || {
        let (head, rest) = bytes.split_at_checked(9)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        (_, bytes) = rest.split_at_checked(length as usize)?;
        Some((head[3], u32::from_be_bytes(head[5..].try_into().unwrap())))
    })
}

/// Headers in HPACK, each spelled out. Names and values are shorter than 127 bytes.
pub(crate) fn header_block(headers: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in headers {
        block.push(0);
        for text in [name, value] {
            block.push(text.len() as u8);
            block.extend(text.as_bytes());
        }
    }
    block
}

/// The beginning of a connection whose client takes that much of each response.
pub(crate) fn opening(window: u32) -> Vec<u8> {
    let mut setting = INITIAL_WINDOW.to_be_bytes().to_vec();
    setting.extend(window.to_be_bytes());
    [PREFACE, &frame(SETTINGS, 0, 0, &setting)].concat()
}

/// A whole GET.
pub(crate) fn get(stream: u32, path: &str) -> Vec<u8> {
    let pseudo = [(":method", "GET"), (":scheme", "http"), (":path", path), (":authority", "x")];
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &header_block(&pseudo))
}

/// The head of a gRPC call, whose message is to follow.
pub(crate) fn call(stream: u32, path: &str) -> Vec<u8> {
    let headers = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "x"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    frame(HEADERS, END_HEADERS, stream, &header_block(&headers))
}
