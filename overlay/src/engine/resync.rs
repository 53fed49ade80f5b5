//! Reads what is there into the picture: at start, from time to time, and when asked.

use super::{
    actor::Actor,
    attach::Phase,
    context::{NETWORK_PREFIX, TASK_PREFIX},
    jobs::remove_folder,
};
use crate::{
    Error, Result, TaskId,
    linux::{Rtnl, delete_link, mounted_ids, read_host_links, read_network, read_task},
    plan::{self, GATEWAY_BRIDGE, HostPicture, TaskPicture},
};
use std::collections::BTreeMap;

impl Actor {
    /// At start: the host's side. Published ports of an earlier daemon stay in a table that is
    /// otherwise made anew, since it may be an older version's.
    pub(super) async fn adopt_host(&mut self) -> Result<()> {
        self.picture.host = read_host_links(&self.context.rtnl).await?;
        let ports = self
            .table(|table| table.published())
            .await?
            .unwrap_or_default();
        self.table({
            let ports = ports.clone();
            move |table| table.reset(&ports)
        })
        .await?;
        self.picture.host.published = Some(ports);
        self.inherited.host = self.picture.host.clone();
        let mut wanted = plan::desired(&self.context.params, &self.view, []);
        plan::tolerate(&mut wanted, &self.inherited);
        // Always made, since the kernel parameters that go with it are not read.
        self.picture.host.gateway = None;
        // All of it is needed before the first task, so a failure is fatal.
        Error::all(self.perform(&wanted).await)
    }

    /// Reads everything. What can't be read keeps its last picture, and is a problem to be told.
    pub(super) async fn resync(&mut self) {
        self.schedule_resync();
        if let Err(e) = self.read_host().await {
            tracing::warn!(error = %e, "reading the host's links and rules");
        }
        self.read_networks().await;
        self.read_tasks().await;
        if self.ready
            && let Err(e) = self.find_leftovers()
        {
            tracing::warn!(error = %e, "looking for leftovers");
        }
    }

    async fn read_host(&mut self) -> Result<()> {
        let links = read_host_links(&self.context.rtnl).await?;
        let published = self.table(|table| table.published_if_intact()).await?;
        self.picture.host = HostPicture { published, ..links };
        Ok(())
    }

    async fn read_networks(&mut self) {
        for (vni, network) in self.networks.clone() {
            let path = self.context.network_path(vni);
            if let Err(e) = network.ns.ensure_mounted(&path) {
                tracing::warn!(error = %e, vni, "remounting a network's namespace");
            }
            match read_network(&network.rtnl).await {
                Ok(picture) => {
                    self.picture.networks.insert(vni, picture);
                }
                Err(e) => tracing::warn!(error = %e, vni, "reading a network's namespace"),
            }
        }
    }

    async fn read_tasks(&mut self) {
        let attached: BTreeMap<TaskId, _> = self
            .entries
            .iter()
            .filter(|(_, entry)| matches!(entry.phase, Phase::Attached))
            .filter_map(|(id, entry)| {
                let untouched = entry.nft.as_ref().is_some_and(|nft| nft.untouched());
                let wanted = self.wanted(&entry.local);
                Some((id.clone(), (entry.ns.clone()?, untouched, wanted)))
            })
            .collect();
        for (id, (ns, untouched, wanted)) in attached {
            let path = self.context.task_path(&id);
            let read = async {
                ns.ensure_mounted(&path)?;
                read_task(&Rtnl::open(&ns)?, &wanted).await
            };
            match read.await {
                Ok(picture) => {
                    let before = self.picture.tasks.remove(&id);
                    // Its rules aren't read back: if nobody changed them, they are what they were.
                    let vips = before.and_then(|b| b.vips).filter(|_| untouched);
                    self.picture
                        .tasks
                        .insert(id, TaskPicture { vips, ..picture });
                }
                Err(e) => tracing::warn!(error = %e, task = %id, "reading a task's namespace"),
            }
        }
    }

    /// Puts namespaces that nobody knows into the picture, so that the difference removes them.
    fn find_leftovers(&mut self) -> Result<()> {
        for id in mounted_ids(&self.context.netns_dir, TASK_PREFIX)? {
            if let Ok(id) = TaskId::new(id)
                && !self.entries.contains_key(&id)
            {
                tracing::info!(task = %id, "removing a leftover namespace");
                self.picture.tasks.insert(id, TaskPicture::default());
            }
        }
        for vni in mounted_ids(&self.context.netns_dir, NETWORK_PREFIX)? {
            if let Ok(vni) = vni.parse()
                && !self.networks.contains_key(&vni)
            {
                self.picture.networks.entry(vni).or_default();
            }
        }
        Ok(())
    }

    /// Removes every trace, and goes on past errors.
    pub(super) async fn purge(&mut self) -> Result<()> {
        let mut errors = Vec::new();
        while let Some(done) = self.jobs.join_next().await {
            self.on_done(done).await;
        }
        for pending in std::mem::take(&mut self.pending) {
            pending.refuse(|| Error::Stopped);
        }
        for (_, mut entry) in std::mem::take(&mut self.entries) {
            if let Some(server) = entry.server.take() {
                server.stop().await;
            }
        }
        self.ready = true;
        self.inherited = plan::Picture::default();
        self.resync().await;
        let mut nothing = self.picture.clone();
        nothing.tasks.clear();
        nothing.networks.clear();
        nothing.host.veths.clear();
        errors.extend(self.perform(&nothing).await);
        if let Err(e) = delete_link(&self.context.rtnl, GATEWAY_BRIDGE).await {
            errors.push(e);
        }
        if let Err(e) = self.table(|table| table.remove()).await {
            errors.push(e);
        }
        if let Err(e) = remove_folder(&self.context.netns_dir) {
            errors.push(e);
        }
        self.picture = plan::Picture::default();
        Error::all(errors)
    }
}
