//! A private PostgreSQL: reached by a Unix socket in a private folder, and by nothing else.

use std::{
    ffi::OsString,
    fs::{self, File},
    io,
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::unistd::{Uid, User};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rustix::process::Signal;
use tokio::process::Command;

use crate::{
    Discovery, Durability, Watch,
    core::ports::fingerprint,
    discovery::PostgresPrograms,
    error::{Error, ErrorContext},
    launch::{LaunchSpec, Ready, prepare},
    layout::cluster_of,
    log::Log,
    ownership::mend_cluster,
    ports, processes,
    run_as::{RunAs, remove_folder_if_there, remove_if_there},
    supervisor::{End, Supervised},
};

const SERVER: &str = "PostgreSQL";
/// The database superuser of the private cluster.
const USER: &str = "postgres";
/// The beginning of the socket's name; a port's number follows, also where none is opened.
const SOCKET: &str = ".s.PGSQL.";
/// PostgreSQL's usual port.
const USUAL_PORT: u16 = 5432;
/// The longest socket path: 108 bytes on Linux and 104 on macOS, with a zero at the end.
const LONGEST_SOCKET: usize = 103;
/// Where sockets lie whose own folder has too long a name.
const SHORT_FOLDERS: &str = "/tmp";
/// How long PostgreSQL takes at most to obey SIGQUIT: processes of its own that do not, it kills after 5 s.
const QUIT_LIMIT: Duration = Duration::from_secs(6);
/// SIGINT breaks off clients, where SIGTERM would wait for them; SIGQUIT ends without a checkpoint.
const STOP: &[(Signal, Duration)] = &[(Signal::INT, Duration::from_secs(8)), (Signal::QUIT, QUIT_LIMIT)];
/// What ends a server that outlived us: the last resort loses nothing that was acknowledged.
const STOP_LEFTOVER: &[(Signal, Duration)] =
    &[(Signal::INT, Duration::from_secs(10)), (Signal::QUIT, QUIT_LIMIT), (Signal::KILL, Duration::from_secs(4))];
/// What it says while something of a killed one is still there.
const REFUSALS: &[&str] = &["lock file \"", "pre-existing shared memory block", "could not bind Unix address"];
/// What initdb says of a user that the system knows by its number alone.
const NAMELESS: &str = "could not look up effective user ID";
const INITDB_LIMIT: Duration = Duration::from_secs(120);
const CREATEDB_LIMIT: Duration = Duration::from_secs(30);

/// How to run it.
#[derive(Clone, Debug)]
pub struct PostgresOptions {
    discovery: Discovery,
    data_dir: PathBuf,
    durability: Durability,
    connections: u32,
    on_loopback: bool,
}

impl PostgresOptions {
    /// A server in `data_dir` (which [`crate::DataDir`] should hold), made when it is missing.
    #[must_use]
    pub fn new(discovery: &Discovery, data_dir: &Path, durability: Durability) -> Self {
        // Four services with six connections and a lease each, with room for people and probes; tests
        // run many such sets side by side.
        let connections = if durability == Durability::Durable { 60 } else { 400 };
        Self {
            discovery: discovery.clone(),
            data_dir: data_dir.to_owned(),
            durability,
            connections,
            on_loopback: false,
        }
    }

    /// Reached by a free loopback port too, for tests that cut the wire. Every user of this machine is let in, so this
    /// is not for data that matters.
    #[must_use]
    pub fn also_on_loopback(mut self) -> Self {
        self.on_loopback = true;
        self
    }

    /// With room for so many clients at once.
    #[must_use]
    pub fn connections(mut self, connections: u32) -> Self {
        self.connections = connections;
        self
    }
}

/// A PostgreSQL that runs, and is started again when it dies. Dropping it kills it; the next start
/// recovers.
#[derive(Debug)]
pub struct Postgres {
    supervised: Supervised,
    programs: PostgresPrograms,
    run_as: RunAs,
    socket_folder: PathBuf,
    port: Option<u16>,
}

impl Postgres {
    /// Finds the programs, makes the cluster if it is missing, stops a server that an earlier run left
    /// over, and starts.
    ///
    /// # Errors
    /// Every [`Error`] that is about PostgreSQL.
    pub async fn start(options: PostgresOptions) -> Result<Self, Error> {
        let run_as = RunAs::find()?;
        run_as.make_folder(&options.data_dir.join("postgres"))?;
        let data_dir = options.data_dir.canonicalize().context(|| format!("find {}", options.data_dir.display()))?;
        let data = cluster_of(&data_dir);
        run_as.check_reaches(&data)?;
        let programs = options.discovery.postgres(Some(&data)).await?;
        run_as.check_reaches(&programs.folder.join("postgres"))?;
        stop_orphan(&data_dir).await?;
        make_cluster(&programs, &run_as, &data, options.durability).await?;
        mend_cluster(&run_as, &data)?;
        let socket_folder = socket_folder(&data_dir, &run_as)?;
        let port = options.on_loopback.then(|| ports::free(fingerprint(data.as_os_str().as_encoded_bytes()), 1));
        let port = port.transpose()?.and_then(|ports| ports.first().copied());
        let before = {
            let (data, socket_folder) = (data.clone(), socket_folder.clone());
            Box::new(move || clear_stale_locks(&data, &socket_folder))
        };
        let spec = LaunchSpec {
            server: SERVER,
            run_as: run_as.clone(),
            program: programs.folder.join("postgres"),
            arguments: arguments(&options, &data, &socket_folder, port),
            environment: Vec::new(),
            folder: data_dir.join("postgres"),
            log: Log::at(data_dir.join("logs/postgres.log")),
            ready: Ready::PidFile(data.join("postmaster.pid")),
            refusals: REFUSALS,
            stop: STOP,
            quick_end: Signal::QUIT,
            before,
        };
        let supervised = Supervised::start(spec).await?;
        Ok(Self { supervised, programs, run_as, socket_folder, port })
    }

    /// The URL of a database of this server, as sqlx and libpq understand it.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        let folder = self.socket_folder.to_string_lossy();
        // The port is part of the socket's name.
        let port = self.port.map(|port| format!(":{port}")).unwrap_or_default();
        format!("postgres://{USER}@{}{port}/{}", percent_encoded(&folder), percent_encoded(database))
    }

    /// The loopback address, where it was asked for.
    #[must_use]
    pub fn loopback(&self) -> Option<SocketAddr> {
        self.port.map(|port| (Ipv4Addr::LOCALHOST, port).into())
    }

    /// The folder of the socket.
    #[must_use]
    pub fn socket_folder(&self) -> &Path {
        &self.socket_folder
    }

    /// Makes a database, unless it is there.
    ///
    /// # Errors
    /// When `createdb` fails for another reason.
    pub async fn create_database(&self, name: &str) -> Result<(), Error> {
        let mut command = Command::new(self.programs.folder.join("createdb"));
        let port = self.port.unwrap_or(USUAL_PORT).to_string();
        command.arg("-h").arg(&self.socket_folder).args(["-p", &port, "-U", USER, "--", name]).current_dir("/");
        match prepare("createdb", &self.run_as, command, CREATEDB_LIMIT).await {
            Err(Error::Preparation { output, .. }) if output.contains("already exists") => Ok(()),
            other => other.map(drop),
        }
    }

    /// A [`Watch`] on its state, its pid and its end.
    #[must_use]
    pub fn watch(&self) -> Watch {
        self.supervised.watch().clone()
    }

    /// Its process; `None` while it is started again.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.supervised.watch().pid()
    }

    /// Stops it within 20 s at most; usually in a tenth of a second.
    pub async fn stop(self) {
        self.supervised.end(End::Stop).await;
        if self.socket_folder.starts_with(SHORT_FOLDERS) {
            // Left where something is still in it: the next start looks at it again.
            fs::remove_dir(&self.socket_folder).unwrap_or_default();
        }
    }

    /// Ends it as a power cut would, and waits for that.
    pub async fn kill(self) {
        self.supervised.end(End::Kill).await;
    }
}

