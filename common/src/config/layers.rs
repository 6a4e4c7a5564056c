//! The four layers, put on top of each other: flags over environment over file over defaults.
//!
//! figment does the merging and remembers where each value came from. It stays behind this module:
//! every flag and every variable is a provider of its own, so that the origin of a value is exact.

use std::{fs::File, io::Read, path::Path};

use figment::{
    Figment, Metadata, Profile, Provider,
    providers::Format,
    value::{Dict, Map, Value},
};
use serde::de::DeserializeOwned;

use super::{
    flags::FlagValue,
    keys::{Fallback, KEYS},
    problem::{Origin, Problem},
};

/// Largest file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// A variable of the environment that sets a key.
pub(super) struct Variable {
    pub(super) name: String,
    pub(super) path: Vec<String>,
    pub(super) value: String,
}

/// A value and the layer it came from.
pub(super) struct Found {
    pub(super) value: Value,
    pub(super) origin: Origin,
}

/// All layers, merged.
pub(super) struct Layers(Figment);

impl Layers {
    /// Only the defaults.
    pub(super) fn new() -> Self {
        let layer = KEYS.iter().fold(Figment::new(), |layers, key| match key.fallback {
            Fallback::Value(text) => {
                let path: Vec<_> = key.path.split('.').collect();
                layers.merge(Layer::value(Origin::default(), &path, text))
            }
            Fallback::Unset(_) => layers,
        });
        Self(layer)
    }

    /// A file on top.
    pub(super) fn file(self, origin: Origin, content: Dict) -> Self {
        Self(self.0.merge(Layer { origin, content }))
    }

    /// The environment on top.
    pub(super) fn environment(self, variables: &[Variable]) -> Self {
        Self(variables.iter().fold(self.0, |layers, variable| {
            let path: Vec<_> = variable.path.iter().map(String::as_str).collect();
            let origin = Origin::environment(&variable.name);
            layers.merge(Layer::value(origin, &path, variable.value.as_str()))
        }))
    }

    /// The flags on top.
    pub(super) fn flags(self, flags: &[FlagValue]) -> Self {
        Self(flags.iter().fold(self.0, |layers, flag| match &flag.value {
            Some(value) => {
                let path: Vec<_> = flag.key.split('.').collect();
                layers.merge(Layer::value(Origin::flag(flag.flag), &path, value.as_str()))
            }
            None => layers,
        }))
    }

    /// What the uppermost layer that has the path says.
    pub(super) fn find(&self, path: &[&str]) -> Option<Found> {
        let (section, rest) = path.split_first()?;
        let mut value = self.0.find_value(section).ok()?;
        for step in rest {
            value = value.into_dict()?.remove(*step)?;
        }
        let origin = match self.0.get_metadata(value.tag()) {
            Some(metadata) => Origin::named(&metadata.name),
            None => Origin::default(),
        };
        Some(Found { value, origin })
    }

    /// The names of the groups that any layer speaks of, in order.
    pub(super) fn group_names(&self) -> Vec<String> {
        let groups = self.0.find_value("groups").ok().and_then(Value::into_dict);
        groups.unwrap_or_default().into_keys().collect()
    }
}

/// One provider: its content, named by its origin.
struct Layer {
    origin: Origin,
    content: Dict,
}

impl Layer {
    fn value(origin: Origin, path: &[&str], value: impl Into<Value>) -> Self {
        let (section, rest) = path.split_first().unwrap_or((&"", &[]));
        // Not figment's `nest`: that splits at dots, and a group's name may hold some.
        let nested = rest.iter().rev().fold(value.into(), |inner: Value, step| {
            Dict::from([((*step).to_owned(), inner)]).into()
        });
        Self { origin, content: Dict::from([((*section).to_owned(), nested)]) }
    }
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.origin.to_string())
    }

    fn data(&self) -> figment::Result<Map<Profile, Dict>> {
        Ok(Profile::Default.collect(self.content.clone()))
    }
}

/// figment's own TOML is an old one; this is the current.
struct Toml;

impl Format for Toml {
    type Error = toml::de::Error;

    const NAME: &'static str = "TOML";

    fn from_str<T: DeserializeOwned>(text: &str) -> Result<T, Self::Error> {
        toml::from_str(text)
    }
}

/// Reads and parses a file. `named_by` is the flag or variable that names it.
pub(super) fn read_file(path: &Path, named_by: Origin) -> Result<Dict, Problem> {
    let unusable = |message: String| Problem {
        key: "config".into(),
        value: Some(format!("{:?}", path.display().to_string())),
        origin: named_by.clone(),
        message,
    };
    let unreadable =
        |error| unusable(format!("the file can't be read: {error}; give the path of a TOML file"));
    let mut text = String::new();
    let opened = File::open(path).map_err(unreadable)?;
    // Not by the file's length: it may be a pipe.
    let size = opened.take(MAX_FILE_BYTES + 1).read_to_string(&mut text).map_err(unreadable)?;
    if size as u64 > MAX_FILE_BYTES {
        return Err(unusable(format!("the file is too long; the most is {MAX_FILE_BYTES} bytes")));
    }
    Toml::from_str(&text).map_err(|error| unusable(syntax(&text, &error)))
}

/// A mistake of TOML's grammar, without the text around it: that may hold a secret.
fn syntax(text: &str, error: &toml::de::Error) -> String {
    let at = error.span().map_or(0, |span| span.start);
    let before = text.get(..at).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    format!("this is not TOML at line {line}, column {column}: {}", error.message())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_with_dots_in_their_names_are_one_step() {
        let variable = |value: &str| Variable {
            name: "RINGWAY_X".into(),
            path: vec!["groups".into(), "a.b".into(), "ttl".into()],
            value: value.into(),
        };
        let layers = Layers::new().environment(&[variable("1s"), variable("2s")]);
        assert_eq!(layers.group_names(), ["a.b"]);
        let found = layers.find(&["groups", "a.b", "ttl"]).unwrap();
        assert_eq!(found.value.as_str(), Some("2s"));
        assert_eq!(found.origin.to_string(), "environment RINGWAY_X");
    }

    #[test]
    fn a_broken_file_is_located_without_repeating_it() {
        let text = "[ring]\nseed = \"sesame\nvirtual_nodes = 1\n";
        let error = Toml::from_str::<Dict>(text).unwrap_err();
        let message = syntax(text, &error);
        assert!(message.contains("line 2, column"), "{message}");
        assert!(!message.contains("sesame"), "{message}");
    }
}
