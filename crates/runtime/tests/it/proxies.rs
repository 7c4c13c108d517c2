//! Proxies of the settings: used, or the call fails.

use std::net::SocketAddr;

use runtime::{
    config::Reader,
    http_client::{Proxies, client_for},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

fn proxies(key: &str, value: &str) -> Proxies {
    let vars = std::collections::HashMap::from([(key.to_owned(), value.to_owned())]);
    let mut reader = Reader::new(&vars);
    let proxies = Proxies::read(&mut reader);
    reader.finish(|| Some(proxies)).expect("a proxy that can be used")
}

async fn get(proxies: &Proxies, address: &str) -> reqwest::Result<String> {
    runtime::choose_tls();
    let address = address.parse().expect("an address");
    client_for([&address], proxies)?.build()?.get(address).send().await?.text().await
}

async fn bytes(stream: &mut TcpStream, count: usize) -> Vec<u8> {
    let mut read = vec![0; count];
    stream.read_exact(&mut read).await.expect("bytes");
    read
}

/// Takes one connection as a SOCKS 5 proxy that asks for a password, answers its request in place of
/// the target, and tells who was asked for and by whom.
async fn socks(listener: TcpListener) -> (String, String) {
    let (mut stream, _) = listener.accept().await.expect("a connection");
    let greeting = bytes(&mut stream, 2).await;
    assert_eq!(greeting[0], 5);
    bytes(&mut stream, greeting[1].into()).await;
    stream.write_all(&[5, 2]).await.expect("answered");
    let name = bytes(&mut stream, 2).await;
    let name = bytes(&mut stream, name[1].into()).await;
    let password = bytes(&mut stream, 1).await;
    let password = bytes(&mut stream, password[0].into()).await;
    stream.write_all(&[1, 0]).await.expect("answered");
    let asked = bytes(&mut stream, 5).await;
    assert_eq!(asked[..4], [5, 1, 0, 3], "a connection to a name");
    let host = bytes(&mut stream, asked[4].into()).await;
    bytes(&mut stream, 2).await;
    stream.write_all(&[5, 0, 0, 1, 127, 0, 0, 1, 0, 1]).await.expect("answered");
    let mut request = [0; 1024];
    assert!(stream.read(&mut request).await.expect("a request") > 0);
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 7\r\nConnection: close\r\n\r\nthrough";
    stream.write_all(answer.as_bytes()).await.expect("answered");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (text(host), format!("{}:{}", text(name), text(password)))
}

#[tokio::test]
async fn a_socks_proxy_is_used_with_its_password_and_resolves_the_name() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let proxy = format!("socks5h://ada:hush@{}", listener.local_addr().expect("an address"));
    let mut serving = JoinSet::new();
    serving.spawn(socks(listener));
    let answer = get(&proxies("ALL_PROXY", &proxy), "http://opensky.test/api").await.expect("an answer");
    assert_eq!(answer, "through");
    let asked = serving.join_next().await.expect("one connection").expect("a whole one");
    assert_eq!(asked, ("opensky.test".to_owned(), "ada:hush".to_owned()));
}

#[tokio::test]
async fn nothing_is_asked_past_a_proxy_that_is_away() {
    let target = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at: SocketAddr = target.local_addr().expect("an address");
    let away = testkit::free_addr();
    for scheme in ["http", "https", "socks4a", "socks5", "socks5h"] {
        // A name of this machine that does not look like one.
        let address = format!("http://[::ffff:127.0.0.1]:{}/", at.port());
        get(&proxies("http_proxy", &format!("{scheme}://{away}")), &address).await.expect_err("no proxy, no answer");
    }
    let reached = tokio::time::timeout(std::time::Duration::from_millis(200), target.accept()).await;
    assert!(reached.is_err(), "the target was reached directly");
}
