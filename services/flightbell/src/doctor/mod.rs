//! `flightbell doctor`: what is wrong on this machine, and the command that mends it.
//!
//! It looks and asks, and changes nothing. What runs is asked through `addresses.json`; what does not
//! run is checked for whether it could.

mod finding;
mod machine;
mod outside;
mod running;

use anyhow::bail;
use local_servers::DataDir;
use runtime::config::Vars;

use self::finding::{Finding, Verdict};
use crate::{cli, folder, running::Running, services::ServiceList, settings, up};

/// Checks everything and prints what was found.
///
/// # Errors
/// When something must be mended.
pub async fn run(args: cli::Doctor, services: ServiceList, vars: &dyn Vars) -> anyhow::Result<()> {
    let findings = examine(args, services, vars).await;
    findings.iter().for_each(print);
    let wrong = findings.iter().filter(|finding| finding.verdict == Verdict::Wrong).count();
    match wrong {
        0 => Ok(()),
        1 => bail!("one thing must be mended"),
        many => bail!("{many} things must be mended"),
    }
}

async fn examine(args: cli::Doctor, services: ServiceList, vars: &dyn Vars) -> Vec<Finding> {
    let folder = match folder::data_dir(args.data_dir, vars) {
        Ok(folder) => folder,
        Err(error) => {
            let problem = error.problems().join("; ");
            return vec![Finding::wrong("data directory", problem, "name one with --data-dir")];
        }
    };
    // Nearest folders above it are looked for, which a relative path does not name.
    let folder = std::path::absolute(&folder).unwrap_or(folder);
    let holder = DataDir::holder(&folder).ok().flatten();
    let running = Running::find(&folder);
    let mut findings = Vec::new();
    let given = match settings::check(services, vars) {
        Ok((_, given)) => {
            findings.push(Finding::fine("settings", "every setting can be used"));
            Some(given)
        }
        Err(error) => {
            let mend = "set it in the environment; the README has the table";
            findings.extend(error.problems().iter().map(|problem| Finding::wrong("settings", problem, mend)));
            None
        }
    };
    let given = given.unwrap_or_else(|| settings::Given::read_leniently(services, vars));
    match up::places(vars, &given) {
        Ok(places) => findings.extend(machine::check(&places, &given, &folder, holder.is_some()).await),
        Err(error) => {
            let problem = error.problems().join("; ");
            findings.push(Finding::wrong("folders", problem, "set HOME or XDG_CACHE_HOME"));
        }
    }
    findings.extend(running::check(services, &given, holder.as_deref(), running.as_ref(), vars).await);
    findings.extend(outside::check(vars).await);
    findings
}

#[expect(clippy::print_stdout, reason = "the command's answer")]
fn print(finding: &Finding) {
    println!("{finding}");
}
