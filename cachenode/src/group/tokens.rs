//! Load tokens: of all who miss a key that no origin fills, one is to bring its value.
//!
//! A token is handed out in the key's critical section and ends there with whatever changes the key,
//! so a value that its holder brings is stored only if nothing has happened to the key since the miss
//! (docs/adr/013). Floors and purges end it too.

use std::time::Duration;

use common::error::{Code, Error};
use foldhash::fast::RandomState;
use uuid::Uuid;

use super::{Authority, Found, Group, Stale, generations::Generations};

/// How long the holder of a token has for bringing the value; after that another one gets a token.
pub const TOKEN_LIFE: Duration = Duration::from_secs(10);
/// When to come again for who has missed a key that another one loads.
pub const TOKEN_RETRY: Duration = Duration::from_secs(1);
/// Tokens of a stripe's keys, at most; the oldest half ends for more. 16,384 a group.
const TOKENS_PER_STRIPE: usize = 64;

/// What a reader found who would load what is missing.
#[derive(Debug)]
pub enum Leased {
    /// What any reader finds.
    Found(Found),
    /// Nothing, and this reader is to bring the value, with the token.
    Token(u64),
    /// Nothing, and another reader is about to bring the value.
    Taken,
}

#[derive(Debug, Clone, Copy)]
struct Token {
    number: u64,
    /// The hybrid clock's tick when it was handed out.
    began: u64,
    until: Duration,
}

/// The tokens of a stripe's keys.
#[derive(Debug)]
pub(super) struct Tokens {
    by_key: Generations<Box<str>, Token, RandomState>,
}

impl Tokens {
    pub(super) fn new() -> Self {
        Self { by_key: Generations::new(TOKENS_PER_STRIPE) }
    }

    /// The key has changed.
    pub(super) fn end(&mut self, key: &str) {
        self.by_key.remove(key);
    }

    /// All keys of which that is true may have changed.
    pub(super) fn end_where(&mut self, which: impl Fn(&str) -> bool) {
        self.by_key.retain(|key, _| !which(key));
    }

    /// Drops what has had its time.
    pub(super) fn tidy(&mut self, now: Duration) {
        self.by_key.retain(|_, token| now < token.until);
    }
}

impl Group {
    /// As [`Group::get_up_to`], for a caller that would load what is missing: the first who misses a key
    /// gets a token, for [`TOKEN_LIFE`]. A stand-in hands out none. For groups without an origin: this
    /// asks none.
    ///
    /// # Errors
    /// What `owned` says when the node may not answer for the key.
    pub fn get_leased<E>(
        &self,
        most: usize,
        key: &str,
        owned: impl FnOnce() -> Result<Authority, E>,
    ) -> Result<Leased, E> {
        self.follow_floors();
        let slot = self.slots.of(key);
        let mut stripe = self.critical.enter(slot);
        let authority = owned()?;
        let now = self.clock.monotonic();
        let shape = self.shape();
        let there = shape.store.get(slot, key);
        let stale = match there {
            Some(entry) if !self.is_absent(&shape, &entry, now) => {
                return Ok(Leased::Found(Found::Hit(self.hit(&shape, entry, most, now))));
            }
            Some(entry) if !self.is_over(&shape, &entry, now) => Some(entry),
            _ => None,
        };
        self.counters.misses.add();
        let live = stripe.tokens.by_key.get(key).filter(|token| now < token.until);
        let is_taken = live.is_some_and(|token| !self.is_outdated_since(token.began, key));
        if !is_taken && !authority.is_stand_in() {
            let token = Token {
                number: Uuid::new_v4().as_u64_pair().0.max(1),
                began: self.hybrid.tick(),
                until: now + TOKEN_LIFE,
            };
            drop(stripe.tokens.by_key.put(key.into(), token));
            self.counters.tokens.add();
            return Ok(Leased::Token(token.number));
        }
        let stale = stale.map(|entry| Stale::new(entry, now, &shape.definition));
        Ok(match stale.filter(|stale| stale.now) {
            Some(Stale { item, .. }) => Leased::Found(Found::Stale(item)),
            None => Leased::Taken,
        })
    }

    /// Whether this is the token of a key, and nothing has happened to the key since. Who stands in has
    /// given none.
    pub(super) fn counts(
        &self,
        tokens: &Tokens,
        key: &str,
        number: u64,
        authority: Authority,
        now: Duration,
    ) -> bool {
        let token = tokens.by_key.get(key).filter(|token| token.number == number);
        let is_live =
            |token: &Token| now < token.until && !self.is_outdated_since(token.began, key);
        !authority.is_stand_in() && token.is_some_and(is_live)
    }

    /// Whether others may have changed the key since that tick.
    pub(super) fn is_outdated_since(&self, began: u64, key: &str) -> bool {
        self.floors.hides_since(began, false, || key) || self.purges.hide_since(began, key)
    }
}

/// The answer to a write whose token does not count any more.
pub(super) fn lost() -> Error {
    let text = "the load token is not the key's: its time is over, or the key was changed or purged \
                since it was given; read the key again";
    Error::new(Code::LeaseLost, text)
}

#[cfg(test)]
mod tests;
