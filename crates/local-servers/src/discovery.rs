//! Discovery of the programs that the servers need.

use std::{
    env::split_paths,
    ffi::OsString,
    fs,
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf, absolute},
    process::Stdio,
    time::Duration,
};

use tokio::process::Command;

use crate::{
    core::versions,
    error::{Error, ErrorContext},
    run_as::RunAs,
};

/// The version of Kafka that `make deps` brings.
pub const KAFKA_VERSION: &str = "4.3.1";
/// Kafka 4 needs this.
const OLDEST_JAVA: u32 = 17;
const OLDEST_KAFKA: u32 = 4;
/// How long a program may take to tell its version.
const VERSION_LIMIT: Duration = Duration::from_secs(10);
/// Jars without which the broker does not start; an interrupted download lacks some.
const NEEDED_JARS: [&str; 4] = ["kafka-clients-", "kafka-server-", "scala-library-", "slf4j-api-"];

/// What the environment says about where programs are. Read by the caller, since the environment is
/// read in one place only.
#[derive(Clone, Debug)]
pub struct Discovery {
    /// `PATH`.
    pub path: OsString,
    /// `JAVA_HOME`.
    pub java_home: Option<PathBuf>,
    /// `KAFKA_HOME`: a folder with Kafka's `libs`, which is only read.
    pub kafka_home: Option<PathBuf>,
    /// `XDG_CACHE_HOME`, or `.cache` in the home folder.
    pub cache_home: PathBuf,
    /// Folders where packages put PostgreSQL's programs outside of `PATH`, newest first.
    pub usual_postgres: Vec<PathBuf>,
    /// Where root keeps a copy of Kafka's jars that the servers' user can reach.
    pub shared_cache: PathBuf,
}

impl Discovery {
    /// What the environment says, with the usual folders of this machine.
    #[must_use]
    pub fn new(path: OsString, java_home: Option<PathBuf>, kafka_home: Option<PathBuf>, cache_home: PathBuf) -> Self {
        let shared_cache = PathBuf::from("/var/cache/flightbell");
        Self { path, java_home, kafka_home, cache_home, usual_postgres: usual_postgres(), shared_cache }
    }

    /// The folder that `make deps` fills.
    #[must_use]
    pub fn kafka_cache(&self) -> PathBuf {
        self.cache_home.join("flightbell").join(format!("kafka-{KAFKA_VERSION}"))
    }

    /// PostgreSQL's programs: those of the version that made the cluster in `cluster`, where there
    /// is one, else the first found.
    ///
    /// # Errors
    /// [`Error::NoPostgres`], [`Error::OtherPostgres`].
    pub async fn postgres(&self, cluster: Option<&Path>) -> Result<PostgresPrograms, Error> {
        let version_of = |folder: &Path| fs::read_to_string(folder.join("PG_VERSION")).ok();
        let wanted = cluster.and_then(|folder| Some((folder, version_of(folder)?.trim().to_owned())));
        let mut versions = Vec::new();
        for folder in split_paths(&self.path).chain(self.usual_postgres.iter().cloned()) {
            // The server works in another folder than we do.
            let Ok(folder) = absolute(folder) else { continue };
            if !["initdb", "postgres", "createdb"].iter().all(|program| folder.join(program).is_file()) {
                continue;
            }
            let Some(version) = postgres_version(&folder.join("postgres")).await else { continue };
            if wanted.as_ref().is_none_or(|(_, wanted)| *wanted == version) {
                return Ok(PostgresPrograms { folder, version });
            }
            if !versions.contains(&version) {
                versions.push(version);
            }
        }
        match wanted {
            Some((folder, cluster)) if !versions.is_empty() => {
                Err(Error::OtherPostgres { folder: folder.to_owned(), cluster, found: versions.join(", ") })
            }
            _ => Err(Error::NoPostgres),
        }
    }

