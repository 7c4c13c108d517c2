//! A client that asks as fast as it is answered, and costs the machine as little as it can: the two cores are shared
//! with what is measured.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures::future::join_all;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use crate::{deployment::Deployment, table::rank};

/// The text of the request with that number.
pub type Requests = Arc<dyn Fn(u64) -> String + Send + Sync>;

/// Where requests go.
#[derive(Clone)]
pub struct Server {
    addr: SocketAddr,
    tls: Option<TlsConnector>,
}

/// What came back.
#[derive(Default)]
pub struct Answers {
    /// How many of each status.
    pub statuses: BTreeMap<u16, u64>,
    /// How long it took, all together.
    pub elapsed: Duration,
    /// How long each took.
    pub times: Vec<Duration>,
}

impl Server {
    /// The plain port of user-manager or data-collector.
    pub fn plain(deployment: &Deployment, service: &str) -> Self {
        let port = if service == "user-manager" { deployment.ports.user_http } else { deployment.ports.data_http };
        Self { addr: SocketAddr::from(([127, 0, 0, 1], port)), tls: None }
    }

    /// The gateway's HTTPS.
    pub async fn gateway(deployment: &Deployment) -> Self {
        let addr = SocketAddr::from(([127, 0, 0, 1], deployment.ports.gateway));
        let pem = tokio::fs::read(deployment.folder.path().join("tls/cert.pem")).await.expect("the certificate");
        let mut roots = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            roots.add(certificate.expect("a certificate")).expect("a root");
        }
        let config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        Self { addr, tls: Some(TlsConnector::from(Arc::new(config))) }
    }

    /// Asks over so many connections, each of which sends its next request when it has its answer. The numbers of
    /// requests go on where `next` stands.
    pub async fn ask(&self, connections: usize, requests: &Requests, next: &Arc<AtomicU64>, until: Until) -> Answers {
        let (server, requests, next) = (self.clone(), requests.clone(), next.clone());
        // A thread of its own: on the benchmark's, its tasks would wake each other across threads.
        let asked = tokio::task::spawn_blocking(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(server.asked(connections, &requests, &next, until))
        });
        asked.await.expect("it does not panic")
    }

    async fn asked(&self, connections: usize, requests: &Requests, next: &AtomicU64, until: Until) -> Answers {
        let streams = join_all((0..connections).map(|_| self.connect())).await;
        let begun = Instant::now();
        let callers = streams.into_iter().map(|stream| caller(stream, requests, next, begun, until));
        let mut all = Answers::default();
        for answers in join_all(callers).await {
            for (status, count) in answers.statuses {
                *all.statuses.entry(status).or_default() += count;
            }
            all.times.extend(answers.times);
        }
        all.elapsed = begun.elapsed();
        all
    }

    async fn connect(&self) -> Box<dyn Stream> {
        let stream = TcpStream::connect(self.addr).await.expect("connected");
        stream.set_nodelay(true).expect("set up");
        let Some(tls) = &self.tls else { return Box::new(stream) };
        let name = ServerName::IpAddress(self.addr.ip().into());
        Box::new(tls.connect(name, stream).await.expect("hands shaken"))
    }
}

/// How long to ask.
#[derive(Clone, Copy)]
pub enum Until {
    Elapsed(Duration),
    Asked(u64),
}

trait Stream: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

async fn caller(
    mut stream: Box<dyn Stream>,
    requests: &Requests,
    next: &AtomicU64,
    begun: Instant,
    until: Until,
) -> Answers {
    let mut answers = Answers::default();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let is_over = match until {
            Until::Elapsed(limit) => begun.elapsed() >= limit,
            Until::Asked(count) => number >= count,
        };
        if is_over {
            return answers;
        }
        let text = requests(number);
        let asked = Instant::now();
        stream.write_all(text.as_bytes()).await.expect("sent");
        let status = answer(&mut *stream, &mut buffer).await;
        answers.times.push(asked.elapsed());
        *answers.statuses.entry(status).or_default() += 1;
    }
}

/// Reads one answer to its end, and forgets all but its status.
async fn answer(stream: &mut dyn Stream, buffer: &mut [u8]) -> u16 {
    let mut read = 0;
    let (status, mut left) = loop {
        let count = stream.read(&mut buffer[read..]).await.expect("an answer");
        assert!(count > 0, "the connection was closed");
        read += count;
        if let Some(end) = buffer[..read].windows(4).position(|window| window == b"\r\n\r\n") {
            let head = std::str::from_utf8(&buffer[..end]).expect("text").to_ascii_lowercase();
            let status = head.get(9..12).and_then(|status| status.parse().ok()).expect("a status");
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
            let length: usize = length.parse().expect("a number");
            break (status, (end + 4 + length) - read);
        }
    };
    while left > 0 {
        let count = stream.read(buffer).await.expect("the rest of an answer");
        assert!(count > 0, "the connection was closed");
        left -= count;
    }
    status
}

impl Answers {
    /// Answers a second.
    pub fn rate(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "counts are small")]
        let count = self.times.len() as f64;
        count / self.elapsed.as_secs_f64()
    }

    /// How many had none of these statuses.
    pub fn other_than(&self, wanted: &[u16]) -> u64 {
        self.statuses.iter().filter(|(status, _)| !wanted.contains(status)).map(|(_, count)| count).sum()
    }

    /// The time within which so many percent were answered.
    pub fn percentile(&self, percent: usize) -> Duration {
        let mut times = self.times.clone();
        times.sort_unstable();
        times[rank(times.len(), percent)]
    }

    /// Adds what came back another time.
    pub fn add(&mut self, more: Self) {
        for (status, count) in more.statuses {
            *self.statuses.entry(status).or_default() += count;
        }
        self.elapsed += more.elapsed;
        self.times.extend(more.times);
    }
}
