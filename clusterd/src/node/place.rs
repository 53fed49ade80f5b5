//! Where this machine is to be reached: found at start, followed while it runs, and changed by whoever says so.
//!
//! The membership ends and begins anew for it, as with a restart of clusterd: containers run on, names and forwarding
//! are taken over, and the managers hear of the new address by the next hello.

use super::{Node, Shown};
use crate::address::{self, Place};
use crate::follow::{Patience, Verdict};
use crate::identity::{Identity, Papers, Who};
use crate::listen;
use crate::member::Member;
use crate::waiting::Waiting;
use anyhow::{Context, Result, bail};
use api::model::NodeState;
use api::model::Role;
use api::proto::ListNodesRequest;
use api::proto::control_client::ControlClient;
use manager::auth::Origin;
use manager::proxy::control;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// How often this machine's addresses are looked at while it waits for one.
const WAIT: Duration = Duration::from_millis(250);
/// How long the managers may take to say which addresses nodes have.
const ASK_BOUND: Duration = Duration::from_secs(2);
/// And while it has one.
const LOOK: Duration = Duration::from_millis(500);

impl Node {
    /// Goes on with the membership that is on disk, if there is one, as soon as this machine has an address for it.
    ///
    /// # Errors
    /// What keeps it from starting.
    pub async fn start_member(&self) -> Result<()> {
        let who = Identity::who(&self.places.identity())?;
        self.settle_store(who.as_ref())?;
        if who.is_none() {
            tracing::info!(
                "this machine belongs to no cluster: `clusterctl init` or `clusterctl join` changes that"
            );
            return Ok(());
        }
        if let Some(who) = who.filter(|who| who.role == Role::Manager)
            && self.vault.is_locked()?
        {
            return self.wait_locked(who).await;
        }
        self.begin_placed().await
    }

    /// As soon as this machine has an address for it.
    pub(super) async fn begin_placed(&self) -> Result<()> {
        let mut patience = Patience::default();
        loop {
            let mut slot = self.member.write().await;
            // While it waited somebody may have said which address to take.
            let identity = match (
                slot.as_ref(),
                Identity::load(&self.places.identity(), &self.vault)?,
            ) {
                (None, Some(identity)) => identity,
                _ => return Ok(()),
            };
            if let Some(identity) = self.placed(identity, &mut patience)? {
                *slot = Some(self.begin(identity).await?);
                return Ok(());
            }
            drop(slot);
            tokio::time::sleep(WAIT).await;
        }
    }

    /// The identity with an address that this machine has, once it has one.
    fn placed(&self, identity: Identity, patience: &mut Patience) -> Result<Option<Identity>> {
        let verdict = self.look(&identity.who);
        if verdict == Verdict::Stays {
            self.is_homeless(None);
            return Ok(Some(self.note_interface(identity)));
        }
        if let Some(to) = patience.over(&verdict, Instant::now()) {
            let given = identity.who.addr_origin.given;
            let next = self.moved(&identity, Place::new(to, given))?;
            return Ok(Some(next));
        }
        let known = identity.who.addr;
        let why = match verdict {
            Verdict::Unclear(why) => why,
            _ => format!("waiting for this machine's address {known} to come up"),
        };
        self.control
            .refuse(&format!("this node has not started yet: {why}"));
        self.shown.send_if_modified(|shown| {
            let is_news = shown.is_none();
            shown.get_or_insert_with(|| Shown {
                papers: Arc::new(Papers::from_pointee(identity)),
                manager: watch::channel(None).1,
                is_locked: false,
            });
            is_news
        });
        self.is_homeless(Some(why));
        Ok(None)
    }

    /// Which interface has the address, where that was not noted; what can't be written is noted another time.
    fn note_interface(&self, identity: Identity) -> Identity {
        let who = &identity.who;
        let Ok(at) = address::choose(Some(who.addr)) else {
            return identity;
        };
        let place = Place::new(at, who.addr_origin.given);
        if place.origin == who.addr_origin {
            return identity;
        }
        let next = identity.moved(place);
        match next.replace(&self.places.identity(), &self.vault) {
            Ok(()) => next,
            Err(error) => {
                tracing::warn!("can't note this machine's interface: {error:#}");
                identity
            }
        }
    }

