//! What can go wrong with the servers, each with the way to mend it.

use std::{io, path::PathBuf, time::Duration};

/// Why a server cannot be run. The caller prints the sources with the chain.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Neither `initdb` nor `postgres` anywhere.
    #[error(
        "PostgreSQL's programs (initdb, postgres, createdb) were not found in PATH nor in the usual folders: \
         install them with `make deps`, `apt-get install postgresql` or `brew install postgresql@17`"
    )]
    NoPostgres,
    /// Programs of another version than the one that made the data.
    #[error(
        "the databases in {folder} were made by PostgreSQL {cluster}, but only {found} is installed: install \
         PostgreSQL {cluster} again (`apt-get install postgresql-{cluster}`), or move to the new version: dump \
         with the old programs (pg_dumpall), take the folder away, and restore into the new one"
    )]
    OtherPostgres {
        /// The cluster's folder.
        folder: PathBuf,
        /// The version in its `PG_VERSION`.
        cluster: String,
        /// The versions found on the machine.
        found: String,
    },
    /// No Java at all.
    #[error(
        "Java was not found in PATH: Kafka needs version 17 or later; install it with `make deps`, \
         `apt-get install openjdk-17-jre-headless` or `brew install openjdk@21`, or set JAVA_HOME"
    )]
    NoJava,
    /// No Java where `JAVA_HOME` says.
    #[error("JAVA_HOME={home} has no Java that runs: correct it, or unset it to use the one in PATH", home = home.display())]
    NoJavaHome {
        /// Where it was looked for.
        home: PathBuf,
    },
    /// A Java that cannot run Kafka 4.
    #[error(
        "{java} is Java {version}, and Kafka needs 17 or later: install one with `make deps` or \
         `apt-get install openjdk-17-jre-headless`, or set JAVA_HOME to a newer one",
        java = java.display()
    )]
    OldJava {
        /// The program that was asked.
        java: PathBuf,
        /// What it answered.
        version: u32,
    },
    /// No jars.
    #[error(
        "Kafka's jars were not found in {folder}: bring them with `make deps` (Maven, 44 MB), or set KAFKA_HOME to an \
         unpacked Apache Kafka 4",
        folder = folder.display()
    )]
    NoKafka {
        /// Where they were looked for.
        folder: PathBuf,
    },
    /// A jar that was not brought to its end.
    #[error(
        "{jar} is cut short or cannot be read: remove {folder} and bring Kafka's jars again with `make deps`",
        jar = jar.display(),
        folder = folder.display()
    )]
    CutJar {
        /// The jar.
        jar: PathBuf,
        /// The folder it lies in.
        folder: PathBuf,
    },
    /// Jars of a Kafka without `KRaft` as we use it.
    #[error(
        "{folder} holds Kafka {version}, and version 4 is needed: bring it with `make deps` and unset KAFKA_HOME, or \
         set KAFKA_HOME to an unpacked Apache Kafka 4",
        folder = folder.display()
    )]
    OldKafka {
        /// The folder of the jars.
        folder: PathBuf,
        /// The version in their names.
        version: String,
    },
    /// Root may not run PostgreSQL, and the machine has no user that may.
    #[error(
        "PostgreSQL refuses to run as root, and this machine has no `postgres` user to run it: install PostgreSQL's \
         package (`make deps`), add the user, or start as an ordinary user"
    )]
    NoServerUser,
    /// The user that runs the servers cannot get there.
    #[error(
        "the servers run as the `postgres` user, which cannot pass through {folder} to reach {path}: choose a place \
         that it can reach (/var/lib/flightbell for data), or open the folder with `chmod o+x {folder}`",
        folder = folder.display(),
        path = path.display()
    )]
    Unreachable {
        /// The folder that is in the way.
        folder: PathBuf,
        /// What lies behind it.
        path: PathBuf,
    },
    /// A copy that belongs to another user than the one that is to use it.
    #[error("{folder} belongs to another user than the servers run as: `{command}`", folder = folder.display())]
    OtherOwner {
        /// The folder.
        folder: PathBuf,
        /// The command that mends it.
        command: String,
    },
    /// PostgreSQL asks the system for the name of its user, and there is none.
    #[error(
        "the user with number {uid} has no name on this machine, and PostgreSQL makes no cluster without: add the user \
         (a line in /etc/passwd will do), start as one that has a name, or name the databases of a PostgreSQL that runs"
    )]
    NamelessUser {
        /// The user's number.
        uid: u32,
    },
    /// The data directory cannot be made or written.
    #[error(
        "{folder} cannot be the data directory: choose another folder with --data-dir, or make this one yours",
        folder = folder.display()
    )]
    NoDataDir {
        /// The folder that was asked for.
        folder: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process runs servers in this data directory already.
    #[error(
        "{folder} is in use by process {pid}: stop that one, or choose another folder with --data-dir",
        folder = folder.display()
    )]
    InUse {
        /// The data directory.
        folder: PathBuf,
        /// Who holds it; `?` in the moment before the holder wrote its pid.
        pid: String,
    },
    /// A folder for the socket that another user may have made.
    #[error(
        "{folder} would hold PostgreSQL's socket, but it is not a private folder of the server's user: remove it",
        folder = folder.display()
    )]
    SocketFolderNotPrivate {
        /// The folder.
        folder: PathBuf,
    },
    /// A program that prepares a server failed.
    #[error("{program} failed ({status}):\n{output}")]
    Preparation {
        /// The program.
        program: &'static str,
        /// How it ended.
        status: String,
        /// What it said last.
        output: String,
    },
    /// The server ended before it was ready.
    #[error("{server} ended while it started ({status}); the last lines of {log}:\n{tail}", log = log.display())]
    EndedAtStart {
        /// Which server.
        server: &'static str,
        /// How it ended.
        status: String,
        /// Its log.
        log: PathBuf,
        /// The end of its log.
        tail: String,
    },
    /// The server runs and does not become ready.
    #[error("{server} was not ready within {limit:?}; the last lines of {log}:\n{tail}", log = log.display())]
    NotReady {
        /// Which server.
        server: &'static str,
        /// How long it was waited for.
        limit: Duration,
        /// Its log.
        log: PathBuf,
        /// The end of its log.
        tail: String,
    },
    /// The server died again and again.
    #[error("{server} died {deaths} times within a minute; the last lines of {log}:\n{tail}", log = log.display())]
    KeepsDying {
        /// Which server.
        server: &'static str,
        /// How often.
        deaths: usize,
        /// Its log.
        log: PathBuf,
        /// The end of its log.
        tail: String,
    },
    /// Every port that was tried is taken.
    #[error("no free loopback port was found below the system's ephemeral range")]
    NoPort,
    /// A live server of this data directory that will not end.
    #[error("{server} of an earlier run (process {pid}) does not end: stop it by `kill -9 {pid}`")]
    OrphanStays {
        /// Which server.
        server: &'static str,
        /// Its process.
        pid: u32,
    },
    /// The system refused something.
    #[error("{context}")]
    System {
        /// What was being done, such as `create /var/lib/flightbell`.
        context: String,
        /// What the system said.
        source: io::Error,
    },
}

/// Adds what was being done to what the system said.
pub(crate) trait ErrorContext<T> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T, Error>;
}

impl<T, E: Into<io::Error>> ErrorContext<T> for Result<T, E> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|source| Error::System { context: what(), source: source.into() })
    }
}
