//! The kinds of values that settings have: how each is read, checked and written.
//!
//! Flags and variables arrive as text and stay text until here, so that `0123` given for a seed is
//! not taken for a number. A file may use TOML's own types or the same text.

use std::{ops::RangeInclusive, time::Duration};

use bytesize::ByteSize;
use figment::value::{Num, Value};

use super::rules::{self, Rule};

/// Most items of a list.
pub(super) const MAX_LIST_ITEMS: usize = 4096;

/// What a setting takes.
#[derive(Debug, Clone)]
pub(super) enum Kind {
    /// A whole number in a range.
    Number(RangeInclusive<u64>),
    /// A number in a range with at most three decimals, kept and bounded in thousandths.
    Decimal(RangeInclusive<u64>),
    /// A count of bytes in a range, written like `64MiB`.
    Size(RangeInclusive<u64>),
    /// A span of time in a range, written like `250ms`.
    Duration(RangeInclusive<Duration>),
    /// The same, in whole seconds.
    Seconds(RangeInclusive<Duration>),
    /// Yes or no.
    Switch,
    /// One of a few words.
    Choice(&'static [&'static str]),
    /// A text with a rule; the first field names the type for people.
    Text(&'static str, Rule),
    /// Several texts with a rule for each.
    List(&'static str, Rule),
    /// A table that says where a group's missing values come from; read by [`super::groups`].
    Origin,
}

/// A value that its kind has accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Parsed {
    Number(u64),
    /// In thousandths.
    Decimal(u64),
    Size(u64),
    Duration(Duration),
    Switch(bool),
    Text(String),
    List(Vec<String>),
}

impl Kind {
    /// Reads a value of any layer. The error says what is wrong with it and how to mend it.
    pub(super) fn parse(&self, value: &Value) -> Result<Parsed, String> {
        match self {
            Self::Number(range) => number(value, range).map(Parsed::Number),
            Self::Decimal(range) => decimal(value, range).map(Parsed::Decimal),
            Self::Size(range) => size(value, range).map(Parsed::Size),
            Self::Duration(range) => duration(value, range).map(Parsed::Duration),
            Self::Seconds(range) => {
                let span = duration(value, range)?;
                match span.subsec_nanos() {
                    0 => Ok(Parsed::Duration(span)),
                    _ => Err("give whole seconds, such as \"10s\"".into()),
                }
            }
            Self::Switch => switch(value).map(Parsed::Switch),
            Self::Choice(words) => choice(value, words).map(Parsed::Text),
            Self::Text(_, rule) => {
                let text = text(value)?;
                rule(&text).map(|()| Parsed::Text(text))
            }
            Self::List(_, rule) => {
                let items = list(value)?;
                for item in &items {
                    rule(item).map_err(|wrong| format!("{item:?}: {wrong}"))?;
                }
                rules::distinct(&items).map(|()| Parsed::List(items))
            }
            Self::Origin => Err("this is a table of its own".into()),
        }
    }

    /// The type in words, for the reference.
    pub(super) fn in_words(&self) -> String {
        match self {
            Self::Number(range) => format!("number, {} to {}", range.start(), range.end()),
            Self::Decimal(range) => {
                let [from, to] = [range.start(), range.end()].map(|end| decimal_text(*end));
                format!("number with up to three decimals, {from} to {to}")
            }
            Self::Size(range) => {
                format!("size, {} to {}", size_text(*range.start()), size_text(*range.end()))
            }
            Self::Duration(range) => format!("duration, {}", span_words(range)),
            Self::Seconds(range) => format!("duration in whole seconds, {}", span_words(range)),
            Self::Switch => "`true` or `false`".into(),
            Self::Choice(words) => {
                words.iter().map(|w| format!("`{w}`")).collect::<Vec<_>>().join(" or ")
            }
            Self::Text(name, _) => (*name).into(),
            Self::List(name, _) => format!("list of {name}"),
            Self::Origin => "table".into(),
        }
    }
}

impl Parsed {
    /// The value as TOML.
    pub(super) fn to_toml(&self) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Decimal(thousandths) => decimal_text(*thousandths),
            Self::Size(bytes) => quoted(&size_text(*bytes)),
            Self::Duration(span) => quoted(&humantime::format_duration(*span).to_string()),
            Self::Switch(on) => on.to_string(),
            Self::Text(text) => quoted(text),
            Self::List(items) => {
                format!("[{}]", items.iter().map(|i| quoted(i)).collect::<Vec<_>>().join(", "))
            }
        }
    }
}

/// A text as a TOML string.
pub(super) fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// A name as one step of a TOML key.
pub(super) fn step(name: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if !name.is_empty() && name.chars().all(bare) { name.to_owned() } else { quoted(name) }
}

