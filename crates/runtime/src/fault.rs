//! Named points between two effects, where a test can kill the process.
//!
//! A promise such as "no alert is lost" is about what happens between an effect and its record. A
//! test names the point in [`FAULT_POINT`] (`name` or `name:3` for its third pass) and starts the
//! real binary; there it dies by SIGKILL, as if the power had gone. With `freeze:` before the name it
//! stops by SIGSTOP instead, until it gets SIGCONT. Without the key a point costs one atomic load.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use rustix::process::{Signal, getpid, kill_process};

use crate::config::{ProcessEnv, Vars};

/// The environment key that names the point, for tests only.
pub const FAULT_POINT: &str = "FLIGHTBELL_FAULT_POINT";

/// By then a signal to ourselves has arrived.
const SIGNAL_LIMIT: Duration = Duration::from_millis(200);

struct Armed {
    signal: Signal,
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
        tracing::error!("killed or frozen at the fault point {name}, as {FAULT_POINT} asks");
        if let Err(error) = kill_process(getpid(), armed.signal) {
            tracing::error!("stop at the fault point {name}: {error}");
        }
        // The signal stops the whole process, but perhaps not this thread first.
        std::thread::sleep(SIGNAL_LIMIT);
    }
}

fn parse(value: &str) -> Armed {
    let (signal, value) = value.strip_prefix("freeze:").map_or((Signal::KILL, value), |rest| (Signal::STOP, rest));
    let counted = value.split_once(':').and_then(|(name, pass)| Some((name, pass.parse().ok()?)));
    let (name, pass) = counted.unwrap_or((value, 1));
    Armed { signal, name: name.to_owned(), passes_left: AtomicU32::new(pass) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_may_name_its_pass() {
        assert_eq!(parse("sent").passes_left.into_inner(), 1);
        let third = parse("sent:3");
        assert_eq!((third.name.as_str(), third.passes_left.into_inner()), ("sent", 3));
        let frozen = parse("freeze:sent:2");
        assert_eq!((frozen.name.as_str(), frozen.passes_left.into_inner()), ("sent", 2));
        assert_eq!((third.signal, frozen.signal), (Signal::KILL, Signal::STOP));
    }
}
