//! `flightbell migrate`: brings the databases up to date and ends, before a new version of the services starts.

use std::time::{Duration, Instant};

use anyhow::bail;
use pg::{Database, MigrationError};
use runtime::config::{ConfigError, Reader, Vars};
use secrecy::SecretString;
use service::ServiceSpec;
use sqlx::migrate::Migrator;

use crate::{cli, services::ServiceList};

/// The exit code of `flightbell migrate` when repeating cannot help: a database was migrated by a newer version, or has
/// migrations that are not those of this program. `podFailurePolicy` of the Job in `k8s/base/migrate.yaml` names it.
pub const EXIT_OTHER_VERSION: u8 = 3;
/// The key of a database where one service is meant, as the services themselves call it.
const DATABASE_URL: &str = "DATABASE_URL";
/// How long a database may be away, or be migrated by another process, before this gives up.
const PATIENCE: Duration = Duration::from_secs(60);
const RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// One database that is to be brought up to date.
struct Target {
    service: &'static str,
    migrations: &'static Migrator,
    database: Database,
}

/// Each database that is not up to date, and why, where at least one of them needs another version of this program.
#[derive(Debug)]
pub struct OtherVersionNeeded(String);

impl std::fmt::Display for OtherVersionNeeded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for OtherVersionNeeded {}

/// Migrates the databases of the services that are named, or of all.
///
/// # Errors
/// Settings that cannot be used; or each database that is not up to date, and why. The others are. It is
/// [`OtherVersionNeeded`] when repeating cannot help.
pub async fn run(args: cli::Migrate, services: ServiceList, vars: &dyn Vars) -> anyhow::Result<()> {
    let mut failures = Vec::new();
    let mut needs_other_version = false;
    for target in targets(&args, services, vars)? {
        match migrate(&target).await {
            Ok(applied) => say(&target, &applied),
            Err(error) => {
                needs_other_version |= error.needs_other_version();
                failures.push(format!("{}: {error}", target.service));
            }
        }
    }
    if failures.is_empty() {
        return Ok(());
    }
    let failures = format!("migrate {}", failures.join("\nerror: migrate "));
    if needs_other_version { Err(OtherVersionNeeded(failures).into()) } else { bail!(failures) }
}

async fn migrate(target: &Target) -> Result<Vec<i64>, MigrationError> {
    let begun = Instant::now();
    loop {
        match pg::migrate(&target.database, target.service, target.migrations).await {
            Err(error) if error.may_pass() && begun.elapsed() < PATIENCE => tokio::time::sleep(RETRY_INTERVAL).await,
            ended => return ended,
        }
    }
}

#[expect(clippy::print_stdout, reason = "this is what was asked for")]
fn say(target: &Target, applied: &[i64]) {
    let service = target.service;
    match applied {
        [] => println!("{service}: up to date"),
        [one] => println!("{service}: applied migration {one}"),
        [first, .., last] => println!("{service}: applied migrations {first} to {last}"),
    }
}

/// Where the databases are; or everything that is wrong with arguments and settings, at once.
fn targets(args: &cli::Migrate, services: ServiceList, vars: &dyn Vars) -> Result<Vec<Target>, ConfigError> {
    let mut reader = Reader::new(vars);
    let known: Vec<_> = services.iter().filter_map(|spec| Some((*spec, spec.migrations?))).collect();
    for name in &args.services {
        if !known.iter().any(|(spec, _)| spec.name == name) {
            let names: Vec<_> = known.iter().map(|(spec, _)| spec.name).collect();
            reader.problem(format!("there is no service {name:?} with a database: there are {}", names.join(", ")));
        }
    }
    let is_meant = |spec: &ServiceSpec| args.services.is_empty() || args.services.iter().any(|name| name == spec.name);
    let meant: Vec<_> = known.into_iter().filter(|(spec, _)| is_meant(spec)).collect();
    let alone = meant.len() == 1;
    let mut targets = Vec::new();
    for (spec, migrations) in meant {
        let Some((key, url)) = url(&mut reader, spec, alone) else { continue };
        match Database::parse(&url) {
            Ok(database) => targets.push(Target { service: spec.name, migrations, database }),
            Err(problem) => reader.problem(format!("{key} cannot be used: {problem}")),
        }
    }
    reader.finish(|| Some(targets))
}

fn url(reader: &mut Reader<'_>, spec: &ServiceSpec, alone: bool) -> Option<(String, SecretString)> {
    let key = spec.database_key()?;
    if alone && let Some(url) = reader.secret(DATABASE_URL) {
        return Some((DATABASE_URL.to_owned(), url));
    }
    let meaning = format!("{}'s PostgreSQL database, a postgres:// URL", spec.name);
    let url = reader.required_secret(&key, &meaning)?;
    Some((key, url))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::SERVICES;

    fn names(services: &[&str], vars: &dyn Vars) -> Result<Vec<&'static str>, ConfigError> {
        let args = cli::Migrate { services: services.iter().map(|name| (*name).to_owned()).collect() };
        Ok(targets(&args, SERVICES, vars)?.iter().map(|target| target.service).collect())
    }

    #[test]
    fn every_service_is_meant_where_none_is_named_and_every_missing_address_is_told_at_once() {
        let nothing: [(&str, &str); 0] = [];
        let error = names(&[], &nothing).expect_err("no addresses");
        assert_eq!(error.problems().len(), 4, "{error}");
        assert!(error.to_string().contains("DATA_COLLECTOR_DATABASE_URL (or DATA_COLLECTOR_DATABASE_URL_FILE)"));
    }

    #[test]
    fn one_service_takes_the_address_that_it_would_take_itself() {
        let own = [("DATABASE_URL", "postgres://localhost/a")];
        assert_eq!(names(&["notifier"], &own).expect("a target"), ["notifier"]);
        let among_others = [("NOTIFIER_DATABASE_URL", "postgres://localhost/a")];
        assert_eq!(names(&["notifier"], &among_others).expect("a target"), ["notifier"]);
        assert!(names(&["notifier", "user-manager"], &own).is_err(), "one address cannot be that of two");
    }

    #[test]
    fn a_service_that_does_not_exist_is_refused_and_no_password_is_shown() {
        let error = names(&["notifier", "cook"], &[("NOTIFIER_DATABASE_URL", "mysql://a:hush@b/c")]).expect_err("two");
        assert_eq!(error.problems().len(), 2, "{error}");
        assert!(error.to_string().contains("\"cook\"") && !error.to_string().contains("hush"), "{error}");
    }
}
