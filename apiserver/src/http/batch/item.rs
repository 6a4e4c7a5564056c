//! One operation of a batch, from its fields.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use common::{
    error::Error,
    key::{GroupName, Key, NameError},
    route::{Ask, Done, Write},
    tags::Tags,
};
use http::HeaderValue;
use proto::v1::Condition;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::request::Problem;
use crate::http::{body, cache::kept_type, conditional, target};

/// What a text is stored as.
const TEXT: &str = "text/plain";
/// What any other JSON is stored as.
const JSON: &str = "application/json";
const NO_TYPE: &str = "is no content type";

type Result<T> = std::result::Result<T, Problem>;

/// The fields of an item, as they were written.
#[derive(Default)]
pub(super) struct Item<'de> {
    pub(super) group: Option<String>,
    pub(super) key: Option<String>,
    /// Any JSON, `null` included.
    pub(super) value: Option<&'de RawValue>,
    pub(super) value_base64: Option<String>,
    pub(super) encoding: Option<String>,
    pub(super) content_type: Option<String>,
    pub(super) ttl: Option<Ttl>,
    pub(super) if_absent: Option<bool>,
    pub(super) if_match: Option<String>,
    pub(super) tags: Option<Vec<String>>,
}

/// A time to live: seconds, or a text such as `1h`.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected seconds or a text such as \"1h\"")]
pub(super) enum Ttl {
    Seconds(f64),
    Text(String),
}

/// What to ask for, or what an operation comes to that need not be asked for.
pub(super) type Operation = std::result::Result<Ask, Box<Done>>;

fn unless(refusal: Option<Error>, ask: Ask) -> Operation {
    match refusal {
        Some(error) => Err(Box::new(Done::refused(ask, error))),
        None => Ok(ask),
    }
}

impl Item<'_> {
    /// Reads it as a get. `group` is where it belongs if it does not say so itself.
    pub(super) fn get(mut self, group: Option<&GroupName>) -> Result<Ask> {
        let (group, key) = self.names(group)?;
        Ok(Ask::get(group, key))
    }

    /// Reads it as a set. A value that is written in `body` as it is to be stored stays a part of
    /// that.
    pub(super) fn set(
        mut self,
        group: Option<&GroupName>,
        body: &Bytes,
        max_value: impl Fn(&GroupName) -> usize,
    ) -> Result<Operation> {
        let (group, key) = self.names(group)?;
        let mut write = self.write(body)?;
        let limit = max_value(&group);
        let refusal = match self.condition() {
            Ok(_) if write.value.len() > limit => Some(body::too_large(limit)),
            Ok(condition) => {
                write.condition = condition;
                None
            }
            Err(error) => Some(error),
        };
        if refusal.is_some() {
            write.value = Bytes::new();
        }
        Ok(unless(refusal, Ask::set(group, key, write)))
    }

    /// Reads it as a delete.
    pub(super) fn delete(mut self, group: Option<&GroupName>) -> Result<Operation> {
        let (group, key) = self.names(group)?;
        let (condition, refusal) = match self.condition() {
            Ok(condition) => (condition, None),
            Err(error) => (None, Some(error)),
        };
        Ok(unless(refusal, Ask::delete(group, key, condition)))
    }

    fn names(&mut self, group: Option<&GroupName>) -> Result<(GroupName, Key)> {
        let group = match self.group.take() {
            Some(name) => GroupName::new(name).map_err(invalid)?,
            None => group.cloned().ok_or_else(|| missing("group"))?,
        };
        let key = self.key.take().ok_or_else(|| missing("key"))?;
        Ok((group, Key::new(key).map_err(invalid)?))
    }

    /// Its error is one of the operation, not of the batch: the condition can't hold.
    fn condition(&self) -> common::error::Result<Option<Condition>> {
        conditional::of_fields(self.if_absent.unwrap_or_default(), self.if_match.as_deref())
    }

    fn write(&mut self, body: &Bytes) -> Result<Write> {
        let (value, usual_type) = self.stored(body)?;
        let content_type = match self.content_type.take() {
            None => usual_type.to_owned(),
            Some(text) => {
                let value = HeaderValue::from_str(&text);
                let value =
                    value.map_err(|_| Problem::Field("content_type", NO_TYPE.to_owned()))?;
                kept_type(&value).map_err(|error| Problem::Item(error.message().to_owned()))?
            }
        };
        let ttl = self.ttl.take().map(Ttl::duration).transpose()?;
        let tags = self.tags.take().unwrap_or_default();
        let tags = Tags::parse(tags.iter().map(String::as_str));
        let tags = tags.map_err(|error| Problem::Item(error.to_string()))?;
        Ok(Write { value, content_type, tags, ttl, ..Write::default() })
    }

    /// The bytes to store, and their type if nobody says otherwise.
    fn stored(&mut self, body: &Bytes) -> Result<(Bytes, &'static str)> {
        let is_base64 = match self.encoding.as_deref() {
            None => false,
            Some("base64") => true,
            Some(other) => {
                return Err(Problem::Field("encoding", format!("is {other:?}, not base64")));
            }
        };
        match (self.value.take(), self.value_base64.take()) {
            (None, None) => Err(missing("value")),
            (Some(_), Some(_)) => {
                Err(Problem::Field("value", "is given twice, once as value_base64".to_owned()))
            }
            (None, Some(text)) => Ok((decode("value_base64", &text)?, "")),
            (Some(raw), None) if is_base64 => {
                let text: Option<String> = serde_json::from_str(raw.get()).ok();
                let text = text.ok_or_else(|| {
                    Problem::Field("value", "is no text, so it can't be base64".to_owned())
                })?;
                Ok((decode("value", &text)?, ""))
            }
            (Some(raw), None) => json_value(raw.get(), body),
        }
    }
}

/// A text as its UTF-8, any other JSON as it is written.
fn json_value(raw: &str, body: &Bytes) -> Result<(Bytes, &'static str)> {
    let inside = raw.strip_prefix('"').and_then(|raw| raw.strip_suffix('"'));
    match inside {
        None => Ok((body.slice_ref(raw.as_bytes()), JSON)),
        Some(plain) if !plain.contains('\\') => Ok((body.slice_ref(plain.as_bytes()), TEXT)),
        Some(_) => {
            let text: std::result::Result<String, _> = serde_json::from_str(raw);
            let text =
                text.map_err(|error| Problem::Field("value", format!("is no text: {error}")))?;
            Ok((text.into(), TEXT))
        }
    }
}

fn decode(field: &'static str, text: &str) -> Result<Bytes> {
    let bytes = STANDARD.decode(text);
    bytes.map(Bytes::from).map_err(|error| Problem::Field(field, format!("is not base64: {error}")))
}

fn missing(field: &'static str) -> Problem {
    Problem::Field(field, "is missing".to_owned())
}

fn invalid(error: NameError) -> Problem {
    Problem::Item(error.to_string())
}

impl Ttl {
    fn duration(self) -> Result<Duration> {
        let seconds = match self {
            Self::Text(text) => {
                let ttl = target::ttl_of(&text);
                return ttl.map_err(|error| Problem::Item(error.message().to_owned()));
            }
            Self::Seconds(seconds) => seconds,
        };
        let ttl = Duration::try_from_secs_f64(seconds).ok().filter(|ttl| !ttl.is_zero());
        ttl.ok_or_else(|| Problem::Field("ttl", format!("is {seconds}; give a time above zero")))
    }
}
