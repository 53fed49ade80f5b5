//! What can go wrong, said so that it can be put right.

use crate::{NetworkId, Protocol, TaskId};
use ipnet::Ipv4Net;
use std::{io, net::Ipv4Addr, path::PathBuf};

/// Errors of this crate. Each names the object, the cause and, where there is one, the cure.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An id that can't be a file name.
    #[error("{kind} id {id:?} is not 1 to 64 letters, digits, \"-\" or \"_\"")]
    BadId {
        /// What the id is of.
        kind: &'static str,
        /// The id, cut to a printable length.
        id: String,
    },
    /// Not root.
    #[error("networking needs root (or CAP_NET_ADMIN and CAP_SYS_ADMIN); start clusterd as root")]
    NotRoot,
    /// The kernel lacks something.
    #[error("this kernel has no {what}; {cure}")]
    Kernel {
        /// What is missing.
        what: &'static str,
        /// What to do.
        cure: &'static str,
    },
    /// The `nft` program can't be run.
    #[error("the nft program can't be run; install the nftables package")]
    NoNft(#[source] io::Error),
    /// The advertise address isn't ours.
    #[error("advertise address {vtep} is not an address of this machine, which has {has}")]
    NotOurAddress {
        /// The address asked for.
        vtep: Ipv4Addr,
        /// What the machine has, listed.
        has: String,
    },
    /// A setting that makes no sense.
    #[error("setting {name}: {reason}")]
    BadConfig {
        /// The field of [`Config`](crate::Config).
        name: &'static str,
        /// Why it is refused.
        reason: String,
    },
    /// All gateway pools overlap the host's routes.
    #[error(
        "all gateway pools ({pools}) overlap routes of this host ({routes}); give one that doesn't"
    )]
    NoGatewayPool {
        /// Candidates.
        pools: String,
        /// The routes in the way.
        routes: String,
    },
    /// The gateway pool is used up.
    #[error("no free address in gateway pool {pool}: {used} tasks on this node")]
    GatewayPoolFull {
        /// The pool.
        pool: Ipv4Net,
        /// Addresses given out.
        used: usize,
    },
    /// A task asks for what it can't have.
    #[error("task {task}: {reason}")]
    BadTask {
        /// The task.
        task: TaskId,
        /// Why.
        reason: String,
    },
    /// A network that isn't in the view.
    #[error("task {task}: network {network} is not known on this node yet")]
    UnknownNetwork {
        /// The task.
        task: TaskId,
        /// The network.
        network: NetworkId,
    },
    /// A network this node can't set up.
    #[error("network {network} (vni {vni}): {reason}")]
    BadNetwork {
        /// The network.
        network: NetworkId,
        /// Its VNI.
        vni: u32,
        /// Why.
        reason: String,
    },
    /// A published port that somebody has.
    #[error(
        "task {task}: port {port}/{protocol} of this node is taken by {holder}; stop that, or publish another port"
    )]
    PortTaken {
        /// The task.
        task: TaskId,
        /// Transport.
        protocol: Protocol,
        /// Port on the node.
        port: u16,
        /// Process or task, as far as known.
        holder: String,
    },
    /// A task that isn't attached here.
    #[error("task {0} has no network on this node")]
    UnknownTask(TaskId),
    /// Another call for the same task is under way.
    #[error("task {0} is being attached or detached already")]
    Busy(TaskId),
    /// The namespace of a task to adopt is gone.
    #[error("task {task}: its network namespace {} is gone; it can't be adopted", path.display())]
    NamespaceGone {
        /// The task.
        task: TaskId,
        /// Where it was.
        path: PathBuf,
    },
    /// Netlink refused.
    #[error("{what}: {source}")]
    Netlink {
        /// What was tried.
        what: String,
        /// Why not.
        #[source]
        source: rtnetlink::Error,
    },
    /// A system call or file failed.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The nft program refused.
    #[error("nft refused the rules of table ip clusterd: {0}")]
    Nft(String),
    /// Several things failed in a teardown that went on past each.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Many(Vec<Error>),
    /// The overlay has been shut down.
    #[error("the node's network service has stopped")]
    Stopped,
}

impl Error {
    /// Wraps an I/O error with what was tried.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    /// Wraps an errno with what was tried.
    pub(crate) fn errno(what: impl Into<String>) -> impl FnOnce(nix::Error) -> Self {
        let what = what.into();
        move |source| Self::Io {
            what,
            source: source.into(),
        }
    }

    /// Wraps a netlink error with what was tried.
    pub(crate) fn netlink(what: impl Into<String>) -> impl FnOnce(rtnetlink::Error) -> Self {
        let what = what.into();
        move |source| Self::Netlink { what, source }
    }

    /// The same error for one more who waits for it: in full where it can be copied, in words
    /// otherwise.
    pub(crate) fn restated(&self) -> Self {
        Self::Io {
            what: "attaching".into(),
            source: io::Error::other(self.to_string()),
        }
    }

    /// `Ok` if nothing failed, else all failures.
    pub(crate) fn all(mut errors: Vec<Self>) -> Result<(), Self> {
        match errors.len() {
            0 => Ok(()),
            1 => Err(errors.remove(0)),
            _ => Err(Self::Many(errors)),
        }
    }
}
