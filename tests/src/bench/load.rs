//! Clients that send what was made before and read little of the answer: what they take of the machine is taken
//! from the system that is measured on it. The same ones for both systems.

use std::{
    path::Path,
    sync::{Mutex, PoisonError},
    time::Instant,
};

use anyhow::{Context, Result, bail};
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::{
    client::conn::{http1, http2},
    header::{CONTENT_TYPE, HOST, TE},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{net::UnixStream, task::JoinSet};

use super::writes::Writes;

/// What is called, and how.
#[derive(Clone, Copy, Debug)]
pub enum Call {
    /// A gRPC method, by its path.
    Grpc(&'static str),
    /// JSON to a path, by POST.
    Json(&'static str),
}

/// A message as gRPC frames it: not compressed, its length, itself.
#[must_use]
pub fn framed(message: &[u8]) -> Bytes {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    let mut frame = BytesMut::with_capacity(5 + message.len());
    frame.extend_from_slice(&[0]);
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(message);
    frame.freeze()
}

enum Connection {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl Connection {
    /// `drivers` holds what moves its bytes.
    async fn open(socket: &Path, call: Call, drivers: &mut JoinSet<()>) -> Result<Self> {
        let stream = UnixStream::connect(socket)
            .await
            .with_context(|| format!("cannot connect to {}", socket.display()))?;
        let stream = TokioIo::new(stream);
        // An error of the connection is one of the call on it, too.
        Ok(match call {
            Call::Json(_) => {
                let (sender, driver) = http1::handshake(stream).await?;
                drivers.spawn(async { drop(driver.await) });
                Self::Http1(sender)
            }
            Call::Grpc(_) => {
                let (sender, driver) = http2::handshake(TokioExecutor::new(), stream).await?;
                drivers.spawn(async { drop(driver.await) });
                Self::Http2(sender)
            }
        })
    }

    async fn call(&mut self, call: Call, body: Bytes) -> Result<()> {
        let request = http::Request::post(match call {
            Call::Grpc(path) => format!("http://clusterd{path}"),
            Call::Json(path) => path.to_owned(),
        });
        let request = match call {
            Call::Grpc(_) => request
                .header(CONTENT_TYPE, "application/grpc")
                .header(TE, "trailers"),
            Call::Json(_) => request
                .header(CONTENT_TYPE, "application/json")
                .header(HOST, "docker"),
        };
        let request = request.body(Full::new(body))?;
        let answer = match self {
            Self::Http1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
            Self::Http2(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
        };
        let (head, body) = answer.into_parts();
        let body = body.collect().await?;
        if !head.status.is_success() {
            let text = body.to_bytes();
            bail!("{}: {}", head.status, String::from_utf8_lossy(&text).trim());
        }
        if matches!(call, Call::Grpc(_)) {
            // Of a call that was refused at once they are the head's.
            let said = body.trailers().unwrap_or(&head.headers);
            let text = |name| said.get(name).and_then(|value| value.to_str().ok());
            match text("grpc-status") {
                Some("0") => {}
                Some(code) => bail!("code {code}: {}", text("grpc-message").unwrap_or_default()),
                None => bail!("it ended without a status"),
            }
        }
        Ok(())
    }
}

/// Calls with each of the bodies once, from `clients` connections at once, each waiting for its answer.
///
/// # Errors
/// The first connection or call that failed.
pub fn run(socket: &Path, call: Call, clients: usize, bodies: Vec<Bytes>) -> Result<Writes> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut drivers = JoinSet::new();
        let mut connections = Vec::new();
        for _ in 0..clients {
            connections.push(Connection::open(socket, call, &mut drivers).await?);
        }
        let bodies = Mutex::new(bodies);
        let next = || {
            let mut bodies = bodies.lock().unwrap_or_else(PoisonError::into_inner);
            bodies.pop()
        };
        let start = Instant::now();
        let work = connections.into_iter().map(|mut connection| async move {
            let mut latencies = Vec::new();
            while let Some(body) = next() {
                let began = Instant::now();
                connection.call(call, body).await?;
                latencies.push(began.elapsed().as_secs_f64() * 1000.0);
            }
            Ok::<_, anyhow::Error>(latencies)
        });
        let all = futures_util::future::try_join_all(work).await?;
        Ok(Writes {
            latencies_ms: all.concat(),
            seconds: start.elapsed().as_secs_f64(),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::{Read, Write},
        os::unix::net::UnixListener,
    };

    /// Answers one request after the other on one connection; what was asked.
    fn serve(listener: UnixListener, answers: &[&str]) -> Vec<String> {
        let (mut stream, _) = listener.accept().expect("a client");
        let mut asked = Vec::new();
        for answer in answers {
            let mut text = String::new();
            while !text.ends_with('}') {
                let mut piece = [0; 1024];
                let read = stream.read(&mut piece).expect("a request");
                assert!(read > 0, "it ended in the middle: {text}");
                text += std::str::from_utf8(&piece[..read]).expect("text");
            }
            asked.push(text);
            stream.write_all(answer.as_bytes()).expect("an answer");
        }
        asked
    }

    #[test]
    fn each_body_is_sent_once_over_one_connection_and_a_refusal_ends_it() {
        let dir = tempfile::tempdir().expect("a folder");
        let socket = dir.path().join("socket");
        let listener = UnixListener::bind(&socket).expect("a socket");
        let fine = "HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}";
        let refused = "HTTP/1.1 409 Conflict\r\nContent-Length: 11\r\n\r\nname in use";
        let server = std::thread::spawn(move || serve(listener, &[fine, fine, refused]));
        let bodies = |names: &[&'static str]| names.iter().map(|n| Bytes::from(*n)).collect();
        let done = run(
            &socket,
            Call::Json("/services/create"),
            1,
            bodies(&["{3}", "{2}", "{1}"]),
        );
        let error = done.expect_err("the third is refused").to_string();
        assert_eq!(error, "409 Conflict: name in use");
        let asked = server.join().expect("no panic");
        for (text, body) in asked.iter().zip(["{1}", "{2}", "{3}"]) {
            assert!(
                text.starts_with("POST /services/create HTTP/1.1\r\n"),
                "{text}"
            );
            assert!(text.ends_with(body), "{text}");
        }
    }

    #[test]
    fn a_frame_tells_its_length() {
        assert_eq!(framed(b"abc"), Bytes::from_static(b"\0\0\0\0\x03abc"));
    }
}
