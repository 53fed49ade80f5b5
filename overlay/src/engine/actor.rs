//! The actor: owns the state, takes commands and results, reconciles after each.

use super::{
    Command, Reply,
    attach::{Entry, Pending, Phase},
    context::{Context, TASK_PREFIX},
    jobs::{self, Built, Networks},
    status::{NetworkStatus, Status, TaskStatus, port_label},
};
use crate::{
    Attached, Config, Error, Result, TaskId, View,
    dns::{
        server::Shared,
        upstream::Upstream,
        zone::{self, Zones},
    },
    linux::{HostTable, HostThread, Ns, Rtnl, mounted_ids, probe},
    plan::{self, GATEWAY_BRIDGE, GATEWAY_IF, Local, NodeParams, Picture},
};
use arc_swap::ArcSwap;
use ipnet::Ipv4Net;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::Ipv4Addr,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, sleep_until},
};

/// Jobs at once; more commands wait.
const JOBS_MAX: usize = 64;
/// Pause before what failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// What a job comes back with.
pub(super) enum Done {
    Attached(TaskId, Box<Result<Built>>),
    Detached(TaskId, Result<()>),
}

pub(super) struct Actor {
    pub context: Arc<Context>,
    pub entries: BTreeMap<TaskId, Entry>,
    pub networks: Networks,
    /// What is believed to be there.
    pub picture: Picture,
    /// What an earlier daemon left, until all tasks are known: an unknown one may yet be adopted.
    pub inherited: Picture,
    pub view: Arc<View>,
    /// The view that the zones were made of.
    zoned: Arc<View>,
    pub shared: Arc<Shared>,
    pub jobs: JoinSet<Done>,
    /// Replies that wait for the next reconciliation.
    pub pending: Vec<Pending>,
    /// Gateway addresses of tasks that may yet be adopted.
    pub unclaimed: BTreeSet<Ipv4Addr>,
    pub last_gateway: Ipv4Addr,
    pub ready: bool,
    pub problems: Vec<String>,
    queue: mpsc::Receiver<Command>,
    views: watch::Receiver<Arc<View>>,
    next_resync: Instant,
}

impl Actor {
    pub async fn start(
        config: Config,
        queue: mpsc::Receiver<Command>,
        views: watch::Receiver<Arc<View>>,
    ) -> Result<Self> {
        let host = Ns::current()?;
        let thread = Arc::new(HostThread::start(host.clone())?);
        let rtnl = Rtnl::open(&host)?;
        let underlay = probe(&config, &rtnl, &thread).await?;
        let pool = gateway_pool(&config, &rtnl).await?;
        let netns_dir = config.run_dir.join("netns");
        fs::create_dir_all(&netns_dir)
            .map_err(Error::io(format!("making {}", netns_dir.display())))?;
        let shared = Arc::new(Shared {
            zones: ArcSwap::from_pointee(Zones::new()),
            upstream: Upstream::new(config.resolv_conf.clone(), thread.clone()),
        });
        let context = Arc::new(Context {
            params: NodeParams {
                vtep: config.vtep,
                vxlan_port: config.vxlan_port,
                underlay_mtu: underlay.mtu,
                pool,
            },
            table: Arc::new(Mutex::new(HostTable::new(host.clone(), pool))),
            netns_dir,
            rtnl,
            thread,
            underlay,
            config,
        });
        let mut actor = Self {
            unclaimed: unclaimed(&context).await?,
            last_gateway: plan::gateway_of(pool),
            entries: BTreeMap::new(),
            networks: Networks::new(),
            picture: Picture::default(),
            inherited: Picture::default(),
            view: Arc::new(View::default()),
            zoned: Arc::new(View::default()),
            shared,
            jobs: JoinSet::new(),
            pending: Vec::new(),
            ready: false,
            problems: Vec::new(),
            queue,
            views,
            next_resync: Instant::now() + context.config.resync_every,
            context,
        };
        actor.adopt_host().await?;
        Ok(actor)
    }

