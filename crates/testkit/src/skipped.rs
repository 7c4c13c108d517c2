//! Tests that cannot run on this machine: told loudly and counted, and a failure where they should have run.

use std::{fs::OpenOptions, io::Write, thread};

use runtime::config::{ProcessEnv, Vars};

/// The environment key by which `with-servers` tells in which file skipped tests are written down, a line each.
pub const SKIPPED: &str = "FLIGHTBELL_TEST_SKIPPED";

/// The environment key that says that every test is expected to run which this user may run.
const CI: &str = "CI";

/// Tells that the running test proves nothing here, and why. The test returns then.
///
/// Fails the test instead where `CI` is set and root runs it: everything can be tried there.
pub fn skip(why: &str) {
    let name = thread::current().name().unwrap_or("a test").to_owned();
    let must_run = must_run(rustix::process::geteuid().is_root(), ProcessEnv.get(CI).as_deref());
    assert!(!must_run, "{name} must not be skipped where {CI} is set and root runs it: {why}");
    // Past the harness, which keeps to itself what a passing test prints.
    writeln!(std::io::stderr(), "SKIPPED {name}: {why}").unwrap_or_default();
    if let Some(file) = ProcessEnv.get(SKIPPED) {
        let mut list = OpenOptions::new().append(true).open(file).expect("the list of skipped tests");
        // In one piece, since several processes write.
        list.write_all(format!("{name}: {why}\n").as_bytes()).expect("written");
    }
}

fn must_run(is_root: bool, ci: Option<&str>) -> bool {
    is_root && ci.is_some_and(|value| !value.is_empty() && value != "false")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_root_in_ci_must_not_skip() {
        assert!(must_run(true, Some("true")) && must_run(true, Some("1")));
        for (is_root, ci) in [(true, None), (true, Some("")), (true, Some("false")), (false, Some("true"))] {
            assert!(!must_run(is_root, ci), "{is_root} {ci:?}");
        }
    }
}
