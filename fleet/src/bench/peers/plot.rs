//! Two kinds of plots as SVG: bars in two parts, and lines over the number of nodes.
//!
//! Only what these two need. Colours are set for a light ground, which is drawn, so that a page in
//! dark shows them as they are.

use std::fmt::Write;

const WIDTH: f64 = 760.0;
const MARGIN: f64 = 24.0;
const TITLE_HEIGHT: f64 = 48.0;
/// For names to the left of the bars.
const NAMES_WIDTH: f64 = 170.0;
/// For figures to the right of the longest bar, and names to the right of the lines.
const FIGURES_WIDTH: f64 = 150.0;
const BAR_HEIGHT: f64 = 24.0;
const BAR_STEP: f64 = 38.0;
const LINES_HEIGHT: f64 = 320.0;
/// How many levels are marked beside the lines, about.
const LEVELS: f64 = 5.0;
/// How far the first and the last point are from the ends of the levels.
const INSET: f64 = 36.0;
const FRONT: &str = "#1f6feb";
const BEHIND: &str = "#9ec5fe";
const COLOURS: [&str; 2] = ["#6b7280", "#1f6feb"];
const INK: &str = "#1f2328";
const FAINT: &str = "#d0d7de";

/// A bar in two parts.
#[derive(Debug, Clone)]
pub(super) struct Bar {
    pub(super) name: String,
    /// The first part.
    pub(super) front: f64,
    /// The second.
    pub(super) behind: f64,
}

/// A line: numbers of nodes, and the figure for each.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) name: String,
    pub(super) points: Vec<(usize, f64)>,
}

/// Bars from the left, one below the other.
pub(super) fn bars(title: &str, shown: &[Bar]) -> String {
    let most = shown.iter().map(|bar| bar.front + bar.behind).fold(f64::MIN_POSITIVE, f64::max);
    let left = MARGIN + NAMES_WIDTH;
    let scale = (WIDTH - left - FIGURES_WIDTH - MARGIN) / most;
    let height = TITLE_HEIGHT + BAR_STEP * (shown.len() as f64 + 1.0);
    let mut svg = Svg::new(title, height);
    for (place, bar) in shown.iter().enumerate() {
        let top = TITLE_HEIGHT + BAR_STEP * place as f64;
        let middle = top + BAR_HEIGHT / 2.0 + 5.0;
        svg.text(left - 10.0, middle, "end", &bar.name);
        let (front, behind) = (bar.front * scale, bar.behind * scale);
        svg.rect((left, top), (front, BAR_HEIGHT), FRONT);
        svg.rect((left + front, top), (behind, BAR_HEIGHT), BEHIND);
        let figure = match bar.behind {
            behind if behind > 0.0 => {
                format!("{:.1} = {:.1} + {behind:.1}", bar.front + behind, bar.front)
            }
            _ => format!("{:.1}", bar.front),
        };
        svg.text(left + front + behind + 8.0, middle, "start", &figure);
    }
    let top = TITLE_HEIGHT + BAR_STEP * shown.len() as f64;
    for (at, colour, name) in
        [(0.0, FRONT, "gateway or proxy"), (160.0, BEHIND, "what is behind it")]
    {
        svg.rect((left + at, top + 6.0), (12.0, 12.0), colour);
        svg.text(left + at + 18.0, top + 17.0, "start", name);
    }
    svg.end()
}

/// Lines over the number of nodes, on a logarithmic scale; the figures start from zero.
pub(super) fn lines(title: &str, shown: &[Line]) -> String {
    let points = || shown.iter().flat_map(|line| &line.points);
    let most = points().map(|point| point.1).fold(f64::MIN_POSITIVE, f64::max) * 1.1;
    let log = |nodes: usize| (nodes.max(1) as f64).ln();
    let first = points().map(|point| log(point.0)).fold(f64::INFINITY, f64::min);
    let last = points().map(|point| log(point.0)).fold(f64::NEG_INFINITY, f64::max);
    let (left, right) = (MARGIN + 40.0, WIDTH - MARGIN - FIGURES_WIDTH);
    let (top, bottom) = (TITLE_HEIGHT, LINES_HEIGHT - MARGIN - 20.0);
    let across = |nodes: usize| {
        let share = (log(nodes) - first) / (last - first).max(f64::MIN_POSITIVE);
        left + INSET + share * (right - left - 2.0 * INSET)
    };
    let up = |figure: f64| bottom - figure / most * (bottom - top);
    let mut svg = Svg::new(title, LINES_HEIGHT);
    let step = round_step(most / LEVELS);
    for level in 0..=(most / step) as usize {
        let figure = step * level as f64;
        svg.line((left, up(figure)), (right, up(figure)), FAINT, 1.0);
        svg.text(left - 8.0, up(figure) + 5.0, "end", &format!("{figure:.0}"));
    }
    let mut marked: Vec<usize> = points().map(|point| point.0).collect();
    marked.sort_unstable();
    marked.dedup();
    for nodes in marked {
        svg.text(across(nodes), bottom + 20.0, "middle", &format!("{nodes} nodes"));
    }
    for (line, colour) in shown.iter().zip(COLOURS.iter().cycle()) {
        let at: Vec<_> = line.points.iter().map(|&(n, figure)| (across(n), up(figure))).collect();
        for pair in at.windows(2) {
            svg.line(pair[0], pair[1], colour, 2.5);
        }
        for (&(x, y), &(_, figure)) in at.iter().zip(&line.points) {
            svg.dot(x, y, colour);
            svg.text(x, y - 10.0, "middle", &format!("{figure:.1}"));
        }
        if let Some(&(x, y)) = at.last() {
            svg.text(x + INSET, y + 5.0, "start", &line.name);
        }
    }
    svg.end()
}

