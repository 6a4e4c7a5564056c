//! The size budget: code lines above `#[cfg(test)]`, blank lines and comments not counted.
//!
//! The maxima are gates, the 90th percentiles are printed. Tests have no budget: their length is
//! that of what there is to say.

use super::{assert_none, sources, words::code};

const MAX_FILE: usize = 500;
const MAX_FUNCTION: usize = 80;
const P90_FILE: usize = 300;
const P90_FUNCTION: usize = 30;

#[test]
fn files_and_functions_stay_within_budget() {
    let (mut files, mut functions) = (Vec::new(), Vec::new());
    for (path, text) in sources() {
        if is_test(&path) {
            continue;
        }
        let code = above_tests(&code(&text)).to_owned();
        files.push((code_lines(&code), path.clone()));
        functions.extend(
            function_lengths(&code)
                .into_iter()
                .map(|(name, lines)| (lines, format!("{path}: {name}"))),
        );
    }
    let mut complaints = report("file", &mut files, P90_FILE, MAX_FILE);
    complaints.extend(report("function", &mut functions, P90_FUNCTION, MAX_FUNCTION));
    assert_none(complaints);
}

/// Prints the percentile and the largest; complains about those over the maximum.
fn report(what: &str, sizes: &mut [(usize, String)], goal: usize, max: usize) -> Vec<String> {
    sizes.sort();
    let p90 = sizes[(sizes.len() * 9 / 10).min(sizes.len() - 1)].0;
    let (largest, largest_name) = sizes.last().unwrap();
    println!(
        "{} {what}s: p90 {p90} code lines (goal {goal}), largest {largest} (at most {max}): {largest_name}",
        sizes.len()
    );
    let over = sizes.iter().filter(|(lines, _)| *lines > max);
    over.map(|(lines, name)| format!("{name}: {lines} code lines, at most {max}")).collect()
}

/// Test crates, and test modules in files of their own.
pub(crate) fn is_test(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.split('/').any(|part| part == "tests")
}

/// The code above an inline test module.
pub(crate) fn above_tests(code: &str) -> &str {
    for (at, attribute) in code.match_indices("#[cfg(test)]") {
        let next = code[at + attribute.len()..].trim_start();
        let next = next.strip_prefix("pub(crate) ").unwrap_or(next);
        // `mod tests;` leaves the tests to another file, and may stand anywhere.
        let opens = next.find(['{', ';']).is_some_and(|end| next[end..].starts_with('{'));
        if next.starts_with("mod ") && opens {
            return &code[..at];
        }
    }
    code
}

fn code_lines(code: &str) -> usize {
    code.lines().filter(|line| !line.trim().is_empty()).count()
}

/// The name of every function with a body, and the lines of its body without the outer braces.
fn function_lengths(code: &str) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        if code[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let head = &code[at + 3..];
        let name: String = head.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        if let Some(body) = body(head).filter(|_| !name.is_empty()) {
            found.push((name, code_lines(body)));
        }
    }
    found
}

/// What stands between the first pair of curly braces, unless the declaration ends before it.
fn body(head: &str) -> Option<&str> {
    let (mut nested, mut depth, mut start) = (0_i32, 0_i32, 0);
    for (at, c) in head.char_indices() {
        match c {
            // A `;` in `[u8; 4]` does not end the declaration.
            '(' | '[' if depth == 0 => nested += 1,
            ')' | ']' if depth == 0 => nested -= 1,
            ';' if depth == 0 && nested == 0 => return None,
            '{' => {
                depth += 1;
                if depth == 1 {
                    start = at + 1;
                }
            }
            '}' => {
                depth -= 1;
                if depth == 0 {
                    return Some(&head[start..at]);
                }
            }
            _ => {}
        }
    }
    None
}

#[test]
fn lines_are_counted_without_comments_blanks_and_tests() {
    let source = "//! Doc.\n\nuse x; // y\n/* a\nb */\nfn f() {}\n\n#[cfg(test)]\nmod tests {\nfn g() {}\n}\n";
    assert_eq!(code_lines(above_tests(&code(source))), 2);
    assert_eq!(above_tests("#[cfg(test)]\nmod tests;"), "#[cfg(test)]\nmod tests;");
    let elsewhere = "#[cfg(test)]\nmod tests;\nfn f() {}\n#[cfg(test)]\nuse y;\n";
    assert_eq!(code_lines(above_tests(&code(elsewhere))), 5);
    assert!(is_test("fleet/tests/tidy.rs") && is_test("common/src/link/tests.rs"));
    assert!(!is_test("common/src/link.rs"));
}

#[test]
fn functions_are_measured() {
    let source = "
        trait T { fn declared(&self, x: [u8; 4]) -> [u8; 4]; }
        fn empty() {}
        const fn two(f: fn(u8) -> u8) -> u8 {
            // Not counted.
            let c = '{';
            c as u8

        }
        fn outer() {
            fn inner() {
                one();
            }
        }
    ";
    let expected = [("empty", 0), ("two", 2), ("outer", 3), ("inner", 1)];
    let found = function_lengths(&code(source));
    assert_eq!(found, expected.map(|(name, lines)| (name.to_owned(), lines)));
}

#[test]
fn what_is_over_the_maximum_is_named() {
    let mut sizes = vec![(3, "c".to_owned()), (1, "a".to_owned()), (2, "b".to_owned())];
    assert_eq!(report("thing", &mut sizes, 1, 2), ["c: 3 code lines, at most 2"]);
}
