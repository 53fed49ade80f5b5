//! What managers tell this node beside its session: where they are, and at which of its addresses to be.

use crate::address;
use agent::Known;
use api::proto::machine_server;
use api::proto::{NoteManagersReply, NoteManagersRequest, SetAddressReply, SetAddressRequest};
use std::net::Ipv4Addr;
use std::sync::Arc;
use tokio::sync::mpsc;
use tonic::{Request, Response, Status};

/// Managers of one message.
const MANAGERS_MAX: usize = 64;

/// The service.
#[derive(Clone)]
pub struct Machine {
    /// The managers that this node's agent knows.
    pub known: Arc<Known>,
    /// Where this machine is known to be, `addr` and what it has to say on it.
    pub addr: Ipv4Addr,
    /// Where it is to be.
    pub moves: mpsc::Sender<Ipv4Addr>,
}

#[tonic::async_trait]
impl machine_server::Machine for Machine {
    async fn note_managers(
        &self,
        request: Request<NoteManagersRequest>,
    ) -> Result<Response<NoteManagersReply>, Status> {
        let managers = request.into_inner().managers;
        let is_fine = |addr: &String| crate::join::with_port(addr).is_ok_and(|read| read == *addr);
        if managers.is_empty() || managers.len() > MANAGERS_MAX || !managers.iter().all(is_fine) {
            return Err(Status::invalid_argument(format!(
                "1 to {MANAGERS_MAX} managers are named by HOST:PORT"
            )));
        }
        self.known.note(managers);
        Ok(Response::new(NoteManagersReply {}))
    }

    async fn set_address(
        &self,
        request: Request<SetAddressRequest>,
    ) -> Result<Response<SetAddressReply>, Status> {
        let wished = Ipv4Addr::from(request.into_inner().addr);
        let to = address::choose(Some(wished))
            .map_err(|error| Status::failed_precondition(format!("{error:#}")))?;
        // Answered first: the connection that this came by ends with the membership.
        self.moves
            .try_send(to.addr)
            .map_err(|_| Status::unavailable("this node is changing its address already"))?;
        Ok(Response::new(SetAddressReply {
            before: self.addr.into(),
        }))
    }
}
