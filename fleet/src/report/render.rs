//! Results as a page for people. Pure: from results to Markdown.

use std::{fmt::Write, time::Duration};

use super::{Machine, ROWS, Row, RowResult, RowVerdict, Timing};

/// What stands above the table.
const HEAD: &str = "\
# Reliability: what the fleet does while something breaks

Made by `make faults`, never by hand; as root, because dropping packets needs network namespaces.
The rows run real processes and a real etcd under load, make the fault, and judge the answers by the
table at the end of [protocol.md](protocol.md). Failed is a 5xx or 429 that the
row does not name, a reset, or no answer within 2 s; wrong is a value that nobody wrote to that key;
older is one that an acknowledged write had replaced, where the table permits none. A miss is none
of these. Times are the longest of all runs.
";

/// The whole page. A result of another commit than the machine's is none.
pub fn render(machine: &Machine, results: &[RowResult]) -> String {
    let mut page = format!("{HEAD}\n{machine}.\n\n");
    page.push_str(
        "| Row | Fault | Promise | Verdict | Runs | Requests | Failed | Wrong | Older | Times |\n",
    );
    page.push_str("|---|---|---|---|--:|--:|--:|--:|--:|---|\n");
    for row in &ROWS {
        let result =
            results.iter().find(|result| result.row == row.id && result.commit == machine.commit);
        // Writing to a string can't fail.
        let _ = writeln!(page, "{}", line(row, result));
    }
    page
}

fn line(row: &Row, result: Option<&RowResult>) -> String {
    let Row { id, fault, promise } = row;
    let Some(RowResult { runs, counts, times, notes, verdict, .. }) = result else {
        return format!("| {id} | {fault} | {promise} | **not run** | | | | | | |");
    };
    let verdict = match verdict {
        RowVerdict::AsPromised => "as promised",
        RowVerdict::Red => "**red**",
    };
    let times: Vec<String> =
        times.iter().map(timing).chain(notes.iter().map(|note| cell(note))).collect();
    format!(
        "| {id} | {fault} | {promise} | {verdict} | {runs} | {} | {} | {} | {} | {} |",
        grouped(counts.requests),
        grouped(counts.failed),
        grouped(counts.wrong),
        grouped(counts.older),
        times.join("; ")
    )
}

fn timing(Timing { what, took, promised }: &Timing) -> String {
    let promised = promised.map(|promised| format!(" (≤ {})", time(promised))).unwrap_or_default();
    format!("{} {}{promised}", cell(what), time(*took))
}

/// Milliseconds below a second, tenths of seconds above, whole promises without a fraction.
fn time(it: Duration) -> String {
    match it.as_millis() {
        millis @ 0..1_000 => format!("{millis} ms"),
        millis if millis.is_multiple_of(1_000) => format!("{} s", millis / 1_000),
        _ => format!("{:.1} s", it.as_secs_f64()),
    }
}

/// With a comma between thousands.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Text that does not end its cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}
