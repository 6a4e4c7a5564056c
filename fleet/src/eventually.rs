//! Waiting for something to become true, with a deadline and a story to tell when it does not.
//!
//! The promised time of a fault row is not a deadline for a busy machine: [`eventually`] gives it
//! ten times over and prints what it took. Whoever wants to assert the promise itself takes
//! [`how_long`] and compares. There is no bare sleep here, and there should be none in a test.

use std::{fmt::Display, time::Duration};

use tokio::time::{Instant, sleep, timeout};

/// How many times the promised time is waited before giving up.
pub const PATIENCE: u32 = 10;

/// The first pause between two looks; each is half as long again as the one before.
const FIRST_STEP: Duration = Duration::from_millis(5);

/// The longest pause between two looks.
const LAST_STEP: Duration = Duration::from_millis(100);

/// What a look may return: found, or not yet and why.
pub trait Look {
    /// What was waited for.
    type Found;

    /// The thing, or what was seen instead.
    fn found(self) -> Result<Self::Found, String>;
}

impl<T> Look for Option<T> {
    type Found = T;

    fn found(self) -> Result<T, String> {
        self.ok_or_else(|| "nothing".into())
    }
}

impl<T, E: Display> Look for Result<T, E> {
    type Found = T;

    fn found(self) -> Result<T, String> {
        self.map_err(|error| error.to_string())
    }
}

impl Look for bool {
    type Found = ();

    fn found(self) -> Result<(), String> {
        if self { Ok(()) } else { Err("false".into()) }
    }
}

/// Looks again and again until there is something, and returns it.
///
/// # Panics
///
/// After [`PATIENCE`] × `promised`, with what was awaited and what was seen last.
pub async fn eventually<L: Look>(
    what: &str,
    promised: Duration,
    look: impl AsyncFnMut() -> L,
) -> L::Found {
    how_long(what, promised, look).await.0
}

/// As [`eventually`], and says how long it took.
///
/// # Panics
///
/// As [`eventually`].
pub async fn how_long<L: Look>(
    what: &str,
    promised: Duration,
    mut look: impl AsyncFnMut() -> L,
) -> (L::Found, Duration) {
    let start = Instant::now();
    let deadline = start + promised * PATIENCE;
    let mut step = FIRST_STEP;
    let mut last = "no look came to an end".to_owned();
    let mut looks = 0_u64;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        // A look that hangs must not outlast the deadline.
        if let Ok(seen) = timeout(left, look()).await {
            looks += 1;
            match seen.found() {
                Ok(found) => {
                    let took = start.elapsed();
                    eprintln!("eventually: {what}: took {took:.1?}, promised {promised:?}");
                    return (found, took);
                }
                Err(instead) => last = instead,
            }
        }
        assert!(
            Instant::now() < deadline,
            "waited {:?} (promised: {promised:?}) for: {what}; last of {looks} looks: {last}",
            promised * PATIENCE,
        );
        sleep(step).await;
        step = (step * 3 / 2).min(LAST_STEP);
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn returns_what_a_later_look_finds() {
        let mut looks = 0;
        let (found, took) = how_long("the third look", Duration::from_secs(1), async || {
            looks += 1;
            (looks == 3).then_some(looks)
        })
        .await;
        assert_eq!(found, 3);
        assert!(took > Duration::ZERO && took < Duration::from_secs(1), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn takes_results_and_booleans() {
        eventually("a result", Duration::from_secs(1), async || Ok::<_, String>(1)).await;
        eventually("a truth", Duration::from_secs(1), async || true).await;
    }

    #[tokio::test(start_paused = true)]
    async fn looks_for_ten_times_the_promise() {
        let start = Instant::now();
        eventually("nine times the promise", Duration::from_secs(1), async || {
            start.elapsed() > Duration::from_secs(9)
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    #[should_panic(expected = "for: the impossible; last of ")]
    async fn gives_up_naming_what_was_awaited() {
        eventually("the impossible", Duration::from_secs(1), async || None::<()>).await;
    }

    #[tokio::test(start_paused = true)]
    #[should_panic(expected = "still 503")]
    async fn gives_up_telling_the_last_observation() {
        eventually("health", Duration::from_secs(1), async || Err::<(), _>("still 503")).await;
    }

    #[tokio::test(start_paused = true)]
    #[should_panic(expected = "last of 0 looks: no look came to an end")]
    async fn a_look_that_hangs_does_not_hang_the_test() {
        eventually("an answer", Duration::from_secs(1), async || pending::<Option<()>>().await)
            .await;
    }
}