/// The next of 1, 2, 5, 10, 20, … that is not less.
fn round_step(least: f64) -> f64 {
    let power = 10_f64.powf(least.max(1.0).log10().floor());
    [1.0, 2.0, 5.0]
        .map(|step| step * power)
        .into_iter()
        .find(|&s| s >= least)
        .unwrap_or(10.0 * power)
}

/// A drawing in the making.
struct Svg(String);

impl Svg {
    fn new(title: &str, height: f64) -> Self {
        let title_text = escaped(title);
        let mut svg = Self(format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
             viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" font-family=\"sans-serif\" \
             font-size=\"14\">\n<title>{title_text}</title>\n"
        ));
        svg.rect((0.0, 0.0), (WIDTH, height), "#ffffff");
        svg.text(MARGIN, 28.0, "start", title);
        svg
    }

    fn rect(&mut self, (x, y): (f64, f64), (width, height): (f64, f64), colour: &str) {
        self.add(format_args!(
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{colour}\"/>"
        ));
    }

    fn line(&mut self, from: (f64, f64), to: (f64, f64), colour: &str, width: f64) {
        let ((x1, y1), (x2, y2)) = (from, to);
        self.add(format_args!(
            "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{colour}\" \
             stroke-width=\"{width}\"/>"
        ));
    }

    fn dot(&mut self, x: f64, y: f64, colour: &str) {
        self.add(format_args!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"{colour}\"/>"));
    }

    fn text(&mut self, x: f64, y: f64, anchor: &str, text: &str) {
        let text = escaped(text);
        self.add(format_args!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"{INK}\">{text}</text>"
        ));
    }

    fn add(&mut self, element: std::fmt::Arguments<'_>) {
        // Writing to a string can't fail.
        let _ = writeln!(self.0, "{element}");
    }

    fn end(mut self) -> String {
        self.0 += "</svg>\n";
        self.0
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every element is closed, and no figure fell off the paper.
    fn assert_drawn(svg: &str) {
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"), "{svg}");
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        for element in svg.lines().filter(|line| line.starts_with("<rect")) {
            let number = |name: &str| -> f64 {
                let rest = element.split(&format!(" {name}=\"")).nth(1).unwrap();
                rest.split('"').next().unwrap().parse().unwrap()
            };
            assert!(number("x") >= 0.0 && number("x") + number("width") <= WIDTH, "{element}");
        }
    }

    #[test]
    fn bars_are_as_long_as_their_figures() {
        let bar = |name: &str, front, behind| Bar { name: name.into(), front, behind };
        let svg = bars("A < B", &[bar("long", 15.0, 5.0), bar("short", 5.0, 0.0)]);
        assert_drawn(&svg);
        assert!(svg.contains("<title>A &lt; B</title>"));
        assert!(svg.contains(">20.0 = 15.0 + 5.0<") && svg.contains(">5.0<"), "{svg}");
        let full = WIDTH - 2.0 * MARGIN - NAMES_WIDTH - FIGURES_WIDTH;
        assert!(svg.contains(&format!("width=\"{:.1}\"", full * 0.75)), "{svg}");
        assert_drawn(&bars("nothing", &[]));
    }

    #[test]
    fn lines_show_every_point_and_their_names() {
        let line = |name: &str, figures: [f64; 3]| Line {
            name: name.into(),
            points: [3, 10, 30].into_iter().zip(figures).collect(),
        };
        let svg = lines("t", &[line("one", [10.0, 11.0, 12.0]), line("two", [20.0, 20.5, 21.0])]);
        assert_drawn(&svg);
        assert_eq!(svg.matches("<circle").count(), 6);
        for text in ["3 nodes", "10 nodes", "30 nodes", "one", "two", "20.5"] {
            assert!(svg.contains(&format!(">{text}<")), "{text}");
        }
        assert!(svg.contains(">5<") && svg.contains(">20<") && !svg.contains(">25<"), "levels");
        assert_eq!([0.1, 1.5, 4.6, 5.1, 61.0].map(round_step), [1.0, 2.0, 5.0, 10.0, 100.0]);
        assert_drawn(&lines("nothing", &[]));
        assert_drawn(&lines("one", &[Line { name: "x".into(), points: vec![(3, 1.0)] }]));
    }
}
