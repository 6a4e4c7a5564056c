//! Which stored values are passed on as JSON, and how texts become JSON.

use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

/// How deep a stored JSON value may be and still be passed on as it is. The answer around it has
/// three levels, and readers that allow only 64 in all are common.
const MAX_DEPTH: usize = 61;

/// Whether a content type is one of JSON.
pub(super) fn is_json_type(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim_ascii();
    let suffix = essence.len().checked_sub("+json".len()).and_then(|at| essence.get(at..));
    essence.eq_ignore_ascii_case("application/json")
        || suffix.is_some_and(|suffix| suffix.eq_ignore_ascii_case("+json"))
}

/// Whether these bytes are JSON that can stand within other JSON without spoiling it for its
/// readers: no deeper than they take, with no number and no text that they can't represent.
pub(super) fn is_json(value: &[u8]) -> bool {
    let mut json = serde_json::Deserializer::from_slice(value);
    Levels(MAX_DEPTH).deserialize(&mut json).is_ok() && json.end().is_ok()
}

/// Reads any JSON so many levels deep, and keeps nothing of it.
#[derive(Clone, Copy)]
struct Levels(usize);

impl Levels {
    fn below<E: de::Error>(self) -> Result<Self, E> {
        self.0.checked_sub(1).map(Self).ok_or_else(|| E::custom("too deep"))
    }
}

impl<'de> DeserializeSeed<'de> for Levels {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, value: D) -> Result<(), D::Error> {
        value.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Levels {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let below = self.below()?;
        while seq.next_element_seed(below)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let below = self.below()?;
        while map.next_entry_seed(below, below)?.is_some() {}
        Ok(())
    }
}

/// Writes a text's bytes as they stand between the quotes of a JSON string. They may be any part
/// of UTF-8: what is escaped is ASCII.
pub(super) fn escape(out: &mut Vec<u8>, mut text: &[u8]) {
    loop {
        let plain = plain_prefix(text);
        out.extend_from_slice(&text[..plain]);
        let Some(&byte) = text.get(plain) else { return };
        match byte {
            b'"' => out.extend_from_slice(br#"\""#),
            b'\\' => out.extend_from_slice(br"\\"),
            b'\n' => out.extend_from_slice(br"\n"),
            b'\r' => out.extend_from_slice(br"\r"),
            b'\t' => out.extend_from_slice(br"\t"),
            _ => {
                let digit = |nibble: u8| b"0123456789abcdef"[usize::from(nibble)];
                out.extend_from_slice(&[
                    b'\\',
                    b'u',
                    b'0',
                    b'0',
                    digit(byte >> 4),
                    digit(byte & 15),
                ]);
            }
        }
        text = &text[plain + 1..];
    }
}

/// How many bytes from the first on need no escape.
fn plain_prefix(text: &[u8]) -> usize {
    // Without branches within a block, the compiler compares all of its bytes at once.
    let (blocks, _) = text.as_chunks::<32>();
    let plain = |block: &&[u8; 32]| !block.iter().fold(false, |any, &byte| any | special(byte));
    let skipped = 32 * blocks.iter().take_while(plain).count();
    let rest = &text[skipped..];
    skipped + rest.iter().position(|&byte| special(byte)).unwrap_or(rest.len())
}

fn special(byte: u8) -> bool {
    (byte < b' ') | (byte == b'"') | (byte == b'\\')
}

/// Writes a whole number.
pub(super) fn number(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut first = digits.len();
    loop {
        first -= 1;
        digits[first] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return out.extend_from_slice(&digits[first..]);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn escaped(text: &str) -> String {
        let mut out = vec![b'"'];
        escape(&mut out, text.as_bytes());
        out.push(b'"');
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn json_types_are_known_by_their_name_or_suffix() {
        for json in [
            "application/json",
            "Application/JSON; charset=utf-8",
            "application/vnd.a+json",
            "+json",
        ] {
            assert!(is_json_type(json), "{json}");
        }
        for other in ["", "text/plain", "application/jsonx", "text/json5", "é+jso", "json"] {
            assert!(!is_json_type(other), "{other}");
        }
    }

    #[test]
    fn only_json_that_any_reader_takes_is_passed_on() {
        for json in ["null", " [1, {\"a\": \"b\"}] ", "1e300", "\"\\ud83d\\ude00\"", "{\"a\":{}}"] {
            assert!(is_json(json.as_bytes()), "{json}");
        }
        for not in ["", "nul", "[1] [2]", "1e999", "\"\\ud800\"", "{\"\\udc00\":1}", "'a'", "[1,]"]
        {
            assert!(!is_json(not.as_bytes()), "{not}");
        }
        assert!(!is_json(b"\"\xff\""));
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(is_json(nested(MAX_DEPTH).as_bytes()));
        assert!(!is_json(nested(MAX_DEPTH + 1).as_bytes()));
        assert!(!is_json(nested(1 << 20).as_bytes()));
    }

    #[test]
    fn whole_numbers_are_written_in_decimals() {
        for value in [0, 7, 10, 1_234_567_890, u64::MAX] {
            let mut out = Vec::new();
            number(&mut out, value);
            assert_eq!(out, value.to_string().as_bytes());
        }
    }

    #[test]
    fn every_character_is_read_back() {
        let all: String = (0..0x300).filter_map(char::from_u32).chain(['\u{2028}', '😀']).collect();
        for shift in 0..40 {
            let text = format!("{}{all}", "x".repeat(shift));
            let back: String = serde_json::from_str(&escaped(&text)).expect("JSON");
            assert_eq!(back, text);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_back(text in ".*", cut in any::<prop::sample::Index>()) {
            let back: String = serde_json::from_str(&escaped(&text)).expect("JSON");
            prop_assert_eq!(&back, &text);
            // In pieces, cut anywhere.
            let (mut whole, mut pieces) = (Vec::new(), Vec::new());
            escape(&mut whole, text.as_bytes());
            let (one, other) = text.as_bytes().split_at(cut.index(text.len() + 1));
            escape(&mut pieces, one);
            escape(&mut pieces, other);
            prop_assert_eq!(whole, pieces);
        }
    }
}
