//! Reading a batch: JSON in, operations out, and what is wrong with it where.
//!
//! A batch that can't be understood is refused whole, with the place in words (`get[3].key is
//! missing`). One that can is taken: what is wrong with a single operation for a reason that only
//! its cache knows (a value too large for its group, a version that can't be there) is that
//! operation's own outcome.

use std::{
    cell::{Cell, RefCell},
    fmt,
};

use bytes::Bytes;
use common::{
    error::{Code, Error, Result},
    key::GroupName,
    route::Ask,
};
use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::item::{Item, Operation};

/// The most operations in a batch.
const MAX_OPERATIONS: usize = 1000;

/// The three lists of a batch, in the order in which they are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum List {
    Get,
    Set,
    Delete,
}

impl List {
    pub(super) const ALL: [Self; 3] = [Self::Get, Self::Set, Self::Delete];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Set => "set",
            Self::Delete => "delete",
        }
    }

    /// The fields that its items may have.
    fn fields(self) -> &'static [&'static str] {
        match self {
            Self::Get => &["group", "key"],
            Self::Set => &[
                "group",
                "key",
                "value",
                "value_base64",
                "encoding",
                "content_type",
                "ttl",
                "if_absent",
                "if_match",
                "tags",
            ],
            Self::Delete => &["group", "key", "if_match"],
        }
    }
}

/// What a batch asks for, list by list.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) gets: Vec<Ask>,
    pub(super) sets: Vec<Operation>,
    pub(super) deletes: Vec<Operation>,
}

/// Understands a batch. `max_value` says how large a value of a group may be.
pub(super) fn parse(body: &Bytes, max_value: impl Fn(&GroupName) -> usize) -> Result<Batch> {
    let reader = Reader::default();
    let mut json = serde_json::Deserializer::from_slice(body);
    let read = json.deserialize_map(Whole(&reader)).and_then(|raw| json.end().map(|()| raw));
    let raw = read.map_err(|error| reader.explain(&error))?;
    let group = match raw.group {
        Some(name) => Some(GroupName::new(name).map_err(|error| wrong("group", &error))?),
        None => None,
    };
    let [gets, sets, deletes] = raw.lists;
    Ok(Batch {
        gets: each(List::Get, gets, |item| item.get(group.as_ref()))?,
        sets: each(List::Set, sets, |item| item.set(group.as_ref(), body, &max_value))?,
        deletes: each(List::Delete, deletes, |item| item.delete(group.as_ref()))?,
    })
}

fn each<'de, T>(
    list: List,
    items: Vec<Item<'de>>,
    operation: impl Fn(Item<'de>) -> std::result::Result<T, Problem>,
) -> Result<Vec<T>> {
    let mut operations = Vec::with_capacity(items.len());
    for (index, item) in items.into_iter().enumerate() {
        let place = Place { name: list.name(), index: Some(index), field: None };
        operations.push(operation(item).map_err(|problem| problem.at(place))?);
    }
    Ok(operations)
}

fn wrong(what: impl fmt::Display, why: &dyn fmt::Display) -> Error {
    Error::new(Code::InvalidRequest, format!("{what}: {why}"))
}

/// Where in a batch something is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// A list's, or that of another field of the batch.
    name: &'static str,
    /// `None`: all of it.
    index: Option<usize>,
    field: Option<&'static str>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)?;
        if let Some(index) = self.index {
            write!(f, "[{index}]")?;
        }
        self.field.map_or(Ok(()), |field| write!(f, ".{field}"))
    }
}

/// What is wrong with an item.
#[derive(Debug)]
pub(super) enum Problem {
    /// A field is not as it should be; the text goes on after its name: "is missing".
    Field(&'static str, String),
    /// The names or values of the item are not valid; the text is a sentence of its own.
    Item(String),
}

impl Problem {
    fn at(self, place: Place) -> Error {
        let text = match self {
            Self::Field(field, text) => format!("{} {text}", Place { field: Some(field), ..place }),
            Self::Item(text) => format!("{place}: {text}"),
        };
        Error::new(Code::InvalidRequest, text)
    }
}

/// What the parts of the parser share: where it is, and what it found wrong.
#[derive(Default)]
struct Reader {
    place: Cell<Option<Place>>,
    /// What is wrong in our own words, where serde only passes a text on.
    problem: RefCell<Option<Error>>,
    operations: Cell<usize>,
}

impl Reader {
    fn fail<E: de::Error>(&self, code: Code, text: String) -> E {
        *self.problem.borrow_mut() = Some(Error::new(code, text));
        E::custom("refused")
    }

    fn invalid<E: de::Error>(&self, text: String) -> E {
        self.fail(Code::InvalidRequest, text)
    }

    /// A failure in words that name its place.
    fn explain(&self, error: &serde_json::Error) -> Error {
        if let Some(problem) = self.problem.borrow_mut().take() {
            return problem;
        }
        match (error.is_data(), self.place.get()) {
            (true, Some(place)) => wrong(place, error),
            (true, None) => wrong("the batch is not as it should be", error),
            (false, _) => wrong("the body is not JSON", error),
        }
    }

    fn count<E: de::Error>(&self) -> std::result::Result<(), E> {
        self.operations.set(self.operations.get() + 1);
        if self.operations.get() <= MAX_OPERATIONS {
            return Ok(());
        }
        let text = format!("the batch has more than the {MAX_OPERATIONS} operations that it may");
        Err(self.fail(Code::TooLarge, text))
    }

