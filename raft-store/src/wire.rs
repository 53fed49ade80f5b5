//! openraft's messages as protobuf and back. What doesn't make sense is an error, never a panic.

use crate::types::{
    Entry, LogId, Peer, Proposal, SnapshotMeta, StoredMembership, TypeConfig, Vote,
};
use api::convert;
use api::proto;
use openraft::entry::RaftEntry;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    VoteRequest, VoteResponse,
};
use openraft::{EntryPayload, Membership};
use std::collections::{BTreeMap, BTreeSet};

/// The version of what managers send each other, entries of the log among it. One that is told a newer version
/// by another refuses it.
pub const VERSION: u32 = 1;

type LeaderId = <Vote as openraft::vote::RaftVote>::LeaderId;

/// A message that can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}: {field} {problem}")]
pub struct WireError {
    message: &'static str,
    field: &'static str,
    problem: String,
}

fn absent(message: &'static str, field: &'static str) -> WireError {
    WireError {
        message,
        field,
        problem: "is missing".into(),
    }
}

/// A log id.
#[must_use]
pub fn log_id(id: &LogId) -> proto::LogId {
    let leader = proto::LeaderId {
        term: id.leader_id.term,
        node: id.leader_id.node_id,
    };
    proto::LogId {
        leader: Some(leader),
        index: id.index,
    }
}

/// Reads a log id.
///
/// # Errors
/// Without its leader.
pub fn read_log_id(id: &proto::LogId) -> Result<LogId, WireError> {
    let leader = id.leader.ok_or_else(|| absent("log id", "leader"))?;
    Ok(LogId {
        leader_id: LeaderId {
            term: leader.term,
            node_id: leader.node,
        },
        index: id.index,
    })
}

fn maybe_log_id(id: Option<&proto::LogId>) -> Result<Option<LogId>, WireError> {
    id.map(read_log_id).transpose()
}

/// A vote.
#[must_use]
pub fn vote(vote: &Vote) -> proto::RaftVote {
    let leader = proto::LeaderId {
        term: vote.leader_id.term,
        node: vote.leader_id.node_id,
    };
    proto::RaftVote {
        leader: Some(leader),
        committed: vote.committed,
    }
}

/// Reads a vote.
///
/// # Errors
/// When it, or its leader, is missing.
pub fn read_vote(vote: Option<&proto::RaftVote>) -> Result<Vote, WireError> {
    let vote = vote.ok_or_else(|| absent("vote", "vote"))?;
    let leader = vote.leader.ok_or_else(|| absent("vote", "leader"))?;
    Ok(Vote {
        leader_id: LeaderId {
            term: leader.term,
            node_id: leader.node,
        },
        committed: vote.committed,
    })
}

fn membership(membership: &Membership<u64, Peer>) -> proto::Membership {
    proto::Membership {
        configs: membership
            .get_joint_config()
            .iter()
            .map(|set| proto::VoterSet {
                ids: set.iter().copied().collect(),
            })
            .collect(),
        nodes: membership
            .nodes()
            .map(|(id, peer)| {
                let node_id = convert::id_bytes(peer.node_id.0);
                (
                    *id,
                    proto::RaftPeer {
                        node_id,
                        addr: peer.addr.clone(),
                    },
                )
            })
            .collect(),
    }
}

fn read_membership(message: &proto::Membership) -> Result<Membership<u64, Peer>, WireError> {
    let wrong = |field, problem: String| WireError {
        message: "membership",
        field,
        problem,
    };
    let configs: Vec<BTreeSet<u64>> = message
        .configs
        .iter()
        .map(|set| set.ids.iter().copied().collect())
        .collect();
    let nodes = message
        .nodes
        .iter()
        .map(|(id, peer)| {
            let node_id =
                convert::node_id(&peer.node_id).map_err(|e| wrong("node id", e.to_string()))?;
            Ok((
                *id,
                Peer {
                    node_id,
                    addr: peer.addr.clone(),
                },
            ))
        })
        .collect::<Result<BTreeMap<_, _>, WireError>>()?;
    if configs.is_empty() && nodes.is_empty() {
        return Ok(Membership::default());
    }
    Membership::new(configs, nodes).map_err(|e| wrong("configuration", e.to_string()))
}

