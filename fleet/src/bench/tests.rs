//! Medians, and what makes a round void.

use super::*;

#[test]
fn the_median_is_taken_figure_by_figure() {
    let round = |rate, front_us, front_bytes| Round {
        rate,
        p50: Duration::from_micros(10),
        p99: Duration::from_micros(20),
        front_us,
        back_us: 1.0,
        front_bytes,
        back_bytes: 7,
        errors: 1,
    };
    let rounds = [round(1.0, 9.0, 5), round(3.0, 8.0, 9), round(2.0, 7.0, 1)];
    let middle = median(&rounds).unwrap();
    assert_eq!((middle.rate, middle.front_us, middle.errors), (2.0, 8.0, 3));
    assert_eq!((middle.front_bytes, middle.back_bytes), (9, 7));
    assert!(median(&[]).is_none());
}

fn run(errors: u64, bytes: u64) -> WrkRun {
    let latency = Duration::from_micros(10);
    let duration = Duration::from_secs(10);
    WrkRun { requests: 100, duration, errors, bytes, p50: latency, p99: latency }
}

#[test]
fn errors_short_answers_and_neighbours_are_flaws() {
    let (idle, cores) = (Others::default(), std::thread::available_parallelism().unwrap());
    assert!(flaws(&run(0, 120_000), 1_200.0, &idle, MAX_OTHERS).is_empty());
    assert!(flaws(&run(0, 119_000), 1_200.0, &idle, MAX_OTHERS).is_empty(), "a shorter age");
    for (run, what) in [(run(1, 120_000), "1 errors"), (run(0, 118_000), "1180 bytes")] {
        let found = flaws(&run, 1_200.0, &idle, MAX_OTHERS);
        assert!(found.len() == 1 && found[0].contains(what), "{found:?}");
    }
    let using = |used| Others { used, ..Others::default() };
    let quiet = using(Duration::from_millis(100));
    assert!(flaws(&run(0, 120_000), 1_200.0, &quiet, MAX_OTHERS).is_empty());
    let busy = using(Duration::from_secs(1) * cores.get() as u32);
    let found = flaws(&run(0, 120_000), 1_200.0, &busy, MAX_OTHERS);
    assert!(found.len() == 1 && found[0].contains("10 % of the machine"), "{found:?}");
}

#[test]
fn only_a_batch_may_be_refused() {
    let refused = |status| {
        let complaint = format!("answered {status}");
        let path = "/api/cache/batch".to_owned();
        BenchError::Sweep(SweepError::Wrong { method: "POST", path, status, complaint })
    };
    let single = Workload::default();
    let batch = Workload { op: Op::Batch { keys: 2 }, ..Workload::default() };
    let said = refused(404).refused_batch(&batch).unwrap();
    assert_eq!(said, "POST /api/cache/batch was answered 404");
    assert_eq!(refused(404).refused_batch(&single), None);
    // It knows the route, and answers wrongly: that is no reason to leave it out.
    for status in [200, 500, 503] {
        assert_eq!(refused(status).refused_batch(&batch), None);
    }
}
