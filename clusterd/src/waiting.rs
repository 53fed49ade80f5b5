//! The part of a membership that needs no key: the agent, which keeps what runs on this node.

use crate::identity::{Identity, Papers};
use crate::member::{Setup, describe};
use agent::{Agent, Left};
use anyhow::{Context, Result};
use api::model::{NodeId, Role};
use api::proto::Hello;
use bytes::Bytes;
use manager::dialer::Dialer;
use std::sync::{Arc, OnceLock};

/// An agent that reaches nobody yet.
pub struct Waiting {
    papers: Arc<Papers>,
    agent: Agent,
    /// How it reaches others, once it does.
    dialer: Arc<OnceLock<Dialer>>,
}

impl Waiting {
    /// Starts it.
    ///
    /// # Errors
    /// What keeps it from starting.
    pub async fn start(setup: &Setup<'_>, identity: Identity, instance: Bytes) -> Result<Self> {
        let papers = Arc::new(Papers::from_pointee(identity));
        let dialer = Arc::default();
        let agent = start_agent(setup, &papers, &dialer, instance).await?;
        Ok(Self {
            papers,
            agent,
            dialer,
        })
    }

    /// Gives it what this node proves itself with: from now on it reaches others.
    pub fn go_on(self, identity: Identity, dialer: Dialer) -> (Arc<Papers>, Agent) {
        self.papers.store(Arc::new(identity));
        // It had none before.
        let _ = self.dialer.set(dialer);
        (self.papers, self.agent)
    }

    /// This node.
    pub fn node(&self) -> NodeId {
        self.papers.load().who.node
    }

    /// Stops it; containers and networks stay.
    pub async fn shutdown(self) {
        self.agent.shutdown().await;
    }

    /// Stops it, and removes every container and network of it.
    pub async fn leave(self) -> Left {
        self.agent.leave().await
    }
}

async fn start_agent(
    setup: &Setup<'_>,
    papers: &Arc<Papers>,
    dialer: &Arc<OnceLock<Dialer>>,
    instance: Bytes,
) -> Result<Agent> {
    let mut who = papers.load().who.clone();
    let own = who.endpoint();
    if who.role == Role::Manager && !who.managers.contains(&own) {
        // The others may be elsewhere by now, or it is the only one.
        who.managers.push(own);
    }
    let overlay =
        overlay::Overlay::start(overlay::Config::new(setup.places.run.clone(), who.addr)).await?;
    let connect = {
        let dialer = dialer.clone();
        Arc::new(move |addr: String| {
            let channel = dialer.get().map(|dialer| dialer.manager(&addr));
            let done: futures_util::future::BoxFuture<
                'static,
                anyhow::Result<tonic::transport::Channel>,
            > = Box::pin(async move { channel.context(crate::control::LOCKED) });
            done
        })
    };
    let hostname = setup.hostname.to_owned();
    let papers = papers.clone();
    let hello = Arc::new(move || {
        let identity = papers.load();
        Hello {
            instance: instance.clone(),
            description: Some((&describe(&hostname)).into()),
            addr: u32::from(identity.who.addr),
            port: u32::from(identity.who.port),
            cert_pem: identity.cert_pem.clone(),
        }
    });
    let config = agent::Config {
        state_dir: setup.places.state.clone(),
        runtime: setup.runtime.clone(),
        images: setup.images.clone(),
        overlay,
        hostname: setup.hostname.to_owned(),
        connect,
        hello,
        managers: who.managers,
    };
    Ok(Agent::start(config).await?)
}
