//! What is logged by a program that has set up no log: WARN and ERROR, a line each, on standard error.
//!
//! A program that has a logger of the crate `log` but no subscriber of `tracing` listens there: events go to that logger.

use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tracing::field::{Field, Visit};
use tracing::metadata::LevelFilter;
use tracing::subscriber::{Interest, NoSubscriber, set_global_default};
use tracing::{Event, Id, Level, Metadata, Subscriber, span};

use crate::time::to_wire;

/// The most bytes of one line: an error may bring a text of any length.
const LINE: usize = 8 << 10;

/// Whether the log is the one on standard error.
static IS_FALLBACK: AtomicBool = AtomicBool::new(false);

/// Gives the process a log, unless the program has one: a subscriber of `tracing` that is set for the whole process.
pub(crate) fn install_fallback() {
    let to = if log::max_level() == log::LevelFilter::Off { To::Stderr } else { To::Log };
    if set_global_default(Fallback { to }).is_err() || to == To::Log {
        return;
    }
    IS_FALLBACK.store(true, Ordering::Relaxed);
    if log::set_logger(&Records).is_ok() {
        log::set_max_level(log::LevelFilter::Warn);
    }
}

/// Who listens to what is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Listener {
    /// The program's own log.
    Program,
    /// The log that was installed here, which takes warnings and errors only.
    Fallback,
    Nobody,
}

/// Who listens now.
pub(crate) fn listener() -> Listener {
    if IS_FALLBACK.load(Ordering::Relaxed) {
        Listener::Fallback
    } else if tracing::dispatcher::get_default(|set| set.is::<NoSubscriber>()) {
        Listener::Nobody
    } else {
        Listener::Program
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum To {
    Stderr,
    /// The logger of the crate `log`.
    Log,
}

struct Fallback {
    to: To,
}

impl Subscriber for Fallback {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        match self.to {
            To::Stderr if self.enabled(metadata) => Interest::always(),
            To::Stderr => Interest::never(),
            // A logger may change its mind.
            To::Log if metadata.is_event() => Interest::sometimes(),
            To::Log => Interest::never(),
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event()
            && match self.to {
                To::Stderr => *metadata.level() <= Level::WARN,
                // What comes from there need not go back.
                To::Log => metadata.name() != "log event" && log::logger().enabled(&of_log(metadata)),
            }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(match self.to {
            To::Stderr => LevelFilter::WARN,
            To::Log => match log::max_level() {
                log::LevelFilter::Off => LevelFilter::OFF,
                log::LevelFilter::Error => LevelFilter::ERROR,
                log::LevelFilter::Warn => LevelFilter::WARN,
                log::LevelFilter::Info => LevelFilter::INFO,
                log::LevelFilter::Debug => LevelFilter::DEBUG,
                log::LevelFilter::Trace => LevelFilter::TRACE,
            },
        })
    }

    fn event(&self, event: &Event<'_>) {
        let mut text = Text::default();
        event.record(&mut text);
        let text = text.joined();
        let metadata = event.metadata();
        match self.to {
            To::Stderr => print(metadata.level().as_str(), metadata.target(), &text),
            To::Log => log::logger().log(
                &log::Record::builder()
                    .metadata(of_log(metadata))
                    .args(format_args!("{text}"))
                    .module_path(metadata.module_path())
                    .file(metadata.file())
                    .line(metadata.line())
                    .build(),
            ),
        }
    }

    // There are no spans, as none is enabled.
    fn new_span(&self, _: &span::Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

fn of_log<'a>(metadata: &Metadata<'a>) -> log::Metadata<'a> {
    let level = match *metadata.level() {
        Level::ERROR => log::Level::Error,
        Level::WARN => log::Level::Warn,
        Level::INFO => log::Level::Info,
        Level::DEBUG => log::Level::Debug,
        Level::TRACE => log::Level::Trace,
    };
    log::Metadata::builder().level(level).target(metadata.target()).build()
}

/// What libraries log with the crate `log`.
struct Records;

impl log::Log for Records {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::Level::Warn
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            print(record.level().as_str(), record.target(), &record.args().to_string());
        }
    }

    fn flush(&self) {}
}

fn print(level: &str, target: &str, text: &str) {
    // The writer takes everything.
    drop(super::stderr().write_all(line(SystemTime::now(), level, target, text).as_bytes()));
}

/// A line of bounded length, in which nothing that a peer has sent can pass for a line of its own.
fn line(now: SystemTime, level: &str, target: &str, text: &str) -> String {
    let millis = now.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis());
    let time = UNIX_EPOCH + Duration::from_millis(u64::try_from(millis).unwrap_or_default());
    let mut line = format!("{} {level:>5} {target}: ", to_wire(time));
    for character in text.chars() {
        if line.len() >= LINE {
            line.push('…');
            break;
        }
        if character.is_control() {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
    line.push('\n');
    line
}

/// The message of an event, and its fields behind it.
#[derive(Debug, Default)]
struct Text {
    message: String,
    fields: String,
}

impl Text {
    fn joined(self) -> String {
        self.message + &self.fields
    }
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a text cannot fail.
        _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_a_time_a_level_and_a_target() {
        let time = UNIX_EPOCH + Duration::from_micros(1_796_000_000_123_456);
        assert_eq!(
            line(time, "WARN", "numaflow_sdk", "it is late"),
            "2026-11-30T00:53:20.123Z  WARN numaflow_sdk: it is late\n"
        );
    }

    #[test]
    fn a_line_stays_one_and_short() {
        let line = line(UNIX_EPOCH, "ERROR", "t", &format!("a\n2026 ERROR made up\x1b[2J{}", "ü".repeat(LINE)));
        assert!(line.contains("a\\n2026 ERROR made up\\u{1b}[2J"), "{line}");
        assert_eq!(line.matches('\n').count(), 1);
        assert!(line.len() <= LINE + 8 && line.ends_with("ü…\n"), "{}", line.len());
    }

    #[test]
    fn fields_follow_the_message() {
        struct Last(std::sync::mpsc::SyncSender<String>);
        impl Subscriber for Last {
            fn enabled(&self, _: &Metadata<'_>) -> bool {
                true
            }
            fn new_span(&self, _: &span::Attributes<'_>) -> Id {
                Id::from_u64(1)
            }
            fn record(&self, _: &Id, _: &span::Record<'_>) {}
            fn record_follows_from(&self, _: &Id, _: &Id) {}
            fn event(&self, event: &Event<'_>) {
                let mut text = Text::default();
                event.record(&mut text);
                self.0.send(text.joined()).unwrap();
            }
            fn enter(&self, _: &Id) {}
            fn exit(&self, _: &Id) {}
        }
        let (texts, text) = std::sync::mpsc::sync_channel(1);
        tracing::subscriber::with_default(Last(texts), || {
            tracing::warn!(id = "a\nb", age = ?Duration::from_secs(2), bytes = 7, problem = %"none", "it is slow");
        });
        assert_eq!(text.recv().unwrap(), "it is slow id=\"a\\nb\" age=2s bytes=7 problem=none");
    }

    #[test]
    fn only_warnings_and_errors_go_to_standard_error() {
        assert_eq!(Fallback { to: To::Stderr }.max_level_hint(), Some(LevelFilter::WARN));
    }
}