    /// The Java that runs Kafka.
    ///
    /// # Errors
    /// [`Error::NoJava`], [`Error::NoJavaHome`], [`Error::OldJava`].
    pub async fn java(&self) -> Result<Java, Error> {
        // A JAVA_HOME was chosen: taking another Java instead would surprise.
        let (folders, missing) = match &self.java_home {
            Some(home) => (vec![home.join("bin")], Error::NoJavaHome { home: home.clone() }),
            None => (split_paths(&self.path).collect(), Error::NoJava),
        };
        let mut too_old = None;
        for folder in folders {
            // The broker works in another folder than we do.
            let Ok(program) = absolute(folder.join("java")) else { continue };
            let Some(version) = java_version(&program).await else { continue };
            match versions::java_major(&version) {
                Some(major) if major >= OLDEST_JAVA => return Ok(Java { program, version }),
                Some(version) => too_old = too_old.or(Some(Error::OldJava { java: program, version })),
                None => {}
            }
        }
        Err(too_old.unwrap_or(missing))
    }

    /// Kafka's jars.
    ///
    /// # Errors
    /// [`Error::NoKafka`], [`Error::OldKafka`], [`Error::CutJar`].
    pub fn kafka(&self) -> Result<KafkaJars, Error> {
        let home = self.kafka_home.clone().unwrap_or_else(|| self.kafka_cache());
        // The broker works in another folder than we do.
        let home = absolute(&home).context(|| format!("find {}", home.display()))?;
        let libs = home.join("libs");
        let missing = || Error::NoKafka { folder: libs.clone() };
        let entries = fs::read_dir(&libs).map_err(|_| missing())?;
        let names: Vec<String> = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
        let version = names.iter().find_map(|name| versions::kafka(name)).ok_or_else(missing)?.to_owned();
        let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
        if major.is_none_or(|major| major < OLDEST_KAFKA) {
            return Err(Error::OldKafka { folder: libs, version });
        }
        if !NEEDED_JARS.iter().all(|jar| names.iter().any(|name| name.starts_with(jar))) {
            return Err(missing());
        }
        let jars = names.iter().filter(|name| name.ends_with(".jar")).map(|name| libs.join(name));
        if let Some(jar) = jars.into_iter().find(|jar| !is_whole(jar)) {
            return Err(Error::CutJar { jar, folder: libs });
        }
        Ok(KafkaJars { home, version })
    }
}

/// PostgreSQL's programs of one version.
#[derive(Clone, Debug)]
pub struct PostgresPrograms {
    /// The folder with `initdb`, `postgres` and `createdb`.
    pub folder: PathBuf,
    /// The major version, as `PG_VERSION` has it.
    pub version: String,
}

/// A Java that can run Kafka.
#[derive(Clone, Debug)]
pub struct Java {
    /// The program.
    pub program: PathBuf,
    /// Its version, such as `17.0.15`.
    pub version: String,
}

/// Kafka's jars.
#[derive(Clone, Debug)]
pub struct KafkaJars {
    /// The folder above `libs`.
    pub home: PathBuf,
    /// Kafka's version.
    pub version: String,
}

impl KafkaJars {
    /// The class path.
    pub(crate) fn class_path(&self) -> OsString {
        self.home.join("libs/*").into_os_string()
    }

    /// The archive of loaded classes that saves a start a third of its work and 8 MiB; it is used where it
    /// is there. `make deps` makes it (`packaging/kafka/archive.sh`), and it fits one Java only.
    pub(crate) fn archive(&self, java: &Java) -> PathBuf {
        let version: String = java.version.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        self.home.join(format!("broker-{version}.jsa"))
    }

    /// The jars where `run_as` can read them: here, or in a copy in `shared`.
    pub(crate) fn within_reach(self, run_as: &RunAs, shared: &Path) -> Result<Self, Error> {
        let libs = self.home.join("libs");
        let libs = libs.canonicalize().context(|| format!("find {}", libs.display()))?;
        let obstacle = run_as.obstacle(&libs.join("a.jar")).or_else(|| run_as.obstacle(&self.home.join("libs")));
        if obstacle.is_none() {
            return Ok(self);
        }
        let home = shared.join(format!("kafka-{}", self.version));
        if !is_copy(&libs, &home.join("libs")) {
            tracing::info!("copying Kafka's jars to {}, where the servers' user can read them", home.display());
            copy_jars(&libs, &home).context(|| format!("copy Kafka's jars to {}", home.display()))?;
        }
        run_as.check_reaches(&home.join("libs/a.jar"))?;
        Ok(Self { home, version: self.version })
    }
}

