//! All groups of a node, by name.
//!
//! The map is immutable: who follows changing definitions builds the next one and swaps it.
//! Whether a key belongs to this node is not asked here.

use std::{collections::HashMap, sync::Arc};

use common::{
    clock::Clock,
    entry::HybridClock,
    key::{GroupName, NameError},
};
use foldhash::fast::RandomState;

use crate::{
    group::{Definition, Group},
    loans::LoanMetrics,
};

/// The group that every node has, whatever its configuration says.
pub const DEFAULT_GROUP: &str = "default";

/// A node's groups.
#[derive(Debug)]
pub struct Groups {
    by_name: HashMap<GroupName, Arc<Group>, RandomState>,
    loans: LoanMetrics,
}

impl Groups {
    /// Builds the groups; a definition of a name that came before replaces it, and
    /// [`DEFAULT_GROUP`] is added with [`Definition::new`]'s settings where it is missing.
    ///
    /// # Errors
    /// None in practice: the one name made here is valid.
    pub fn new(
        definitions: impl IntoIterator<Item = Definition>,
        clock: &Arc<dyn Clock>,
        hybrid: &HybridClock,
    ) -> Result<Self, NameError> {
        let default = Definition::new(GroupName::new(DEFAULT_GROUP)?);
        let loans = LoanMetrics::default();
        let group = |it| Group::counting(it, clock.clone(), hybrid.clone(), &loans);
        let by_name = std::iter::once(default)
            .chain(definitions)
            .map(|definition| (definition.name.clone(), definition))
            .collect::<HashMap<_, _>>()
            .into_iter()
            .map(|(name, it)| (name, Arc::new(group(it))))
            .collect();
        Ok(Self { by_name, loans })
    }

    /// The group of that name.
    pub fn get(&self, name: &str) -> Option<&Arc<Group>> {
        self.by_name.get(name)
    }

    /// What they lend, in numbers.
    pub fn loans(&self) -> &LoanMetrics {
        &self.loans
    }

    /// Every group, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Group>> {
        self.by_name.values()
    }

    /// [`Group::maintain`] for every group. For a ticker, outside the workers.
    pub fn maintain(&self) {
        self.iter().for_each(|group| group.maintain());
    }
}

#[cfg(test)]
mod tests {
    use common::clock::ManualClock;

    use super::*;

    #[test]
    fn the_default_group_exists_and_may_be_defined() {
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::new());
        let hybrid = HybridClock::new(clock.clone());
        let users = Definition::new(GroupName::new("users").unwrap());
        let groups = Groups::new([users], &clock, &hybrid).unwrap();
        assert_eq!(groups.iter().count(), 2);
        assert_eq!(groups.get("users").unwrap().name().as_str(), "users");
        assert!(groups.get("nobody").is_none());
        assert!(groups.get(DEFAULT_GROUP).is_some());

        let small = Definition {
            capacity: 1 << 20,
            ..Definition::new(GroupName::new(DEFAULT_GROUP).unwrap())
        };
        let groups = Groups::new([small.clone()], &clock, &hybrid).unwrap();
        assert_eq!(groups.get(DEFAULT_GROUP).unwrap().definition(), small.into());
        groups.maintain();
    }
}
