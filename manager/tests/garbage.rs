//! Garbage, and frames larger than any message, at a manager's door: refused, the connection closed, no memory
//! taken for what was only announced; the manager goes on.

mod common;

use api::model::{ClusterSpec, JoinToken};
use api::proto::GetJoinTokensRequest;
use bytes::Bytes;
use common::*;
use http_body_util::{BodyExt, Full};
use manager::tls;
use rustls::pki_types::ServerName;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tonic::transport::Channel;
use tower::{Service, ServiceExt};

/// What one connection is sent at most.
const SENT: usize = 8 << 20;

/// The most memory this process has had, bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib * 1024
}

/// Sends until the other end closes, which it does.
async fn send<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, begin: &[u8], what: &str) {
    let garbage: Vec<u8> = (0..64_u32 << 10)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    let sent = async {
        let mut sent = stream.write_all(begin).await;
        let mut bytes = 0;
        while sent.is_ok() && bytes < SENT {
            sent = stream.write_all(&garbage).await;
            bytes += garbage.len();
        }
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        answer.len()
    };
    let answered = timeout(BOUND, sent).await;
    let answered = answered.unwrap_or_else(|_| panic!("{what}: the connection stays open"));
    assert!(answered < 4096, "{what}: {answered} bytes were answered");
}

async fn encrypted(addr: &str) -> tokio_rustls::client::TlsStream<TcpStream> {
    let tcp = TcpStream::connect(addr).await.unwrap();
    let mut config = tls::stranger_config().unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let name = ServerName::try_from(manager::identity::MANAGER_NAME).unwrap();
    TlsConnector::from(Arc::new(config))
        .connect(name, tcp)
        .await
        .unwrap()
}

/// What a call with this body is answered: gRPC's code.
async fn call(channel: &mut Channel, path: &str, body: Vec<u8>) -> i32 {
    let request = http::Request::post(format!("https://manager{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(tonic::body::Body::new(Full::new(Bytes::from(body))))
        .unwrap();
    let answer = async {
        let response = channel.ready().await.unwrap().call(request).await.unwrap();
        let (head, body) = response.into_parts();
        let trailers = body
            .collect()
            .await
            .ok()
            .and_then(|all| all.trailers().cloned());
        let code = |map: &http::HeaderMap| map.get("grpc-status")?.to_str().ok()?.parse().ok();
        code(&head.headers)
            .or_else(|| code(&trailers?))
            .unwrap_or(-1)
    };
    timeout(BOUND, answer)
        .await
        .unwrap_or_else(|_| panic!("{path}: no answer"))
}

/// A message of gRPC: not compressed, its length, the message.
fn framed(length: u32, body: &[u8]) -> Vec<u8> {
    [&[0], &length.to_be_bytes()[..], body].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_is_refused_and_the_manager_goes_on() {
    let (boss, _) = Boss::found(ClusterSpec::default()).await;
    let tokens = boss
        .control()
        .get_join_tokens(GetJoinTokensRequest::default())
        .await;
    let worker: JoinToken = tokens.unwrap().into_inner().worker.parse().unwrap();
    let hand = Hand::join(&worker, &boss.addr, "node2", None).await;
    let before = peak();
    for round in 0..3 {
        let tcp = TcpStream::connect(&boss.addr).await.unwrap();
        send(tcp, b"", "no TLS").await;
        let tcp = TcpStream::connect(&boss.addr).await.unwrap();
        // A record of TLS that says it is longer than any.
        send(tcp, &[0x16, 3, 1, 0xff, 0xff], "a long record").await;
        send(encrypted(&boss.addr).await, b"", "no HTTP").await;
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        // Settings, then a frame of 16 MiB.
        let frame = [
            &preface[..],
            &[
                0, 0, 0, 4, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1,
            ],
        ]
        .concat();
        send(encrypted(&boss.addr).await, &frame, "a long frame").await;
        // Headers that expand, and never end.
        let endless = [
            &preface[..],
            &[0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0x40, 0, 1, 0, 0, 0, 0, 1],
        ]
        .concat();
        send(encrypted(&boss.addr).await, &endless, "endless headers").await;

        // One who may call, and says too much.
        let mut channel = hand.dialer.manager(&boss.addr);
        let list = "/clusterd.v1.Control/ListNodes";
        let mut stranger =
            manager::dialer::unidentified(&boss.addr, Arc::new(tls::stranger_config().unwrap()));
        let root = "/clusterd.v1.Ca/GetRoot";
        for (channel, path) in [(&mut channel, list), (&mut stranger, root)] {
            let announced = call(channel, path, framed(u32::MAX, b"short")).await;
            assert!(announced > 0, "{path}, round {round}: {announced}");
            let long = vec![0x0a; manager::MESSAGE_MAX + 1];
            let length = u32::try_from(long.len()).unwrap();
            let too_long = call(channel, path, framed(length, &long)).await;
            assert!(too_long > 0, "{path}, round {round}: {too_long}");
            let garbage = call(channel, path, framed(5, &[0xff; 5])).await;
            assert!(garbage > 0, "{path}, round {round}: {garbage}");
        }
    }
    let grown = peak() - before;
    assert!(grown < 96 << 20, "{grown} bytes more");
    // It takes in another one.
    Hand::join(&worker, &boss.addr, "node3", None).await;
    assert!(boss.leads());
}
