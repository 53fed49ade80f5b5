//! Everything that reads bytes of others, fed with anything: an error or a value, never a panic.
//! What is a value is the same again once it was written.
//!
//! The corpus is `tests/fuzz/corpus/TARGET/*`; each file is read as it is and with changes, from a seed that a
//! failure prints. `make fuzz RUNS=100000` tries more; an input that failed belongs in the corpus. After a change of
//! a format: `cargo test -p api -p manager write_the_corpus -- --ignored`.

use api::convert;
use api::model::*;
use api::proto;
use api::state::{State, Transaction};
use manager::ca;
use prost::Message;
use raft_store::{untrusted, wire};
use std::fs;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

/// Changed inputs of each target.
const RUNS: usize = 3_000;

fn folder(target: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fuzz/corpus")).join(target)
}

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = folder(target);
    let files = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound.max(1) as u64).unwrap()
    }
}

/// One of the corpus with some changes: what a broken disk, a broken or a hostile sender might make of it.
fn changed(corpus: &[Vec<u8>], dice: &mut Dice) -> Vec<u8> {
    const ODD: [u8; 8] = [0, 1, 0x7f, 0x80, 0xff, 0x08, 0x0a, 0x12];
    let mut bytes = corpus[dice.below(corpus.len())].clone();
    for _ in 0..1 + dice.below(4) {
        let (at, other) = (dice.below(bytes.len() + 1), dice.below(bytes.len() + 1));
        let (low, high) = (at.min(other), at.max(other));
        match dice.below(8) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(low..high.min(low + 16))),
            2 => {
                let part = bytes[low..high.min(low + 64)].to_vec();
                bytes.splice(at..at, part);
            }
            3 => {
                let strange = &corpus[dice.below(corpus.len())];
                let from = dice.below(strange.len() + 1);
                bytes.splice(at.., strange[from..].iter().copied());
            }
            // A length that is very long.
            4 => drop(bytes.splice(at..at, [0xff, 0xff, 0xff, 0xff, 0x0f])),
            5 => bytes.insert(at, ODD[dice.below(ODD.len())]),
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = match dice.below(2) {
                        0 => *byte ^ (1 << dice.below(8)),
                        _ => ODD[dice.below(ODD.len())],
                    };
                }
            }
        }
    }
    bytes
}

fn feed(target: &str, runs: usize, read: impl Fn(&[u8])) {
    let corpus = corpus(target);
    assert!(!corpus.is_empty(), "{target} has no corpus");
    let check = |what: &str, bytes: &[u8]| {
        if catch_unwind(AssertUnwindSafe(|| read(bytes))).is_err() {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(bytes).unwrap();
            let (_, path) = file.keep().unwrap();
            panic!("{target}, {what}: the input is in {}", path.display());
        }
    };
    for (n, bytes) in corpus.iter().enumerate() {
        check(&format!("file {n} of the corpus"), bytes);
    }
    for seed in 0..runs {
        let bytes = changed(&corpus, &mut Dice(seed as u64));
        check(&format!("seed {seed}"), &bytes);
    }
}

/// Of a message that is read into something of ours: what is read is written and read as the same.
fn same_again<M, T>(bytes: &[u8])
where
    M: Message + Default + for<'a> From<&'a T>,
    T: TryFrom<M> + PartialEq + std::fmt::Debug,
{
    if let Ok(read) = M::decode(bytes)
        && let Ok(value) = T::try_from(read)
    {
        let again = M::from(&value).encode_to_vec();
        let again = T::try_from(M::decode(&again[..]).unwrap());
        assert!(again.is_ok_and(|again| again == value));
    }
}

fn transaction(bytes: &[u8]) {
    same_again::<proto::Transaction, Transaction>(bytes);
}

fn tables(bytes: &[u8]) {
    if let Ok(tables) = convert::decode_tables(bytes) {
        let state = State::from_tables(tables);
        let written = convert::encode_tables(&state.tables());
        assert!(convert::decode_tables(&written).is_ok());
    }
}

fn assignments(bytes: &[u8]) {
    let Ok(message) = proto::ManagerMessage::decode(bytes) else {
        return;
    };
    if let Some(proto::manager_message::Message::Assignments(told)) = message.message {
        for assigned in told.tasks {
            let _ = assigned.task.map(Task::try_from);
            let _ = assigned.template.map(TaskTemplate::try_from);
        }
        for network in told.networks {
            let _ = convert::network_id(&network.id);
            let _ = network.subnet.parse::<ipnet::Ipv4Net>();
        }
    }
}

fn statuses(bytes: &[u8]) {
    let Ok(message) = proto::AgentMessage::decode(bytes) else {
        return;
    };
    match message.message {
        Some(proto::agent_message::Message::Hello(hello)) => {
            let _ = hello.description.map(NodeDescription::try_from);
        }
        Some(proto::agent_message::Message::Statuses(batch)) => {
            for set in batch.statuses {
                let _ = convert::task_id(&set.id);
                let _ = set.status.map(TaskStatus::try_from);
            }
        }
        _ => {}
    }
}

fn control(bytes: &[u8]) {
    same_again::<proto::StackSpec, StackSpec>(bytes);
    same_again::<proto::NetworkSpec, NetworkSpec>(bytes);
    same_again::<proto::NodeSpec, NodeSpec>(bytes);
}

