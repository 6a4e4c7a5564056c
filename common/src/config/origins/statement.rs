//! Whether a query is one statement that reads, with one parameter.
//!
//! This is for the operator's mistakes, not a wall: what a statement does is kept within bounds by
//! read-only connections. It looks at words and signs outside of quotes and comments, and no further.

use super::Database;

/// # Errors
/// What is wrong with it.
pub(super) fn check(query: &str, database: Option<&Database>) -> Result<(), String> {
    let is_postgres = database == Some(&Database::Postgres);
    let is_sqlite = matches!(database, Some(Database::Sqlite(_)));
    let bare = bare(query, is_postgres)?;
    let text = bare.trim();
    let text = text.strip_suffix(';').unwrap_or(text);
    if text.contains(';') {
        return Err("the query holds several statements".to_owned());
    }
    let first: String = text.chars().take_while(char::is_ascii_alphabetic).collect();
    if !["select", "with", "values"].contains(&first.to_ascii_lowercase().as_str()) {
        return Err("the query does not begin with SELECT".to_owned());
    }
    // PostgreSQL has operators of these signs.
    if let Some(sign) = text.chars().find(|it| is_sqlite && "?:@".contains(*it)) {
        return Err(format!("the query has a parameter with '{sign}'; the key is $1"));
    }
    let mut found = false;
    for (at, _) in text.match_indices('$') {
        let is_part_of_name = text[..at].ends_with(|it: char| it.is_alphanumeric() || it == '_');
        let name: String =
            text[at + 1..].chars().take_while(|it| it.is_alphanumeric() || *it == '_').collect();
        match name.as_str() {
            _ if is_part_of_name => {}
            "1" => found = true,
            other => return Err(format!("the query has the parameter ${other}; the key is $1")),
        }
    }
    if found { Ok(()) } else { Err("the query has no $1, which is the key".to_owned()) }
}

/// The query with a blank for every literal, quoted name and comment.
fn bare(query: &str, is_postgres: bool) -> Result<String, String> {
    let (mut bare, mut rest) = (String::new(), query);
    while let Some(first) = rest.chars().next() {
        let escapes = is_postgres && first == '\'' && has_escapes(&bare);
        let end = match first {
            '\'' | '"' | '`' => quoted(rest, first, escapes),
            '-' if rest.starts_with("--") => Some(rest.find('\n').unwrap_or(rest.len())),
            '/' if rest.starts_with("/*") => comment(rest, is_postgres),
            '$' if is_postgres && !bare.ends_with(char::is_alphanumeric) => dollars(rest),
            _ => Some(0),
        };
        match end {
            None => return Err(format!("what begins with {first} in the query does not end")),
            Some(0) => {
                bare.push(first);
                rest = &rest[first.len_utf8()..];
            }
            Some(end) => {
                bare.push(' ');
                rest = &rest[end..];
            }
        }
    }
    Ok(bare)
}

/// Whether a literal that follows is one with backslashes, `E'…'`.
fn has_escapes(before: &str) -> bool {
    let mut last = before.chars().rev();
    last.next().is_some_and(|it| it.eq_ignore_ascii_case(&'e'))
        && !last.next().is_some_and(|it| it.is_alphanumeric() || it == '_')
}

/// Where a literal or quoted name ends. A doubled quote is one that ends and another that begins.
fn quoted(text: &str, quote: char, escapes: bool) -> Option<usize> {
    let mut is_escaped = false;
    for (at, it) in text.char_indices().skip(1) {
        match it {
            _ if is_escaped => is_escaped = false,
            '\\' if escapes => is_escaped = true,
            _ if it == quote => return Some(at + quote.len_utf8()),
            _ => {}
        }
    }
    None
}

