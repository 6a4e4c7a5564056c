//! Reading a number from a page of metrics.

/// The value of a series such as `requests_total{worker="0"}`, or of all series of a name together;
/// `None` when there is none of them.
pub fn value(page: &str, name: &str) -> Option<f64> {
    let is_it = |series: &str| {
        series.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('{'))
    };
    let values = page.lines().filter_map(|line| {
        let (series, value) = line.rsplit_once(' ')?;
        is_it(series).then(|| value.parse().ok())?
    });
    values.fold(None, |sum, value: f64| Some(sum.unwrap_or(0.0) + value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_is_found_and_a_name_is_the_sum_of_its_series() {
        let page = "# HELP held_total Held.\n# TYPE held_total counter\n\
                    held_total 3\nheld_total_bytes 9\n\
                    tasks{runtime=\"a b\"} 4\ntasks{runtime=\"c\"} 1.5\n# EOF\n";
        for (name, wanted) in [
            ("held_total", Some(3.0)),
            ("tasks", Some(5.5)),
            ("tasks{runtime=\"a b\"}", Some(4.0)),
            ("held", None),
            ("tasks{", None),
        ] {
            assert_eq!(value(page, name), wanted, "{name}");
        }
    }
}
