//! Lines as text and back. Nothing is read or written here.

use std::{fmt, time::Duration};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::{Ended, Entry, Fault, FaultKind, GroupKind, Line, Value};
use crate::recorder::Op;

/// What can't stand in a word as it is.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// What stands for "nothing".
const NONE: &str = "-";

const KINDS: [(GroupKind, &str); 6] = [
    (GroupKind::CacheAvailable, "cache,1,available"),
    (GroupKind::CacheStrict, "cache,1,strict"),
    (GroupKind::CacheReplicasOne, "cache,2,one"),
    (GroupKind::CacheReplicasAll, "cache,2,all"),
    (GroupKind::Durable, "durable,1"),
    (GroupKind::DurableReplicas, "durable,2"),
];

const FAULTS: [(FaultKind, &str); 2] =
    [(FaultKind::Disturbance, "disturbance"), (FaultKind::OwnerCutOff, "owner-cut-off")];

const OPS: [(Op, &str); 3] = [(Op::Get, "g"), (Op::Set, "s"), (Op::Delete, "d")];

fn name_of<T: PartialEq>(table: &[(T, &'static str)], it: &T) -> &'static str {
    table.iter().find(|(known, _)| known == it).map_or(NONE, |(_, name)| name)
}

fn named<T: Copy>(table: &[(T, &str)], name: &str) -> Option<T> {
    table.iter().find(|(_, known)| *known == name).map(|(it, _)| *it)
}

impl fmt::Display for GroupKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(name_of(&KINDS, self))
    }
}

fn word(text: &str) -> impl fmt::Display {
    utf8_percent_encode(text, ESCAPED)
}

/// Microseconds, rounded down.
fn micros(at: Duration) -> u128 {
    at.as_micros()
}

/// Microseconds, rounded up: an answer is not made earlier.
fn micros_up(at: Duration) -> u128 {
    at.as_nanos().div_ceil(1_000)
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Group(name, kind) => write!(f, "G {} {kind}", word(name)),
            Self::Operation(entry) => entry.fmt(f),
            Self::Fault(Fault { id, at, kind, named, what }) => {
                let kind = name_of(&FAULTS, kind);
                let named = if named.is_empty() { NONE.to_owned() } else { named.join(",") };
                let what = what.replace(['\n', '\r'], " ");
                write!(f, "F {} {id} {kind} {named} {what}", micros(*at))
            }
            Self::Healed(id, at) => write!(f, "H {} {id}", micros(*at)),
        }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (due, sent) = (micros(self.due), micros(self.sent));
        write!(f, "{} {} {} ", name_of(&OPS, &self.op), word(&self.group), word(&self.key))?;
        match &self.value {
            Some(value) => write!(f, "{value}")?,
            None => f.write_str(NONE)?,
        }
        // A preloaded value is due with the beginning of the history and was sent before.
        write!(f, " {due} +{}", sent.saturating_sub(due))?;
        match self.answered {
            Some(answered) => write!(f, " +{} ", micros_up(answered).saturating_sub(sent))?,
            None => write!(f, " {NONE} ")?,
        }
        match &self.ended {
            Ended::Value(value) => write!(f, "={value}")?,
            Ended::Stored => f.write_str("ok")?,
            Ended::Missing => f.write_str("miss")?,
            Ended::Refused(status, code) => write!(f, "{status}/{}", word(code))?,
            Ended::Reset => f.write_str("reset")?,
            Ended::NoAnswer => f.write_str("none")?,
        }
        match self.gateway {
            Some(gateway) => write!(f, " {gateway}"),
            None => write!(f, " {NONE}"),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Other(hash) => write!(f, "#{hash:x}"),
        }
    }
}

/// The words of a line; what is wrong with it is told by which word.
struct Words<'a>(std::str::Split<'a, char>);

