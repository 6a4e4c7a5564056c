//! Reads along with HTTP/2 and counts the frames that bring no request and no data.
//!
//! SETTINGS, PING, PRIORITY, WINDOW_UPDATE and the like cost their sender a few bytes and the
//! server an answer or a walk through its streams. h2 bounds the frames that make it keep
//! something (resets before a request is taken, CONTINUATION, empty DATA); these it takes for ever.
//! Only types and lengths are looked at here: whether a frame is a right one is h2's business.

use std::time::Duration;

use tokio::time::Instant;

/// What a client says first that speaks HTTP/2.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEAD: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;

/// Empty-handed frames within [`FLOOD_SPAN`] beyond those that were earned.
const FLOOD_FRAMES: u64 = 10_000;
/// The time over which they are counted.
const FLOOD_SPAN: Duration = Duration::from_secs(10);
/// Every so many bytes written to the client earn it a frame: a client that is sent much has to
/// open its window often, and may measure its bandwidth with pings. An answer to a ping is 17.
const EARNING_BYTES: u64 = 64;

/// Where in the client's stream of bytes we are.
#[derive(Debug)]
enum At {
    /// In the preface: so many bytes of it have come.
    Preface(usize),
    /// In a frame's head, of which so many bytes have come.
    Head([u8; HEAD], usize),
    /// So many bytes before the next frame.
    Payload(u32),
    /// It is not HTTP/2.
    Other,
}

/// The empty-handed frames of one connection.
#[derive(Debug)]
pub(super) struct EmptyFrames {
    at: At,
    count: u64,
    /// When counting began, and how much had been written by then.
    span: (Instant, u64),
}

impl EmptyFrames {
    pub(super) fn new() -> Self {
        Self { at: At::Preface(0), count: 0, span: (Instant::now(), 0) }
    }

    /// Bytes came, and so many have been written since the connection's start. True: enough.
    pub(super) fn flooded(&mut self, bytes: &[u8], written: u64) -> bool {
        self.read(bytes);
        let (since, before) = self.span;
        if self.count <= FLOOD_FRAMES + (written - before) / EARNING_BYTES {
            return false;
        }
        // The clock is read only here: for most connections never.
        let now = Instant::now();
        let flooded = now - since < FLOOD_SPAN;
        (self.count, self.span) = (0, (now, written));
        flooded
    }

    fn read(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            bytes = match &mut self.at {
                At::Other => return,
                At::Preface(have) => {
                    let (now, rest) = bytes.split_at(bytes.len().min(PREFACE.len() - *have));
                    let expected = &PREFACE[*have..*have + now.len()];
                    *have += now.len();
                    if now != expected {
                        self.at = At::Other;
                    } else if *have == PREFACE.len() {
                        self.at = At::Head([0; HEAD], 0);
                    }
                    rest
                }
                At::Head(head, have) => {
                    let (now, rest) = bytes.split_at(bytes.len().min(HEAD - *have));
                    head[*have..*have + now.len()].copy_from_slice(now);
                    *have += now.len();
                    if *have == HEAD {
                        let [a, b, c, kind, ..] = *head;
                        let length = u32::from_be_bytes([0, a, b, c]);
                        self.count += u64::from(!matches!(kind, DATA | HEADERS | CONTINUATION));
                        self.at = At::Payload(length);
                    }
                    rest
                }
                At::Payload(left) => {
                    let (now, rest) = bytes.split_at(bytes.len().min(*left as usize));
                    *left -= now.len() as u32;
                    if *left == 0 {
                        self.at = At::Head([0; HEAD], 0);
                    }
                    rest
                }
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PING: u8 = 6;
    const UNKNOWN: u8 = 0x77;

    fn frame(kind: u8, payload: usize) -> Vec<u8> {
        let mut frame = (payload as u32).to_be_bytes()[1..].to_vec();
        frame.extend([kind, 0, 0, 0, 0, 0]);
        // What looks like a head, to show that payloads are not read.
        frame.resize(HEAD + payload, PING);
        frame
    }

    fn begun() -> EmptyFrames {
        let mut frames = EmptyFrames::new();
        assert!(!frames.flooded(PREFACE, 0));
        frames
    }

    #[tokio::test(start_paused = true)]
    async fn frames_are_told_apart_however_the_bytes_are_cut() {
        let sent =
            [frame(DATA, 300), frame(HEADERS, 20), frame(PING, 8), frame(UNKNOWN, 0), frame(4, 6)];
        let bytes = [&PREFACE[..], &sent.concat()].concat();
        for size in [1, 2, 9, 10, 33, bytes.len()] {
            let mut frames = EmptyFrames::new();
            bytes.chunks(size).for_each(|piece| assert!(!frames.flooded(piece, 0)));
            assert_eq!(frames.count, 3, "in pieces of {size}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn too_many_in_too_short_a_time_are_a_flood() {
        let ping = frame(PING, 8);
        let mut frames = begun();
        for n in 0..=FLOOD_FRAMES {
            assert_eq!(frames.flooded(&ping, 0), n == FLOOD_FRAMES, "{n}");
        }
        // The answers to a flood of pings don't pay for it.
        let mut frames = begun();
        let flood = (1..=2 * FLOOD_FRAMES).any(|n| frames.flooded(&ping, n * 17));
        assert!(flood);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_trickle_or_one_that_goes_with_data_is_none() {
        let ping = frame(PING, 8);
        let mut frames = begun();
        for _ in 0..3 * FLOOD_FRAMES {
            tokio::time::advance(FLOOD_SPAN * 2 / FLOOD_FRAMES as u32).await;
            assert!(!frames.flooded(&ping, 0));
        }
        let mut frames = begun();
        assert!(!(0..3 * FLOOD_FRAMES).any(|n| frames.flooded(&ping, n * EARNING_BYTES)));
        let mut frames = begun();
        let data = frame(DATA, 1);
        assert!(!(0..3 * FLOOD_FRAMES).any(|_| frames.flooded(&data, 0)));
    }

    #[tokio::test(start_paused = true)]
    async fn other_protocols_have_no_frames() {
        let mut frames = EmptyFrames::new();
        let pings = frame(PING, 8).repeat(2 * FLOOD_FRAMES as usize);
        assert!(!frames.flooded(b"PRINT / HTTP/1.1\r\n", 0) && !frames.flooded(&pings, 0));
        assert_eq!(frames.count, 0);
    }
}
