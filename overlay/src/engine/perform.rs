//! Performs the difference between what is wanted and what is there, and goes on past errors: what
//! failed is tried again at the next resync.

use super::{
    actor::Actor,
    context::{NetNs, sysctl},
    jobs::{self, blocking, perform_task_op},
};
use crate::{
    Error, Result, TaskId,
    linux::{
        HostTable, NftSocket, Ns, Rtnl, delete_link, join_bridge, make_bridge, make_gateway,
        make_vxlan, set_fdb, set_neigh,
    },
    plan::{
        self, BRIDGE, GATEWAY_BRIDGE, NetOp, Op, Picture, TaskOp, TaskPicture, VXLAN, VipChange,
    },
};
use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError},
};

type Changes = Vec<(TaskId, NftSocket, VipChange)>;

impl Actor {
    pub(super) async fn perform(&mut self, desired: &Picture) -> Vec<Error> {
        self.open_networks(desired).await;
        let mut errors = Vec::new();
        let mut vips = Vec::new();
        // Connections into tasks' namespaces, opened for those that need one.
        let mut rtnls = BTreeMap::new();
        for op in plan::diff(desired, &self.picture) {
            let done = match &op {
                Op::Task(id, TaskOp::Vips(change)) => {
                    let nft = self.entries.get_mut(id).and_then(|e| e.nft.take());
                    vips.extend(nft.map(|nft| (id.clone(), nft, change.clone())));
                    continue;
                }
                Op::Task(id, task_op) => self.task_op(id, task_op, &mut rtnls).await,
                other => self.op(other).await,
            };
            match done {
                Ok(()) => plan::apply(&op, &mut self.picture),
                Err(e) => errors.push(e),
            }
        }
        errors.extend(self.change_vips(vips).await);
        errors
    }

    /// Makes the networks of one task, which its attachment needs before its job.
    pub(super) async fn prepare_networks(&mut self, id: &TaskId) {
        let local = self.entries.get(id).map(|entry| &entry.local);
        let desired = plan::desired(&self.context.params, &self.view, local);
        self.open_networks(&desired).await;
        for op in plan::diff(&desired, &self.picture) {
            let wanted = match &op {
                Op::MakeNetwork(_) => true,
                Op::Network(_, op) => matches!(
                    op,
                    NetOp::MakeBridge
                        // One of another address of this machine, say.
                        | NetOp::DeleteVxlan
                        | NetOp::MakeVxlan(_)
                        | NetOp::SetFdb(..)
                        | NetOp::SetNeigh(..)
                ),
                _ => false,
            };
            if !wanted {
                continue;
            }
            match self.op(&op).await {
                Ok(()) => plan::apply(&op, &mut self.picture),
                // The job fails then, with its own error, and the next reconciliation tries again.
                Err(e) => tracing::warn!(error = %e, "preparing a network"),
            }
        }
    }

    /// Opens wanted networks that an earlier daemon made, and reads what they hold.
    async fn open_networks(&mut self, desired: &Picture) {
        for vni in desired.networks.keys() {
            if self.networks.contains_key(vni) {
                continue;
            }
            let path = self.context.network_path(*vni);
            if let Ok(network) = NetNs::open(&path)
                && let Ok(picture) = crate::linux::read_network(&network.rtnl).await
            {
                self.networks.insert(*vni, Arc::new(network));
                if !self.ready {
                    self.inherited.networks.insert(*vni, picture.clone());
                }
                self.picture.networks.insert(*vni, picture);
            }
        }
    }

    async fn op(&mut self, op: &Op) -> Result<()> {
        let context = self.context.clone();
        match op {
            Op::MakeGateway(addr) => {
                make_gateway(&context.rtnl, GATEWAY_BRIDGE, *addr).await?;
                context.thread.run(|| sysctl("ipv4/ip_forward", "1")).await
            }
            Op::RouteVeth(name, addr) => jobs::route_host_end(&context, name, *addr).await,
            Op::DeleteVeth(name) => delete_link(&context.rtnl, name).await,
            Op::ResetTable(ports) => {
                let ports = ports.clone();
                self.table(move |table| table.reset(&ports)).await
            }
            Op::Publish { add, del } => {
                let (add, del) = (add.clone(), del.clone());
                self.table(move |table| table.publish(&add, &del)).await
            }
            Op::MakeNetwork(vni) => {
                let path = context.network_path(*vni);
                let network = NetNs::create(&path)?;
                self.networks.insert(*vni, Arc::new(network));
                Ok(())
            }
            Op::Network(vni, op) => self.network_op(*vni, op).await,
            Op::DropNetwork(vni) => self.drop_network(*vni).await,
            Op::DropTask(id) => self.drop_task(id).await,
            // A job makes tasks, and `change_vips` and `task_op` change them.
            Op::MakeTask(_) | Op::Task(..) => Ok(()),
        }
    }