impl<'a> Words<'a> {
    fn next(&mut self, what: &str) -> Result<&'a str, String> {
        self.0.next().filter(|word| !word.is_empty()).ok_or_else(|| format!("no {what}"))
    }

    fn parsed<T>(
        &mut self,
        what: &str,
        parse: impl FnOnce(&'a str) -> Option<T>,
    ) -> Result<T, String> {
        let word = self.next(what)?;
        parse(word).ok_or_else(|| format!("'{word}' is no {what}"))
    }

    fn text(&mut self, what: &str) -> Result<String, String> {
        self.parsed(what, decoded)
    }

    fn time(&mut self, what: &str) -> Result<Duration, String> {
        self.parsed(what, |word| word.parse().ok().map(Duration::from_micros))
    }

    /// A time that is given as how much later than another.
    fn later(&mut self, what: &str, than: Duration) -> Result<Option<Duration>, String> {
        self.parsed(what, |word| {
            if word == NONE {
                return Some(None);
            }
            let later = word.strip_prefix('+')?.parse().ok()?;
            Some(Some(than.checked_add(Duration::from_micros(later))?))
        })
    }
}

fn decoded(word: &str) -> Option<String> {
    percent_decode_str(word).decode_utf8().ok().map(Into::into)
}

impl std::str::FromStr for Line {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let mut words = Words(line.split(' '));
        let first = words.next("first word")?;
        let parsed = match first {
            "G" => Self::Group(
                words.text("group")?,
                words.parsed("kind of group", |word| named(&KINDS, word))?,
            ),
            "F" => return fault(words).map(Self::Fault),
            "H" => {
                let at = words.time("time")?;
                Self::Healed(words.parsed("fault", |word| word.parse().ok())?, at)
            }
            _ => match named(&OPS, first) {
                Some(op) => Self::Operation(entry(op, &mut words)?),
                None => return Err(format!("'{first}' is no kind of line")),
            },
        };
        match words.0.next() {
            Some(word) => Err(format!("'{word}' is too much")),
            None => Ok(parsed),
        }
    }
}

fn fault(mut words: Words<'_>) -> Result<Fault, String> {
    let at = words.time("time")?;
    let id = words.parsed("number of a fault", |word| word.parse().ok())?;
    let kind = words.parsed("kind of fault", |word| named(&FAULTS, word))?;
    let allowed = words.next("named refusals")?.split(',').filter(|word| *word != NONE);
    let named = allowed.map(str::to_owned).collect();
    let what = words.0.collect::<Vec<_>>().join(" ");
    Ok(Fault { id, at, kind, named, what })
}

fn entry(op: Op, words: &mut Words<'_>) -> Result<Entry, String> {
    let group = words.text("group")?;
    let key = words.text("key")?;
    let value = words.parsed("value", |word| match word {
        NONE => Some(None),
        word => value(word).map(Some),
    })?;
    let due = words.time("time")?;
    let sent = words.later("time of sending", due)?.ok_or("never sent")?;
    let answered = words.later("time of the answer", sent)?;
    let ended = words.parsed("outcome", ended)?;
    let gateway = words.parsed("gateway", |word| match word {
        NONE => Some(None),
        word => word.parse().ok().map(Some),
    })?;
    Ok(Entry { op, group, key, value, due, sent, answered, ended, gateway })
}

fn value(word: &str) -> Option<Value> {
    match word.strip_prefix('#') {
        Some(hash) => u64::from_str_radix(hash, 16).ok().map(Value::Other),
        None => word.parse().ok().map(Value::Number),
    }
}

fn ended(word: &str) -> Option<Ended> {
    Some(match word {
        "ok" => Ended::Stored,
        "miss" => Ended::Missing,
        "reset" => Ended::Reset,
        "none" => Ended::NoAnswer,
        word => match word.strip_prefix('=') {
            Some(found) => Ended::Value(value(found)?),
            None => {
                let (status, code) = word.split_once('/')?;
                Ended::Refused(status.parse().ok()?, decoded(code)?)
            }
        },
    })
}
