//! The settings in effect of `up`, as they may be shown: in its log, and by `doctor`.

use std::{cmp::Reverse, collections::BTreeMap};

use runtime::config::{Misspelt, Origin, Setting, Settings, Vars};

use crate::{
    services::ServiceList,
    settings::{self, Addresses, ExternalServers, UP},
};

/// What `up` would run with.
#[derive(Clone, Debug)]
pub struct Effective {
    /// Every setting, once.
    pub groups: Vec<Group>,
    /// Names in the environment that are almost a setting's.
    pub misspelt: Vec<Misspelt>,
}

/// Settings that several parts of the process have in common.
#[derive(Clone, Debug)]
pub struct Group {
    parts: Vec<&'static str>,
    /// What they have in common.
    pub settings: Settings,
}

impl Group {
    /// The parts that have these settings.
    #[must_use]
    pub fn names(&self) -> String {
        self.parts.join(", ")
    }
}

impl Effective {
    /// The settings of the process and of each of `services` in it, also of those that cannot be used. Addresses that
    /// are chosen at the start have names in angle brackets instead.
    #[must_use]
    pub fn of(services: ServiceList, vars: &dyn Vars, external: &ExternalServers) -> Self {
        let vars = settings::of_one_process(vars);
        let read = settings::read_each(services, &vars, &external.filled(Addresses::later(services)));
        let of_services = read.iter().map(|(spec, read)| {
            let settings = match read {
                Ok(configured) => configured.settings(),
                Err(error) => error.settings(),
            };
            (spec.name, with_chosen(settings.clone(), services, external))
        });
        let parts: Vec<_> = [("flightbell", external.settings.clone())].into_iter().chain(of_services).collect();
        let mut all = Settings::default();
        all.extend(parts.iter().map(|(_, settings)| settings.clone()));
        Self { groups: grouped(&parts), misspelt: all.misspelt(&vars) }
    }

    /// Logs them, a line for each group and each name that is misspelt.
    pub fn log(&self) {
        for group in &self.groups {
            tracing::info!("settings of {}: {}", group.names(), group.settings);
        }
        self.misspelt.iter().for_each(|slip| tracing::warn!("{slip}"));
    }
}

/// What `up` chooses when it starts was made up to check the rest.
fn with_chosen(mut settings: Settings, services: ServiceList, external: &ExternalServers) -> Settings {
    let database = external.databases.is_none().then_some("DATABASE_URL".to_owned());
    let kafka = external.kafka.is_none().then_some("KAFKA_BROKER_URL".to_owned());
    let private = database.into_iter().chain(kafka).map(|key| (key, "<private>"));
    let grpc = services.iter().filter_map(|spec| spec.grpc_key()).map(|key| (key, "<loopback>"));
    for (key, value) in private.chain(grpc) {
        if settings.get(&key).is_some() {
            settings.set(key, Setting { value: value.to_owned(), origin: Origin::Override(UP) });
        }
    }
    settings
}

/// Each setting once, with all parts that have it: what most have comes first.
fn grouped(parts: &[(&'static str, Settings)]) -> Vec<Group> {
    let mut parts_of = BTreeMap::<(&str, &Setting), Vec<usize>>::new();
    for (at, (_, settings)) in parts.iter().enumerate() {
        for setting in settings.iter() {
            parts_of.entry(setting).or_default().push(at);
        }
    }
    let mut groups = BTreeMap::<(Reverse<usize>, Vec<usize>), Settings>::new();
    for ((key, setting), those) in parts_of {
        groups.entry((Reverse(those.len()), those)).or_default().set(key, setting.clone());
    }
    let named = |those: Vec<usize>| those.into_iter().filter_map(|at| Some(parts.get(at)?.0)).collect();
    groups.into_iter().map(|((_, those), settings)| Group { parts: named(those), settings }).collect()
}
