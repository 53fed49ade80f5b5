//! DNS messages, as a client sees them.

use std::net::Ipv4Addr;

/// A DNS question.
pub fn question(name: &str, kind: u16) -> Vec<u8> {
    let mut bytes = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.').filter(|l| !l.is_empty()) {
        bytes.push(u8::try_from(label.len()).unwrap());
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
    bytes.extend_from_slice(&kind.to_be_bytes());
    bytes.extend_from_slice(&[0, 1]);
    bytes
}

/// The response code of an answer.
pub fn rcode(answer: &[u8]) -> u8 {
    answer[3] & 0x0f
}

/// The addresses in an answer.
pub fn addresses(answer: &[u8]) -> Vec<Ipv4Addr> {
    use hickory_proto::{op::Message, rr::RData};
    let mut addrs: Vec<_> = Message::from_vec(answer)
        .unwrap()
        .answers
        .iter()
        .filter_map(|record| match &record.data {
            RData::A(a) => Some(a.0),
            _ => None,
        })
        .collect();
    addrs.sort();
    addrs
}