    fn unknown<E: de::Error>(&self, what: impl fmt::Display, name: &str, known: &[&str]) -> E {
        self.invalid(format!("{what} has no {name:?}; it takes {}", known.join(", ")))
    }

    fn twice<E: de::Error>(&self, what: impl fmt::Display) -> E {
        self.invalid(format!("{what} is given twice"))
    }
}

/// The batch as it was written.
#[derive(Default)]
struct Raw<'de> {
    group: Option<String>,
    lists: [Vec<Item<'de>>; 3],
}

const TOP: [&str; 4] = ["group", "get", "set", "delete"];

/// Reads the outermost object.
struct Whole<'r>(&'r Reader);

impl<'de> Visitor<'de> for Whole<'_> {
    type Value = Raw<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with the lists get, set and delete")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Raw<'de>, A::Error> {
        let reader = self.0;
        let mut raw = Raw::default();
        let mut seen = [false; TOP.len()];
        let names = Name { known: &TOP, reader, what: &"a batch" };
        while let Some(name) = map.next_key_seed(names)? {
            let place = TOP.iter().position(|known| *known == name).unwrap_or_default();
            if std::mem::replace(&mut seen[place], true) {
                return Err(reader.twice(name));
            }
            reader.place.set(Some(Place { name, index: None, field: None }));
            match List::ALL.into_iter().find(|list| list.name() == name) {
                Some(list) => {
                    raw.lists[list as usize] = map.next_value_seed(Items { list, reader })?;
                }
                None => raw.group = map.next_value()?,
            }
            reader.place.set(None);
        }
        Ok(raw)
    }
}

/// Reads the name of a field without keeping it.
#[derive(Clone, Copy)]
struct Name<'r> {
    known: &'static [&'static str],
    reader: &'r Reader,
    /// What has these fields.
    what: &'r dyn fmt::Display,
}

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = &'static str;

    fn deserialize<D: Deserializer<'de>>(
        self,
        name: D,
    ) -> std::result::Result<&'static str, D::Error> {
        name.deserialize_identifier(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = &'static str;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a field")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> std::result::Result<&'static str, E> {
        let known = self.known.iter().find(|known| **known == name);
        known.copied().ok_or_else(|| self.reader.unknown(self.what, name, self.known))
    }
}

/// Reads one list.
#[derive(Clone, Copy)]
struct Items<'r> {
    list: List,
    reader: &'r Reader,
}

impl<'de> DeserializeSeed<'de> for Items<'_> {
    type Value = Vec<Item<'de>>;

    fn deserialize<D: Deserializer<'de>>(
        self,
        list: D,
    ) -> std::result::Result<Vec<Item<'de>>, D::Error> {
        list.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Items<'_> {
    type Value = Vec<Item<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(
        self,
        mut seq: A,
    ) -> std::result::Result<Vec<Item<'de>>, A::Error> {
        let Self { list, reader } = self;
        let mut items = Vec::new();
        loop {
            let place = Place { name: list.name(), index: Some(items.len()), field: None };
            reader.place.set(Some(place));
            let Some(item) = seq.next_element_seed(OneItem { list, place, reader })? else {
                return Ok(items);
            };
            items.push(item);
        }
    }
}

/// Reads one item of a list.
struct OneItem<'r> {
    list: List,
    place: Place,
    reader: &'r Reader,
}

impl<'de> DeserializeSeed<'de> for OneItem<'_> {
    type Value = Item<'de>;

    fn deserialize<D: Deserializer<'de>>(
        self,
        item: D,
    ) -> std::result::Result<Item<'de>, D::Error> {
        self.reader.count()?;
        item.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for OneItem<'_> {
    type Value = Item<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Item<'de>, A::Error> {
        let Self { list, place, reader } = self;
        let mut item = Item::default();
        let names = Name { known: list.fields(), reader, what: &place };
        while let Some(name) = map.next_key_seed(names)? {
            let field = Place { field: Some(name), ..place };
            reader.place.set(Some(field));
            let again = match name {
                "group" => fill(&mut item.group, &mut map)?,
                "key" => fill(&mut item.key, &mut map)?,
                "value" => item.value.replace(map.next_value()?).is_some(),
                "value_base64" => fill(&mut item.value_base64, &mut map)?,
                "encoding" => fill(&mut item.encoding, &mut map)?,
                "content_type" => fill(&mut item.content_type, &mut map)?,
                "ttl" => fill(&mut item.ttl, &mut map)?,
                "if_absent" => fill(&mut item.if_absent, &mut map)?,
                "tags" => fill(&mut item.tags, &mut map)?,
                _ => fill(&mut item.if_match, &mut map)?,
            };
            if again {
                return Err(reader.twice(field));
            }
        }
        reader.place.set(Some(place));
        Ok(item)
    }
}

/// Reads a field into its place; true: it had been given before. `null` is as if it were not there.
fn fill<'de, T: Deserialize<'de>, A: MapAccess<'de>>(
    slot: &mut Option<T>,
    map: &mut A,
) -> std::result::Result<bool, A::Error> {
    let value: Option<T> = map.next_value()?;
    let again = slot.is_some() && value.is_some();
    *slot = value.or_else(|| slot.take());
    Ok(again)
}

#[cfg(test)]
mod tests;
