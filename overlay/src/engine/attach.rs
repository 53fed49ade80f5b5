//! Attaching, adopting and detaching: what the actor does before and after a task's job.

use super::{
    Reply,
    actor::{Actor, Done},
    context::Context,
    jobs::{self, Build, Built},
};
use crate::{
    Attached, Error, Protocol, Result, TaskId, TaskNet,
    dns::{server::Server, zone::Asker},
    linux::{self, NftSocket, Ns, Reservation, ResolverSockets, Rtnl},
    plan::{self, GATEWAY_IF, Local, PeerAt, TaskPicture},
};
use std::{net::Ipv4Addr, os::fd::OwnedFd, sync::Arc};
use tokio::task::JoinError;

pub(super) enum Phase {
    Attaching(Vec<Reply<Attached>>),
    Attached,
    Detaching(Vec<Reply<()>>),
}

/// A task of this node.
pub(super) struct Entry {
    pub local: Local,
    pub phase: Phase,
    pub ns: Option<Ns>,
    pub nft: Option<NftSocket>,
    pub server: Option<Server>,
    sockets: Option<ResolverSockets>,
    reservations: Vec<Reservation>,
}

impl Entry {
    /// What the agent gets.
    pub fn attached(&self, context: &Context) -> Result<Attached> {
        let sockets = self
            .sockets
            .as_ref()
            .ok_or_else(|| Error::UnknownTask(self.local.net.id.clone()))?;
        Ok(Attached {
            netns: context.task_path(&self.local.net.id),
            dns_fds: sockets.duplicate()?,
            gateway_addr: self.local.gateway_addr,
        })
    }
}

/// An answer that waits for the next reconciliation.
pub(super) enum Pending {
    Done(Reply<()>),
    Attached(TaskId, Vec<Reply<Attached>>),
    Detached(Vec<Reply<()>>, Vec<Error>),
}

impl Pending {
    pub fn refuse(self, error: impl Fn() -> Error) {
        match self {
            Self::Done(reply) => {
                let _ = reply.send(Err(error()));
            }
            Self::Attached(_, replies) => {
                for reply in replies {
                    let _ = reply.send(Err(error()));
                }
            }
            Self::Detached(replies, _) => {
                for reply in replies {
                    let _ = reply.send(Err(error()));
                }
            }
        }
    }
}

impl Actor {
    pub(super) async fn attach(
        &mut self,
        task: Arc<TaskNet>,
        adopted: Option<Vec<OwnedFd>>,
        reply: Reply<Attached>,
    ) {
        if let Some(entry) = self.entries.get_mut(&task.id) {
            if *entry.local.net != *task {
                let _ = reply.send(Err(Error::BadTask {
                    task: task.id.clone(),
                    reason: "is attached with other settings; detach it first".into(),
                }));
                return;
            }
            match &mut entry.phase {
                Phase::Attaching(replies) => replies.push(reply),
                Phase::Attached => {
                    self.pending
                        .push(Pending::Attached(task.id.clone(), vec![reply]));
                }
                Phase::Detaching(_) => {
                    let _ = reply.send(Err(Error::Busy(task.id.clone())));
                }
            }
            return;
        }
        match self.admit(&task, adopted.is_some()).await {
            Ok((gateway_addr, reservations)) => {
                let local = Local {
                    net: task,
                    gateway_addr,
                    attached: false,
                };
                let entry = Entry {
                    local,
                    phase: Phase::Attaching(vec![reply]),
                    ns: None,
                    nft: None,
                    server: None,
                    sockets: None,
                    reservations,
                };
                self.begin(entry, adopted).await;
            }
            Err(e) => {
                let _ = reply.send(Err(e));
            }
        }
    }

