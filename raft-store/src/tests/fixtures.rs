//! What an earlier version wrote is read: `tests/fixtures/N` holds a manager's folder and messages as the version
//! with format N wrote them. A new format gets a folder of its own, beside the old ones:
//! `cargo test -p raft-store write_the_fixtures -- --ignored`.

use super::*;
use crate::cover::SEALED as FORMAT;
use crate::wire;
use api::proto;
use prost::Message;
use std::fs;
use std::path::PathBuf;

const BLOCK: usize = 512;

fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures"))
}

/// All files of a folder in one: path, length, and those blocks that are not 0, each with its number.
fn pack(root: &Path, dir: &Path, packed: &mut Vec<u8>) {
    let mut entries: Vec<PathBuf> = fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            pack(root, &path, packed);
            continue;
        }
        let bytes = fs::read(&path).unwrap();
        let name = path.strip_prefix(root).unwrap().to_str().unwrap();
        let full = bytes.chunks(BLOCK).enumerate();
        let full: Vec<_> = full
            .filter(|(_, block)| block.iter().any(|b| *b != 0))
            .collect();
        for number in [name.len(), bytes.len(), full.len()] {
            packed.extend_from_slice(&u32::try_from(number).unwrap().to_be_bytes());
        }
        packed.extend_from_slice(name.as_bytes());
        for (number, block) in full {
            packed.extend_from_slice(&u32::try_from(number).unwrap().to_be_bytes());
            packed.extend_from_slice(block);
            packed.resize(packed.len() + BLOCK - block.len(), 0);
        }
    }
}

fn unpack(mut packed: &[u8], root: &Path) {
    fn number(packed: &mut &[u8]) -> usize {
        let (number, rest) = packed.split_first_chunk().unwrap();
        *packed = rest;
        usize::try_from(u32::from_be_bytes(*number)).unwrap()
    }
    while !packed.is_empty() {
        let [name, length, blocks] = [(); 3].map(|()| number(&mut packed));
        let (name, rest) = packed.split_at(name);
        packed = rest;
        let mut bytes = vec![0; length.next_multiple_of(BLOCK)];
        for _ in 0..blocks {
            let at = number(&mut packed) * BLOCK;
            let (block, rest) = packed.split_at(BLOCK);
            bytes[at..at + BLOCK].copy_from_slice(block);
            packed = rest;
        }
        bytes.truncate(length);
        let path = root.join(std::str::from_utf8(name).unwrap());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

/// What the version with format 1 wrote: not encrypted.
pub fn unpack_first(root: &Path) {
    unpack(&fs::read(folder().join("1/store")).unwrap(), root);
}

fn settings(dir: &Path) -> Options {
    Options {
        snapshot_every: 20,
        ..options(dir, 1)
    }
}

/// In its snapshots and, the last ones, in its log alone.
fn names() -> impl Iterator<Item = String> {
    (0..50).map(|n| format!("{n}-{}", "x".repeat([4, 300, 6_000][n % 3])))
}

fn log_id(index: u64) -> proto::LogId {
    let leader = Some(proto::LeaderId { term: 3, node: 9 });
    proto::LogId { leader, index }
}

fn append() -> proto::AppendEntriesRequest {
    use proto::entry::Payload;
    let peer = proto::RaftPeer {
        node_id: api::convert::id_bytes(7),
        addr: addr(7),
    };
    let membership = proto::Membership {
        configs: vec![proto::VoterSet { ids: vec![7] }],
        nodes: [(7, peer)].into(),
    };
    let transaction = api::convert::encode_transaction(&stack("sent"));
    let payloads = [
        Payload::Blank(proto::Blank {}),
        Payload::Transaction(transaction),
        Payload::Membership(membership),
    ];
    let entry = |(index, payload)| proto::Entry {
        id: Some(log_id(index)),
        payload: Some(payload),
    };
    proto::AppendEntriesRequest {
        vote: Some(proto::RaftVote {
            leader: Some(proto::LeaderId { term: 3, node: 9 }),
            committed: true,
        }),
        prev: Some(log_id(4)),
        entries: (5..).zip(payloads).map(entry).collect(),
        leader_commit: Some(log_id(4)),
    }
}

fn vote() -> proto::VoteRequest {
    proto::VoteRequest {
        vote: append().vote,
        last_log: Some(log_id(7)),
        leader_transfer: true,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_earlier_versions_wrote_is_read() {
    let mut formats = Vec::new();
    for entry in fs::read_dir(folder()).unwrap() {
        let fixture = entry.unwrap().path();
        let what = fixture.display().to_string();
        formats.push(
            fixture
                .file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .parse::<u8>()
                .unwrap(),
        );
        let dir = tempfile::tempdir().unwrap();
        unpack(&fs::read(fixture.join("store")).unwrap(), dir.path());
        assert!(dir.path().join("1/log/db").exists(), "{what}");
        let handle = Handle::open(settings(dir.path()), Net::default().links(1)).await;
        let handle = handle.unwrap_or_else(|error| panic!("{what}: {error}"));
        handle.linearizable().await.unwrap();
        handle.read(|state| assert!(names().all(|name| has(state, &name)), "{what}"));
        handle.propose(stack("more")).await.unwrap();
        handle.shutdown().await;

        // What is sent is the same for all versions so far; what is read of it says the same.
        let bytes = fs::read(fixture.join("append")).unwrap();
        let sent = proto::AppendEntriesRequest::decode(&bytes[..]).unwrap();
        let read = wire::read_append_request(&sent).unwrap();
        assert_eq!(wire::append_request(&read), append(), "{what}");
        let bytes = fs::read(fixture.join("vote")).unwrap();
        let sent = proto::VoteRequest::decode(&bytes[..]).unwrap();
        let read = wire::read_vote_request(&sent).unwrap();
        assert_eq!(wire::vote_request(&read), vote(), "{what}");
    }
    assert!(
        formats.contains(&FORMAT),
        "format {FORMAT} has no fixtures: see above"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "writes tests/fixtures"]
async fn write_the_fixtures() {
    let dir = tempfile::tempdir().unwrap();
    let handle = Handle::open(settings(dir.path()), Net::default().links(1))
        .await
        .unwrap();
    handle.initialize(stack("first")).await.unwrap();
    for name in names() {
        handle.propose(stack(&name)).await.unwrap();
    }
    handle.shutdown().await;
    let mut packed = Vec::new();
    pack(dir.path(), dir.path(), &mut packed);
    let fixture = folder().join(FORMAT.to_string());
    fs::create_dir_all(&fixture).unwrap();
    fs::write(fixture.join("store"), packed).unwrap();
    fs::write(fixture.join("append"), append().encode_to_vec()).unwrap();
    fs::write(fixture.join("vote"), vote().encode_to_vec()).unwrap();
}