    pub async fn run(mut self) {
        loop {
            let room = self.jobs.len() < JOBS_MAX;
            tokio::select! {
                Some(done) = self.jobs.join_next(), if !self.jobs.is_empty() => self.on_done(done).await,
                changed = self.views.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    self.take_view();
                }
                command = self.queue.recv(), if room => match command {
                    None | Some(Command::Shutdown) => break,
                    Some(Command::Purge(reply)) => {
                        let purged = self.purge().await;
                        let _ = reply.send(purged);
                        break;
                    }
                    Some(command) => self.on_command(command).await,
                },
                () = sleep_until(self.next_resync) => self.resync().await,
            }
            // Whatever else has happened meanwhile is settled by the same reconciliation.
            while let Some(done) = self.jobs.try_join_next() {
                self.on_done(done).await;
            }
            self.reconcile().await;
        }
        self.stop().await;
    }

    /// Leaves the packet path; ends all jobs and servers.
    async fn stop(mut self) {
        while let Some(done) = self.jobs.join_next().await {
            self.on_done(done).await;
        }
        for pending in self.pending.drain(..) {
            pending.refuse(|| Error::Stopped);
        }
        for (_, mut entry) in std::mem::take(&mut self.entries) {
            if let Some(server) = entry.server.take() {
                server.stop().await;
            }
        }
    }

    async fn on_command(&mut self, command: Command) {
        // A view handed over before a call counts for it.
        self.take_view();
        match command {
            Command::Attach {
                task,
                adopted,
                reply,
            } => self.attach(task, adopted, reply).await,
            Command::Detach(id, reply) => self.detach(id, reply).await,
            Command::Ready(reply) => {
                self.ready = true;
                self.unclaimed.clear();
                self.inherited = Picture::default();
                self.resync().await;
                self.pending.push(Pending::Done(reply));
            }
            Command::Resync(reply) => {
                self.resync().await;
                self.pending.push(Pending::Done(reply));
            }
            Command::Status(reply) => {
                // Nobody may be listening any more.
                let _ = reply.send(Ok(self.status()));
            }
            Command::Purge(_) | Command::Shutdown => {}
        }
    }

    /// Takes the latest view. Networks that local tasks are on don't vanish under them.
    fn take_view(&mut self) {
        let latest = self.views.borrow_and_update().clone();
        if Arc::ptr_eq(&latest, &self.view) {
            return;
        }
        let used = self.entries.values().flat_map(|e| &e.local.net.networks);
        let missing: Vec<_> = used
            .filter(|a| !latest.networks.contains_key(&a.network))
            .filter_map(|a| {
                Some((
                    a.network.clone(),
                    self.view.networks.get(&a.network)?.clone(),
                ))
            })
            .collect();
        if missing.is_empty() {
            self.view = latest;
        } else {
            let mut view = (*latest).clone();
            for (id, network) in missing {
                tracing::warn!(network = %id, "a network in use is missing in the view; it is kept");
                view.networks.insert(id, network);
            }
            self.view = Arc::new(view);
        }
    }

    /// Makes what is there what is wanted, then the names, then answers whoever waits.
    async fn reconcile(&mut self) {
        let mut desired = plan::desired(
            &self.context.params,
            &self.view,
            self.entries.values().map(|entry| &entry.local),
        );
        plan::tolerate(&mut desired, &self.inherited);
        let errors = self.perform(&desired).await;
        self.problems = errors.iter().map(ToString::to_string).collect();
        for problem in &self.problems {
            tracing::warn!(problem, "network not as wanted");
        }
        if !errors.is_empty() {
            self.next_resync = self.next_resync.min(Instant::now() + RETRY);
        }
        self.publish_names();
        let mut errors = errors;
        for pending in std::mem::take(&mut self.pending) {
            self.settle(pending, &mut errors);
        }
    }

    /// Swaps the zones, if the view they are of has changed.
    fn publish_names(&mut self) {
        if Arc::ptr_eq(&self.zoned, &self.view) {
            return;
        }
        let old = self.shared.zones.load_full();
        let zones = zone::zones(&self.view, Some((&self.zoned, &old)));
        self.shared.zones.store(Arc::new(zones));
        self.zoned = self.view.clone();
        for entry in self.entries.values() {
            if let Some(server) = &entry.server {
                server.set_asker(zone::Asker::new(&entry.local.net, &self.view));
            }
        }
    }

    fn settle(&mut self, pending: Pending, errors: &mut Vec<Error>) {
        match pending {
            Pending::Done(reply) => {
                let _ = reply.send(Error::all(std::mem::take(errors)));
            }
            Pending::Detached(replies, mut failed) => {
                for reply in replies {
                    let _ = reply.send(Error::all(std::mem::take(&mut failed)));
                }
            }
            Pending::Attached(id, replies) => self.settle_attached(&id, replies, errors),
        }
    }

    fn settle_attached(
        &mut self,
        id: &TaskId,
        replies: Vec<Reply<Attached>>,
        errors: &mut Vec<Error>,
    ) {
        let Some(entry) = self.entries.get(id) else {
            return;
        };
        let published = self.picture.host.published.as_ref();
        let open = entry.local.net.ports.iter().all(|port| {
            published.is_some_and(|p| p.contains_key(&(port.protocol, port.published)))
        });
        if open {
            for reply in replies {
                let _ = reply.send(entry.attached(&self.context));
            }
            return;
        }
        // All or nothing: without its ports it is taken apart again.
        let error = errors.pop().unwrap_or(Error::Stopped);
        self.take_apart(id, replies, error);
    }

    pub(super) fn schedule_resync(&mut self) {
        self.next_resync = Instant::now() + self.context.config.resync_every;
    }

    fn status(&self) -> Status {
        let context = &self.context;
        let published = self.picture.host.published.iter().flatten();
        Status {
            ready: self.ready,
            vtep: context.params.vtep,
            underlay: context.underlay.name.clone(),
            mtu: context.params.overlay_mtu(),
            gateway_pool: context.params.pool,
            published: published
                .map(|((protocol, port), to)| (port_label(*protocol, *port), to.to_string()))
                .collect(),
            networks: self
                .view
                .networks
                .iter()
                .filter_map(|(id, network)| {
                    let picture = self.picture.networks.get(&network.vni)?;
                    Some(NetworkStatus {
                        id: id.clone(),
                        name: network.name.clone(),
                        vni: network.vni,
                        local: picture.ports.len(),
                        remote: picture.fdb.len(),
                    })
                })
                .collect(),
            tasks: self
                .entries
                .values()
                .map(|Entry { local, phase, .. }| TaskStatus {
                    id: local.net.id.clone(),
                    attached: matches!(phase, Phase::Attached),
                    gateway_addr: local.gateway_addr,
                    addrs: local
                        .net
                        .networks
                        .iter()
                        .map(|a| (a.network.clone(), a.addr))
                        .collect(),
                })
                .collect(),
            problems: self.problems.clone(),
        }
    }

    pub(super) fn locals(&self) -> impl Iterator<Item = &Local> {
        self.entries.values().map(|entry| &entry.local)
    }
}

/// The subnet the bridge has already, or the first candidate that fits this host.
async fn gateway_pool(config: &Config, rtnl: &Rtnl) -> Result<Ipv4Net> {
    if let Some(addr) = crate::linux::address_of(rtnl, GATEWAY_BRIDGE).await? {
        return Ok(addr.trunc());
    }
    let routes = crate::linux::host_routes(rtnl).await?;
    plan::choose_pool(&config.gateway_pools, &routes)
}

/// Gateway addresses of the tasks' namespaces that an earlier daemon left.
async fn unclaimed(context: &Context) -> Result<BTreeSet<Ipv4Addr>> {
    let mut addrs = BTreeSet::new();
    for id in mounted_ids(&context.netns_dir, TASK_PREFIX)? {
        let path = context.netns_dir.join(format!("{TASK_PREFIX}{id}"));
        let opened = jobs::blocking(move || Ns::open(&path)).await;
        // What can't be opened holds no address; it is removed later.
        if let Ok(ns) = opened
            && let Ok(Some(addr)) = crate::linux::address_of(&Rtnl::open(&ns)?, GATEWAY_IF).await
        {
            addrs.insert(addr.addr());
        }
    }
    Ok(addrs)
}
