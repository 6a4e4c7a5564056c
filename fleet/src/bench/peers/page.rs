//! Results as tables and plots beside them: the part of `docs/performance.md` between two marks.

use std::{
    fmt::Write,
    fs, io,
    path::{Path, PathBuf},
};

use super::{
    Cast, Judged, Results, Scene, SceneResult, SystemResult, judge,
    plot::{Bar, Line, bars, lines},
    scenes::OURS,
};
use crate::bench::Round;

/// Where the part begins that is written here.
const BEGIN: &str = "<!-- make bench-peers: begin -->";
/// Where it ends.
const END: &str = "<!-- make bench-peers: end -->";
const DOCUMENT: &str = "performance.md";
const CPU_PLOT: &str = "performance-cpu.svg";
const NODES_PLOT: &str = "performance-nodes.svg";
const MEBIBYTE: f64 = 1_048_576.0;

/// The documents could not be written.
#[derive(Debug, thiserror::Error)]
pub enum PageError {
    /// A file can't be read or written.
    #[error("{0}: {1}")]
    File(PathBuf, #[source] io::Error),
    /// The marks between which the tables go are not there, or not in order.
    #[error("{0} has no lines '{BEGIN}' and '{END}'")]
    NoMarks(PathBuf),
}

/// Writes the tables into the document, and the plots beside it.
///
/// # Errors
/// [`PageError`]
pub fn write_documents(dir: &Path, results: &Results, scenes: &[Scene]) -> Result<(), PageError> {
    let write = |name: &str, text: &str| {
        let path = dir.join(name);
        fs::write(&path, text).map_err(|error| PageError::File(path, error))
    };
    let path = dir.join(DOCUMENT);
    let text = fs::read_to_string(&path).map_err(|error| PageError::File(path.clone(), error))?;
    let text = between_marks(&text, &page(results, scenes)).ok_or(PageError::NoMarks(path))?;
    write(CPU_PLOT, &cpu_plot(results))?;
    write(NODES_PLOT, &nodes_plot(results))?;
    write(DOCUMENT, &text)
}

fn between_marks(document: &str, part: &str) -> Option<String> {
    let (before, rest) = document.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{part}{END}{after}"))
}

/// Everything between the marks.
pub(super) fn page(results: &Results, scenes: &[Scene]) -> String {
    let place = &results.place;
    let mut page = format!(
        "{}; {}.\nPeers: {}.\n\n![CPU time per request by system]({CPU_PLOT})\n\n\
         ![CPU time per request against the number of nodes]({NODES_PLOT})\n\n",
        place.cpu,
        place.machine,
        place.versions()
    );
    page += &goals_table(&judge(results));
    for scene in scenes {
        if let Some(result) = results.scene(scene.id) {
            page += &scene_table(scene, result);
        }
    }
    page += &entries_table(results);
    page
}

fn goals_table(judged: &[Judged]) -> String {
    let mut table = "### Goals\n\n| what | goal | measured | |\n|---|---|---|---|\n".to_owned();
    for line in judged {
        let verdict = line.verdict();
        let verdict = if line.is_reached() { verdict } else { format!("**{verdict}**") };
        // Writing to a string can't fail.
        let _ = writeln!(
            table,
            "| {} | {} | {} | {verdict} |",
            line.what,
            line.goal(),
            line.measured()
        );
    }
    table
}

fn scene_table(scene: &Scene, result: &SceneResult) -> String {
    let mut text = format!("\n### {}: {}\n\n", scene.id, scene.title);
    text += "| | req/s | p50 µs | p99 µs | CPU µs per request: front | behind | total (all rounds) \
             | ratio | MiB: front | each behind |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n";
    let first = result.systems.first().and_then(SystemResult::middle);
    for system in &result.systems {
        if let Some(middle) = system.middle() {
            text += &row(system, &middle, first.as_ref());
        }
    }
    let keys = scene.work.keys_per_request();
    if let Some(middle) =
        result.system(&OURS.to_string()).and_then(SystemResult::middle).filter(|_| keys > 1)
    {
        let _ = writeln!(text, "\nRingway: {:.2} µs per key.", middle.total_us() / keys as f64);
    }
    for note in &result.notes {
        let _ = writeln!(text, "\n{note}");
    }
    text
}

fn row(system: &SystemResult, middle: &Round, first: Option<&Round>) -> String {
    let (least, most) = system.spread_us();
    let ratio = first.map_or(f64::NAN, |first| middle.total_us() / first.total_us());
    // A responder that keeps nothing has nothing behind it.
    let behind = |figure: f64| {
        if middle.back_bytes == 0 { "–".to_owned() } else { format!("{figure:.1}") }
    };
    let name = match system.name.as_str() {
        name if name.starts_with("Ringway") => format!("**{name}**"),
        name => name.to_owned(),
    };
    format!(
        "| {name} | {} | {} | {} | {:.1} | {} | **{:.1}** ({least:.1}–{most:.1}) | {ratio:.2} | {:.1} | {} |\n",
        grouped(middle.rate),
        grouped(middle.p50.as_micros() as f64),
        grouped(middle.p99.as_micros() as f64),
        middle.front_us,
        behind(middle.back_us),
        middle.total_us(),
        middle.front_bytes as f64 / MEBIBYTE,
        behind(middle.back_bytes as f64 / MEBIBYTE),
    )
}

fn entries_table(results: &Results) -> String {
    let mut text = "\n### Memory per entry\n\nResident bytes of a key of 20 bytes with a value of \
                    1 KiB, by the growth of the processes:\n\n| | bytes |\n|---|--:|\n"
        .to_owned();
    for (name, bytes) in &results.entry_bytes {
        let _ = writeln!(text, "| {name} | {} |", grouped(*bytes));
    }
    if let Some(bytes) = results.empty_node_bytes {
        let _ = writeln!(text, "\nA node that holds nothing: {:.1} MB.", bytes as f64 / 1e6);
    }
    text
}

/// Without a fraction, with a comma between thousands.
fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let groups = digits.as_bytes().rchunks(3).rev();
    groups.map(String::from_utf8_lossy).collect::<Vec<_>>().join(",")
}

