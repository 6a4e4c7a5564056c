//! The limits, with made-up answers at made-up times.

use prometheus_client::registry::Registry;

use super::*;
use crate::metrics::Metrics;

const MOST: usize = 4096;

fn admission(max_in_flight: usize, workers: usize) -> Admission {
    let metrics = Metrics::register(&mut Registry::default());
    Admission::new(max_in_flight, workers, metrics.load(0))
}

/// A server that answers so many requests a second, one after the other, each not before `base`.
struct Server {
    admission: Admission,
    per_second: f64,
    base: Duration,
    /// Milliseconds since the beginning.
    now: u64,
    /// When each request under way will be answered, and when it began.
    under_way: std::collections::VecDeque<(f64, u64)>,
    free_at: f64,
}

/// What came of a second.
#[derive(Debug, Default)]
struct Second {
    answered: u64,
    refused: u64,
    /// The longest that an answer took, in milliseconds.
    slowest: u64,
}

impl Server {
    fn new(per_second: f64, base: Duration) -> Self {
        let admission = admission(MOST, 1);
        Self { admission, per_second, base, now: 0, under_way: Default::default(), free_at: 0.0 }
    }

    fn at(&self, ms: u64) -> Instant {
        self.admission.began + Duration::from_millis(ms)
    }

    /// A second in which so many requests come.
    fn second(&mut self, arriving: u64) -> Second {
        let mut second = Second::default();
        for ms in 1..=1_000 {
            self.now += 1;
            while let Some(&(done, began)) = self.under_way.front()
                && done <= self.now as f64
            {
                self.under_way.pop_front();
                self.admission.metrics.in_flight.dec();
                self.admission.answered(self.at(began), self.at(self.now));
                second.answered += 1;
                second.slowest = second.slowest.max(self.now - began);
            }
            for _ in arriving * (ms - 1) / 1_000..arriving * ms / 1_000 {
                self.arrive(&mut second);
            }
        }
        second
    }

    fn arrive(&mut self, second: &mut Second) {
        match self.admission.admit() {
            Ok(admitted) => std::mem::forget(admitted),
            Err(_) => {
                second.refused += 1;
                return;
            }
        }
        let now = self.now as f64;
        self.free_at = self.free_at.max(now) + 1e3 / self.per_second;
        let answered = self.free_at.max(now + self.base.as_secs_f64() * 1e3);
        self.under_way.push_back((answered, self.now));
    }
}

#[test]
fn a_worker_has_its_share_under_way_and_no_more() {
    let admission = admission(10, 4);
    let taken: Vec<_> = (0..3).map_while(|_| admission.admit().ok()).collect();
    assert_eq!(taken.len(), 3, "10 among 4, rounded up");
    let refused = admission.admit().err().expect("one too many");
    assert_eq!(refused.code(), Code::Overloaded);
    assert!(refused.retry_hint().is_some());
    assert_eq!(admission.metrics.shed_full.get(), 1);
    drop(taken);
    assert_eq!(admission.metrics.in_flight.get(), 0, "also those that were refused");
    assert!(admission.admit().is_ok());
}

#[test]
fn what_can_be_answered_in_time_is_not_refused() {
    let mut server = Server::new(20_000.0, Duration::from_millis(1));
    for _ in 0..5 {
        assert_eq!(server.second(18_000).refused, 0);
    }
    assert_eq!(server.admission.metrics.limit.get(), MOST as i64);
}

#[test]
fn of_twice_as_much_as_can_be_answered_all_of_that_is_answered_in_time() {
    let mut server = Server::new(20_000.0, Duration::from_millis(1));
    server.second(10_000);
    let first = server.second(40_000);
    assert!(first.answered >= 19_000 && first.refused > 10_000, "{first:?}");
    for _ in 0..10 {
        let second = server.second(40_000);
        assert!(second.answered >= 19_000, "{second:?}");
        assert!(second.refused > 15_000, "{second:?}");
        assert!(second.slowest <= 3 * LATE.as_millis() as u64, "{second:?}");
    }
    assert!(server.admission.metrics.shed_late.get() > 0);
    // And nobody is refused once it is over.
    assert_eq!((server.second(10_000).refused, server.second(18_000).refused), (0, 0));
    for _ in 0..4 {
        server.second(18_000);
    }
    let limit = server.admission.metrics.limit.get();
    assert_eq!(limit, MOST as i64, "forgotten within 6 s");
}

#[test]
fn answers_that_are_late_because_nodes_are_far_are_no_reason_to_refuse() {
    // 80 ms away, and in no trouble: 800 under way.
    let mut server = Server::new(1e9, Duration::from_millis(80));
    let refused: u64 = (0..60).map(|_| server.second(10_000).refused).sum();
    // Tried once, for two times 80 ms and a while.
    assert!(refused < 3_000, "{refused} of 600,000 refused");
    assert_eq!(server.second(10_000).answered, 10_000);
}

#[test]
fn far_nodes_can_be_overloaded_too() {
    let mut server = Server::new(20_000.0, Duration::from_millis(80));
    for _ in 0..3 {
        server.second(10_000);
    }
    for _ in 0..3 {
        server.second(40_000);
    }
    for _ in 0..10 {
        let second = server.second(40_000);
        assert!(second.answered >= 18_000, "{second:?}");
        assert!(second.slowest <= 80 + 4 * LATE.as_millis() as u64, "{second:?}");
    }
}

#[test]
fn a_node_that_hangs_makes_the_quickest_answer_no_slower() {
    let admission = admission(MOST, 1);
    let at = |ms: u64| admission.began + Duration::from_millis(ms);
    for ms in 0..2_000 {
        // Two of three are answered at once, the third by another node after 400 ms.
        admission.answered(at(ms), at(ms + 1));
        admission.answered(at(ms), at(ms + 400));
    }
    assert_eq!(admission.metrics.limit.get(), MOST as i64);
}

#[test]
fn however_late_answers_are_some_requests_are_taken_on() {
    // Ten a second: even two under way are late.
    let mut server = Server::new(10.0, Duration::ZERO);
    for _ in 0..120 {
        server.second(2_000);
    }
    let limit = server.admission.metrics.limit.get();
    assert!((LEAST_IN_FLIGHT..2 * LEAST_IN_FLIGHT).contains(&limit), "{limit}");
    assert!(server.second(2_000).answered >= 9);
}

#[test]
fn who_has_little_under_way_has_no_queue() {
    let admission = admission(MOST, 1);
    let at = |ms: u64| admission.began + Duration::from_millis(ms);
    let taken: Vec<_> = (0..LEAST_IN_FLIGHT).map_while(|_| admission.admit().ok()).collect();
    // As when all links have to be opened first.
    for second in 1..10 {
        admission.answered(at(second * 1_000), at(second * 1_000 + 80));
    }
    drop(taken);
    assert_eq!((0..MOST).map_while(|_| admission.admit().ok()).collect::<Vec<_>>().len(), MOST);
}

#[test]
fn one_late_answer_and_a_standstill_of_the_machine_change_nothing() {
    let admission = admission(MOST, 1);
    let at = |ms: u64| admission.began + Duration::from_millis(ms);
    let _taken: Vec<_> = (0..1_000).map_while(|_| admission.admit().ok()).collect();
    for ms in 0..300 {
        admission.answered(at(ms), at(ms + 1));
    }
    // Half a second in which nothing runs; then everything that waited, then business as usual.
    for _ in 0..1_000 {
        admission.answered(at(300), at(800));
    }
    for ms in 800..1_500 {
        admission.answered(at(ms), at(ms + 1));
    }
    assert_eq!(admission.metrics.limit.get(), MOST as i64);
}
