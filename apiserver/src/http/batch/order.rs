//! Outcomes in the order of their operations, whatever the order in which they come.

use common::route::Done;

use super::page::Page;

/// What stands before each list, and at the end.
const BEFORE: [&str; 3] = ["{\"get\":[", "],\"set\":[", "],\"delete\":["];
const END: &str = "]}";

/// What is to be written next.
pub(super) enum Turn {
    /// This outcome. What stands before it has been written.
    Outcome(Box<Done>),
    /// One that has not come yet.
    Missing,
    /// Nothing: all is written, the end as well.
    Over,
}

/// See the module. Places count through all lists.
pub(super) struct Order {
    outcomes: Vec<Option<Box<Done>>>,
    next: usize,
    /// The place after each list.
    ends: [usize; 3],
    opened: usize,
    over: bool,
}

impl Order {
    /// For three lists of these lengths.
    pub(super) fn new([gets, sets, deletes]: [usize; 3]) -> Self {
        let ends = [gets, gets + sets, gets + sets + deletes];
        let mut outcomes = Vec::new();
        outcomes.resize_with(ends[2], || None);
        Self { outcomes, next: 0, ends, opened: 0, over: false }
    }

    pub(super) fn put(&mut self, place: usize, done: Box<Done>) {
        self.outcomes[place] = Some(done);
    }

    /// The place that is written next.
    pub(super) fn next(&self) -> usize {
        self.next
    }

    /// Outcomes that are not written.
    pub(super) fn left(&self) -> usize {
        self.outcomes.len() - self.next
    }

    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// Goes on to the next place.
    pub(super) fn turn(&mut self, page: &mut Page) -> Turn {
        let Some(place) = self.outcomes.get_mut(self.next) else {
            if !std::mem::replace(&mut self.over, true) {
                self.open_lists(page);
                page.raw(END);
            }
            return Turn::Over;
        };
        let Some(done) = place.take() else { return Turn::Missing };
        if !self.open_lists(page) {
            page.raw(",");
        }
        self.next += 1;
        Turn::Outcome(done)
    }

    /// Opens the lists that begin here, and ends those before them. False: none does.
    fn open_lists(&mut self, page: &mut Page) -> bool {
        let before = self.opened;
        while self.opened < BEFORE.len()
            && (self.opened == 0 || self.next == self.ends[self.opened - 1])
        {
            page.raw(BEFORE[self.opened]);
            self.opened += 1;
        }
        self.opened > before
    }
}

#[cfg(test)]
mod tests {
    use common::{
        error::{Code, Error},
        route::Ask,
    };

    use super::*;

    fn done(key: &str) -> Box<Done> {
        let ask = Ask::get("g".parse().expect("a group"), key.parse().expect("a key"));
        Box::new(Done::refused(ask, Error::new(Code::NotFound, "none")))
    }

    /// The keys that a page has of each list.
    fn keys(page: &mut Page) -> [Vec<String>; 3] {
        let json: serde_json::Value = serde_json::from_slice(&page.take()).expect("JSON");
        ["get", "set", "delete"].map(|list| {
            let list = json[list].as_array().expect("a list");
            list.iter().map(|item| item["key"].as_str().expect("a key").to_owned()).collect()
        })
    }

    #[test]
    fn lists_of_any_length_are_written_in_order_whatever_comes_first() {
        for lengths in [[0, 0, 0], [1, 0, 0], [0, 0, 1], [0, 2, 0], [2, 0, 2], [2, 1, 3]] {
            let total: usize = lengths.iter().sum();
            let (mut order, mut page) = (Order::new(lengths), Page::default());
            for place in (0..total).rev() {
                assert!(matches!(order.turn(&mut page), Turn::Missing));
                order.put(place, done(&place.to_string()));
            }
            for place in 0..total {
                assert_eq!((order.next(), order.left()), (place, total - place));
                let Turn::Outcome(done) = order.turn(&mut page) else { panic!("{place}") };
                page.outcome(*done);
            }
            for _ in 0..2 {
                assert!(matches!(order.turn(&mut page), Turn::Over));
                assert!(order.is_over());
            }
            let mut place = 0..total;
            let expected: [Vec<String>; 3] =
                lengths.map(|n| place.by_ref().take(n).map(|p| p.to_string()).collect());
            assert_eq!(keys(&mut page), expected);
        }
    }
}
