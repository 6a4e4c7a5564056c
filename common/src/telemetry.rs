//! What a process tells about itself: log lines and metrics.
//!
//! The log is the process's and is set up once by its `main`. Metrics are not: each gateway and
//! node has a registry of its own, since several may live in one process. Which metrics there are
//! is decided by the crates that count; serving them over HTTP is theirs too.

mod runtime;

use std::{fmt, io, io::IsTerminal};

use prometheus_client::encoding::text::encode;
use tracing::{Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{EnvFilter, fmt::MakeWriter, util::SubscriberInitExt};

pub use prometheus_client::registry::Registry;
pub use runtime::register_runtimes;

/// The media type of [`Metrics::encode`].
pub const METRICS_CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The section `[telemetry]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TelemetrySettings {
    /// Directives of the log's filter: a level, or `target=level` with commas between them.
    pub log_level: String,
    /// How log lines look.
    pub log_format: LogFormat,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// One line for people.
    #[default]
    Text,
    /// One JSON object a line, with the event's fields beside `timestamp`, `level` and `message`.
    Json,
}

/// Why the log could not be set up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// The filter makes no sense.
    #[error(
        "{directive:?} is no log directive ({problem}); give error, warn, info, debug, trace or \
         off, or target=level, with commas between them"
    )]
    Filter {
        /// The part that is wrong.
        directive: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Another part of the process has set up a log.
    #[error("the process has a log already")]
    SetUpAlready,
}

/// Sends the log of this process to standard error. For `main`, once.
///
/// # Errors
/// [`LogError`] if the filter makes no sense or a log is set up already.
pub fn init(settings: &TelemetrySettings) -> Result<(), LogError> {
    let colours = io::stderr().is_terminal();
    let writer = || Forgiving(io::stderr());
    subscriber(settings, colours, writer)?.try_init().map_err(|_| LogError::SetUpAlready)
}

/// Prints a line for people; one that can't be printed is lost.
pub fn say(to: impl io::Write, line: impl fmt::Display) {
    use io::Write;
    let _ = writeln!(Forgiving(to), "{line}");
}

/// Writes for people that may be lost. Whoever read them may be gone, or the disk full, and that
/// must stop nothing: a failed write of the log would be reported by a print, which panics.
#[derive(Debug)]
struct Forgiving<W>(W);

impl<W: io::Write> io::Write for Forgiving<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.0.write_all(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let _ = self.0.flush();
        Ok(())
    }
}

/// Checks the directives of a log filter.
///
/// # Errors
/// [`LogError::Filter`] naming the first directive that makes no sense.
pub fn check_filter(directives: &str) -> Result<(), LogError> {
    filter(directives).map(drop)
}

type AnySubscriber = Box<dyn Subscriber + Send + Sync>;

fn subscriber<W>(
    settings: &TelemetrySettings,
    colours: bool,
    writer: W,
) -> Result<AnySubscriber, LogError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter(&settings.log_level)?)
        .with_writer(writer)
        .with_ansi(colours);
    Ok(match settings.log_format {
        LogFormat::Text => Box::new(log.finish()),
        LogFormat::Json => Box::new(log.json().flatten_event(true).finish()),
    })
}

fn filter(directives: &str) -> Result<EnvFilter, LogError> {
    let directives: Vec<_> = directives.split(',').map(str::trim).collect();
    for directive in &directives {
        let wrong =
            |problem: String| Err(LogError::Filter { directive: (*directive).to_owned(), problem });
        // `inf` alone would be taken for a target of that name, and nothing else would be logged.
        // An empty one would be taken for `error`.
        let bare = !directive.contains(['=', '[']);
        let level = directive.parse::<LevelFilter>();
        if bare && (directive.is_empty() || level.is_err()) {
            return wrong("it is not a level".into());
        }
        if let Err(error) = EnvFilter::builder().parse(directive) {
            return wrong(error.to_string());
        }
    }
    let directives = directives.join(",");
    let whole = EnvFilter::builder().parse(&directives);
    whole.map_err(|error| LogError::Filter { directive: directives, problem: error.to_string() })
}

/// The metrics of one gateway or node. Filled while it is built, then shared and only read.
#[derive(Debug, Default)]
pub struct Metrics(Registry);

impl Metrics {
    /// No metrics yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Where metrics are registered, by their whole names: `ringway_<what>_<unit>`.
    pub fn registry(&mut self) -> &mut Registry {
        &mut self.0
    }

    /// All metrics as OpenMetrics text, of type [`METRICS_CONTENT_TYPE`].
    ///
    /// # Errors
    /// [`fmt::Error`] if a metric can't be written down.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.0)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use prometheus_client::metrics::counter::Counter;

    use super::*;

    #[test]
    fn a_log_that_nobody_reads_stops_nothing() {
        use io::Write;
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut forgiving = Forgiving(full);
        assert_eq!(forgiving.write(b"lost").unwrap(), 4);
        forgiving.flush().unwrap();
    }

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(level: &str, format: LogFormat, log: impl FnOnce()) -> String {
        let written = Written::default();
        let writer = {
            let written = written.clone();
            move || written.clone()
        };
        let settings = TelemetrySettings { log_level: level.into(), log_format: format };
        let subscriber = subscriber(&settings, false, writer).unwrap();
        tracing::subscriber::with_default(subscriber, log);
        let bytes = written.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn json_lines_carry_the_fields_of_events() {
        let text = logged("info", LogFormat::Json, || {
            tracing::info!(node_id = "n1", duration_us = 7, "served");
        });
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["message"], "served");
        assert_eq!(line["node_id"], "n1");
        assert_eq!(line["duration_us"], 7);
        line["timestamp"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    }

    #[test]
    fn text_lines_are_for_people() {
        let text = logged("info", LogFormat::Text, || tracing::warn!(node_id = "n1", "slow"));
        assert!(text.contains("WARN") && text.contains("slow node_id=\"n1\""), "{text}");
        assert!(!text.contains('\u{1b}'), "no colours in a file: {text:?}");
    }

    #[test]
    fn the_filter_filters() {
        let log = || {
            tracing::info!("loud");
            tracing::debug!(target: "quiet", "soft");
        };
        let text = logged("warn,quiet=debug", LogFormat::Text, log);
        assert!(!text.contains("loud") && text.contains("soft"), "{text}");
    }

    #[test]
    fn filters_without_sense_are_refused() {
        for good in ["info", "WARN", "off", "info,h2=warn", "info, common::link=trace"] {
            assert_eq!(check_filter(good), Ok(()), "{good}");
        }
        for bad in ["", "inf", "verbose", "info,", "h2=loud", "a=b=c", "hyper"] {
            assert!(matches!(check_filter(bad), Err(LogError::Filter { .. })), "{bad}");
        }
    }

    #[test]
    fn metrics_are_openmetrics_of_their_own_registry() {
        let requests = Counter::<u64>::default();
        let mut metrics = Metrics::new();
        metrics.registry().register("ringway_requests", "Requests", requests.clone());
        requests.inc_by(3);
        let text = metrics.encode().unwrap();
        assert!(text.contains("ringway_requests_total 3\n"), "{text}");
        assert!(text.ends_with("# EOF\n"), "{text}");
        assert_eq!(Metrics::new().encode().unwrap(), "# EOF\n");
    }
}
