//! The origin of kind `static`: a table in the configuration.
//!
//! For demos, tests and small constant data. The table never changes while the group lives.

use std::collections::{BTreeMap, HashMap};

use foldhash::fast::RandomState;

use super::Loaded;

/// The content type of a table's values.
pub const TEXT: &str = "text/plain";

#[derive(Debug)]
pub(crate) struct Fixed {
    values: HashMap<String, String, RandomState>,
}

impl Fixed {
    pub(crate) fn new(values: &BTreeMap<String, String>) -> Self {
        Self { values: values.iter().map(|(k, v)| (k.clone(), v.clone())).collect() }
    }

    pub(crate) fn load(&self, key: &str) -> Option<Loaded<'_>> {
        let value = self.values.get(key)?;
        Some(Loaded { value: value.as_bytes(), content_type: TEXT })
    }
}
