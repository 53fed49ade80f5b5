//! A netlink socket to one namespace's nf_tables.

use super::batch::{Batch, Reply, replies};
use super::vips::transaction;
use crate::plan::VipChange;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, sendto,
    setsockopt, socket, sockopt,
};
use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
};

/// Sends transactions to the namespace it was opened in, from any thread.
///
/// Calls block only while the kernel works: its answer is queued before `send` returns.
#[derive(Debug)]
pub struct NftSocket {
    fd: OwnedFd,
    /// Number of the namespace's last transaction, if it was ours.
    generation: Option<u32>,
}

impl NftSocket {
    /// Opens a socket in the calling thread's namespace.
    ///
    /// # Errors
    /// If the kernel has no netfilter netlink.
    pub fn open() -> io::Result<Self> {
        let fd = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkNetFilter,
        )?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        // A transaction is one datagram, and a full table of many services is a large one.
        setsockopt(&fd, sockopt::SndBufForce, &(4 << 20))?;
        // The kernel answers at once; this only bounds what should not happen.
        setsockopt(
            &fd,
            sockopt::ReceiveTimeout,
            &nix::sys::time::TimeVal::new(5, 0),
        )?;
        Ok(Self {
            fd,
            generation: None,
        })
    }

    /// Performs a change of the VIPs, all or nothing.
    ///
    /// # Errors
    /// The kernel's refusal; nothing is changed then.
    pub fn change_vips(&mut self, change: &VipChange) -> io::Result<()> {
        if change.is_empty() {
            return Ok(());
        }
        self.generation = None;
        self.send(&transaction(change))?;
        // All answers are queued by now; an acknowledgement of one message may come beside another's
        // refusal, and then nothing was done.
        let mut all = self.receive(MsgFlags::empty())?;
        while let Ok(more) = self.receive(MsgFlags::MSG_DONTWAIT) {
            all.extend(more);
        }
        if let Some(errno) = all.iter().find_map(|reply| match reply {
            Reply::Refused(errno) => Some(*errno),
            _ => None,
        }) {
            return Err(io::Error::from_raw_os_error(errno));
        }
        self.generation = self.read_generation().ok();
        Ok(())
    }

    /// Whether nobody changed the namespace's rules since our last transaction.
    #[must_use]
    pub fn untouched(&self) -> bool {
        self.generation.is_some() && self.read_generation().ok() == self.generation
    }

    fn read_generation(&self) -> io::Result<u32> {
        self.send(&Batch::get_generation())?;
        loop {
            for reply in self.receive(MsgFlags::empty())? {
                match reply {
                    Reply::Generation(n) => return Ok(n),
                    Reply::Refused(errno) => return Err(io::Error::from_raw_os_error(errno)),
                    Reply::Ack | Reply::Other => {}
                }
            }
        }
    }

    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        sendto(
            self.fd.as_raw_fd(),
            bytes,
            &NetlinkAddr::new(0, 0),
            MsgFlags::empty(),
        )?;
        Ok(())
    }

    fn receive(&self, flags: MsgFlags) -> io::Result<Vec<Reply>> {
        let mut buffer = [0; 8192];
        let n = recv(self.fd.as_raw_fd(), &mut buffer, flags)?;
        Ok(replies(buffer.get(..n).unwrap_or_default()))
    }
}