/// Whether the servers' user is one as whom PostgreSQL would make the cluster in `data_dir`. One that is there is started
/// by any user.
///
/// # Errors
/// [`Error::NamelessUser`] or [`Error::NoServerUser`].
pub fn check_user(data_dir: &Path) -> Result<(), Error> {
    let uid = RunAs::find()?.uid();
    if is_made(&cluster_of(data_dir)) {
        return Ok(());
    }
    let user = User::from_uid(Uid::from_raw(uid)).map_err(io::Error::from);
    match user.context(|| format!("look the user with number {uid} up"))? {
        Some(_) => Ok(()),
        None => Err(Error::NamelessUser { uid }),
    }
}

fn is_made(cluster: &Path) -> bool {
    cluster.join("PG_VERSION").exists()
}

/// Stops the server that an earlier run left in `data_dir`, if one runs.
pub(crate) async fn stop_orphan(data_dir: &Path) -> Result<(), Error> {
    let data = cluster_of(data_dir);
    processes::stop(SERVER, STOP_LEFTOVER, |line| line.is_postgres_of(&data)).await
}

fn arguments(options: &PostgresOptions, data: &Path, socket_folder: &Path, port: Option<u16>) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = vec!["-D".into(), data.into(), "-k".into(), socket_folder.into()];
    let connections = format!("max_connections={}", options.connections);
    let (listens, port) = match port {
        Some(port) => ("listen_addresses=127.0.0.1", format!("port={port}")),
        None => ("listen_addresses=", format!("port={USUAL_PORT}")),
    };
    let mut settings = vec![
        listens,
        &port,
        "unix_socket_permissions=0700",
        "shared_buffers=32MB",
        "jit=off",
        "max_wal_senders=0",
        "wal_level=minimal",
        "max_wal_size=256MB",
        "log_line_prefix=%m [%p] ",
        &connections,
    ];
    if options.durability == Durability::ForTests {
        // Not `synchronous_commit=off`: a killed server would lose what it acknowledged last.
        settings.extend(["fsync=off", "full_page_writes=off"]);
    }
    for setting in settings {
        arguments.extend(["-c".into(), setting.into()]);
    }
    arguments
}