/// A count of bytes, exactly, in the largest unit that divides it.
pub(super) fn size_text(bytes: u64) -> String {
    let units = [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.iter().find(|(unit, _)| bytes > 0 && bytes.is_multiple_of(*unit)) {
        Some((unit, name)) => format!("{}{name}", bytes / unit),
        None => format!("{bytes}B"),
    }
}

/// Thousandths as a decimal number, without more digits than it needs.
fn decimal_text(thousandths: u64) -> String {
    let text = format!("{}.{:03}", thousandths / 1000, thousandths % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn span_words(range: &RangeInclusive<Duration>) -> String {
    let [from, to] = [range.start(), range.end()].map(|end| humantime::format_duration(*end));
    format!("{from} to {to}")
}

fn number(value: &Value, range: &RangeInclusive<u64>) -> Result<u64, String> {
    let (from, to) = (range.start(), range.end());
    let wrong = || format!("this is not a whole number from {from} to {to}");
    let number = match value {
        Value::Num(_, number) => whole(number),
        // `parse` takes a leading '+', people do not write one.
        Value::String(_, text) if text.bytes().all(|b| b.is_ascii_digit()) => text.parse().ok(),
        _ => None,
    };
    number.filter(|number| range.contains(number)).ok_or_else(wrong)
}

fn decimal(value: &Value, range: &RangeInclusive<u64>) -> Result<u64, String> {
    let number = match value {
        // As it was written: the shortest text that means this number.
        Value::Num(_, number) => number
            .to_f64()
            .map(|number| number.to_string())
            .or_else(|| whole(number).map(|number| number.to_string())),
        Value::String(_, text) => Some(text.clone()),
        _ => None,
    };
    let thousandths = number.as_deref().and_then(thousandths);
    thousandths.filter(|thousandths| range.contains(thousandths)).ok_or_else(|| {
        let [from, to] = [range.start(), range.end()].map(|end| decimal_text(*end));
        format!("this is not a number from {from} to {to} with at most three decimals")
    })
}

/// `12.5` as 12,500.
fn thousandths(text: &str) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !is_number(whole) || !is_number(part) || part.len() > 3 {
        return None;
    }
    let whole: u64 = whole.parse().ok()?;
    whole.checked_mul(1000)?.checked_add(format!("{part:0<3}").parse().ok()?)
}

fn size(value: &Value, range: &RangeInclusive<u64>) -> Result<u64, String> {
    let bytes = match value {
        Value::Num(_, number) => whole(number),
        Value::String(_, text) => text.trim().parse().ok().map(|size: ByteSize| size.as_u64()),
        _ => None,
    };
    let bytes = bytes.ok_or("this is not a size; give one like \"64MiB\", or a number of bytes")?;
    if range.contains(&bytes) {
        return Ok(bytes);
    }
    Err(format!("give a size from {} to {}", size_text(*range.start()), size_text(*range.end())))
}

fn duration(value: &Value, range: &RangeInclusive<Duration>) -> Result<Duration, String> {
    let span = match value {
        Value::Num(_, number) if whole(number) == Some(0) => Some(Duration::ZERO),
        Value::String(_, text) => humantime::parse_duration(text.trim()).ok(),
        _ => None,
    };
    let span = span.ok_or("this is not a duration; give a number with its unit, like \"250ms\"")?;
    if range.contains(&span) { Ok(span) } else { Err(format!("give {}", span_words(range))) }
}

fn switch(value: &Value) -> Result<bool, String> {
    match value {
        Value::Bool(_, on) => Ok(*on),
        Value::String(_, text) if text == "true" => Ok(true),
        Value::String(_, text) if text == "false" => Ok(false),
        _ => Err("this is neither true nor false".into()),
    }
}

fn choice(value: &Value, words: &[&str]) -> Result<String, String> {
    let text = text(value)?;
    if words.contains(&text.as_str()) {
        return Ok(text);
    }
    let words: Vec<_> = words.iter().map(|word| format!("{word:?}")).collect();
    Err(format!("there is no such choice; use {}", words.join(" or ")))
}

fn text(value: &Value) -> Result<String, String> {
    match value {
        Value::String(_, text) if text.contains(char::REPLACEMENT_CHARACTER) => {
            Err("this is not UTF-8; write it in UTF-8".into())
        }
        Value::String(_, text) => Ok(text.clone()),
        Value::Char(_, c) => Ok(c.to_string()),
        _ => Err("this is not a text; write it in quotes".into()),
    }
}

/// Reads `a,b` or an array of texts. Blanks around items and empty items of the first form go.
fn list(value: &Value) -> Result<Vec<String>, String> {
    let items: Vec<String> = match value {
        Value::Array(_, items) => items.iter().map(text).collect::<Result<_, _>>()?,
        other => {
            let whole = text(other).map_err(|_| "give an array of texts, or \"a,b\"".to_owned())?;
            whole.split(',').map(|s| s.trim().to_owned()).filter(|s| !s.is_empty()).collect()
        }
    };
    match items.len() {
        0..=MAX_LIST_ITEMS => Ok(items),
        many => Err(format!("the list has {many} items, the most is {MAX_LIST_ITEMS}")),
    }
}

fn whole(number: &Num) -> Option<u64> {
    match number.to_i128() {
        Some(signed) => signed.try_into().ok(),
        None => number.to_u128().and_then(|unsigned| unsigned.try_into().ok()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY_SPAN: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(3600);

    fn read(kind: &Kind, value: impl Into<Value>) -> Option<Parsed> {
        kind.parse(&value.into()).ok()
    }

    #[test]
    fn numbers_come_typed_or_as_text() {
        let kind = Kind::Number(1..=100);
        assert_eq!(read(&kind, 7), Some(Parsed::Number(7)));
        assert_eq!(read(&kind, "007"), Some(Parsed::Number(7)));
        for bad in ["", "0", "101", "+7", "-7", "7.0", "seven", "99999999999999999999"] {
            assert_eq!(read(&kind, bad), None, "{bad}");
        }
        assert_eq!(read(&kind, -7), None);
        assert_eq!(read(&kind, 7.5), None);
        assert_eq!(read(&kind, true), None);
    }

    #[test]
    fn decimals_come_typed_or_as_text_and_are_kept_exactly() {
        let kind = Kind::Decimal(0..=2500);
        let is = |thousandths| Some(Parsed::Decimal(thousandths));
        assert_eq!(read(&kind, 0.1), is(100));
        assert_eq!(read(&kind, 2), is(2000));
        assert_eq!(read(&kind, "2.50"), is(2500));
        assert_eq!(read(&kind, "0.007"), is(7));
        for bad in
            ["", ".", "1.", ".5", "-1", "+1", "2.501", "0.0001", "1e-1", "99999999999999999999"]
        {
            assert_eq!(read(&kind, bad), None, "{bad}");
        }
        assert_eq!(read(&kind, -0.5), None);
        assert_eq!(read(&kind, true), None);
        for (thousandths, text) in [(0, "0"), (100, "0.1"), (2000, "2"), (1007, "1.007")] {
            assert_eq!(decimal_text(thousandths), text);
        }
    }

    #[test]
    fn sizes_have_units_or_count_bytes() {
        let kind = Kind::Size(1..=1 << 30);
        assert_eq!(read(&kind, "64MiB"), Some(Parsed::Size(64 << 20)));
        assert_eq!(read(&kind, "1.5 KiB"), Some(Parsed::Size(1536)));
        assert_eq!(read(&kind, "4096"), Some(Parsed::Size(4096)));
        assert_eq!(read(&kind, 4096), Some(Parsed::Size(4096)));
        for bad in ["", "0", "-1", "64 pounds", "2GiB", "99999999999999999999 EiB"] {
            assert_eq!(read(&kind, bad), None, "{bad}");
        }
    }

    #[test]
    fn durations_have_units_except_nothing() {
        let kind = Kind::Duration(ANY_SPAN);
        let ms = |ms| Some(Parsed::Duration(Duration::from_millis(ms)));
        assert_eq!(read(&kind, "250ms"), ms(250));
        assert_eq!(read(&kind, "1m 30s"), ms(90_000));
        assert_eq!(read(&kind, "0"), ms(0));
        assert_eq!(read(&kind, "0s"), ms(0));
        assert_eq!(read(&kind, 0), ms(0));
        for bad in ["", "10", "-1s", "soon", "2h"] {
            assert_eq!(read(&kind, bad), None, "{bad}");
        }
        assert_eq!(read(&kind, 10), None);
        assert_eq!(read(&Kind::Seconds(ANY_SPAN), "2500ms"), None);
        assert_eq!(read(&Kind::Seconds(ANY_SPAN), "2s"), ms(2000));
    }

    #[test]
    fn lists_are_arrays_or_text_with_commas() {
        let kind = Kind::List("host:port", rules::address);
        let both = Some(Parsed::List(vec!["a:1".into(), "b:2".into()]));
        assert_eq!(read(&kind, "a:1,b:2"), both);
        assert_eq!(read(&kind, " a:1 , b:2, "), both);
        assert_eq!(read(&kind, vec!["a:1", "b:2"]), both);
        assert_eq!(read(&kind, ""), Some(Parsed::List(vec![])));
        assert_eq!(read(&kind, vec![1, 2]), None);
        assert_eq!(read(&kind, "a:1,a:1"), None);
        assert_eq!(read(&kind, vec!["x:1"; MAX_LIST_ITEMS + 1]), None);
    }

    #[test]
    fn sizes_are_written_exactly() {
        for (bytes, text) in [(0, "0B"), (1000, "1000B"), (1 << 10, "1KiB"), (96 << 20, "96MiB")] {
            assert_eq!(size_text(bytes), text);
            assert_eq!(text.parse::<ByteSize>().unwrap().as_u64(), bytes);
        }
    }

    #[test]
    fn text_that_looks_like_a_number_stays_text() {
        let kind = Kind::Text("text", rules::seed);
        assert_eq!(read(&kind, "0123"), Some(Parsed::Text("0123".into())));
        assert_eq!(read(&kind, 123), None, "leading zeros would be lost");
        assert_eq!(read(&kind, "a\u{fffd}"), None, "broken bytes were replaced");
    }
}
