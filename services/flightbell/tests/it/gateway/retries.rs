//! Requests that meet a service which ends: a connection that breaks before the answer, or none at all.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use tokio::{io, net::TcpSocket, task::JoinSet};

use super::*;

/// A user-manager that reads each request and breaks the connection where it should have answered, the first time that
/// a path is asked for.
struct Breaking {
    addr: SocketAddr,
    /// What was asked, by path: a line and a body for each time.
    asked: Asked,
    _serving: JoinSet<()>,
}

type Asked = Arc<Mutex<HashMap<String, Vec<String>>>>;

impl Breaking {
    async fn start() -> Self {
        let listener = TcpListener::bind(anywhere()).await.expect("a port");
        let addr = listener.local_addr().expect("an address");
        let asked = Asked::default();
        let (mut serving, of_server) = (JoinSet::new(), asked.clone());
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let asked = of_server.clone();
                connections.spawn(async move { drop(answer(stream, &asked).await) });
            }
        });
        Self { addr, asked, _serving: serving }
    }

    fn asked(&self, path: &str) -> Vec<String> {
        self.asked.lock().expect("no panic").get(path).cloned().unwrap_or_default()
    }
}

/// Answers the requests of one connection, except those for which it breaks.
async fn answer(mut stream: TcpStream, asked: &Asked) -> io::Result<()> {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
        }
        let head = String::from_utf8_lossy(&head).to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        stream.read_exact(&mut body).await?;
        let (line, path) = (head.lines().next().expect("a line"), head.split(' ').nth(1).expect("a path"));
        let times = {
            let mut asked = asked.lock().expect("no panic");
            let of_path = asked.entry(path.to_owned()).or_default();
            of_path.push(format!("{line} {}", String::from_utf8_lossy(&body)));
            of_path.len()
        };
        if times == 1 && !path.ends_with("/well") {
            return Ok(());
        }
        let body = if head.starts_with("head") { "" } else { "ok" };
        stream.write_all(format!("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{body}").as_bytes()).await?;
    }
}

#[tokio::test]
async fn what_breaks_before_its_answer_is_repeated_once_where_that_is_safe() {
    let service = Breaking::start().await;
    let gateway = Gateway::before(service.addr).await;
    let send = async |method: &Method, path: &str, key: Option<&str>| {
        let call = gateway.client.request(method.clone(), format!("{}{path}", gateway.base)).body("{}");
        let call = key.into_iter().fold(call, |call, key| call.header("Idempotency-Key", key));
        call.send().await.expect("an answer")
    };
    // Some break on the first connection, and those after an answer on one that was kept.
    for (number, is_kept) in [(1, false), (2, true)] {
        let cases = [
            (Method::GET, None, 200),
            (Method::HEAD, None, 200),
            (Method::POST, Some("k"), 200),
            (Method::DELETE, Some("k"), 200),
            (Method::POST, None, 503),
            (Method::DELETE, None, 503),
        ];
        for (method, key, status) in cases {
            if is_kept {
                assert_eq!(gateway.get("/user-manager/well").await.text().await.expect("text"), "ok");
            }
            let name = method.as_str().to_lowercase();
            let path = format!("/user-manager/{name}-{}-{number}", key.unwrap_or("none"));
            let answer = send(&method, &path, key).await;
            if status == 503 {
                refused(answer, status).await;
            } else {
                assert_eq!(answer.status(), status, "{method} {path}");
            }
            let asked = service.asked(&path);
            assert_eq!(asked.len(), if status == 200 { 2 } else { 1 }, "{asked:?}");
            assert!(asked.iter().all(|said| *said == format!("{name} {path} http/1.1 {{}}")), "{asked:?}");
        }
    }
    gateway.program.stop().await;
}

#[tokio::test]
async fn a_websocket_whose_connection_breaks_is_not_asked_for_again() {
    let service = Breaking::start().await;
    let gateway = Gateway::before(service.addr).await;
    let path = "/user-manager/live";
    refused(websockets::ask(&gateway, path, "websocket").await, 503).await;
    assert_eq!(service.asked(path).len(), 1);
    gateway.program.stop().await;
}

#[tokio::test]
async fn a_service_that_listens_a_moment_later_gets_every_request() {
    // Bound and not listening: the port is ours, and refuses connections.
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(anywhere()).expect("a port");
    let addr = socket.local_addr().expect("an address");
    let environment = [("RUST_LOG", "info,flightbell=debug".to_owned())];
    let gateway = Gateway::start(addr, folder(), &[], &environment).await;
    let listening = async {
        let refused = async || gateway.program.log().contains("user-manager is asked again in 50ms (NotConnected)");
        testkit::wait_for("a refused connection", PATIENCE, refused).await;
        let listener = socket.listen(16).expect("listening");
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            connections.spawn(async move { drop(answer(stream, &Asked::default()).await) });
        }
    };
    let post = gateway.client.post(format!("{}/user-manager/well", gateway.base)).body("{}");
    let answers = async { tokio::join!(gateway.get("/user-manager/well"), post.send()) };
    let (got, posted) = tokio::select! {
        answers = answers => answers,
        () = listening => unreachable!("it listens until the end"),
    };
    assert_eq!((got.status(), posted.expect("an answer").status()), (StatusCode::OK, StatusCode::OK));
    gateway.program.stop().await;
}
