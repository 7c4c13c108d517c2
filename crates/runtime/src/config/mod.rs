//! The environment, read once, into types, with all complaints at once.
//!
//! A service's `Config::from_vars` asks a [`Reader`] for each key. The reader notes every problem and goes on, so that
//! an operator who mistyped three settings learns of three. It also notes every setting as it may be shown
//! ([`Settings`]), for the log and for `flightbell doctor`.

mod mask;
mod overlay;
mod problems;
mod process;
mod reader;
mod settings;
mod vars;

#[cfg(test)]
mod settings_tests;

pub use mask::without_password;
pub use overlay::Overlay;
pub use problems::ConfigError;
pub use process::{LONGEST_LAME_DUCK, LogFormat, RuntimeConfig};
pub use reader::Reader;
pub use settings::{Misspelt, Origin, Setting, Settings};
pub use vars::{ProcessEnv, Vars};
