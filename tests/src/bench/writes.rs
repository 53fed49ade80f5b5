//! Durable writes, over either system's own API.

use std::path::Path;

use anyhow::{Result, anyhow};
use api::{
    manifest::{self, Input},
    proto::DeployStackRequest,
};
use prost::Message;

use super::{
    COMMAND, IMAGE,
    figure::Figure,
    load::{self, Call},
};

/// What makes a stack.
const DEPLOY: &str = "/clusterd.v1.Control/DeployStack";

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

/// Stacks of one service without tasks, to clusterd's socket.
///
/// # Errors
/// The first call that failed.
pub fn to_clusterd(socket: &Path, prefix: &str, clients: usize, count: usize) -> Result<Writes> {
    let bodies = (0..count)
        .map(|number| {
            let request = request(&format!("{prefix}{number}"))?;
            Ok(load::framed(&request.encode_to_vec()))
        })
        .collect::<Result<Vec<_>>>()?;
    load::run(socket, Call::Grpc(DEPLOY), clients, bodies)
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
}
