//! The origin of kind `static`: a table in the configuration.
//!
//! For demos, tests and small constant data. The table never changes while the group lives.

use std::collections::{BTreeMap, HashMap};

use foldhash::fast::RandomState;

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

    /// The value of `key`, which is a [`TEXT`].
    pub(crate) fn load(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(String::as_str)
    }
}
