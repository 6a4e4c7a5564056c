//! The part of an answer that is written and not sent: outcomes as JSON, straight into a buffer.
//!
//! A large value is written piece by piece, so that a page stays about as large as its sender
//! wants it, whatever a value becomes as JSON (six times itself, if all of it must be escaped).

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use common::{
    error::Error,
    route::{Done, version_of},
};
use proto::v1::{self, Verb};

use super::json::{escape, is_json, is_json_type, number};
use crate::http::conditional::opaque;

/// How much of a value is written at a time, in bytes of it: whole groups of base64.
const PIECE: usize = 48 << 10;

/// The longest punctuation before a first outcome: what opens all three lists.
const FIRST_PUNCTUATION: usize = 40;

const OK: u16 = 200;
const CREATED: u16 = 201;
const NO_CONTENT: u16 = 204;

/// How a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// It is JSON already.
    Json,
    Text,
    Base64,
}

/// A value of which a part is not written yet.
#[derive(Debug)]
struct Rest {
    value: Bytes,
    written: usize,
    form: Form,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Page {
    out: Vec<u8>,
    rest: Option<Rest>,
}

impl Page {
    pub(super) fn len(&self) -> usize {
        self.out.len()
    }

    /// Whether nothing has been written yet but punctuation.
    pub(super) fn is_new(&self) -> bool {
        self.out.len() <= FIRST_PUNCTUATION
    }

    /// Makes room for so many bytes more.
    pub(super) fn reserve(&mut self, bytes: usize) {
        self.out.reserve(bytes);
    }

    /// What is written. The page begins anew.
    pub(super) fn take(&mut self) -> Bytes {
        std::mem::take(&mut self.out).into()
    }

    /// Punctuation.
    pub(super) fn raw(&mut self, json: &str) {
        self.out.extend_from_slice(json.as_bytes());
    }

    /// Whether a value has been begun and not ended.
    pub(super) fn is_within_value(&self) -> bool {
        self.rest.is_some()
    }

    /// Writes an outcome, up to its value if it has one.
    pub(super) fn outcome(&mut self, done: Done) {
        let Done { request, result } = done;
        self.raw("{\"group\":");
        self.text(&request.group);
        self.raw(",\"key\":");
        self.text(&request.key);
        self.raw(",\"status\":");
        number(&mut self.out, status(request.verb(), &result).into());
        match (result, request.verb()) {
            (Err(error), _) => self.failure(&error),
            (Ok(reply), Verb::Get) => self.found(reply),
            (Ok(reply), Verb::Set) => {
                self.etag(&reply);
                self.raw("}");
            }
            (Ok(_), _) => self.raw("}"),
        }
    }

    fn failure(&mut self, error: &Error) {
        self.raw(",\"error\":");
        self.text(error.code().as_str());
        self.raw(",\"message\":");
        self.text(error.message());
        self.raw("}");
    }

    fn found(&mut self, reply: v1::Reply) {
        self.raw(",\"content_type\":");
        self.text(match reply.content_type.as_str() {
            "" => "application/octet-stream",
            stored => stored,
        });
        self.etag(&reply);
        self.raw(",\"age\":");
        number(&mut self.out, reply.age_ms / 1000);
        if reply.ttl_ms > 0 {
            self.raw(",\"ttl\":");
            number(&mut self.out, reply.ttl_ms / 1000);
        }
        let v1::Reply { value, content_type, .. } = reply;
        let form = form(&value, &content_type);
        self.raw(match form {
            Form::Json => ",\"value\":",
            Form::Text => ",\"value\":\"",
            Form::Base64 => ",\"encoding\":\"base64\",\"value\":\"",
        });
        self.rest = Some(Rest { value, written: 0, form });
    }

    /// As in the header of that name, quotes included.
    fn etag(&mut self, reply: &v1::Reply) {
        self.raw(",\"etag\":\"\\\"");
        self.out.extend_from_slice(&opaque(version_of(reply)));
        self.raw("\\\"\"");
    }

    /// Writes the next piece of the value that has been begun; true: that was the last one.
    pub(super) fn go_on(&mut self) -> bool {
        let Some(Rest { value, written, form }) = &mut self.rest else { return true };
        let piece = &value[*written..value.len().min(*written + PIECE)];
        match form {
            Form::Json => self.out.extend_from_slice(piece),
            Form::Text => escape(&mut self.out, piece),
            Form::Base64 => base64(&mut self.out, piece),
        }
        *written += piece.len();
        if *written < value.len() {
            return false;
        }
        let end = if *form == Form::Json { "}" } else { "\"}" };
        self.rest = None;
        self.raw(end);
        true
    }

    fn text(&mut self, text: &str) {
        self.out.push(b'"');
        escape(&mut self.out, text.as_bytes());
        self.out.push(b'"');
    }
}

/// The status of the same operation by itself.
pub(super) fn status(verb: Verb, result: &common::error::Result<v1::Reply>) -> u16 {
    match (result, verb) {
        (Err(error), _) => error.code().http_status().as_u16(),
        (Ok(_), Verb::Get) => OK,
        (Ok(reply), Verb::Set) if reply.created => CREATED,
        (Ok(_), _) => NO_CONTENT,
    }
}

/// JSON as what it is, if it is; text as text; anything else as base64.
fn form(value: &[u8], content_type: &str) -> Form {
    if is_json_type(content_type) && is_json(value) {
        Form::Json
    } else if std::str::from_utf8(value).is_ok() {
        Form::Text
    } else {
        Form::Base64
    }
}

fn base64(out: &mut Vec<u8>, piece: &[u8]) {
    let before = out.len();
    out.resize(before + piece.len().div_ceil(3) * 4, 0);
    // It can't fail: there is room for all of it.
    let written = STANDARD.encode_slice(piece, &mut out[before..]).unwrap_or_default();
    out.truncate(before + written);
}

#[cfg(test)]
mod tests;
