//! A scripted agent.

use super::{BOUND, Boss, Hand, description};
use api::model::TaskState;
use api::proto::agent_message::Message as FromAgent;
use api::proto::manager_message::Message as ToAgent;
use api::proto::*;
use bytes::Bytes;
use std::collections::BTreeMap;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

/// An agent: what it was told, added up.
pub struct Agent {
    pub tx: mpsc::Sender<AgentMessage>,
    pub rx: Streaming<ManagerMessage>,
    pub tasks: BTreeMap<Bytes, AssignedTask>,
    pub networks: BTreeMap<Bytes, NetworkView>,
    pub endpoints: BTreeMap<Bytes, Endpoint>,
    pub services: BTreeMap<Bytes, ServiceView>,
    /// Contents of secrets and configs.
    pub blobs: BTreeMap<Bytes, Bytes>,
    pub fulls: usize,
    pub committed: u64,
    pub sequence: u64,
    /// The last heartbeat that was acknowledged.
    pub heard: u64,
    pub paces: Vec<Pace>,
    pub notices: Vec<String>,
    pub standing: Option<Standing>,
}

impl Agent {
    pub async fn open(hand: &Hand, boss: &Boss) -> Result<(Self, Welcome), Status> {
        Self::open_on(hand, boss, b"first machine").await
    }

    /// As one boot of one machine.
    pub async fn open_on(
        hand: &Hand,
        boss: &Boss,
        instance: &'static [u8],
    ) -> Result<(Self, Welcome), Status> {
        let (tx, rx) = mpsc::channel(16);
        let hello = Hello {
            description: Some(NodeDescription::from(&description(&hand.hostname))),
            addr: std::net::Ipv4Addr::LOCALHOST.into(),
            port: hand.port.into(),
            instance: Bytes::from_static(instance),
            cert_pem: hand.material.lock().unwrap().cert_pem.clone(),
        };
        tx.send(AgentMessage {
            message: Some(FromAgent::Hello(hello)),
        })
        .await
        .unwrap();
        let rx = hand
            .dispatch(boss)
            .session(ReceiverStream::new(rx))
            .await?
            .into_inner();
        let mut agent = Self {
            tx,
            rx,
            tasks: BTreeMap::new(),
            networks: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            services: BTreeMap::new(),
            blobs: BTreeMap::new(),
            fulls: 0,
            committed: 0,
            sequence: 0,
            heard: 0,
            paces: Vec::new(),
            notices: Vec::new(),
            standing: None,
        };
        let welcome = match agent.rx.message().await? {
            Some(ManagerMessage {
                message: Some(ToAgent::Welcome(welcome)),
            }) => welcome,
            other => panic!("not a welcome: {other:?}"),
        };
        agent.next().await?;
        assert_eq!(agent.fulls, 1, "the first message is not full");
        Ok((agent, welcome))
    }

    /// Takes one message.
    pub async fn next(&mut self) -> Result<(), Status> {
        let message = timeout(BOUND, self.rx.message())
            .await
            .expect("nothing came")?;
        match message.and_then(|message| message.message) {
            Some(ToAgent::Assignments(told)) => self.take(told),
            Some(ToAgent::StatusesCommitted(sequence)) => self.committed = sequence,
            Some(ToAgent::HeartbeatHeard(sequence)) => self.heard = sequence,
            Some(ToAgent::Pace(pace)) => self.paces.push(pace),
            Some(ToAgent::Notice(text)) => self.notices.push(text),
            Some(ToAgent::Standing(standing)) => self.standing = Some(standing),
            Some(ToAgent::Welcome(_)) => panic!("welcomed twice"),
            None => return Err(Status::ok("the stream has ended")),
        }
        Ok(())
    }

    pub async fn until(&mut self, what: &str, there: impl Fn(&Self) -> bool) {
        while !there(self) {
            self.next()
                .await
                .unwrap_or_else(|status| panic!("{what}: {status}"));
        }
    }

    fn take(&mut self, told: Assignments) {
        if told.full {
            self.fulls += 1;
            self.tasks.clear();
            self.networks.clear();
            self.blobs.clear();
        }
        self.tasks.retain(|id, _| !told.tasks_removed.contains(id));
        for assigned in told.tasks {
            self.tasks
                .insert(assigned.task.as_ref().unwrap().id.clone(), assigned);
        }
        for network in told.networks_removed {
            self.networks.remove(&network);
            self.endpoints
                .retain(|_, endpoint| endpoint.network != network);
            self.services
                .retain(|_, service| service.network != network);
        }
        self.networks.extend(
            told.networks
                .into_iter()
                .map(|network| (network.id.clone(), network)),
        );
        for gone in told.endpoints_removed {
            self.endpoints.remove(&gone.task);
        }
        self.endpoints.extend(
            told.endpoints
                .into_iter()
                .map(|endpoint| (endpoint.task.clone(), endpoint)),
        );
        for gone in told.services_removed {
            self.services.remove(&gone.service);
        }
        self.blobs.retain(|id, _| !told.blobs_removed.contains(id));
        let contents = told.blobs.into_iter();
        self.blobs
            .extend(contents.map(|blob| (blob.id, blob.data.unwrap().value)));
        self.services.extend(
            told.services
                .into_iter()
                .map(|service| (service.service.clone(), service)),
        );
    }

    /// Reports of all tasks given, and waits until it is committed.
    pub async fn report(&mut self, tasks: &[Bytes], state: TaskState) {
        self.sequence += 1;
        let status = api::model::TaskStatus {
            state,
            at: manager::now(),
            ..Default::default()
        };
        let set = |id: &Bytes| SetTaskStatus {
            id: id.clone(),
            status: Some(TaskStatus::from(&status)),
        };
        let batch = StatusBatch {
            sequence: self.sequence,
            statuses: tasks.iter().map(set).collect(),
        };
        self.tx
            .send(AgentMessage {
                message: Some(FromAgent::Statuses(batch)),
            })
            .await
            .unwrap();
        let sequence = self.sequence;
        self.until("committed", |agent| agent.committed == sequence)
            .await;
    }

    pub async fn beat(&self, sequence: u64) {
        self.beat_at(sequence, 0).await;
    }

    /// At this time by its own clock, milliseconds since 1970.
    pub async fn beat_at(&self, sequence: u64, at: i64) {
        let beat = Heartbeat { sequence, at };
        let message = Some(FromAgent::Heartbeat(beat));
        self.tx.send(AgentMessage { message }).await.unwrap();
    }

    pub fn desired(&self, id: &Bytes) -> Option<i32> {
        self.tasks
            .get(id)
            .and_then(|assigned| assigned.task.as_ref())
            .map(|task| task.desired)
    }
}