    pub(super) fn look(&self, who: &Who) -> Verdict {
        match address::follow(who.addr, &who.addr_origin, self.cli.advertise_addr) {
            Ok(verdict) => verdict,
            // Whoever needs the address says what is wrong.
            Err(error) => {
                tracing::debug!("this machine's addresses can't be told: {error:#}");
                Verdict::Stays
            }
        }
    }

    /// Says, once, what keeps this machine from having its address.
    fn is_homeless(&self, why: Option<String>) {
        self.homeless.send_if_modified(|before| {
            let is_news = *before != why;
            if let Some(why) = why.as_ref().filter(|_| is_news) {
                tracing::warn!("{why}");
            }
            *before = why;
            is_news
        });
    }

    /// Writes down that this node is at another address.
    fn moved(&self, identity: &Identity, place: Place) -> Result<Identity> {
        let next = identity.moved(place);
        next.replace(&self.places.identity(), &self.vault)?;
        let (before, now) = (identity.who.endpoint(), next.who.endpoint());
        tracing::warn!(%before, %now, "this node has another address");
        if let Err(error) = self.move_in_list(&before, &now) {
            // It is tried in vain, and then the others are.
            tracing::warn!("the list of managers has the old address still: {error:#}");
        }
        self.is_homeless(None);
        Ok(next)
    }

    /// A manager is in the list of managers that its own agent keeps.
    fn move_in_list(&self, before: &str, now: &str) -> Result<()> {
        let disk = agent::Disk::open(self.places.state.join("agent"))?;
        let mut managers = disk.managers();
        let Some(own) = managers.iter_mut().find(|addr| *addr == before) else {
            return Ok(());
        };
        now.clone_into(own);
        Ok(disk.save_managers(&managers)?)
    }

    /// The membership begins.
    pub(super) async fn begin(&self, identity: Identity) -> Result<Member> {
        self.begin_with(identity, None).await
    }

    /// The membership begins, with the agent that runs already if there is one.
    pub(super) async fn begin_with(
        &self,
        identity: Identity,
        waiting: Option<Waiting>,
    ) -> Result<Member> {
        let listener = match listen::bind_tcp(self.cli.listen_addr).await {
            Ok(listener) => listener,
            Err(error) => {
                if let Some(waiting) = waiting {
                    waiting.shutdown().await;
                }
                return Err(error);
            }
        };
        let member = Member::start(self.setup(), identity, listener, None, waiting).await?;
        self.show(&member);
        Ok(member)
    }

    /// The address that was asked for, or the one that this machine has.
    pub(super) fn wished_address(&self, text: &str) -> Result<Place> {
        let wished =
            match text {
                "" => self.cli.advertise_addr,
                text => Some(text.parse().with_context(|| {
                    format!("the advertise address {text:?} is no IPv4 address")
                })?),
            };
        Ok(Place::new(address::choose(wished)?, wished.is_some()))
    }

    /// Has others reach this machine at another of its addresses.
    ///
    /// # Errors
    /// When it doesn't have that, belongs to no cluster, or does not come up again.
    pub async fn readdress(&self, addr: Ipv4Addr, given: bool) -> Result<()> {
        let place = Place::new(address::choose(Some(addr))?, given);
        let mut slot = self.member.write().await;
        self.refuse_locked()?;
        let load = || {
            Identity::load(&self.places.identity(), &self.vault)?
                .context("this machine belongs to no cluster, so nobody knows it by an address")
        };
        let who = load()?.who;
        if who.addr == addr && who.addr_origin == place.origin && slot.is_some() {
            return Ok(());
        }
        if let Some(member) = slot.take() {
            member
                .shutdown("this node takes another address; repeat the call")
                .await;
        }
        // The keeper may have written a new certificate up to now.
        let begun = async {
            let next = self.moved(&load()?, place)?;
            self.begin(next).await
        };
        match begun.await {
            Ok(member) => {
                *slot = Some(member);
                Ok(())
            }
            Err(error) => {
                self.failure.send_replace(Some(format!(
                    "this node does not come up at {addr}: {error:#}; containers run on"
                )));
                bail!("this node does not come up at {addr}: {error:#}")
            }
        }
    }

