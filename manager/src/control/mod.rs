//! The API that clusterctl calls. Served by the leader; the proxy in front brings every call to it.
//!
//! Invariants: a read sees every write that was acknowledged before it, unless it is asked for as stale; a change is one transaction, made
//! from a state that was read after the call came in, and made anew when that state has moved on; what is
//! refused has changed nothing.

mod address;
mod backups;
mod blobs;
mod ca;
mod cluster;
mod deploy;
mod exec;
mod logs;
mod lookup;
mod merge;
mod networks;
mod nodes;
mod refusal;
mod roles;
mod services;
mod shortage;
mod stacks;
mod status;
mod tasks;
mod turns;
mod validate;

pub use deploy::plan;
pub(crate) use logs::reason;
pub use refusal::Refusal;
pub(crate) use refusal::propose_status;
pub use services::scaling;
pub use stacks::removal;
pub(crate) use turns::Turns;

use crate::aside::aside;
use crate::clock::now;
use crate::dialer::Dialer;
use crate::dispatch::Overview;
use crate::proxy::STALE_HEADER;
use crate::quorum::Quorum;
use api::model::{NodeId, Timestamp};
use api::proto::control_server;
use api::proto::*;
use api::state::{ErrorKind, Op, State, Transaction};
use futures_util::Stream;
use raft_store::{Handle, ProposeError};
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Code, Request, Response, Status, Streaming};

/// How often a change is made anew because the state has moved on.
const ATTEMPTS: usize = 16;

pub(crate) type Reply<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The service.
#[derive(Clone)]
pub(crate) struct Control {
    pub handle: Handle,
    pub dialer: Dialer,
    pub me: NodeId,
    /// The call is answered from what this manager has, whoever leads.
    pub stale: bool,
    /// What only the leader knows of nodes.
    pub overview: Arc<Overview>,
    /// This manager, `host:port`.
    pub addr: String,
    /// Which boot of which machine this one is.
    pub instance: bytes::Bytes,
    /// Changes that choose addresses take turns, and those that were refused once: built from the same state, they
    /// would want the same again and again.
    pub turn: Arc<Mutex<()>>,
    /// Changes of one stack follow each other: what one removes depends on what the other makes.
    pub stacks: Turns,
    /// One backup at a time: each takes a key's memory and a scratch store.
    pub backups: Arc<Mutex<()>>,
    /// Where that store is.
    pub scratch: std::path::PathBuf,
    /// Owns what goes on after a call was answered: logs.
    pub tasks: TaskTracker,
    pub stop: CancellationToken,
}

/// A change: what to propose, and what to answer with once it is made. No ops: nothing has to change.
pub(crate) struct Change<T> {
    pub ops: Vec<Op>,
    pub answer: T,
}

/// A look at a state of more tasks is had aside.
const FEW: usize = 2_000;

impl Control {
    /// As a call wants to be answered.
    fn as_asked<T>(&self, request: &Request<T>) -> Self {
        Self {
            stale: request.metadata().contains_key(STALE_HEADER),
            ..self.clone()
        }
    }

    /// Reads the state as it is after every write that was acknowledged before; or as it is here, where that is what
    /// was asked for.
    pub(crate) async fn read<T>(&self, look: impl FnOnce(&State) -> T) -> Result<T, Status> {
        if !self.stale {
            self.ask().await?;
        }
        // A copy: nothing waits for a look that takes its time.
        let state = self.handle.read(State::clone);
        Ok(match state.tasks().len() {
            ..=FEW => look(&state),
            _ => aside(|| look(&state)),
        })
    }

    /// [`Self::change`], for one stack.
    pub(crate) async fn change_stack<T>(
        &self,
        stack: &str,
        build: impl FnMut(&State, Timestamp) -> Result<Change<T>, Refusal>,
    ) -> Result<T, Status> {
        let _turn = self.stacks.take(stack).await;
        self.change(build).await
    }

    /// Reads the state, builds a change, proposes it, and does so again while the state moves on. Side by side with
    /// all others, since most don't touch each other and a write waits for disks and networks; but for those that
    /// take turns.
    ///
    /// A leader that is sure of its state builds from it without asking a majority first: the write asks. What is
    /// only told, a refusal or that nothing has to change, is looked at again after a majority has been asked.
    pub(crate) async fn change<T>(
        &self,
        mut build: impl FnMut(&State, Timestamp) -> Result<Change<T>, Refusal>,
    ) -> Result<T, Status> {
        let mut term = self.handle.own_term();
        if term.is_none() {
            self.ask().await?;
        }
        let mut turn = None;
        let mut refusals = 0;
        loop {
            let at = now();
            // A copy: what is applied meanwhile does not wait for what is built.
            let state = self.handle.read(State::clone);
            let built = build(&state, at);
            drop(state);
            let Change { ops, answer } = match built {
                Ok(change) if !change.ops.is_empty() => change,
                told if term.take().is_none() => return Ok(told?.answer),
                _ => {
                    self.ask().await?;
                    continue;
                }
            };
            if turn.is_none() && (refusals > 0 || ops.iter().any(chooses)) {
                turn = Some(self.turn.lock().await);
                continue;
            }
            let transaction = Transaction { at, ops };
            let written = match &term {
                Some(term) => self.handle.propose_in(term, &transaction).await,
                None => self.handle.propose(transaction).await,
            };
            match written {
                Ok(_) => return Ok(answer),
                // The state has moved on between reading and writing: what is wrong now, if anything,
                // is for the next reading to say.
                Err(ProposeError::Refused(refused))
                    if refusals + 1 < ATTEMPTS && refused.kind != ErrorKind::Invalid =>
                {
                    refusals += 1;
                }
                // The term is over, and nothing was written in it.
                Err(ProposeError::NotLeader { .. }) if term.take().is_some() => self.ask().await?,
                Err(error) => return Err(self.unsure(error).await),
            }
        }
    }

