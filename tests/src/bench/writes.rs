//! Durable writes, over either system's own API.

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    time::Instant,
};

use anyhow::{Context, Result, anyhow};
use api::{
    manifest::{self, Input},
    proto::{DeployStackRequest, control_client::ControlClient},
};
use hyper_util::rt::TokioIo;
use tonic::transport::{Channel, Endpoint, Uri};

use super::{COMMAND, IMAGE, figure::Figure};

/// How long each of some writes took, and all of them together.
#[derive(Clone, Debug, PartialEq)]
pub struct Writes {
    /// Milliseconds, of each.
    pub latencies_ms: Vec<f64>,
    /// From the first one's beginning to the last one's end.
    pub seconds: f64,
}

impl Writes {
    /// Writes in a second.
    #[must_use]
    pub fn per_second(&self) -> f64 {
        self.latencies_ms.len() as f64 / self.seconds
    }

    /// What 99 % of the writes were done within, milliseconds.
    #[must_use]
    pub fn p99_ms(&self) -> f64 {
        let mut sorted = self.latencies_ms.clone();
        sorted.sort_by(f64::total_cmp);
        let rank = (sorted.len() * 99).div_ceil(100).max(1);
        sorted.get(rank - 1).copied().unwrap_or_default()
    }

    /// Both as figures.
    #[must_use]
    pub fn figures(&self, row: &str, system: &str) -> [Option<Figure>; 2] {
        [
            Figure::of(row, system, "/s", &[self.per_second()]),
            Figure::of(&format!("{row}-p99"), system, "ms", &[self.p99_ms()]),
        ]
    }
}

/// Calls `write` for `count` numbers from `clients` threads.
pub fn by_threads(
    clients: usize,
    count: usize,
    write: impl Fn(usize) -> Result<()> + Sync,
) -> Result<Writes> {
    let (next, start) = (AtomicUsize::new(0), Instant::now());
    let work = || -> Result<Vec<f64>> {
        let mut latencies = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return Ok(latencies);
            }
            let began = Instant::now();
            write(number)?;
            latencies.push(began.elapsed().as_secs_f64() * 1000.0);
        }
    };
    let latencies_ms = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..clients).map(|_| scope.spawn(work)).collect();
        let mut all = Vec::new();
        for thread in threads {
            all.extend(thread.join().map_err(|_| anyhow!("a client panicked"))??);
        }
        Ok::<_, anyhow::Error>(all)
    })?;
    Ok(Writes {
        latencies_ms,
        seconds: start.elapsed().as_secs_f64(),
    })
}

/// Stacks of one service without tasks, each from one of `clients` connections to clusterd's socket.
pub fn to_clusterd(socket: &Path, prefix: &str, clients: usize, count: usize) -> Result<Writes> {
    let requests = (0..count)
        .map(|number| request(&format!("{prefix}{number}")))
        .collect::<Result<Vec<_>>>()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut channels = Vec::new();
        for _ in 0..clients {
            channels.push(connect(socket.to_owned()).await?);
        }
        let requests = std::sync::Mutex::new(requests);
        let start = Instant::now();
        let work = channels.into_iter().map(|channel| async {
            let (mut control, mut latencies) = (ControlClient::new(channel), Vec::new());
            loop {
                let next = requests
                    .lock()
                    .map_err(|_| anyhow!("a client panicked"))?
                    .pop();
                let Some(request) = next else {
                    return Ok::<_, anyhow::Error>(latencies);
                };
                let began = Instant::now();
                control
                    .deploy_stack(request)
                    .await
                    .map_err(|status| anyhow!("{}", status.message()))?;
                latencies.push(began.elapsed().as_secs_f64() * 1000.0);
            }
        });
        let all = futures_util::future::try_join_all(work).await?;
        Ok(Writes {
            latencies_ms: all.concat(),
            seconds: start.elapsed().as_secs_f64(),
        })
    })
}

async fn connect(socket: PathBuf) -> Result<Channel> {
    let connector = tower::service_fn(move |_: Uri| {
        let path = socket.clone();
        async move {
            let stream = tokio::net::UnixStream::connect(path).await?;
            Ok::<_, std::io::Error>(TokioIo::new(stream))
        }
    });
    let endpoint = Endpoint::from_static("http://clusterd");
    endpoint
        .connect_with_connector(connector)
        .await
        .context("cannot talk to clusterd")
}

fn request(stack: &str) -> Result<DeployStackRequest> {
    // JSON is YAML.
    let text = serde_json::json!({"services": {"t": {
        "image": IMAGE, "command": COMMAND, "deploy": {"replicas": 0},
    }}})
    .to_string();
    let input = Input {
        stack,
        files: vec![("writes".into(), text)],
        env: &|_| None,
        read_file: &|_, _| Err(std::io::ErrorKind::NotFound.into()),
        base_dir: Path::new("/"),
    };
    let (mut spec, _) = manifest::read(input).map_err(|errors| anyhow!("{errors:?}"))?;
    // Without the stack's own network: the other system's services have none either.
    spec.networks.clear();
    for service in spec.services.values_mut() {
        service.networks.clear();
    }
    Ok(DeployStackRequest {
        spec: Some((&spec).into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_percentiles() {
        let writes = Writes {
            latencies_ms: (1..=200).rev().map(f64::from).collect(),
            seconds: 4.0,
        };
        assert!((writes.per_second() - 50.0).abs() < 1e-9);
        assert!((writes.p99_ms() - 198.0).abs() < 1e-9);
    }

    #[test]
    fn each_number_is_written_once_and_an_error_ends_it() {
        let seen = std::sync::Mutex::new(Vec::new());
        let done = by_threads(4, 100, |number| {
            seen.lock().expect("no panic").push(number);
            Ok(())
        });
        assert_eq!(done.expect("all").latencies_ms.len(), 100);
        let mut seen = seen.into_inner().expect("no panic");
        seen.sort_unstable();
        assert_eq!(seen, (0..100).collect::<Vec<_>>());
        assert!(by_threads(2, 10, |_| Err(anyhow!("no"))).is_err());
    }
}
