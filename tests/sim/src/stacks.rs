//! The stacks that users deploy.

use crate::dice::Dice;
use api::model::{
    BlobFile, BlobKind, BlobSpec, ContainerSpec, Disconnect, EndpointMode, FILE_MODE, NetworkSpec,
    Protocol, PublishedPort, RestartCondition, RestartPolicy, ServiceMode, ServiceSpec,
    StackService, StackSpec, TaskTemplate, Timestamp,
};
use api::state::{Op, State};
use manager::decisions::plan;
use std::collections::BTreeMap;

/// What a container does, by the name of its image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    /// It runs.
    Steady,
    /// It fails soon.
    Crashing,
    /// It is done after a while.
    Job,
}

impl Behaviour {
    /// Of an image.
    #[must_use]
    pub fn of(image: &str) -> Self {
        match image.split(':').next() {
            Some("crashing") => Self::Crashing,
            Some("job") => Self::Job,
            _ => Self::Steady,
        }
    }
}

/// The change that deploys one of three stacks in one of many forms; none when it is refused.
#[must_use]
pub fn deploy(state: &State, dice: &mut Dice, at: Timestamp) -> Option<Vec<Op>> {
    let spec = stack(dice);
    plan(state, &spec, at, || dice.id())
        .ok()
        .map(|(ops, _)| ops)
}

fn stack(dice: &mut Dice) -> StackSpec {
    let name = format!("s{}", dice.below(3));
    let networks: BTreeMap<String, NetworkSpec> = (0..dice.below(3))
        .map(|n| {
            let full = format!("{name}_n{n}");
            let spec = NetworkSpec {
                name: full.clone(),
                stack: Some(name.clone()),
                // A small one is full soon.
                subnet: (n == 1).then(|| subnet(&name)).flatten(),
                ..NetworkSpec::default()
            };
            (full, spec)
        })
        .collect();
    let names: Vec<String> = networks.keys().cloned().collect();
    let blobs: Vec<BlobSpec> = (0..dice.below(3)).map(|n| blob(dice, &name, n)).collect();
    let services = (0..=dice.below(3))
        .map(|n| {
            let full = format!("{name}_v{n}");
            (full.clone(), service(dice, &name, &full, &names, &blobs))
        })
        .collect();
    StackSpec {
        name,
        networks,
        blobs,
        services,
        ..StackSpec::default()
    }
}

fn subnet(stack: &str) -> Option<ipnet::Ipv4Net> {
    let third = stack.strip_prefix('s')?;
    format!("172.20.{third}.0/28").parse().ok()
}

/// A secret or a config, with another content now and then.
fn blob(dice: &mut Dice, stack: &str, number: u64) -> BlobSpec {
    BlobSpec {
        kind: if dice.chance(70) {
            BlobKind::Secret
        } else {
            BlobKind::Config
        },
        name: format!("{stack}_b{number}"),
        stack: Some(stack.into()),
        labels: BTreeMap::new(),
        data: format!("content {}", dice.below(3)).into_bytes().into(),
    }
}

/// What becomes of tasks that hear no manager any more.
fn disconnect(dice: &mut Dice) -> Disconnect {
    Disconnect {
        stop_after_ms: dice.chance(70).then(|| dice.between(3_000, 8_000)),
        exclusive: dice.chance(60),
    }
}

fn service(
    dice: &mut Dice,
    stack: &str,
    full: &str,
    networks: &[String],
    blobs: &[BlobSpec],
) -> StackService {
    let image = match dice.below(6) {
        0 => "crashing",
        1 => "job",
        _ => "steady",
    };
    let ports = dice.chance(25).then(|| PublishedPort {
        protocol: Protocol::Tcp,
        published: u16::try_from(8_000 + dice.below(3)).unwrap_or(8_000),
        target: 80,
    });
    let condition = match dice.below(6) {
        0 => RestartCondition::None,
        1 => RestartCondition::OnFailure,
        _ => RestartCondition::Any,
    };
    let constraints = dice
        .chance(20)
        .then(|| "engine.labels.disk==ssd".parse().ok())
        .flatten();
    let mut template = TaskTemplate {
        container: ContainerSpec {
            image: format!("{image}:{}", dice.below(3)),
            ..ContainerSpec::default()
        },
        restart: RestartPolicy {
            condition,
            delay_ms: dice.chance(20).then(|| dice.below(1_500)),
            max_attempts: dice
                .chance(20)
                .then(|| u32::try_from(dice.below(4)).unwrap_or(0)),
            window_ms: None,
        },
        disconnect: if dice.chance(30) {
            disconnect(dice)
        } else {
            Disconnect::default()
        },
        ..TaskTemplate::default()
    };
    template.placement.constraints.extend(constraints);
    let on = networks
        .iter()
        .filter(|_| dice.chance(70))
        .map(|network| {
            (
                network.clone(),
                vec![full.rsplit('_').next().unwrap_or(full).into()],
            )
        })
        .collect();
    let files = blobs
        .iter()
        .filter(|_| dice.chance(60))
        .map(|blob| BlobFile {
            source: blob.key(),
            target: blob.kind.target(&blob.name),
            uid: 0,
            gid: 0,
            mode: FILE_MODE,
        })
        .collect();
    StackService {
        spec: ServiceSpec {
            name: full.into(),
            stack: Some(stack.into()),
            mode: ServiceMode::Replicated {
                replicas: u32::try_from(dice.below(5)).unwrap_or(1),
            },
            endpoint_mode: if dice.chance(25) {
                EndpointMode::DnsRr
            } else {
                EndpointMode::Vip
            },
            ports: ports.into_iter().collect(),
            template,
            ..ServiceSpec::default()
        },
        networks: on,
        blobs: files,
    }
}