    /// Checks everything and takes what only one can have. Nothing is left if this fails.
    async fn admit(
        &mut self,
        task: &TaskNet,
        adopting: bool,
    ) -> Result<(Ipv4Addr, Vec<Reservation>)> {
        plan::validate_task(&self.view, task)?;
        for port in &task.ports {
            if let Some(other) = self.publisher(port.protocol, port.published) {
                return Err(Error::PortTaken {
                    task: task.id.clone(),
                    protocol: port.protocol,
                    port: port.published,
                    holder: format!("task {other}"),
                });
            }
        }
        let path = self.context.task_path(&task.id);
        let there = Ns::open(&path);
        if adopting && there.is_err() {
            return Err(Error::NamespaceGone {
                task: task.id.clone(),
                path,
            });
        }
        let pool = self.context.params.pool;
        let had = match &there {
            Ok(ns) => linux::address_of(&Rtnl::open(ns)?, GATEWAY_IF)
                .await?
                .map(|net| net.addr()),
            Err(_) => None,
        };
        let taken = |addr: Ipv4Addr| self.locals().any(|local| local.gateway_addr == addr);
        let gateway_addr = match had.filter(|addr| pool.contains(addr) && !taken(*addr)) {
            Some(addr) => addr,
            None => {
                let mut used = self.unclaimed.clone();
                used.extend(self.locals().map(|local| local.gateway_addr));
                plan::next_address(pool, &used, self.last_gateway)?
            }
        };
        let mut reservations = Vec::new();
        for port in &task.ports {
            match Reservation::take(&self.context.thread, &task.id, *port).await {
                Ok(reservation) => reservations.push(reservation),
                // Its connections go through our rules, whoever has the socket.
                Err(e) if adopting => tracing::warn!(error = %e, "an adopted task's port"),
                Err(e) => return Err(e),
            }
        }
        self.last_gateway = gateway_addr;
        self.unclaimed.remove(&gateway_addr);
        Ok((gateway_addr, reservations))
    }

    fn publisher(&self, protocol: Protocol, published: u16) -> Option<&TaskId> {
        self.locals()
            .map(|local| &local.net)
            .find(|net| {
                net.ports
                    .iter()
                    .any(|p| (p.protocol, p.published) == (protocol, published))
            })
            .map(|net| &net.id)
    }

    /// Makes the networks, then starts the job.
    async fn begin(&mut self, entry: Entry, adopted: Option<Vec<OwnedFd>>) {
        let task = entry.local.net.clone();
        let id = task.id.clone();
        let wanted = self.wanted(&entry.local);
        self.entries.insert(id.clone(), entry);
        self.prepare_networks(&id).await;
        let networks = wanted
            .links
            .values()
            .filter_map(|link| match link.at {
                PeerAt::Network(vni) => Some((vni, self.networks.get(&vni)?.clone())),
                PeerAt::Host => None,
            })
            .collect();
        let build = Build {
            id: id.clone(),
            wanted,
            networks,
            adopted,
        };
        let context = self.context.clone();
        self.jobs.spawn(async move {
            let built = jobs::build(&context, build).await;
            Done::Attached(id, Box::new(built))
        });
    }

    /// The picture of one task, as if it were attached.
    pub(super) fn wanted(&self, local: &Local) -> TaskPicture {
        let attached = Local {
            attached: true,
            ..local.clone()
        };
        plan::desired(&self.context.params, &self.view, [&attached])
            .tasks
            .remove(&local.net.id)
            .unwrap_or_default()
    }

    pub(super) async fn on_done(&mut self, done: Result<Done, JoinError>) {
        match done {
            Ok(Done::Attached(id, built)) => self.on_built(id, *built),
            Ok(Done::Detached(id, result)) => self.on_removed(&id, result),
            Err(e) => tracing::error!(error = %e, "a network job failed"),
        }
    }