    /// Has others reach this machine at another of its addresses, or looks for a manager where somebody says that one
    /// is. Where this machine is.
    ///
    /// # Errors
    /// What is wrong with the address; nothing has changed then.
    pub async fn update_self(&self, addr: &str, manager: &str) -> Result<Ipv4Addr> {
        if !addr.is_empty() {
            let to = addr.trim().parse().with_context(|| {
                format!("{addr:?} is no IPv4 address; give one that this machine has")
            })?;
            self.refuse_taken(to).await?;
            self.readdress(to, true).await?;
        }
        let manager = match manager {
            "" => None,
            manager => Some(crate::join::with_port(manager)?),
        };
        let slot = self.member.read().await;
        let Some(member) = slot.as_ref() else {
            match self.homeless.borrow().as_deref() {
                Some(why) => bail!("this node has not started yet: {why}"),
                None => bail!("this machine belongs to no cluster"),
            }
        };
        if let Some(manager) = &manager {
            member.hint(manager);
        }
        Ok(member.papers().load().who.addr)
    }

    /// Refuses another node's address, if the managers can be asked for it.
    async fn refuse_taken(&self, to: Ipv4Addr) -> Result<()> {
        let Some(who) = self.who().await else {
            return Ok(());
        };
        let mut call = tonic::Request::new(ListNodesRequest::default());
        call.extensions_mut()
            .insert(Origin::operator(Some(who.node)));
        let mut client = ControlClient::new(control(self.control.upstream()));
        let Ok(Ok(listed)) = timeout(ASK_BOUND, client.list_nodes(call)).await else {
            return Ok(());
        };
        for row in listed.into_inner().nodes {
            let Some(Ok(other)) = row.node.map(api::model::Node::try_from) else {
                continue;
            };
            let is_there = other.id != who.node && other.status.state == NodeState::Ready;
            if is_there && other.addr == to {
                let name = other.description.hostname;
                bail!("node {name} is at {to}: two nodes can't have one address");
            }
        }
        Ok(())
    }

    /// Who this machine is while its membership runs.
    async fn who(&self) -> Option<Who> {
        let slot = self.member.read().await;
        slot.as_ref()
            .map(|member| member.papers().load().who.clone())
    }

    /// Follows this machine's address until it is stopped.
    pub async fn follow_address(&self, stop: &CancellationToken) {
        let mut patience = Patience::default();
        let mut moves = self.moves.1.lock().await;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK) => {}
                Some(to) = moves.recv() => {
                    tracing::info!(%to, "the managers want this node to be there");
                    if let Err(error) = self.readdress(to, true).await {
                        tracing::error!("{error:#}");
                    }
                    continue;
                }
            }
            // While a membership comes or goes, whoever has it in hand looks for its address.
            let who = match self.member.try_read() {
                Ok(slot) => slot
                    .as_ref()
                    .map(|member| member.papers().load().who.clone()),
                Err(_) => None,
            };
            let Some(who) = who else { continue };
            let verdict = self.look(&who);
            match &verdict {
                Verdict::Stays => self.is_homeless(None),
                Verdict::Unclear(why) => self.is_homeless(Some(why.clone())),
                Verdict::Moved(..) => {}
            }
            if let Some(to) = patience.over(&verdict, Instant::now())
                && let Err(error) = self.readdress(to.addr, who.addr_origin.given).await
            {
                tracing::error!("{error:#}");
            }
        }
    }
}
