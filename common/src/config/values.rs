//! The effective value of every key, read and checked one by one, with where each came from.
//!
//! All keys are read whatever happens to one of them, so that one start shows every mistake.

use std::time::Duration;

use super::{
    groups,
    keys::{Fallback, GROUP_KEYS, KEYS, Key},
    kind::{Kind, Parsed},
    layers::{Found, Layers},
    problem::{Origin, Problem, shown},
};
use crate::{key::GroupName, security::Secret};

/// A key's effective value.
pub(super) struct Effective {
    /// The key as in the file.
    pub(super) key: String,
    pub(super) spec: &'static Key,
    /// `None` if the key is not set.
    pub(super) value: Option<Parsed>,
    pub(super) origin: Origin,
}

/// Every key's effective value, in the order of the documentation.
pub(super) struct Values {
    pub(super) all: Vec<Effective>,
    pub(super) groups: Vec<GroupName>,
}

impl Values {
    /// Reads every key. What can't be read is a problem and counts as not set meanwhile.
    pub(super) fn read(layers: &Layers, problems: &mut Vec<Problem>) -> Self {
        let mut all = Vec::with_capacity(KEYS.len());
        for spec in KEYS {
            let path: Vec<_> = spec.path.split('.').collect();
            all.push(read(spec, spec.path.to_owned(), layers.find(&path), problems));
        }
        let mut groups = Vec::new();
        for name in layers.group_names() {
            let path = groups::path(&name);
            match GroupName::new(name.as_str()) {
                Ok(group) => groups.push(group),
                Err(error) => {
                    let origin = groups::origin_of(layers, &name);
                    problems.push(Problem {
                        key: path,
                        value: None,
                        origin,
                        message: error.to_string(),
                    });
                    continue;
                }
            }
            for spec in GROUP_KEYS.iter().filter(|spec| !matches!(spec.kind, Kind::Origin)) {
                let found = layers.find(&["groups", &name, spec.path]);
                all.push(read(spec, format!("{path}.{}", spec.path), found, problems));
            }
        }
        Self { all, groups }
    }

    /// The entry of a key that the table has.
    pub(super) fn entry(&self, key: &str) -> &Effective {
        self.all.iter().find(|entry| entry.key == key).expect("the table has the key")
    }

    /// A problem with the value of a key, found when it was held against others.
    pub(super) fn problem(&self, key: &str, message: impl Into<String>) -> Problem {
        let entry = self.entry(key);
        let value = entry.value.as_ref().filter(|_| !entry.spec.secret).map(Parsed::to_toml);
        Problem { key: key.into(), value, origin: entry.origin.clone(), message: message.into() }
    }

    pub(super) fn number<T: TryFrom<u64>>(&self, key: &str) -> Option<T> {
        match self.entry(key).value {
            Some(Parsed::Number(number)) => number.try_into().ok(),
            _ => None,
        }
    }

    /// In thousandths.
    pub(super) fn decimal<T: TryFrom<u64>>(&self, key: &str) -> Option<T> {
        match self.entry(key).value {
            Some(Parsed::Decimal(thousandths)) => thousandths.try_into().ok(),
            _ => None,
        }
    }

    pub(super) fn size(&self, key: &str) -> Option<u64> {
        match self.entry(key).value {
            Some(Parsed::Size(bytes)) => Some(bytes),
            _ => None,
        }
    }

    pub(super) fn span(&self, key: &str) -> Option<Duration> {
        match self.entry(key).value {
            Some(Parsed::Duration(span)) => Some(span),
            _ => None,
        }
    }

    pub(super) fn switch(&self, key: &str) -> Option<bool> {
        match self.entry(key).value {
            Some(Parsed::Switch(on)) => Some(on),
            _ => None,
        }
    }

    pub(super) fn text(&self, key: &str) -> Option<String> {
        match &self.entry(key).value {
            Some(Parsed::Text(text)) => Some(text.clone()),
            _ => None,
        }
    }

    pub(super) fn secret(&self, key: &str) -> Option<Secret> {
        self.text(key).map(Secret::new)
    }

    pub(super) fn list(&self, key: &str) -> Option<Vec<String>> {
        match &self.entry(key).value {
            Some(Parsed::List(items)) => Some(items.clone()),
            _ => None,
        }
    }
}

fn read(
    spec: &'static Key,
    key: String,
    found: Option<Found>,
    problems: &mut Vec<Problem>,
) -> Effective {
    let found = match (found, spec.fallback) {
        (Some(found), _) => found,
        // Only keys of groups get here: the other defaults are a layer.
        (None, Fallback::Value(text)) => Found { value: text.into(), origin: Origin::default() },
        (None, Fallback::Unset(_)) => {
            return Effective { key, spec, value: None, origin: Origin::default() };
        }
    };
    let value = match spec.kind.parse(&found.value) {
        Ok(value) => Some(value),
        Err(message) => {
            let value = Some(shown(&found.value, spec.secret));
            problems.push(Problem {
                key: key.clone(),
                value,
                origin: found.origin.clone(),
                message,
            });
            None
        }
    };
    Effective { key, spec, value, origin: found.origin }
}
