//! Every message there and back through its bytes; what is missing or makes no sense is an error.

use super::*;
use api::model::NodeId;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use prost::Message;

fn any_log_id() -> impl Strategy<Value = LogId> {
    (any::<u64>(), any::<u64>(), any::<u64>()).prop_map(|(term, node_id, index)| LogId {
        leader_id: LeaderId { term, node_id },
        index,
    })
}

fn any_vote() -> impl Strategy<Value = Vote> {
    (any::<u64>(), any::<u64>(), any::<bool>()).prop_map(|(term, node_id, committed)| Vote {
        leader_id: LeaderId { term, node_id },
        committed,
    })
}

fn any_membership() -> impl Strategy<Value = Membership<u64, Peer>> {
    let peer = (any::<u128>(), ".{0,20}").prop_map(|(id, addr)| Peer {
        node_id: NodeId(id),
        addr,
    });
    let nodes = btree_map(any::<u64>(), peer, 1..6);
    (nodes, vec(vec(any::<prop::sample::Index>(), 1..4), 1..3)).prop_map(|(nodes, configs)| {
        let ids: Vec<u64> = nodes.keys().copied().collect();
        let configs = configs
            .iter()
            .map(|set| set.iter().map(|at| *at.get(&ids)).collect())
            .collect();
        Membership::new(configs, nodes).unwrap()
    })
}

fn any_entry() -> impl Strategy<Value = Entry> {
    let payload = prop_oneof![
        Just(EntryPayload::Blank),
        vec(any::<u8>(), 0..200).prop_map(|bytes| EntryPayload::Normal(Proposal(bytes.into()))),
        any_membership().prop_map(EntryPayload::Membership),
    ];
    (any_log_id(), payload).prop_map(|(id, payload)| Entry::new(id, payload))
}

fn any_append() -> impl Strategy<Value = AppendEntriesRequest<TypeConfig>> {
    let parts = (
        any_vote(),
        option::of(any_log_id()),
        vec(any_entry(), 0..5),
        option::of(any_log_id()),
    );
    parts.prop_map(
        |(vote, prev_log_id, entries, leader_commit)| AppendEntriesRequest {
            vote,
            prev_log_id,
            entries,
            leader_commit,
        },
    )
}

fn any_append_reply() -> impl Strategy<Value = AppendEntriesResponse<TypeConfig>> {
    prop_oneof![
        Just(AppendEntriesResponse::Success),
        option::of(any_log_id()).prop_map(AppendEntriesResponse::PartialSuccess),
        Just(AppendEntriesResponse::Conflict),
        any_vote().prop_map(AppendEntriesResponse::HigherVote),
    ]
}

fn any_meta() -> impl Strategy<Value = SnapshotMeta> {
    let parts = (
        option::of(any_log_id()),
        option::of(any_log_id()),
        any_membership(),
    );
    parts.prop_map(|(last_log_id, at, membership)| SnapshotMeta {
        last_log_id,
        last_membership: StoredMembership::new(at, membership),
    })
}

fn sent<M: Message + Default>(message: &M) -> M {
    M::decode(&message.encode_to_vec()[..]).unwrap()
}

