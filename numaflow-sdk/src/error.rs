//! Errors for their three audiences: user code ([`HandlerError`]), the program ([`ServeError`]) and the wire, whose
//! statuses are made in `status` and nowhere else.

use std::error::Error;

use crate::panic::catching;

mod handler;
mod serve;
mod status;

pub use handler::HandlerError;
pub use serve::ServeError;
pub(crate) use status::*;

/// An error and its causes in one line.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    told(|| {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            source = cause.source();
        }
        text
    })
}

/// What an error says of itself. That is user code too, and its panic must not take the place of the error.
fn told(tell: impl FnOnce() -> String) -> String {
    catching(tell).unwrap_or_else(|panic| format!("an error whose text cannot be made, because that panics: {panic}"))
}
