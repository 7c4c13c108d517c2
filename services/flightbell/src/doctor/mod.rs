//! `flightbell doctor`: what is wrong on this machine, and the command that mends it.
//!
//! It looks and asks, and changes nothing. What runs is asked through `addresses.json`; what does not
//! run is checked for whether it could.

mod external_apis;
mod finding;
mod machine;
mod running_instance;

use anyhow::bail;
use events::topics::Namespace;
use local_servers::DataDir;
use runtime::config::Vars;

use self::finding::{Finding, Severity};
use crate::{
    cli,
    effective::{Effective, Group},
    paths,
    running_instance::RunningInstance,
    services::ServiceList,
    settings, up,
};

/// Checks everything and prints what was found, and under it the settings that `up` would have.
///
/// # Errors
/// When something must be mended.
pub async fn run(args: cli::Doctor, services: ServiceList, topics: &Namespace, vars: &dyn Vars) -> anyhow::Result<()> {
    let effective = Effective::of(services, vars, &settings::ExternalServers::read_leniently(services, vars));
    let misspelt = effective.misspelt.iter();
    let misspelt =
        misspelt.map(|slip| Finding::note("settings", slip, format!("set {}, and unset {}", slip.meant, slip.key)));
    let mut findings: Vec<Finding> = misspelt.collect();
    findings.extend(examine(args, services, topics, vars).await);
    findings.iter().for_each(print);
    effective.groups.iter().for_each(print_group);
    let wrong = findings.iter().filter(|finding| finding.severity == Severity::Wrong).count();
    match wrong {
        0 => Ok(()),
        1 => bail!("one thing must be mended"),
        many => bail!("{many} things must be mended"),
    }
}

async fn examine(args: cli::Doctor, services: ServiceList, topics: &Namespace, vars: &dyn Vars) -> Vec<Finding> {
    let folder = match paths::data_dir(args.data_dir, vars) {
        Ok(folder) => folder,
        Err(error) => {
            let problem = error.problems().join("; ");
            return vec![Finding::wrong("data directory", problem, "name one with --data-dir")];
        }
    };
    // Nearest folders above it are looked for, which a relative path does not name.
    let folder = std::path::absolute(&folder).unwrap_or(folder);
    let holder = DataDir::holder(&folder).ok().flatten();
    let running = RunningInstance::find(&folder);
    let mut findings = Vec::new();
    let external = match settings::check(services, vars) {
        Ok((_, external)) => {
            findings.push(Finding::fine("settings", "every setting can be used"));
            Some(external)
        }
        Err(error) => {
            let mend = "set it in the environment; the README has the table";
            findings.extend(error.problems().iter().map(|problem| Finding::wrong("settings", problem, mend)));
            None
        }
    };
    let external = external.unwrap_or_else(|| settings::ExternalServers::read_leniently(services, vars));
    match up::discovery(vars, &external) {
        Ok(discovery) => findings.extend(machine::check(&discovery, &external, &folder, holder.is_some()).await),
        Err(error) => {
            let problem = error.problems().join("; ");
            findings.push(Finding::wrong("folders", problem, "set HOME or XDG_CACHE_HOME"));
        }
    }
    findings.extend(running_instance::check(services, &external, holder.as_deref(), running.as_ref()).await);
    if let Some(kafka) = running_instance::kafka(&external, running.as_ref(), vars) {
        findings.push(running_instance::kafka_answers(&kafka, topics).await);
    }
    findings.extend(external_apis::check(vars).await);
    findings
}

#[expect(clippy::print_stdout, reason = "the command's answer")]
fn print_group(group: &Group) {
    println!("\nsettings of {}", group.names());
    group.settings.lines().for_each(|line| println!("  {line}"));
}

#[expect(clippy::print_stdout, reason = "the command's answer")]
fn print(finding: &Finding) {
    println!("{finding}");
}
