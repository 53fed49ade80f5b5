//! Thousands of agents in one process: each joins with a token and a key of its own, keeps a session of its own
//! with whoever leads, and sends heartbeats. They run nothing.

use std::{
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, anyhow, ensure};
use api::{
    model::{JoinToken, NodeDescription, ca_digest},
    proto::{
        AgentMessage, GetRootRequest, Heartbeat, Hello, IssueRequest,
        agent_message::Message as ToManager, ca_client::CaClient, dispatch_client::DispatchClient,
        manager_message::Message as FromManager,
    },
};
use futures_util::{StreamExt, TryStreamExt, stream};
use manager::{
    dialer::{Dialer, unidentified},
    identity::{KeyRequest, Material},
    tls::{self, Tls},
};
use tokio::{
    sync::{mpsc, watch},
    time::{MissedTickBehavior, interval_at, sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;

/// Joins under way at once.
const AT_ONCE: usize = 32;
/// How long one step may take.
const BOUND: Duration = Duration::from_secs(10);
/// Between two rounds through the managers, as agents do it.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// Where they say they are: addresses that nobody has.
const ADDRESSES: u32 = 0xc612_0000;

/// The service that gives certificates.
type Ca = CaClient<tonic::transport::Channel>;

struct Agent {
    hello: Hello,
    dialer: Dialer,
    managers: Vec<String>,
    /// Sessions that are open, of all agents.
    open: Arc<AtomicUsize>,
    changed: watch::Sender<()>,
}

/// Counts a session for as long as it is open.
struct Counted<'a>(&'a Agent);

impl<'a> Counted<'a> {
    fn new(agent: &'a Agent) -> Self {
        agent.open.fetch_add(1, Ordering::SeqCst);
        agent.changed.send_replace(());
        Self(agent)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
        self.0.changed.send_replace(());
    }
}

/// Runs `count` agents until it is cancelled; `told` gets the number of open sessions whenever it has changed.
///
/// # Errors
/// When one can't join.
pub async fn run(
    token: &JoinToken,
    managers: &[String],
    count: u32,
    told: impl Fn(usize),
) -> Result<()> {
    let first = managers.first().context("no manager is given")?;
    let (ca, root) = ca_of(first, token).await?;
    let open = Arc::new(AtomicUsize::new(0));
    let (changed, mut changes) = watch::channel(());
    let joins = (0..count).map(|number| {
        let (ca, root, open, changed) = (ca.clone(), root.clone(), open.clone(), changed.clone());
        async move {
            let (hostname, addr) = (format!("simulated{number}"), ADDRESSES + number);
            let (hello, material) = join(ca, token, root, hostname, addr.into()).await?;
            Ok::<_, anyhow::Error>(Agent {
                hello,
                dialer: Dialer::new(Tls::new(&material)?),
                managers: managers.to_vec(),
                open,
                changed,
            })
        }
    });
    let agents: Vec<Agent> = stream::iter(joins)
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    let mut running = tokio::task::JoinSet::new();
    for (number, agent) in (0u32..).zip(agents) {
        running.spawn(async move { agent.run(number).await });
    }
    loop {
        told(open.load(Ordering::SeqCst));
        tokio::select! {
            changed = changes.changed() => changed?,
            ended = running.join_next() => {
                return Err(anyhow!("an agent has ended: {ended:?}"));
            }
        }
    }
}

/// The way to the CA of the token's cluster, and its root.
pub(crate) async fn ca_of(manager: &str, token: &JoinToken) -> Result<(Ca, String)> {
    let stranger = unidentified(manager, Arc::new(tls::stranger_config()?));
    let root = CaClient::new(stranger)
        .get_root(GetRootRequest {})
        .await?
        .into_inner()
        .cert_pem;
    let der = tls::first_certificate(&root)?;
    ensure!(
        ca_digest(&der) == token.ca_digest,
        "the token is of another cluster"
    );
    let config = Arc::new(tls::joiner_config(&root)?);
    Ok((CaClient::new(unidentified(manager, config)), root))
}

/// Joins as a worker of that name and address.
pub(crate) async fn join(
    mut ca: Ca,
    token: &JoinToken,
    root: String,
    hostname: String,
    addr: Ipv4Addr,
) -> Result<(Hello, Material)> {
    let request = KeyRequest::generate()?;
    let issue = IssueRequest {
        secret: token.secret.clone(),
        csr_pem: request.csr_pem,
        hostname: hostname.clone(),
        addr: addr.into(),
        port: 2377,
    };
    let issued = timeout(BOUND, ca.issue(issue))
        .await
        .with_context(|| format!("{hostname} got no certificate within {} s", BOUND.as_secs()))??
        .into_inner();
    let description = NodeDescription {
        hostname,
        os: "linux".into(),
        arch: "x86_64".into(),
        nano_cpus: 1_000_000_000,
        memory_bytes: 1 << 30,
        ..NodeDescription::default()
    };
    let hello = Hello {
        description: Some((&description).into()),
        addr: addr.into(),
        port: 2377,
        cert_pem: issued.cert_pem.clone(),
        ..Hello::default()
    };
    let material = Material {
        ca_pem: root,
        cert_pem: issued.cert_pem,
        key_pem: request.key_pem,
    };
    Ok((hello, material))
}

impl Agent {
    async fn run(self, number: u32) {
        let mut pause = PAUSE_MIN;
        // Not all ask the same manager first.
        let mut next = usize::try_from(number).unwrap_or(0);
        let mut leader: Option<String> = None;
        let mut tries = 0;
        loop {
            let addr = leader.take().unwrap_or_else(|| {
                next += 1;
                tries += 1;
                self.managers
                    .get(next % self.managers.len().max(1))
                    .cloned()
                    .unwrap_or_default()
            });
            match self.session(&addr, number).await {
                // The session is over, or never was: it may say who leads.
                Ok(had_one) => {
                    if had_one {
                        (pause, tries) = (PAUSE_MIN, 0);
                    }
                }
                Err(status) => {
                    leader = status
                        .metadata()
                        .get("leader")
                        .and_then(|value| value.to_str().ok())
                        .map(str::to_owned);
                }
            }
            if leader.is_some() {
                sleep(Duration::from_millis(20)).await;
            } else if tries >= self.managers.len() {
                sleep(pause).await;
                (pause, tries) = ((pause * 2).min(PAUSE_MAX), 0);
            }
        }
    }

    /// A session, until it ends; whether there was one.
    async fn session(&self, addr: &str, number: u32) -> Result<bool, tonic::Status> {
        let (tx, rx) = mpsc::channel(4);
        let say = |message| AgentMessage {
            message: Some(message),
        };
        // There is room: it is new.
        let _ = tx.try_send(say(ToManager::Hello(self.hello.clone())));
        let mut client = DispatchClient::new(self.dialer.manager(addr));
        let opening = client.session(ReceiverStream::new(rx));
        let Ok(opened) = timeout(BOUND, opening).await else {
            return Ok(false);
        };
        let mut messages = opened?.into_inner();
        let mut session = None;
        let mut beats = None;
        // As real agents do, so that each is acknowledged.
        let mut sequence = 0;
        loop {
            tokio::select! {
                message = messages.message() => match message?.and_then(|m| m.message) {
                    Some(FromManager::Welcome(welcome)) => {
                        let every = Duration::from_millis(u64::from(welcome.heartbeat_ms.max(50)));
                        // Spread over the interval, as those of many machines are.
                        let first = every * (number % 1000) / 1000;
                        let mut ticks = interval_at(tokio::time::Instant::now() + first, every);
                        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
                        beats = Some(ticks);
                    }
                    // The first assignments: the manager has taken this agent in.
                    Some(FromManager::Assignments(_)) if session.is_none() => {
                        session = Some(Counted::new(self));
                    }
                    Some(_) => {}
                    None => return Ok(session.is_some()),
                },
                () = tick(beats.as_mut()) => {
                    sequence += 1;
                    if tx.send(say(ToManager::Heartbeat(Heartbeat { sequence, at: 0 }))).await.is_err() {
                        return Ok(session.is_some());
                    }
                }
            }
        }
    }
}

async fn tick(beats: Option<&mut tokio::time::Interval>) {
    match beats {
        Some(beats) => drop(beats.tick().await),
        None => std::future::pending().await,
    }
}
