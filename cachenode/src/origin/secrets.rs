//! Variables of the environment in the place of their names, where an origin is set up.
//!
//! Settings hold the names (`${TOKEN}`) and nothing else, so that what is shown, logged and kept
//! with the cluster's state has no secret in it.

/// A text with variables in the place of `${NAME}`.
///
/// # Errors
/// Names one that is not set.
pub(crate) fn filled(text: &str) -> Result<String, String> {
    filled_with(text, |name| std::env::var(name).ok())
}

/// The same, with variables from elsewhere.
pub(super) fn filled_with(
    text: &str,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<String, String> {
    let (mut out, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once("${") {
        let Some((name, after)) = after.split_once('}') else { break };
        out.push_str(before);
        let missing = || format!("the environment has no {name}; set it for the node");
        out.push_str(&variable(name).ok_or_else(missing)?);
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_give_way_to_what_they_stand_for() {
        let variable = |name: &str| (name == "TOKEN").then(|| "secret".to_owned());
        for (text, wanted) in [
            ("plain", Ok("plain")),
            ("Bearer ${TOKEN}", Ok("Bearer secret")),
            ("${TOKEN}${TOKEN}!", Ok("secretsecret!")),
            ("${TOKEN", Ok("${TOKEN")),
            ("$TOKEN {TOKEN}", Ok("$TOKEN {TOKEN}")),
            ("${NONE}", Err("the environment has no NONE; set it for the node")),
        ] {
            let wanted = wanted.map(str::to_owned).map_err(str::to_owned);
            assert_eq!(filled_with(text, variable), wanted, "{text}");
        }
    }
}