/// An entry of the log.
#[must_use]
pub fn entry(entry: &Entry) -> proto::Entry {
    use proto::entry::Payload;
    let payload = match &entry.payload {
        EntryPayload::Blank => Payload::Blank(proto::Blank {}),
        EntryPayload::Normal(proposal) => Payload::Transaction(proposal.0.clone()),
        EntryPayload::Membership(m) => Payload::Membership(membership(m)),
    };
    proto::Entry {
        id: Some(log_id(&entry.log_id())),
        payload: Some(payload),
    }
}

/// Reads an entry of the log.
///
/// # Errors
/// When a part is missing or makes no sense.
pub fn read_entry(message: &proto::Entry) -> Result<Entry, WireError> {
    use proto::entry::Payload;
    let id = read_log_id(message.id.as_ref().ok_or_else(|| absent("entry", "id"))?)?;
    let payload = match message
        .payload
        .as_ref()
        .ok_or_else(|| absent("entry", "payload"))?
    {
        Payload::Blank(_) => EntryPayload::Blank,
        Payload::Transaction(bytes) => EntryPayload::Normal(Proposal(bytes.clone())),
        Payload::Membership(m) => EntryPayload::Membership(read_membership(m)?),
    };
    Ok(Entry::new(id, payload))
}

/// A request to append.
#[must_use]
pub fn append_request(request: &AppendEntriesRequest<TypeConfig>) -> proto::AppendEntriesRequest {
    proto::AppendEntriesRequest {
        vote: Some(vote(&request.vote)),
        prev: request.prev_log_id.as_ref().map(log_id),
        entries: request.entries.iter().map(entry).collect(),
        leader_commit: request.leader_commit.as_ref().map(log_id),
    }
}

/// Reads a request to append.
///
/// # Errors
/// When a part is missing or makes no sense.
pub fn read_append_request(
    message: &proto::AppendEntriesRequest,
) -> Result<AppendEntriesRequest<TypeConfig>, WireError> {
    Ok(AppendEntriesRequest {
        vote: read_vote(message.vote.as_ref())?,
        prev_log_id: maybe_log_id(message.prev.as_ref())?,
        entries: message
            .entries
            .iter()
            .map(read_entry)
            .collect::<Result<_, _>>()?,
        leader_commit: maybe_log_id(message.leader_commit.as_ref())?,
    })
}

/// The answer to a request to append.
#[must_use]
pub fn append_reply(reply: &AppendEntriesResponse<TypeConfig>) -> proto::AppendEntriesReply {
    use proto::append_entries_reply::Result as Wire;
    let result = match reply {
        AppendEntriesResponse::Success => Wire::Success(proto::Blank {}),
        AppendEntriesResponse::PartialSuccess(matching) => Wire::Partial(proto::PartialSuccess {
            matching: matching.as_ref().map(log_id),
        }),
        AppendEntriesResponse::Conflict => Wire::Conflict(proto::Blank {}),
        AppendEntriesResponse::HigherVote(higher) => Wire::HigherVote(vote(higher)),
    };
    proto::AppendEntriesReply {
        result: Some(result),
    }
}

/// Reads the answer to a request to append.
///
/// # Errors
/// When a part is missing.
pub fn read_append_reply(
    message: &proto::AppendEntriesReply,
) -> Result<AppendEntriesResponse<TypeConfig>, WireError> {
    use proto::append_entries_reply::Result as Wire;
    Ok(
        match message
            .result
            .as_ref()
            .ok_or_else(|| absent("append reply", "result"))?
        {
            Wire::Success(_) => AppendEntriesResponse::Success,
            Wire::Partial(partial) => {
                AppendEntriesResponse::PartialSuccess(maybe_log_id(partial.matching.as_ref())?)
            }
            Wire::Conflict(_) => AppendEntriesResponse::Conflict,
            Wire::HigherVote(higher) => AppendEntriesResponse::HigherVote(read_vote(Some(higher))?),
        },
    )
}

