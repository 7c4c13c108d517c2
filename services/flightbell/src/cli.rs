//! The command line: what a person can ask for.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Arg, ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use http::uri::Authority;

use crate::{certificates::authority::ServerName, services::ServiceList};

/// The port on which every service answers HTTP unless it is told otherwise.
const HTTP_PORT: u16 = 5000;

/// Watches airports for people.
#[derive(Debug, Parser)]
#[command(
    name = "flightbell",
    version,
    about = "Watches airports for people: a message when a threshold is crossed, and only then",
    after_help = "Exit codes: 0 after a clean end, 1 when something failed, 2 for arguments or settings that cannot \
                  be used, 3 when a database needs another version of `migrate`, 130 when a second Ctrl-C cut a stop \
                  short. `doctor` exits with 1 when it found something that must be mended.\nSettings come from the \
                  environment: see the README."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The command line of a program that consists of `services`: the gateway is told of each that has
/// HTTP by an option of that service's name.
#[must_use]
pub fn command(services: ServiceList) -> clap::Command {
    let upstreams = services.iter().filter(|spec| spec.http).map(|spec| {
        Arg::new(spec.name)
            .long(spec.name)
            .value_name("HOST:PORT")
            .value_parser(clap::value_parser!(Authority))
            .help(format!("Host and port of {0}'s HTTP [default: {0}:{HTTP_PORT}]", spec.name))
    });
    Cli::command().mut_subcommand("gateway", |gateway| gateway.args(upstreams))
}

/// What this process was asked to do. A command line that cannot be used ends it.
#[must_use]
pub fn parse(services: ServiceList) -> Command {
    let matches = command(services).get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let mut command = cli.command;
    if let (Command::Gateway(args), Some(given)) = (&mut command, matches.subcommand_matches("gateway")) {
        args.upstreams = upstreams(services, given);
    }
    command
}

fn upstreams(services: ServiceList, given: &ArgMatches) -> Vec<(String, Authority)> {
    let at = |name: &str| {
        let default = || format!("{name}:{HTTP_PORT}").parse().ok();
        given.get_one::<Authority>(name).cloned().or_else(default)
    };
    let with_http = services.iter().filter(|spec| spec.http);
    with_http.filter_map(|spec| Some((spec.name.to_owned(), at(spec.name)?))).collect()
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run every service in this process, with a private PostgreSQL and Kafka
    Up(Up),
    /// Run `up` on recorded real traffic, with a page that shows the messages
    Demo(Demo),
    /// Run the HTTPS entry in front of services that run elsewhere
    Gateway(Gateway),
    /// Make an authority and a server certificate that it signs, or renew the latter where that is due
    Certs(Certs),
    /// Say what is wrong on this machine, and how to mend it
    Doctor(Doctor),
    /// Bring the databases of the services up to date, and end
    Migrate(Migrate),
    /// Look at what could not be processed, and decide about it
    Dlq(Dlq),
}

/// `flightbell up`.
#[derive(Args, Debug)]
pub struct Up {
    /// Where data, logs and certificates lie [default: $XDG_DATA_HOME/flightbell or ~/.local/share/flightbell]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Where to listen for HTTPS
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8443")]
    pub listen: SocketAddr,
    /// Listen on an address that others can reach, though nobody has to sign in yet
    #[arg(long)]
    pub insecure_open: bool,
}

/// `flightbell demo`.
#[derive(Args, Debug)]
pub struct Demo {
    /// How many times as fast as in reality the recordings are played
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub speed: u32,
    /// Where to listen for HTTPS
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8443")]
    pub listen: SocketAddr,
    /// Where the page that shows the messages is served
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub page: SocketAddr,
    /// Listen on an address that others can reach, though nobody has to sign in yet
    #[arg(long)]
    pub insecure_open: bool,
}

/// `flightbell gateway`.
#[derive(Args, Debug)]
pub struct Gateway {
    /// Where to listen for HTTPS
    #[arg(long, value_name = "ADDR")]
    pub listen: SocketAddr,
    /// Where to answer plain HTTP with a redirect to HTTPS
    #[arg(long, value_name = "ADDR")]
    pub listen_http: Option<SocketAddr>,
    /// The port of HTTPS that redirects name, where callers reach another than the one listened on
    #[arg(long, value_name = "PORT", requires = "listen_http", value_parser = clap::value_parser!(u16).range(1..))]
    pub https_port: Option<u16>,
    /// Where the certificate is kept: cert.pem and key.pem, made when missing [default: `tls` in the data directory]
    #[arg(long, value_name = "DIR")]
    pub certificates: Option<PathBuf>,
    /// Where each service that has HTTP answers it: an option named like the service, added by [`command`].
    #[arg(skip)]
    pub upstreams: Vec<(String, Authority)>,
    /// Listen on an address that others can reach, though nobody has to sign in yet
    #[arg(long)]
    pub insecure_open: bool,
}

/// `flightbell certs`.
#[derive(Args, Debug)]
pub struct Certs {
    /// Where ca.pem, ca-key.pem, cert.pem and key.pem lie
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,
    /// A DNS name or an IP address by which the server is asked; may be given several times
    #[arg(long = "name", value_name = "NAME", required = true)]
    pub names: Vec<ServerName>,
}

/// `flightbell doctor`.
#[derive(Args, Debug)]
pub struct Doctor {
    /// The data directory of `up` [default: $XDG_DATA_HOME/flightbell or ~/.local/share/flightbell]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

/// `flightbell migrate`.
#[derive(Args, Debug)]
pub struct Migrate {
    /// Services whose databases are migrated [default: all]; each is found under a key of its own, such as
    /// USER_MANAGER_DATABASE_URL, and that of a single one under DATABASE_URL too
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
}

/// `flightbell dlq`.
#[derive(Args, Debug)]
pub struct Dlq {
    /// The data directory of a running `up`, when KAFKA_BROKER_URL is not set
    #[arg(long, value_name = "DIR", global = true)]
    pub data_dir: Option<PathBuf>,
    /// What to do with dead letters.
    #[command(subcommand)]
    pub action: DlqAction,
}

/// Dead letters of which topic and group are meant.
#[derive(Args, Clone, Debug, Default)]
pub struct DlqFilter {
    /// Only those of this topic
    #[arg(long)]
    pub topic: Option<String>,
    /// Only those of this consumer group
    #[arg(long)]
    pub group: Option<String>,
}

/// What to do with dead letters.
#[derive(Debug, Subcommand)]
pub enum DlqAction {
    /// List the dead letters that wait for a decision
    List {
        /// Of which topic and group
        #[command(flatten)]
        filter: DlqFilter,
        /// At most so many of each
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// Show one dead letter whole
    Show {
        /// Its id, as `list` prints it
        id: String,
    },
    /// Send dead letters to their consumer group again, and to no other
    Replay {
        /// Ids as `list` prints them, or `all`
        #[arg(required = true)]
        ids: Vec<String>,
        /// Of which topic and group
        #[command(flatten)]
        filter: DlqFilter,
    },
    /// Decide that dead letters are not needed
    Drop {
        /// Ids as `list` prints them, or `all`
        #[arg(required = true)]
        ids: Vec<String>,
        /// Of which topic and group
        #[command(flatten)]
        filter: DlqFilter,
    },
    /// Let a group go on, in every replica, that stopped because too many messages in a row were rejected
    Reset {
        /// Of which topic and group
        #[command(flatten)]
        filter: DlqFilter,
    },
}
