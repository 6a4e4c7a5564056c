//! Several builds of the same servers, in turns: what a change is worth.
//!
//! Each round is compared with that of the first build right before it, as what disturbs the
//! machine comes and goes; the median of these ratios is the verdict, and their span says how much
//! it is worth.

use std::{error::Error, fmt, path::PathBuf};

use fleet::bench::{Ringway, Round, Subject, Workload, systems::Settings};

use super::in_turns;

/// Measures this build and the others in turns. False: there were errors.
pub(super) async fn compare(
    others: &[PathBuf],
    nodes: usize,
    work: &Workload,
    count: usize,
) -> Result<bool, Box<dyn Error>> {
    let mut names = vec!["this".to_owned()];
    let mut fleets = vec![Ringway::start(nodes, Settings::Plain).await?];
    for dir in others {
        names.push(dir.display().to_string());
        let in_dir = |name: &str| Ok(dir.join(name));
        fleets.push(Ringway::start_from(in_dir, nodes, Settings::Plain).await?);
    }
    for fleet in &fleets {
        fleet.fill(work).await?;
    }
    let subjects: Vec<(&str, &dyn Subject)> =
        names.iter().map(String::as_str).zip(fleets.iter().map(|it| it as &dyn Subject)).collect();
    let rounds = in_turns(&subjects, work, count).await?;
    println!("this build, as a multiple of the other in the same turn: median (least–most)");
    for (name, other) in names.iter().zip(&rounds).skip(1) {
        let of = |what: fn(&Round) -> f64| Ratios::of(&rounds[0], other, what);
        println!("{name}");
        println!("  CPU per request  {}", of(Round::total_us));
        println!("    front          {}", of(|round| round.front_us));
        println!("    behind         {}", of(|round| round.back_us));
        println!("  requests/s       {}", of(|round| round.rate));
        println!("  p99              {}", of(|round| round.p99.as_secs_f64()));
        println!("  memory: front    {}", of(|round| round.front_bytes as f64));
        println!("    each behind    {}", of(|round| round.back_bytes as f64));
    }
    Ok(rounds.iter().flatten().all(|round| round.errors == 0))
}

/// What one build is to another, turn by turn.
struct Ratios {
    median: f64,
    least: f64,
    most: f64,
}

impl Ratios {
    fn of(ours: &[Round], others: &[Round], what: fn(&Round) -> f64) -> Self {
        let mut ratios: Vec<f64> =
            ours.iter().zip(others).map(|(our, other)| what(our) / what(other)).collect();
        ratios.sort_by(f64::total_cmp);
        let at = |place: usize| ratios.get(place).copied().unwrap_or(f64::NAN);
        Self {
            median: at(ratios.len() / 2),
            least: at(0),
            most: at(ratios.len().saturating_sub(1)),
        }
    }
}

impl fmt::Display for Ratios {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { median, least, most } = self;
        write!(f, "{median:.3} ({least:.3}–{most:.3})")
    }
}
