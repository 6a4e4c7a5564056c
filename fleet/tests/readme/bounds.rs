//! The table of bounds in docs/architecture.md, compared with the constants in the sources.

use crate::{assert_none, read};

/// A row of the table: constant, value, file.
fn rows(document: &str) -> Vec<(&str, &str, &str)> {
    let cells = |line| -> Option<(&str, &str, &str)> {
        let mut cells = str::split(line, '|').skip(1).map(str::trim);
        let name = cells.next()?.strip_prefix('`')?.strip_suffix('`')?;
        let value = cells.next()?;
        let file = cells.next()?.strip_prefix('`')?.strip_suffix('`')?;
        file.ends_with(".rs").then_some((name, value, file))
    };
    document.lines().filter_map(cells).collect()
}

/// What a constant is set to, as it is written.
fn definition<'a>(source: &'a str, name: &str) -> Option<&'a str> {
    let start = format!("const {name}: ");
    let line = source.lines().find(|line| line.contains(&start))?;
    line.split_once(" = ")?.1.strip_suffix(';')
}

/// An expression as the table writes it; as it stands if it is of no known form.
fn in_words(expression: &str) -> String {
    let call = |name: &str| expression.strip_prefix(name)?.strip_suffix(')');
    if let Some(seconds) = call("Duration::from_secs(") {
        return format!("{} s", in_words(seconds));
    }
    if let Some(millis) = call("Duration::from_millis(") {
        return format!("{} ms", in_words(millis));
    }
    for (shift, unit) in [(" << 10", "KiB"), (" << 20", "MiB")] {
        if let Some(count) = expression.strip_suffix(shift) {
            return format!("{} {unit}", in_words(count));
        }
    }
    let digits = expression.replace('_', "");
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return expression.to_owned();
    }
    let groups = digits.as_bytes().rchunks(3).rev();
    groups.map(|group| String::from_utf8_lossy(group)).collect::<Vec<_>>().join(",")
}

#[test]
fn the_table_of_bounds_says_what_the_sources_say() {
    let document = read("docs/architecture.md");
    let rows = rows(&document);
    assert!(rows.len() > 30, "only {} rows found", rows.len());
    let mut complaints = Vec::new();
    for (name, value, file) in rows {
        let source = read(file);
        match definition(&source, name) {
            None => complaints.push(format!("{file} has no {name}")),
            Some(is) if in_words(is) != value => {
                complaints.push(format!("{name} in {file} is {is}, not {value}"));
            }
            Some(_) => {}
        }
    }
    assert_none(complaints);
}

#[test]
fn expressions_are_put_in_words() {
    for (expression, words) in [
        ("Duration::from_millis(250)", "250 ms"),
        ("Duration::from_secs(5)", "5 s"),
        ("256 << 10", "256 KiB"),
        ("16_384", "16,384"),
        ("4096", "4,096"),
        ("1.1", "1.1"),
    ] {
        assert_eq!(in_words(expression), words);
    }
    let source = "/// A.\npub(super) const MAX_A: usize = 8 << 10;\n";
    assert_eq!(definition(source, "MAX_A"), Some("8 << 10"));
    assert_eq!(definition(source, "MAX"), None);
    assert_eq!(
        rows("| `MAX_A` | 8 KiB | `a/b.rs` | x |\n| a | b |"),
        [("MAX_A", "8 KiB", "a/b.rs")]
    );
}