    fn on_built(&mut self, id: TaskId, built: Result<Built>) {
        let Some(mut entry) = self.entries.remove(&id) else {
            return;
        };
        let Phase::Attaching(replies) = std::mem::replace(&mut entry.phase, Phase::Attached) else {
            return;
        };
        let asker = Asker::new(&entry.local.net, &self.view);
        let served = built.and_then(|built| {
            let server = Server::start(&built.sockets, asker, self.shared.clone())?;
            Ok((built, server))
        });
        match served {
            Ok((built, server)) => {
                entry.local.attached = true;
                // The job worked from the view of its time; the next reconciliation does the rest.
                let pictured = built.pictured;
                for link in pictured.links.values() {
                    match link.at {
                        PeerAt::Host => {
                            let addr = link.addr.map(|net| net.addr());
                            self.picture.host.veths.insert(link.peer.clone(), addr);
                        }
                        PeerAt::Network(vni) => {
                            let network = self.picture.networks.entry(vni).or_default();
                            network.ports.insert(link.peer.clone(), true);
                        }
                    }
                }
                self.picture.tasks.insert(id.clone(), pictured);
                entry.ns = Some(built.ns);
                entry.nft = Some(built.nft);
                entry.sockets = Some(built.sockets);
                entry.server = Some(server);
                self.entries.insert(id.clone(), entry);
                self.pending.push(Pending::Attached(id, replies));
            }
            Err(e) => refuse_all(replies, e),
        }
    }

    pub(super) async fn detach(&mut self, id: TaskId, reply: Reply<()>) {
        if let Some(entry) = self.entries.get_mut(&id) {
            match &mut entry.phase {
                Phase::Attaching(_) => {
                    let _ = reply.send(Err(Error::Busy(id)));
                    return;
                }
                Phase::Detaching(replies) => {
                    replies.push(reply);
                    return;
                }
                Phase::Attached => entry.phase = Phase::Detaching(vec![reply]),
            }
            self.start_removal(&id);
            return;
        }
        // Not ours now, but its namespace may be here: an earlier daemon's, asked to go before ready.
        let errors = self.drop_task(&id).await.err().into_iter().collect();
        self.pending.push(Pending::Detached(vec![reply], errors));
    }

    /// Undoes an attachment whose ports couldn't be opened.
    pub(super) fn take_apart(&mut self, id: &TaskId, replies: Vec<Reply<Attached>>, error: Error) {
        if let Some(entry) = self.entries.get_mut(id) {
            entry.phase = Phase::Detaching(Vec::new());
        }
        refuse_all(replies, error);
        self.start_removal(id);
    }

    /// Ports and names go with the next reconciliation; the job does the rest.
    fn start_removal(&mut self, id: &TaskId) {
        let pictured = self.picture.tasks.remove(id).unwrap_or_default();
        let Some(entry) = self.entries.get_mut(id) else {
            return;
        };
        entry.local.attached = false;
        let (server, ns) = (entry.server.take(), entry.ns.take());
        let (nft, sockets) = (entry.nft.take(), entry.sockets.take());
        entry.reservations.clear();
        let (context, networks) = (self.context.clone(), self.networks.clone());
        let id = id.clone();
        self.jobs.spawn(async move {
            if let Some(server) = server {
                server.stop().await;
            }
            drop((ns, nft, sockets));
            let path = context.task_path(&id);
            let removed = jobs::remove(&context, &path, &pictured, &networks).await;
            Done::Detached(id, removed)
        });
    }

    fn on_removed(&mut self, id: &TaskId, result: Result<()>) {
        let Some(entry) = self.entries.remove(id) else {
            return;
        };
        self.forget_links(id);
        if let Some(ports) = &mut self.inherited.host.published {
            ports.retain(|_, to| *to.ip() != entry.local.gateway_addr);
        }
        if let Phase::Detaching(replies) = entry.phase {
            let errors = result.err().into_iter().collect();
            self.pending.push(Pending::Detached(replies, errors));
        }
    }

    /// Takes a task's links out of the picture.
    pub(super) fn forget_links(&mut self, id: &TaskId) {
        let (veth, port) = (plan::host_veth(id), plan::network_port(id));
        for picture in [&mut self.picture, &mut self.inherited] {
            picture.host.veths.remove(&veth);
            for network in picture.networks.values_mut() {
                network.ports.remove(&port);
            }
        }
    }
}

/// Tells all who wait of one failure: the last gets the error itself, the others its words.
fn refuse_all(mut replies: Vec<Reply<Attached>>, error: Error) {
    let last = replies.pop();
    for reply in replies {
        let _ = reply.send(Err(error.restated()));
    }
    if let Some(reply) = last {
        let _ = reply.send(Err(error));
    }
}