    async fn network_op(&self, vni: u32, op: &NetOp) -> Result<()> {
        let Some(network) = self.networks.get(&vni) else {
            return Err(gone(format!("the namespace of vni {vni}")));
        };
        let rtnl = &network.rtnl;
        match op {
            NetOp::MakeBridge => make_bridge(rtnl).await,
            NetOp::MakeVxlan(vxlan) => {
                make_vxlan(&self.context.rtnl, rtnl, &network.ns, vxlan).await
            }
            NetOp::DeleteVxlan => delete_link(rtnl, VXLAN).await,
            NetOp::JoinVxlan => join_bridge(rtnl, VXLAN, BRIDGE).await,
            NetOp::JoinPort(name) => join_bridge(rtnl, name, BRIDGE).await,
            NetOp::DeletePort(name) => delete_link(rtnl, name).await,
            NetOp::SetFdb(mac, node) => set_fdb(rtnl, *mac, *node, true).await,
            NetOp::DelFdb(mac, node) => set_fdb(rtnl, *mac, *node, false).await,
            NetOp::SetNeigh(addr, mac) => set_neigh(rtnl, *addr, Some(*mac)).await,
            NetOp::DelNeigh(addr) => set_neigh(rtnl, *addr, None).await,
        }
    }

    async fn task_op(
        &self,
        id: &TaskId,
        op: &TaskOp,
        rtnls: &mut BTreeMap<TaskId, Rtnl>,
    ) -> Result<()> {
        let Some(ns) = self.entries.get(id).and_then(|entry| entry.ns.as_ref()) else {
            return Err(gone(format!("the namespace of task {id}")));
        };
        if !rtnls.contains_key(id) {
            rtnls.insert(id.clone(), Rtnl::open(ns)?);
        }
        let Some(rtnl) = rtnls.get(id) else {
            return Err(gone(format!("the namespace of task {id}")));
        };
        perform_task_op(&self.context, &self.networks, rtnl, ns, op).await
    }

    /// One transaction per namespace, all in one go where they may block.
    async fn change_vips(&mut self, changes: Changes) -> Vec<Error> {
        if changes.is_empty() {
            return Vec::new();
        }
        let done = blocking(move || {
            let each = changes.into_iter().map(|(id, mut nft, change)| {
                let done = nft.change_vips(&change);
                (id, nft, change, done)
            });
            Ok(each.collect::<Vec<_>>())
        })
        .await;
        let done = match done {
            Ok(done) => done,
            Err(e) => return vec![e],
        };
        let mut errors = Vec::new();
        for (id, nft, change, done) in done {
            match done {
                Ok(()) => {
                    let op = Op::Task(id.clone(), TaskOp::Vips(change));
                    plan::apply(&op, &mut self.picture);
                }
                Err(e) => {
                    errors.push(Error::io(format!("setting virtual addresses of task {id}"))(e));
                }
            }
            if let Some(entry) = self.entries.get_mut(&id) {
                entry.nft = Some(nft);
            }
        }
        errors
    }

    /// Runs `f` on the host's table, where it may block.
    pub(super) async fn table<T: Send + 'static>(
        &self,
        f: impl FnOnce(&mut HostTable) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let table = self.context.table.clone();
        blocking(move || f(&mut table.lock().unwrap_or_else(PoisonError::into_inner))).await
    }

    async fn drop_network(&mut self, vni: u32) -> Result<()> {
        let path = self.context.network_path(vni);
        let mut errors = Vec::new();
        // Its VNI is free only when the VXLAN port is gone, and the kernel takes its time with
        // namespaces: so the port goes first.
        let open = self.networks.remove(&vni);
        let open = match open {
            Some(network) => Some(network),
            None => NetNs::open(&path).ok().map(Arc::new),
        };
        if let Some(network) = open
            && let Err(e) = delete_link(&network.rtnl, VXLAN).await
        {
            errors.push(e);
        }
        if let Err(e) = Ns::unmount(&path) {
            errors.push(e);
        }
        Error::all(errors)
    }

    /// Removes what is left of a task that is nobody's.
    pub(super) async fn drop_task(&mut self, id: &TaskId) -> Result<()> {
        let path = self.context.task_path(id);
        let mut errors = Vec::new();
        if let Err(e) = jobs::remove(
            &self.context,
            &path,
            &TaskPicture::default(),
            &self.networks,
        )
        .await
        {
            errors.push(e);
        }
        if let Err(e) = delete_link(&self.context.rtnl, &plan::host_veth(id)).await {
            errors.push(e);
        }
        for network in self.networks.values() {
            if let Err(e) = delete_link(&network.rtnl, &plan::network_port(id)).await {
                errors.push(e);
            }
        }
        self.forget_links(id);
        Error::all(errors)
    }
}

fn gone(what: String) -> Error {
    Error::Io {
        what: format!("finding {what}"),
        source: std::io::ErrorKind::NotFound.into(),
    }
}
