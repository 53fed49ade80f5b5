//! Encoding of an nf_tables transaction: netlink messages and nested attributes.

/// Netlink subsystem number of nf_tables, in a message type's high byte.
const SUBSYS: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NLM_F_REQUEST: u16 = 1;
const NESTED: u16 = 0x8000;
/// Netlink and nfnetlink headers, bytes.
const HEADER: usize = 16;

/// Message types of nf_tables that are used here.
#[derive(Debug, Clone, Copy)]
#[repr(u16)]
pub(super) enum Kind {
    NewTable = 0,
    DelTable = 2,
    NewChain = 3,
    DelChain = 5,
    NewRule = 6,
    DelRule = 8,
    NewSet = 9,
    NewSetElem = 12,
    DelSetElem = 14,
    GetGen = 16,
}

impl Kind {
    fn number(self) -> u16 {
        (SUBSYS << 8) | self as u16
    }
}

/// Flags of a message that makes something, beside `NLM_F_REQUEST`.
pub(super) const CREATE: u16 = 0x400;
/// Asks for an acknowledgement. One message of each transaction does, so that there is always
/// something to read (older kernels acknowledge no end of a batch).
pub(super) const ACK: u16 = 4;
/// Appends a rule.
pub(super) const APPEND: u16 = 0x800;

/// A transaction being built. All or nothing in the kernel.
#[derive(Debug, Default)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    seq: u32,
}

impl Batch {
    /// Opens a transaction.
    pub fn begin() -> Self {
        let mut batch = Self::default();
        batch.raw(BATCH_BEGIN, 0, libc::AF_UNSPEC, SUBSYS, |_| {});
        batch
    }

    /// One message for the `ip` family.
    pub fn message(&mut self, kind: Kind, flags: u16, attrs: impl FnOnce(&mut Attrs)) {
        self.raw(kind.number(), flags, libc::AF_INET, 0, attrs);
    }

    /// Closes the transaction.
    pub fn end(mut self) -> Vec<u8> {
        self.raw(BATCH_END, 0, libc::AF_UNSPEC, SUBSYS, |_| {});
        self.bytes
    }

    /// The question for the number of the last transaction; no batch.
    pub fn get_generation() -> Vec<u8> {
        let mut batch = Self::default();
        batch.raw(Kind::GetGen.number(), 0, libc::AF_UNSPEC, 0, |_| {});
        batch.bytes
    }

    fn raw(
        &mut self,
        kind: u16,
        flags: u16,
        family: i32,
        res_id: u16,
        attrs: impl FnOnce(&mut Attrs),
    ) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes
            .extend_from_slice(&(flags | NLM_F_REQUEST).to_ne_bytes());
        self.bytes.extend_from_slice(&self.seq.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.push(u8::try_from(family).unwrap_or_default());
        self.bytes.push(0);
        self.bytes.extend_from_slice(&res_id.to_be_bytes());
        self.seq += 1;
        attrs(&mut Attrs(&mut self.bytes));
        let len = u32::try_from(self.bytes.len() - start).unwrap_or(u32::MAX);
        if let Some(head) = self.bytes.get_mut(start..start + 4) {
            head.copy_from_slice(&len.to_ne_bytes());
        }
    }
}

/// Attributes of the message or attribute being built.
pub(super) struct Attrs<'a>(&'a mut Vec<u8>);

impl Attrs<'_> {
    fn attr(&mut self, kind: u16, fill: impl FnOnce(&mut Vec<u8>)) {
        let start = self.0.len();
        self.0.extend_from_slice(&[0; 2]);
        self.0.extend_from_slice(&kind.to_ne_bytes());
        fill(self.0);
        // Names and elements are short; an attribute over 64 KiB would be a mistake here.
        let len = u16::try_from(self.0.len() - start).unwrap_or(u16::MAX);
        if let Some(head) = self.0.get_mut(start..start + 2) {
            head.copy_from_slice(&len.to_ne_bytes());
        }
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    /// A NUL-terminated string.
    pub fn text(&mut self, kind: u16, text: &str) {
        self.attr(kind, |b| {
            b.extend_from_slice(text.as_bytes());
            b.push(0);
        });
    }

    /// A number in network order.
    pub fn be32(&mut self, kind: u16, value: u32) {
        self.attr(kind, |b| b.extend_from_slice(&value.to_be_bytes()));
    }

    /// Bytes as they are.
    pub fn bytes(&mut self, kind: u16, value: &[u8]) {
        self.attr(kind, |b| b.extend_from_slice(value));
    }

    /// Attributes within an attribute.
    pub fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Attrs)) {
        self.attr(kind | NESTED, |b| fill(&mut Attrs(b)));
    }

    /// An expression of a rule: `LIST_ELEM { NAME, DATA { … } }`.
    pub fn expr(&mut self, name: &str, fill: impl FnOnce(&mut Attrs)) {
        self.nest(1, |a| {
            a.text(1, name);
            a.nest(2, fill);
        });
    }
}

/// A message of the kernel's answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// Done.
    Ack,
    /// Refused, with an errno.
    Refused(i32),
    /// The number of the last transaction.
    Generation(u32),
    /// Something else, ignored.
    Other,
}

/// Splits an answer into messages. Stops at the first thing that makes no sense.
pub(super) fn replies(mut bytes: &[u8]) -> Vec<Reply> {
    let mut all = Vec::new();
    while let Some((len, kind)) = header(bytes) {
        let Some(message) = bytes.get(..len) else {
            break;
        };
        let body = message.get(HEADER..).unwrap_or_default();
        all.push(match kind {
            // NLMSG_ERROR: an errno, negated; 0 acknowledges.
            2 => match word(body) {
                Some(0) => Reply::Ack,
                Some(n) => Reply::Refused(i32::from_ne_bytes(n.to_ne_bytes()).saturating_neg()),
                None => Reply::Other,
            },
            // NFT_MSG_NEWGEN, its first attribute is the id (1), after the 4 bytes of nfgenmsg.
            0x0a0f => match body.get(8..12) {
                Some(&[a, b, c, d]) if body.get(6) == Some(&1) => {
                    Reply::Generation(u32::from_be_bytes([a, b, c, d]))
                }
                _ => Reply::Other,
            },
            _ => Reply::Other,
        });
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    all
}

fn word(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?))
}

fn header(bytes: &[u8]) -> Option<(usize, u16)> {
    let len = usize::try_from(word(bytes)?).ok()?;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    (len >= HEADER).then_some((len, kind))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn attributes_are_padded_and_counted() {
        let mut bytes = Vec::new();
        let mut attrs = Attrs(&mut bytes);
        attrs.text(1, "ab");
        attrs.nest(2, |a| a.be32(3, 7));
        assert_eq!(
            bytes,
            [
                7, 0, 1, 0, b'a', b'b', 0, 0, 12, 0, 2, 0x80, 8, 0, 3, 0, 0, 0, 0, 7
            ]
        );
    }

    #[test]
    fn a_transaction_is_framed_as_nft_frames_it() {
        let mut batch = Batch::begin();
        batch.message(Kind::NewTable, 0, |a| a.text(1, "clusterd"));
        let bytes = batch.end();
        assert_eq!(bytes.len(), 20 + 36 + 20);
        assert_eq!(&bytes[4..6], &BATCH_BEGIN.to_ne_bytes());
        assert_eq!(&bytes[18..20], &[0, 10]);
        assert_eq!(&bytes[24..26], &0x0a00_u16.to_ne_bytes());
    }

    proptest! {
        #[test]
        fn any_answer_is_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = replies(&bytes);
        }
    }
}