proptest! {
    #[test]
    fn entries_survive(before in any_entry()) {
        prop_assert_eq!(read_entry(&sent(&entry(&before))).unwrap(), before);
    }

    #[test]
    fn appends_survive(before in any_append(), reply in any_append_reply()) {
        let after = read_append_request(&sent(&append_request(&before))).unwrap();
        prop_assert_eq!(after.vote, before.vote);
        prop_assert_eq!(after.prev_log_id, before.prev_log_id);
        prop_assert_eq!(after.entries, before.entries);
        prop_assert_eq!(after.leader_commit, before.leader_commit);
        let after = read_append_reply(&sent(&append_reply(&reply))).unwrap();
        prop_assert_eq!(format!("{after:?}"), format!("{reply:?}"));
    }

    #[test]
    fn votes_survive(vote in any_vote(), last in option::of(any_log_id()), yes in any::<bool>()) {
        let mut before = VoteRequest::new(vote, last);
        before.leadership_transfer = yes;
        let after = read_vote_request(&sent(&vote_request(&before))).unwrap();
        prop_assert_eq!(format!("{after:?}"), format!("{before:?}"));
        let before = VoteResponse { vote, vote_granted: yes, last_log_id: last };
        let after = read_vote_reply(&sent(&vote_reply(&before))).unwrap();
        prop_assert_eq!(format!("{after:?}"), format!("{before:?}"));
    }

    #[test]
    fn snapshots_and_transfers_survive(
        meta in any_meta(), vote in any_vote(), to in any::<u64>(), last in option::of(any_log_id()),
    ) {
        prop_assert_eq!(read_snapshot_meta(&sent(&snapshot_meta(&meta))).unwrap(), meta);
        let reply = read_snapshot_reply(&sent(&snapshot_reply(&SnapshotResponse::new(vote)))).unwrap();
        prop_assert_eq!(reply.vote, vote);
        let before = TransferLeaderRequest::<TypeConfig>::new(vote, to, last);
        let after = read_transfer_request(&sent(&transfer_request(&before))).unwrap();
        prop_assert_eq!(format!("{after:?}"), format!("{before:?}"));
    }

    /// Whatever is changed on the way: an error or another message, never a panic.
    #[test]
    fn hostile_bytes_do_no_harm(before in any_append(), meta in any_meta(), harm in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let mut bytes = append_request(&before).encode_to_vec();
        for (at, with) in &harm {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = *with;
            }
        }
        if let Ok(message) = proto::AppendEntriesRequest::decode(&bytes[..]) {
            let _ = read_append_request(&message);
        }
        let mut bytes = snapshot_meta(&meta).encode_to_vec();
        for (at, with) in &harm {
            let at = at.index(bytes.len());
            bytes[at] = *with;
        }
        if let Ok(message) = proto::SnapshotMeta::decode(&bytes[..]) {
            let _ = read_snapshot_meta(&message);
        }
    }
}

#[test]
fn what_is_missing_is_named() {
    let text = |error: WireError| error.to_string();
    assert_eq!(text(read_vote(None).unwrap_err()), "vote: vote is missing");
    assert_eq!(
        text(read_vote(Some(&proto::RaftVote::default())).unwrap_err()),
        "vote: leader is missing"
    );
    assert_eq!(
        text(read_log_id(&proto::LogId::default()).unwrap_err()),
        "log id: leader is missing"
    );
    assert_eq!(
        text(read_entry(&proto::Entry::default()).unwrap_err()),
        "entry: id is missing"
    );
    assert!(read_append_reply(&proto::AppendEntriesReply::default()).is_err());
    assert!(read_snapshot_meta(&proto::SnapshotMeta::default()).is_err());
}

#[test]
fn a_voter_without_an_address_is_refused() {
    let peer = proto::RaftPeer {
        node_id: convert::id_bytes(7),
        addr: "a:1".into(),
    };
    let nodes = [(1, peer.clone())].into();
    let message = proto::Membership {
        configs: vec![proto::VoterSet { ids: vec![1, 2] }],
        nodes,
    };
    let error = read_membership(&message).unwrap_err().to_string();
    assert!(error.starts_with("membership: configuration"), "{error}");
    let short = proto::RaftPeer {
        node_id: vec![1, 2].into(),
        ..peer
    };
    let message = proto::Membership {
        configs: vec![proto::VoterSet { ids: vec![1] }],
        nodes: [(1, short)].into(),
    };
    assert!(
        read_membership(&message)
            .unwrap_err()
            .to_string()
            .contains("node id")
    );
}

#[test]
fn no_membership_survives() {
    let none = Membership::default();
    assert_eq!(read_membership(&sent(&membership(&none))).unwrap(), none);
}
