//! A routing-netlink connection born in one namespace.

use super::Ns;
use crate::{Error, Result};
use rtnetlink::Handle;
use std::ops::Deref;
use tokio::{runtime, task::JoinHandle};

/// A connection and the task that serves it; the task ends with it. About 70 KiB of buffers, so the
/// host's and the networks' are kept and a task's is opened when it is needed.
#[derive(Debug)]
pub struct Rtnl {
    handle: Handle,
    task: JoinHandle<()>,
}

impl Rtnl {
    /// Opens one in `ns`. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// If the namespace can't be entered or the kernel refuses a socket.
    pub fn open(ns: &Ns) -> Result<Self> {
        let rt = runtime::Handle::current();
        ns.run(|| Self::open_here(&rt))
    }

    /// Opens one in the calling thread's namespace, served by `rt`.
    ///
    /// # Errors
    /// If the kernel refuses a socket.
    pub fn open_here(rt: &runtime::Handle) -> Result<Self> {
        let _in_runtime = rt.enter();
        let (connection, handle, _) =
            rtnetlink::new_connection().map_err(Error::io("opening a netlink socket"))?;
        Ok(Self {
            handle,
            task: rt.spawn(connection),
        })
    }
}

impl Deref for Rtnl {
    type Target = Handle;
    fn deref(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for Rtnl {
    fn drop(&mut self) {
        self.task.abort();
    }
}