    /// What may have been written: whoever asked is told so, and when too many managers are gone, what to do.
    async fn unsure(&self, error: ProposeError) -> Status {
        let status = propose_status(error, true);
        if status.code() != Code::Unavailable {
            return status;
        }
        let quorum = Quorum::of(&self.handle, &self.dialer, self.me).await;
        if !quorum.is_lost() {
            return status;
        }
        let way_out = quorum.explain(self.handle.read(State::revision), vec![]);
        Status::unavailable(format!("{}; {way_out}", status.message()))
    }

    /// Asks a majority whether this manager leads, and waits until its state is as new as that.
    async fn ask(&self) -> Result<(), Status> {
        let asked = self.handle.linearizable().await;
        asked.map(drop).map_err(|e| propose_status(e, false))
    }
}

/// Whether an op was given what no two objects may have: subnet and VNI, or virtual addresses.
fn chooses(op: &Op) -> bool {
    match op {
        Op::CreateNetwork(_) => true,
        Op::CreateService(service) => !service.vips.is_empty(),
        Op::UpdateService { vips, .. } => !vips.is_empty(),
        _ => false,
    }
}

macro_rules! delegate {
    ($($method:ident($request:ty) -> $reply:ty = $to:path),+ $(,)?) => {
        #[tonic::async_trait]
        impl control_server::Control for Control {
            type LogsStream = Reply<LogRecord>;
            type ExecStream = Reply<ExecOutput>;
            type BackupStream = Reply<BackupOutput>;

            $(async fn $method(&self, request: Request<$request>) -> Result<Response<$reply>, Status> {
                let control = self.as_asked(&request);
                $to(&control, request.into_inner()).await.map(Response::new)
            })+

            async fn logs(&self, request: Request<LogsRequest>) -> Result<Response<Self::LogsStream>, Status> {
                let control = self.as_asked(&request);
                logs::logs(&control, request.into_inner()).await.map(Response::new)
            }

            async fn backup(
                &self,
                request: Request<BackupRequest>,
            ) -> Result<Response<Self::BackupStream>, Status> {
                crate::backup::backup(self, request.into_inner()).await.map(Response::new)
            }

            async fn exec(
                &self,
                request: Request<Streaming<ExecInput>>,
            ) -> Result<Response<Self::ExecStream>, Status> {
                exec::exec(self, request.into_inner()).await.map(Response::new)
            }
        }
    };
}

delegate! {
    get_status(GetStatusRequest) -> ClusterStatus = status::get,
    get_join_tokens(GetJoinTokensRequest) -> JoinTokens = status::join_tokens,
    update_cluster(UpdateClusterRequest) -> ClusterInfo = cluster::update,
    inspect_cluster(InspectClusterRequest) -> ClusterInfo = cluster::inspect,
    get_unlock_key(GetUnlockKeyRequest) -> GetUnlockKeyReply = cluster::unlock_key,
    list_nodes(ListNodesRequest) -> ListNodesReply = nodes::list,
    update_node(UpdateNodeRequest) -> Node = nodes::update,
    remove_node(RemoveNodeRequest) -> RemoveNodeReply = nodes::remove,
    set_node_address(SetNodeAddressRequest) -> SetNodeAddressReply = address::set,
    set_node_role(SetNodeRoleRequest) -> SetNodeRoleReply = roles::set,
    get_ca(GetCaRequest) -> CaStatus = ca::get,
    rotate_ca(RotateCaRequest) -> CaStatus = ca::rotate,
    list_networks(ListNetworksRequest) -> ListNetworksReply = networks::list,
    create_network(CreateNetworkRequest) -> Network = networks::create,
    remove_network(RemoveNetworkRequest) -> RemoveNetworkReply = networks::remove,
    list_stacks(ListStacksRequest) -> ListStacksReply = stacks::list,
    deploy_stack(DeployStackRequest) -> DeployStackReply = stacks::deploy,
    remove_stack(RemoveStackRequest) -> RemoveStackReply = stacks::remove,
    list_services(ListServicesRequest) -> ListServicesReply = services::list,
    scale_service(ScaleServiceRequest) -> Service = services::scale,
    remove_service(RemoveServiceRequest) -> RemoveServiceReply = services::remove,
    list_tasks(ListTasksRequest) -> ListTasksReply = tasks::list,
    note_backup(NoteBackupRequest) -> NoteBackupReply = backups::note,
    list_backups(ListBackupsRequest) -> Backups = backups::list,
    set_backup_schedule(SetBackupScheduleRequest) -> Backups = backups::set_schedule,
    list_blobs(ListBlobsRequest) -> ListBlobsReply = blobs::list,
    read_config(ReadConfigRequest) -> BlobData = blobs::read_config,
    create_blob(CreateBlobRequest) -> BlobRow = blobs::create,
    update_blob(UpdateBlobRequest) -> BlobRow = blobs::update,
    remove_blob(RemoveBlobRequest) -> RemoveBlobReply = blobs::remove,
}