/// A request for a vote.
#[must_use]
pub fn vote_request(request: &VoteRequest<TypeConfig>) -> proto::VoteRequest {
    proto::VoteRequest {
        vote: Some(vote(&request.vote)),
        last_log: request.last_log_id.as_ref().map(log_id),
        leader_transfer: request.leadership_transfer,
    }
}

/// Reads a request for a vote.
///
/// # Errors
/// When a part is missing.
pub fn read_vote_request(
    message: &proto::VoteRequest,
) -> Result<VoteRequest<TypeConfig>, WireError> {
    let mut request = VoteRequest::new(
        read_vote(message.vote.as_ref())?,
        maybe_log_id(message.last_log.as_ref())?,
    );
    request.leadership_transfer = message.leader_transfer;
    Ok(request)
}

/// The answer to a request for a vote.
#[must_use]
pub fn vote_reply(reply: &VoteResponse<TypeConfig>) -> proto::VoteReply {
    proto::VoteReply {
        vote: Some(vote(&reply.vote)),
        granted: reply.vote_granted,
        last_log: reply.last_log_id.as_ref().map(log_id),
    }
}

/// Reads the answer to a request for a vote.
///
/// # Errors
/// When a part is missing.
pub fn read_vote_reply(message: &proto::VoteReply) -> Result<VoteResponse<TypeConfig>, WireError> {
    Ok(VoteResponse {
        vote: read_vote(message.vote.as_ref())?,
        vote_granted: message.granted,
        last_log_id: maybe_log_id(message.last_log.as_ref())?,
    })
}

/// What a snapshot reflects.
#[must_use]
pub fn snapshot_meta(meta: &SnapshotMeta) -> proto::SnapshotMeta {
    proto::SnapshotMeta {
        last_log: meta.last_log_id.as_ref().map(log_id),
        membership_log: meta.last_membership.log_id().as_ref().map(log_id),
        membership: Some(membership(meta.last_membership.membership())),
    }
}

/// Reads what a snapshot reflects.
///
/// # Errors
/// When a part is missing or makes no sense.
pub fn read_snapshot_meta(message: &proto::SnapshotMeta) -> Result<SnapshotMeta, WireError> {
    let members = message
        .membership
        .as_ref()
        .ok_or_else(|| absent("snapshot", "membership"))?;
    Ok(SnapshotMeta {
        last_log_id: maybe_log_id(message.last_log.as_ref())?,
        last_membership: StoredMembership::new(
            maybe_log_id(message.membership_log.as_ref())?,
            read_membership(members)?,
        ),
    })
}

/// The answer to a snapshot.
#[must_use]
pub fn snapshot_reply(reply: &SnapshotResponse<TypeConfig>) -> proto::SnapshotReply {
    proto::SnapshotReply {
        vote: Some(vote(&reply.vote)),
    }
}

/// Reads the answer to a snapshot.
///
/// # Errors
/// When a part is missing.
pub fn read_snapshot_reply(
    message: &proto::SnapshotReply,
) -> Result<SnapshotResponse<TypeConfig>, WireError> {
    Ok(SnapshotResponse::new(read_vote(message.vote.as_ref())?))
}

/// A request to take the lead.
#[must_use]
pub fn transfer_request(
    request: &TransferLeaderRequest<TypeConfig>,
) -> proto::TransferLeaderRequest {
    proto::TransferLeaderRequest {
        from: Some(vote(request.from_leader())),
        to: *request.to_node_id(),
        last_log: request.last_log_id().map(log_id),
    }
}

/// Reads a request to take the lead.
///
/// # Errors
/// When a part is missing.
pub fn read_transfer_request(
    message: &proto::TransferLeaderRequest,
) -> Result<TransferLeaderRequest<TypeConfig>, WireError> {
    let last_log = maybe_log_id(message.last_log.as_ref())?;
    Ok(TransferLeaderRequest::new(
        read_vote(message.from.as_ref())?,
        message.to,
        last_log,
    ))
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
