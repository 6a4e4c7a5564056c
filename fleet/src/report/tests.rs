//! Results add up, survive their files, and no row is missing from the page.

use super::*;

fn machine() -> Machine {
    Machine {
        cores: 4,
        memory: 16_000,
        kernel: "6.1".into(),
        etcd: "3.4.23".into(),
        date: "2026-11-21".into(),
        commit: "abc".into(),
    }
}

#[test]
fn runs_add_up_and_are_red_until_they_passed() {
    let dir = tempfile::tempdir().unwrap();
    let counts = Counts { requests: 700_000, failed: 1, wrong: 0, older: 2 };
    let one_second = Some(Duration::from_secs(1));
    let mut report = Report::begin_in(dir.path(), "1").unwrap();
    for (took, note) in [(300, "a"), (450, "b"), (120, "a")] {
        report.run(counts).unwrap();
        report.took("moved", Duration::from_millis(took), one_second).unwrap();
        report.note(note).unwrap();
    }
    let [red] = &read(dir.path()).unwrap()[..] else { panic!("one result") };
    assert_eq!((red.verdict, red.runs), (RowVerdict::Red, 3));
    report.passed().unwrap();
    let results = read(dir.path()).unwrap();
    let machine = Machine { commit: results[0].commit.clone(), ..machine() };
    let page = render(&machine, &results);
    let row = page.lines().find(|line| line.starts_with("| 1 |")).unwrap();
    assert!(
        row.ends_with("| as promised | 3 | 2,100,000 | 3 | 0 | 6 | moved 450 ms (≤ 1 s); a; b |"),
        "{row}"
    );
    // Beginning again forgets the last time.
    drop(Report::begin_in(dir.path(), "1").unwrap());
    let begun = read(dir.path()).unwrap();
    assert!(render(&machine, &begun).contains("| **red** | 0 | 0 |"));
    let later = Machine { commit: "def".into(), ..machine };
    assert!(!render(&later, &begun).contains("| **red** |"), "it says nothing of another commit");
}

#[test]
fn a_row_that_did_not_run_is_shown_as_such() {
    let page = render(&machine(), &[]);
    for row in ROWS {
        let line = page.lines().find(|line| line.starts_with(&format!("| {} |", row.id))).unwrap();
        assert!(line.contains(row.promise) && line.contains("| **not run** |"), "{line}");
    }
    assert!(page.contains("4 cores, 16000 MiB of memory, Linux 6.1, etcd 3.4.23; 2026-11-21"));
}

#[test]
fn an_unknown_row_and_one_without_runs_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    assert!(Report::begin_in(dir.path(), "99").is_err());
    assert!(Report::begin_in(dir.path(), "5").unwrap().passed().is_err());
    assert_eq!(read(dir.path()).unwrap()[0].verdict, RowVerdict::Red);
}

#[test]
fn old_results_are_cleared_and_none_are_no_error() {
    let dir = tempfile::tempdir().unwrap();
    let none = dir.path().join("none");
    assert!(read(&none).unwrap().is_empty());
    clear(&none).unwrap();
    Report::begin_in(dir.path(), "5").unwrap();
    clear(dir.path()).unwrap();
    assert!(read(dir.path()).unwrap().is_empty());
    fs::write(dir.path().join("row-5.json"), "half").unwrap();
    assert!(read(dir.path()).is_err(), "half a result is none");
}