/// Where a comment ends; PostgreSQL's may hold others.
fn comment(text: &str, nests: bool) -> Option<usize> {
    let (mut depth, mut at) = (1, 2);
    while depth > 0 {
        let rest = text.get(at..).filter(|rest| !rest.is_empty())?;
        let step = match rest {
            _ if rest.starts_with("*/") => {
                depth -= 1;
                2
            }
            _ if nests && rest.starts_with("/*") => {
                depth += 1;
                2
            }
            _ => rest.chars().next()?.len_utf8(),
        };
        at += step;
    }
    Some(at)
}

/// Where a literal in `$tag$` ends; at its beginning if it is none.
fn dollars(text: &str) -> Option<usize> {
    let Some(second) = text[1..].find('$') else { return Some(0) };
    let tag = &text[..second + 2];
    let is_name = |it: char| it.is_alphanumeric() || it == '_';
    let name = &tag[1..tag.len() - 1];
    if !name.chars().all(is_name) || name.starts_with(|it: char| it.is_ascii_digit()) {
        return Some(0);
    }
    text[tag.len()..].find(tag).map(|at| at + 2 * tag.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_statement_with_one_parameter_passes() {
        let (postgres, sqlite) = (Database::Postgres, Database::Sqlite("/x".into()));
        for (query, which) in [
            ("SELECT value FROM users WHERE key = $1", None),
            ("select v from t where k = $1 or other = $1;\n", None),
            ("WITH it AS (SELECT 1) SELECT v FROM t, it WHERE k = $1", None),
            ("-- what; $2\nSELECT v /* ; $3 */ FROM t WHERE k = $1 AND a <> 'x;$2''y'", None),
            ("SELECT v FROM \"a;b\" WHERE k = $1", None),
            ("SELECT v::text FROM t WHERE data ? 'x' AND k = $1", Some(&postgres)),
            ("SELECT v FROM t WHERE a = $x$;$2$x$ AND k = $1", Some(&postgres)),
            ("SELECT v FROM t WHERE a = $$;'$$ AND k = $1", Some(&postgres)),
            ("SELECT v FROM t WHERE a = E'\\';' AND k = $1", Some(&postgres)),
            ("SELECT v /* a /* ; */ ; */ FROM t WHERE k = $1", Some(&postgres)),
            ("SELECT a$2 FROM t WHERE k = $1", Some(&postgres)),
            ("SELECT v FROM t WHERE a = 'b\\' AND k = $1", Some(&sqlite)),
        ] {
            assert_eq!(check(query, which), Ok(()), "{query}");
        }
    }

    #[test]
    fn what_is_none_is_told() {
        let (postgres, sqlite) = (Database::Postgres, Database::Sqlite("/x".into()));
        for (query, which, hint) in [
            ("", None, "does not begin with SELECT"),
            ("SELECT v FROM t", None, "has no $1"),
            ("SELECT '$1'", None, "has no $1"),
            ("SELECT v FROM t WHERE k = $2", None, "parameter $2"),
            ("SELECT v FROM t WHERE k = $1 AND z = $2", None, "parameter $2"),
            ("SELECT v FROM t WHERE k = $12", None, "parameter $12"),
            ("SELECT v FROM t WHERE k = $key", None, "parameter $key"),
            ("SELECT 1 WHERE '' = $1; DROP TABLE t", None, "several statements"),
            ("SELECT 1 WHERE '' = $1;;", None, "several statements"),
            ("INSERT INTO t VALUES ($1)", None, "does not begin with SELECT"),
            ("selection $1", None, "does not begin with SELECT"),
            ("SELECT v FROM t WHERE k = '$1", None, "does not end"),
            ("SELECT v /* FROM t WHERE k = $1", None, "does not end"),
            ("SELECT v FROM t WHERE a = $x$ AND k = $1", Some(&postgres), "does not end"),
            ("SELECT v FROM t WHERE k = ?", Some(&sqlite), "'?'"),
            ("SELECT v FROM t WHERE k = :key", Some(&sqlite), "':'"),
            ("SELECT v FROM t WHERE k = @key AND z = $1", Some(&sqlite), "'@'"),
        ] {
            let why = check(query, which).expect_err(query);
            assert!(why.contains(hint), "{query}: {why}");
        }
    }
}