fn raft(bytes: &[u8]) {
    if let Ok(message) = proto::AppendEntriesRequest::decode(bytes)
        && let Ok(request) = wire::read_append_request(&message)
    {
        let written = wire::append_request(&request).encode_to_vec();
        let again = proto::AppendEntriesRequest::decode(&written[..]).unwrap();
        assert!(wire::read_append_request(&again).is_ok());
    }
    if let Ok(message) = proto::VoteRequest::decode(bytes) {
        let _ = wire::read_vote_request(&message);
    }
    if let Ok(message) = proto::SnapshotMeta::decode(bytes) {
        let _ = wire::read_snapshot_meta(&message);
    }
    if let Ok(message) = proto::TransferLeaderRequest::decode(bytes) {
        let _ = wire::read_transfer_request(&message);
    }
}

fn token(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(token) = text.trim().parse::<JoinToken>()
    {
        assert_eq!(token.to_string().parse::<JoinToken>().unwrap(), token);
    }
}

fn snapshot(bytes: &[u8]) {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), bytes).unwrap();
    let _ = untrusted::snapshot(file.path());
}

fn log(bytes: &[u8]) {
    let _ = untrusted::log_entry(bytes);
}

fn csr(cluster: &Cluster) -> impl Fn(&[u8]) {
    |bytes| {
        if let Ok(text) = std::str::from_utf8(bytes) {
            let at = Timestamp(1_750_000_000_000);
            let (of, node) = (cluster.id, NodeId(2));
            if let Ok(pem) = ca::issue(cluster, text, node, Role::Worker, at) {
                let who = manager::identity::Identity::from_pem(&pem).unwrap();
                assert!(who.node == node && who.role == Role::Worker && who.cluster == of);
            }
        }
    }
}

fn all(runs: usize) {
    // A panic here is a finding, and told by `feed`.
    std::panic::set_hook(Box::new(|_| {}));
    let (id, at) = (ClusterId(1), Timestamp(1_750_000_000_000));
    let cluster = Cluster {
        id,
        meta: Meta::default(),
        spec: ClusterSpec::default(),
        ca: ca::make_root(id, at).unwrap(),
        retiring: None,
        tokens: ca::new_secrets(),
        revoked: Default::default(),
        lock: Default::default(),
        recovery: Default::default(),
    };
    feed("transaction", runs, transaction);
    feed("tables", runs, tables);
    feed("assignments", runs, assignments);
    feed("statuses", runs, statuses);
    feed("control", runs, control);
    feed("raft", runs, raft);
    feed("token", runs, token);
    feed("log", runs, log);
    // A file and a signature each.
    feed("snapshot", runs / 10, snapshot);
    feed("csr", runs / 10, csr(&cluster));
}

#[test]
fn nothing_that_is_sent_or_found_does_harm() {
    all(RUNS);
}

#[test]
#[ignore = "as long as RUNS says: make fuzz"]
fn nothing_does_harm_in_many_runs() {
    let runs = std::env::var("RUNS")
        .ok()
        .and_then(|runs| runs.parse().ok());
    all(runs.unwrap_or(200_000));
}

/// What doesn't come from the model; that is in api's tests.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "writes tests/fuzz/corpus"]
async fn write_the_corpus() {
    let put = |target: &str, name: &str, bytes: &[u8]| {
        fs::create_dir_all(folder(target)).unwrap();
        fs::write(folder(target).join(name), bytes).unwrap();
    };
    let key = manager::identity::KeyRequest::generate().unwrap();
    put("csr", "node", key.csr_pem.as_bytes());
    let token = JoinToken {
        ca_digest: ca_digest(b"a certificate"),
        secret: ca::new_secret(),
    };
    put("token", "worker", token.to_string().as_bytes());
    let (vote, log_id) = (
        proto::RaftVote {
            leader: Some(proto::LeaderId { term: 3, node: 9 }),
            committed: true,
        },
        |index| proto::LogId {
            leader: Some(proto::LeaderId { term: 3, node: 9 }),
            index,
        },
    );
    let peer = |node: u128| proto::RaftPeer {
        node_id: convert::id_bytes(node),
        addr: format!("10.0.0.{node}:2377"),
    };
    let membership = proto::Membership {
        configs: vec![
            proto::VoterSet { ids: vec![1, 2] },
            proto::VoterSet { ids: vec![1, 2, 3] },
        ],
        nodes: (1..=3).map(|n| (n, peer(n.into()))).collect(),
    };
    let payloads = [
        proto::entry::Payload::Blank(proto::Blank {}),
        proto::entry::Payload::Transaction(corpus("transaction")[0].clone().into()),
        proto::entry::Payload::Membership(membership.clone()),
    ];
    let entries: Vec<proto::Entry> = (5..)
        .zip(payloads)
        .map(|(index, payload)| proto::Entry {
            id: Some(log_id(index)),
            payload: Some(payload),
        })
        .collect();
    for (n, entry) in entries.iter().enumerate() {
        // As `codec.rs` has it.
        let body = entry.encode_to_vec();
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        put("log", &n.to_string(), &[&[1], &length[..], &body].concat());
    }
    let append = proto::AppendEntriesRequest {
        vote: Some(vote),
        prev: Some(log_id(4)),
        entries,
        leader_commit: Some(log_id(4)),
    };
    put("raft", "append", &append.encode_to_vec());
    let request = proto::VoteRequest {
        vote: Some(vote),
        last_log: Some(log_id(7)),
        leader_transfer: true,
    };
    put("raft", "vote", &request.encode_to_vec());
    let meta = proto::SnapshotMeta {
        last_log: Some(log_id(7)),
        membership_log: Some(log_id(5)),
        membership: Some(membership),
    };
    put("raft", "meta", &meta.encode_to_vec());
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("snapshot");
    untrusted::write_snapshot(&path, &meta, &corpus("tables")[0]).unwrap();
    put("snapshot", "small", &fs::read(path).unwrap());
}