/// Whether a jar has its end, where an archive's table of contents is: a download that was cut has none.
fn is_whole(jar: &Path) -> bool {
    let end = || -> std::io::Result<Vec<u8>> {
        let mut file = fs::File::open(jar)?;
        let length = file.metadata()?.len();
        // Only a comment can follow, of 64 KiB at most.
        file.seek(SeekFrom::Start(length.saturating_sub(22 + 65_535)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    end().is_ok_and(|bytes| bytes.windows(4).rev().any(|four| four == b"PK\x05\x06"))
}

/// Names and lengths of the files in a folder; jars of one name and length are the same.
fn listing(folder: &Path) -> Option<Vec<(OsString, u64)>> {
    let entries = fs::read_dir(folder).ok()?.filter_map(Result::ok);
    let jars = entries.filter(|entry| entry.path().extension().is_some_and(|ending| ending == "jar"));
    let mut found: Vec<_> =
        jars.filter_map(|jar| Some((jar.file_name(), fs::metadata(jar.path()).ok()?.len()))).collect();
    found.sort();
    Some(found)
}

fn is_copy(from: &Path, to: &Path) -> bool {
    let there = listing(to);
    there.is_some() && there == listing(from)
}

/// Copies into a new folder and renames it, so that two who do it at once do not meet half a copy.
fn copy_jars(libs: &Path, home: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let readable = fs::Permissions::from_mode(0o755);
    fs::create_dir_all(home)?;
    let new = tempfile::Builder::new().prefix("libs-").permissions(readable).tempdir_in(home)?;
    for (name, _) in listing(libs).unwrap_or_default() {
        let copy = new.path().join(&name);
        fs::copy(libs.join(&name), &copy)?;
        fs::set_permissions(copy, fs::Permissions::from_mode(0o644))?;
    }
    let folder = home.join("libs");
    let old = tempfile::Builder::new().prefix("old-").tempdir_in(home)?;
    if folder.exists() {
        fs::rename(&folder, old.path().join("libs"))?;
    }
    match fs::rename(new.path(), &folder) {
        // Another process was quicker.
        Err(_) if is_copy(libs, &folder) => Ok(()),
        other => other,
    }
}

/// The usual folders, newest version first.
fn usual_postgres() -> Vec<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = Vec::new();
    let roots = [
        ("/usr/lib/postgresql", ""),
        ("/usr", "pgsql-"),
        ("/opt/homebrew/opt", "postgresql"),
        ("/usr/local/opt", "postgresql"),
        ("/home/linuxbrew/.linuxbrew/opt", "postgresql"),
    ];
    for (root, prefix) in roots {
        for entry in fs::read_dir(root).into_iter().flatten().filter_map(Result::ok) {
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some(version) = name.strip_prefix(prefix) else { continue };
            let version = version.trim_start_matches('@').parse().unwrap_or(0);
            let bin = entry.path().join("bin");
            if bin.join("initdb").is_file() {
                found.push((version, bin));
            }
        }
    }
    found.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    found.into_iter().map(|(_, folder)| folder).collect()
}

async fn postgres_version(program: &Path) -> Option<String> {
    let said = ask(program, "--version").await?;
    versions::postgres_major(&said).map(str::to_owned)
}

async fn java_version(program: &Path) -> Option<String> {
    if !program.is_file() {
        return None;
    }
    let said = ask(program, "-version").await?;
    versions::java(&said).map(str::to_owned)
}

async fn ask(program: &Path, question: &str) -> Option<String> {
    let mut command = Command::new(program);
    command.arg(question).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(VERSION_LIMIT, command.output()).await.ok()?.ok()?;
    Some([output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat())
}
