//! DNS messages: a question in, an answer out, or the advice to ask elsewhere. Pure.

use super::{TTL_S, zone::Meaning};
use hickory_proto::{
    op::{Message, MessageType, OpCode, Query, ResponseCode},
    rr::{
        DNSClass, Name, RData, Record, RecordType,
        rdata::{A, PTR},
    },
};
use std::net::Ipv4Addr;

/// Bytes of a UDP answer to a client that says nothing of its own limit.
const UDP_PLAIN_MAX: usize = 512;
/// Bytes of a UDP answer at most: what passes any path unbroken.
const UDP_MAX: usize = 1232;
/// Bytes of an address record whose name points back to the question.
const A_RECORD_LEN: usize = 16;
/// Bytes of a header.
const HEADER_LEN: usize = 12;
/// Bytes of an OPT record without options.
const OPT_LEN: usize = 11;

/// How a question came, which limits its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// One datagram.
    Udp,
    /// A stream.
    Tcp,
}

/// What to do with a packet.
#[derive(Debug, PartialEq, Eq)]
pub enum Reply {
    /// Send this.
    Answer(Vec<u8>),
    /// Ask the node's servers and send what they say, or [`failure`].
    Forward,
    /// Say nothing: it is no question.
    Ignore,
}

/// Answers `packet`. `forward` is asked for names, `reverse` for addresses; `shuffle` orders
/// addresses, so that clients that take the first are spread.
pub fn reply(
    packet: &[u8],
    transport: Transport,
    forward: impl FnOnce(&str) -> Meaning,
    reverse: impl FnOnce(&str) -> Meaning,
    shuffle: impl FnOnce(&mut Vec<Ipv4Addr>),
) -> Reply {
    let Ok(question) = Message::from_vec(packet) else {
        return malformed(packet);
    };
    if question.metadata.message_type != MessageType::Query {
        return Reply::Ignore;
    }
    if question.metadata.op_code != OpCode::Query {
        return encode(response(&question, ResponseCode::NotImp));
    }
    let [query] = question.queries.as_slice() else {
        return encode(response(&question, ResponseCode::FormErr));
    };
    if !matches!(query.query_class(), DNSClass::IN | DNSClass::ANY) {
        return Reply::Forward;
    }
    let name = query.name().to_ascii();
    let meaning = match query.query_type() {
        RecordType::PTR => reverse(&name),
        _ => forward(&name),
    };
    let mut answer = response(&question, ResponseCode::NoError);
    answer.metadata.authoritative = true;
    match meaning {
        Meaning::Elsewhere => return Reply::Forward,
        Meaning::Pointer(target) => {
            // A name that DNS can't express has no pointer.
            if let Ok(target) = Name::from_ascii(&target) {
                answer.add_answer(record(query, RData::PTR(PTR(target))));
            }
        }
        Meaning::Addresses(mut addrs) => {
            if matches!(query.query_type(), RecordType::A | RecordType::ANY) {
                shuffle(&mut addrs);
                let room = room(&question, query, transport);
                answer.metadata.truncation = addrs.len() > room;
                for addr in addrs.into_iter().take(room) {
                    answer.add_answer(record(query, RData::A(A(addr))));
                }
            }
        }
    }
    encode(answer)
}

/// A refusal to `packet`, for when nobody could be asked. `None` if it is no question.
#[must_use]
pub fn failure(packet: &[u8]) -> Option<Vec<u8>> {
    let question = Message::from_vec(packet).ok()?;
    match encode(response(&question, ResponseCode::ServFail)) {
        Reply::Answer(bytes) => Some(bytes),
        Reply::Forward | Reply::Ignore => None,
    }
}

/// Whether `answer` answers `question` (both as on the wire): the id is the caller's to check.
#[must_use]
pub fn answers(question: &[u8], answer: &[u8]) -> bool {
    let is_response = answer.get(2).is_some_and(|flags| flags & 0x80 != 0);
    let (Ok(question), Ok(answer)) = (Message::from_vec(question), Message::from_vec(answer))
    else {
        return false;
    };
    let same = |a: &Query, b: &Query| {
        a.query_type() == b.query_type()
            && a.query_class() == b.query_class()
            && a.name().to_lowercase() == b.name().to_lowercase()
    };
    is_response
        && match (question.queries.as_slice(), answer.queries.as_slice()) {
            ([asked], [told]) => same(asked, told),
            // A server that refuses may leave the question out.
            (_, []) => answer.metadata.response_code != ResponseCode::NoError,
            _ => false,
        }
}

/// Whether an answer says that another server should be asked.
#[must_use]
pub fn is_server_failure(answer: &[u8]) -> bool {
    let code = answer.get(3).map(|flags| flags & 0x0f);
    matches!(code, Some(2 | 5))
}

fn response(question: &Message, code: ResponseCode) -> Message {
    let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
    answer.metadata.recursion_desired = question.metadata.recursion_desired;
    answer.metadata.recursion_available = true;
    answer.metadata.response_code = code;
    answer.add_queries(question.queries.iter().cloned());
    if question.edns.is_some() {
        let mut edns = hickory_proto::op::Edns::new();
        edns.set_max_payload(u16::try_from(UDP_MAX).unwrap_or(u16::MAX));
        answer.set_edns(edns);
    }
    answer
}

fn record(query: &Query, data: RData) -> Record {
    Record::from_rdata(query.name().clone(), TTL_S, data)
}

/// Address records that fit.
fn room(question: &Message, query: &Query, transport: Transport) -> usize {
    let max = match (transport, &question.edns) {
        (Transport::Tcp, _) => usize::from(u16::MAX),
        (Transport::Udp, None) => UDP_PLAIN_MAX,
        (Transport::Udp, Some(_)) => {
            usize::from(question.max_payload()).clamp(UDP_PLAIN_MAX, UDP_MAX)
        }
    };
    let opt = if question.edns.is_some() { OPT_LEN } else { 0 };
    let fixed = HEADER_LEN + query.name().len() + 1 + 4 + opt;
    max.saturating_sub(fixed) / A_RECORD_LEN
}

fn encode(answer: Message) -> Reply {
    answer.to_vec().map_or(Reply::Ignore, Reply::Answer)
}

/// A format error to what has at least a question's header.
fn malformed(packet: &[u8]) -> Reply {
    match packet {
        [a, b, flags, ..] if packet.len() >= HEADER_LEN && flags & 0x80 == 0 => {
            let id = u16::from_be_bytes([*a, *b]);
            encode(Message::error_msg(id, OpCode::Query, ResponseCode::FormErr))
        }
        _ => Reply::Ignore,
    }
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