/// Makes the cluster beside its place and renames it, so that an interrupted start leaves none that
/// is half made.
async fn make_cluster(
    programs: &PostgresPrograms,
    run_as: &RunAs,
    data: &Path,
    durability: Durability,
) -> Result<(), Error> {
    if is_made(data) {
        return Ok(());
    }
    let new = data.with_file_name("data.new");
    remove_folder_if_there(&new)?;
    // Collation by code point in UTF-8; macOS knows that by another name.
    let locale = if cfg!(target_os = "macos") { "--locale=C" } else { "--locale=C.UTF-8" };
    let mut command = Command::new(programs.folder.join("initdb"));
    command.arg("-D").arg(&new).args(["-U", USER, "-A", "trust", "-E", "UTF8", locale, "--no-instructions"]);
    command.current_dir("/");
    if durability == Durability::ForTests {
        command.arg("--no-sync");
    }
    tracing::info!("making a PostgreSQL {} cluster in {}", programs.version, data.display());
    prepare("initdb", run_as, command, INITDB_LIMIT).await.map_err(|error| match error {
        Error::Preparation { output, .. } if output.contains(NAMELESS) => Error::NamelessUser { uid: run_as.uid() },
        other => other,
    })?;
    let context = || format!("put the new cluster at {}", data.display());
    fs::rename(&new, data).context(context)?;
    let parent = data.parent().unwrap_or(data);
    File::open(parent).and_then(|folder| folder.sync_all()).context(context)
}

/// A folder for the socket: in the data directory, or, where that makes too long a path or one with
/// characters that PostgreSQL's settings take as their own, in `/tmp` by a name that follows from it.
fn socket_folder(data_dir: &Path, run_as: &RunAs) -> Result<PathBuf, Error> {
    let own = data_dir.join("postgres/run");
    let text = own.to_string_lossy();
    let is_plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-+".contains(&byte));
    if is_plain && text.len() + 1 + SOCKET.len() + 5 <= LONGEST_SOCKET {
        run_as.make_folder(&own)?;
        return Ok(own);
    }
    let name = format!("flightbell-{}-{:016x}", run_as.uid(), fingerprint(data_dir.as_os_str().as_encoded_bytes()));
    let short = Path::new(SHORT_FOLDERS).join(name);
    if let Ok(meta) = fs::symlink_metadata(&short) {
        // Anybody may write in /tmp: what is there must be a folder of our own that only we can use.
        if !meta.is_dir() || meta.uid() != run_as.uid() || meta.mode() & 0o077 != 0 {
            return Err(Error::SocketFolderNotPrivate { folder: short });
        }
        return Ok(short);
    }
    run_as.make_folder(&short)?;
    Ok(short)
}

/// Takes away what a killed server left that would hold up the next one for good: after a restart of the machine its
/// pid may be another process's. We know that no server of this cluster runs.
fn clear_stale_locks(data: &Path, socket_folder: &Path) -> Result<(), Error> {
    let context = || format!("look into {}", socket_folder.display());
    for entry in fs::read_dir(socket_folder).context(context)? {
        let entry = entry.context(context)?;
        if entry.file_name().to_string_lossy().starts_with(SOCKET) {
            remove_if_there(&entry.path())?;
        }
    }
    let file = data.join("postmaster.pid");
    let Ok(text) = fs::read_to_string(&file) else { return Ok(()) };
    let Some((pid, rest)) = text.split_once('\n') else { return Ok(()) };
    if !pid.trim().parse().is_ok_and(processes::is_alive) {
        return Ok(());
    }
    // The file also names the shared memory by which PostgreSQL finds processes of the killed server
    // that still write, so it must stay. A server takes its parent's pid, which is ours, as stale.
    let text = format!("{}\n{rest}", std::process::id());
    fs::write(&file, text).context(|| format!("mend {}", file.display()))
}

/// What stands for itself in every part of a URL (RFC 3986, section 2.3), less the tilde.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.');

fn percent_encoded(text: &str) -> String {
    utf8_percent_encode(text, ENCODED).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_folder_is_a_host_once_it_is_encoded() {
        assert_eq!(percent_encoded("/var/lib/flight bell"), "%2Fvar%2Flib%2Fflight%20bell");
    }
}
