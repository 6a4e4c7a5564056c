//! Rust source as words: enough of a lexer to tell code from comments and strings.

/// The source with comments blanked, and the insides of strings and characters replaced by `"`, so
/// that what is left can be searched for names and braces. Line breaks stay where they are.
pub(crate) fn code(source: &str) -> String {
    let mut rest = source;
    let mut out = String::with_capacity(source.len());
    while let Some(first) = rest.chars().next() {
        let (taken, filler) = match literal_or_comment(rest, out.chars().next_back()) {
            Some(found) => found,
            None => (first.len_utf8(), None),
        };
        let (text, tail) = rest.split_at(taken);
        match filler {
            Some(filler) => out.extend(text.chars().map(|c| if c == '\n' { c } else { filler })),
            None => out.push_str(text),
        }
        rest = tail;
    }
    out
}

/// The names and numbers of a piece of code.
pub(crate) fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

/// How long the comment or literal is that starts here, if one does, and what stands for it.
fn literal_or_comment(rest: &str, before: Option<char>) -> Option<(usize, Option<char>)> {
    if rest.starts_with("//") {
        return Some((rest.find('\n').unwrap_or(rest.len()), Some(' ')));
    }
    if rest.starts_with("/*") {
        return Some((block_comment(rest), Some(' ')));
    }
    if rest.starts_with('"') {
        return Some((quoted(rest, '"'), Some('"')));
    }
    if rest.starts_with('\'') {
        return character(rest).map(|length| (length, Some('"')));
    }
    let within_name = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let prefix = rest.bytes().take_while(|byte| b"brc".contains(byte)).count();
    if within_name || prefix == 0 || !rest[..prefix].contains('r') {
        return None;
    }
    let hashes = rest[prefix..].bytes().take_while(|&byte| byte == b'#').count();
    let body = prefix + hashes;
    if !rest[body..].starts_with('"') {
        return None;
    }
    let end = format!("\"{}", "#".repeat(hashes));
    let length = rest[body + 1..].find(&end).map_or(rest.len(), |at| body + 1 + at + end.len());
    Some((length, Some('"')))
}

/// Block comments nest.
fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        let tail = &rest.as_bytes()[at..];
        if tail.starts_with(b"/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if tail.starts_with(b"*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

/// The length of a literal with escapes, its quotes included.
fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// A character literal; `None` for a lifetime.
fn character(rest: &str) -> Option<usize> {
    let mut inside = rest.chars().skip(1);
    let (first, second) = (inside.next()?, inside.next()?);
    (first == '\\' || second == '\'').then(|| quoted(rest, '\''))
}

#[test]
fn comments_and_literals_are_not_code() {
    for (source, expected) in [
        ("a // tokio\nb", "a         \nb"),
        ("a /* x /* y */ */ b", "a                 b"),
        (r#"f("a\"{", b)"#, r#"f("""""", b)"#),
        (r##"r#"x"{"# y"##, r#""""""""" y"#),
        ("br\"{\" x", "\"\"\"\"\" x"),
        ("bar\"{\"", "bar\"\"\""),
        ("m('{', '\\'', 'a)", "m(\"\"\", \"\"\"\", 'a)"),
        ("\"//\" x // y", "\"\"\"\" x     "),
        ("\"a\nb\"", "\"\"\n\"\""),
        ("r#type x", "r#type x"),
    ] {
        assert_eq!(code(source), expected, "{source}");
    }
}

#[test]
fn words_are_whole_names() {
    let found: Vec<&str> = words("use tokio::sync; tokio_util(a.b_1)").collect();
    assert_eq!(found, ["use", "tokio", "sync", "tokio_util", "a", "b_1"]);
}
