//! `drive` against scripted servers: each rule of the platform that it follows.
//!
//! The servers are real ones on real sockets; the clock is paused where time is part of the rule, so that nothing waits.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

#[path = "drive/breaches.rs"]
mod breaches;
#[path = "drive/command.rs"]
mod command;
#[path = "drive/map.rs"]
mod map;
#[path = "drive/modes.rs"]
mod modes;
#[path = "drive/platform.rs"]
mod platform;
#[path = "drive/rogue.rs"]
mod rogue;
#[path = "drive/script.rs"]
mod script;
#[path = "drive/source.rs"]
mod source;
#[path = "drive/stage.rs"]
mod stage;
#[path = "drive/trouble.rs"]
mod trouble;
#[path = "drive/waits.rs"]
mod waits;