/// What a request costs, system by system.
fn cpu_plot(results: &Results) -> String {
    let systems = results.scene("get-c100").map(|scene| &scene.systems[..]).unwrap_or_default();
    let bar = |system: &SystemResult| {
        let middle = system.middle()?;
        Some(Bar { name: system.name.clone(), front: middle.front_us, behind: middle.back_us })
    };
    let shown: Vec<Bar> = systems.iter().filter_map(bar).collect();
    bars("CPU µs per request: reads of 1 KiB, keys uniform, 100 connections", &shown)
}

/// What a request costs with ever more nodes.
fn nodes_plot(results: &Results) -> String {
    let sizes = [3, 10, 30];
    let line = |name: &str, cast: fn(usize) -> Cast| Line {
        name: name.to_owned(),
        points: sizes
            .iter()
            .filter_map(|&size| Some((size, results.total_us("nodes", cast(size))?)))
            .collect(),
    };
    let shown = [line("nginx → memcached", Cast::Nginx), line("Ringway", Cast::Ringway)];
    lines("CPU µs per request against the number of nodes (memcacheds)", &shown)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{results::tests::results, scenes};
    use super::*;
    use crate::tools::workspace;

    fn made_up() -> Results {
        let mut results = results(|_, cast| match cast {
            Cast::Ringway(_) => 14.0,
            Cast::Bare => 7.0,
            _ => 20.0,
        });
        for scene in &mut results.scenes {
            for system in scene.systems.iter_mut().filter(|system| system.name.contains("axum")) {
                system.rounds.iter_mut().for_each(|round| round.back_bytes = 0);
            }
        }
        results
    }

    #[test]
    fn every_scene_has_its_table() {
        let scenes = scenes(Duration::from_secs(8));
        let page = page(&made_up(), &scenes);
        for scene in &scenes {
            assert!(page.contains(&format!("### {}: {}", scene.id, scene.title)), "{}", scene.id);
        }
        assert!(page.contains(
            "| **Ringway, 3 nodes** | 71,429 | 100 | 700 | 10.5 | 3.5 | **14.0** (12.6–15.4) | 0.70 | 10.0 | 20.0 |"
        ), "{page}");
        assert!(
            page.contains("| axum, constant answer | 142,857 | 100 | 350 | 5.2 | – |"),
            "{page}"
        );
        assert!(page.contains("**MISSED (1.13 × the goal)**"), "{page}");
        assert!(page.contains("Ringway: 0.14 µs per key."), "{page}");
        assert!(page.contains("nginx 1.22.1") && page.contains("commit abc"), "{page}");
    }

    #[test]
    fn what_was_not_measured_is_said_not_made_up() {
        let scenes = scenes(Duration::from_secs(8));
        let mut results = made_up();
        let batch = results.scenes.iter_mut().find(|scene| scene.id == "batch").unwrap();
        batch.systems[1].rounds.clear();
        batch.notes.push("Ringway: not measured.".into());
        let page = page(&results, &scenes);
        let table = page.split("### batch").nth(1).unwrap().split("###").next().unwrap();
        assert!(
            table.contains("Ringway: not measured.") && !table.contains("**Ringway"),
            "{table}"
        );
        assert!(page.contains("| not measured | **not measured** |"), "{page}");
    }

    #[test]
    fn only_what_stands_between_the_marks_is_replaced() {
        let document = format!("head\n{BEGIN}\nold\n{END}\ntail\n");
        let expected = format!("head\n{BEGIN}\nnew\n{END}\ntail\n");
        assert_eq!(between_marks(&document, "new\n"), Some(expected));
        assert_eq!(between_marks("no marks", "new\n"), None);
        assert_eq!(between_marks(&format!("{END}{BEGIN}"), "new\n"), None);
    }

    #[test]
    fn the_document_has_the_marks_and_is_written_with_its_plots() {
        let dir = tempfile::tempdir().unwrap();
        let scenes = scenes(Duration::from_secs(8));
        fs::copy(workspace().join("docs").join(DOCUMENT), dir.path().join(DOCUMENT)).unwrap();
        write_documents(dir.path(), &made_up(), &scenes).unwrap();
        let text = fs::read_to_string(dir.path().join(DOCUMENT)).unwrap();
        assert!(text.contains(&page(&made_up(), &scenes)));
        for plot in [CPU_PLOT, NODES_PLOT] {
            let svg = fs::read_to_string(dir.path().join(plot)).unwrap();
            assert!(svg.starts_with("<svg") && svg.contains("Ringway"), "{svg}");
        }
        fs::write(dir.path().join(DOCUMENT), "nothing").unwrap();
        let error = write_documents(dir.path(), &made_up(), &scenes).unwrap_err();
        assert!(matches!(error, PageError::NoMarks(_)), "{error}");
    }

    #[test]
    fn thousands_are_grouped() {
        assert_eq!(
            ["0", "12", "1,234", "1,234,567"],
            [0.4, 12.0, 1234.0, 1_234_567.0].map(grouped)
        );
    }
}
