//! Named points between two effects, where a test can kill the process.
//!
//! A promise such as "no alert is lost" is about what happens between an effect and its record. A
//! test names the point in [`FAULT_POINT`] (`name` or `name:3` for its third pass) and starts the
//! real binary; there it dies by SIGKILL, as if the power had gone. Without the key a point costs
//! one atomic load.

use std::sync::{
    OnceLock,
    atomic::{AtomicU32, Ordering},
};

use rustix::process::{Signal, getpid, kill_process};

use crate::config::{ProcessEnv, Vars};

/// The environment key that names the point, for tests only.
pub const FAULT_POINT: &str = "FLIGHTBELL_FAULT_POINT";

struct Armed {
    name: String,
    passes_left: AtomicU32,
}

/// Dies here if a test asked for it.
///
/// The choice is read once from the process's environment: it is about the process as a whole, and
/// a process that died of it has nothing left to share.
pub fn point(name: &str) {
    static ARMED: OnceLock<Option<Armed>> = OnceLock::new();
    let Some(armed) = ARMED.get_or_init(|| ProcessEnv.get(FAULT_POINT).map(|value| parse(&value))) else { return };
    if armed.name == name && armed.passes_left.fetch_sub(1, Ordering::SeqCst) == 1 {
        tracing::error!("killed at the fault point {name}, as {FAULT_POINT} asks");
        if let Err(error) = kill_process(getpid(), Signal::KILL) {
            tracing::error!("die at the fault point {name}: {error}");
        }
    }
}

fn parse(value: &str) -> Armed {
    let counted = value.split_once(':').and_then(|(name, pass)| Some((name, pass.parse().ok()?)));
    let (name, pass) = counted.unwrap_or((value, 1));
    Armed { name: name.to_owned(), passes_left: AtomicU32::new(pass) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_may_name_its_pass() {
        assert_eq!(parse("sent").passes_left.into_inner(), 1);
        let third = parse("sent:3");
        assert_eq!((third.name.as_str(), third.passes_left.into_inner()), ("sent", 3));
    }
}
