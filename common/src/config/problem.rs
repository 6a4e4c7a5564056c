//! What is wrong with a configuration, said so that it can be mended.

use std::{fmt, sync::Arc};

use figment::value::{Num, Value};

use crate::security::MASK;

/// Longest value that a message repeats, in characters.
const MAX_SHOWN: usize = 80;

/// Where a value came from: `flag --x`, `environment RINGWAY_X`, `file PATH` or `default`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin(Arc<str>);

impl Origin {
    pub(super) fn flag(name: &str) -> Self {
        Self(format!("flag --{name}").into())
    }

    pub(super) fn environment(variable: &str) -> Self {
        Self(format!("environment {variable}").into())
    }

    pub(super) fn file(path: &std::path::Path) -> Self {
        Self(format!("file {}", path.display()).into())
    }

    pub(super) fn default() -> Self {
        Self("default".into())
    }

    pub(super) fn named(name: &str) -> Self {
        Self(name.into())
    }

    /// Whether no layer gave the value.
    pub fn is_default(&self) -> bool {
        &*self.0 == "default"
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One mistake: the key, its value, where it was made, and how to mend it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The key as in the file, with its sections.
    pub key: String,
    /// The value as it was given (secrets masked); `None` where the key itself is the mistake.
    pub value: Option<String>,
    /// Which layer the value came from.
    pub origin: Origin,
    /// What is wrong and what would be right.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key)?;
        if let Some(value) = &self.value {
            write!(f, " = {value}")?;
        }
        write!(f, " ({}): {}", self.origin, self.message)
    }
}

/// A configuration that can't be used, with every mistake that was found in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    problems: Vec<Problem>,
}

impl ConfigError {
    pub(super) fn new(problems: Vec<Problem>) -> Self {
        Self { problems }
    }

    /// The mistakes; at least one.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problems.len() {
            1 => write!(f, "the configuration has a mistake:")?,
            many => write!(f, "the configuration has {many} mistakes:")?,
        }
        self.problems.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

impl std::error::Error for ConfigError {}

/// A value as a message repeats it: short, on one line, and masked if it is secret.
pub(super) fn shown(value: &Value, secret: bool) -> String {
    if secret {
        return MASK.to_owned();
    }
    let mut text = as_given(value);
    if let Some((at, _)) = text.char_indices().nth(MAX_SHOWN) {
        text.truncate(at);
        text.push('…');
    }
    text
}

fn as_given(value: &Value) -> String {
    match value {
        Value::String(_, text) => format!("{text:?}"),
        Value::Char(_, c) => format!("{:?}", c.to_string()),
        Value::Bool(_, on) => on.to_string(),
        Value::Num(_, number) => as_number(number),
        Value::Empty(..) => "nothing".into(),
        Value::Dict(..) => "a table".into(),
        Value::Array(_, items) => {
            let items: Vec<_> = items.iter().take(MAX_SHOWN).map(as_given).collect();
            format!("[{}]", items.join(", "))
        }
    }
}

fn as_number(number: &Num) -> String {
    match (number.to_i128(), number.to_u128(), number.to_f64()) {
        (Some(n), ..) => n.to_string(),
        (_, Some(n), _) => n.to_string(),
        (.., Some(n)) => n.to_string(),
        _ => "a number".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_repeated_short_and_on_one_line() {
        assert_eq!(shown(&"a\nb".into(), false), r#""a\nb""#);
        assert_eq!(shown(&"x".repeat(200).into(), false).chars().count(), MAX_SHOWN + 1);
        assert_eq!(shown(&vec!["a", "b"].into(), false), r#"["a", "b"]"#);
        assert_eq!(shown(&(-7).into(), false), "-7");
        assert_eq!(shown(&"sesame".into(), true), MASK);
    }
}
