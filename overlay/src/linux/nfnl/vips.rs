//! The table of one task's namespace: virtual addresses to endpoints.
//!
//! ```text
//! table ip clusterd {
//!   map vips { type ipv4_addr : verdict; elements = { VIP : goto v-VIP, … } }
//!   chain output { type nat hook output priority -100; ct state new ip daddr vmap @vips }
//!   chain v-VIP { dnat to numgen random mod N map { 0 : a, 1 : b, … }; dnat to a }
//!   chain v-VIP { meta l4proto tcp reject with tcp reset; reject }      # no endpoint is ready
//! }
//! ```
//! A change of one service touches one chain, in one transaction. A packet on its way meanwhile sees the old or
//! the new rules, and of a map nothing if the transaction ends between its reading the rule and its reading the
//! map, whose elements know their generation on their own: the second rule, without a map, is for that packet. It
//! would otherwise go on to the virtual address itself, which nobody has, and its connection with it.

use super::batch::{ACK, APPEND, Attrs, Batch, CREATE, Kind};
use crate::plan::VipChange;
use std::net::Ipv4Addr;

/// Name of our table, in tasks' namespaces and in the host's.
pub const TABLE: &str = "clusterd";

const VIPS: &str = "vips";
const VIPS_ID: u32 = 1;
/// nft's type numbers, so that `nft list` prints the table readably.
const TYPE_INTEGER: u32 = 4;
const TYPE_IPV4: u32 = 7;
const TYPE_VERDICT: u32 = 0xffff_ff00;
const SET_MAP: u32 = 8;
const SET_ANONYMOUS_CONSTANT_MAP: u32 = 1 | 2 | 8;
/// `NFT_GOTO`, -4.
const GOTO: u32 = 0xffff_fffc;
/// `NF_CT_STATE_BIT(IP_CT_NEW)`.
const STATE_NEW: u32 = 8;
/// `NFT_REG_1`.
const REG: u32 = 1;

fn chain_name(vip: Ipv4Addr) -> String {
    format!("v-{vip}")
}

/// The transaction that performs `change`.
pub(super) fn transaction(change: &VipChange) -> Vec<u8> {
    let mut batch = Batch::begin();
    // Making what exists is no error, and lets the next message delete it for certain.
    batch.message(Kind::NewTable, CREATE | ACK, |a| a.text(1, TABLE));
    if change.reset {
        table(&mut batch, Kind::DelTable);
        table(&mut batch, Kind::NewTable);
        base(&mut batch);
    }
    for vip in &change.del {
        element(&mut batch, Kind::DelSetElem, *vip);
        chain(&mut batch, Kind::DelRule, *vip);
        chain(&mut batch, Kind::DelChain, *vip);
    }
    for (set_id, (vip, backends)) in (VIPS_ID + 1..).zip(&change.set) {
        chain(&mut batch, Kind::NewChain, *vip);
        chain(&mut batch, Kind::DelRule, *vip);
        if backends.is_empty() {
            refuse(&mut batch, *vip);
        } else {
            balance(&mut batch, set_id, *vip, backends);
        }
        element(&mut batch, Kind::NewSetElem, *vip);
    }
    batch.end()
}

fn create(kind: Kind) -> u16 {
    match kind {
        Kind::NewTable | Kind::NewChain | Kind::NewSet | Kind::NewSetElem => CREATE,
        Kind::NewRule => CREATE | APPEND,
        _ => 0,
    }
}

fn table(batch: &mut Batch, kind: Kind) {
    batch.message(kind, create(kind), |a| a.text(1, TABLE));
}

fn chain(batch: &mut Batch, kind: Kind, vip: Ipv4Addr) {
    // A rule's table and chain are attributes 1 and 2, a chain's table and name 1 and 3.
    let name_attr = if matches!(kind, Kind::DelRule) { 2 } else { 3 };
    batch.message(kind, create(kind), |a| {
        a.text(1, TABLE);
        a.text(name_attr, &chain_name(vip));
    });
}

fn base(batch: &mut Batch) {
    batch.message(Kind::NewSet, CREATE, |a| {
        a.text(1, TABLE);
        a.text(2, VIPS);
        a.be32(3, SET_MAP);
        a.be32(4, TYPE_IPV4);
        a.be32(5, 4);
        a.be32(6, TYPE_VERDICT);
        a.be32(7, 0);
        a.be32(10, VIPS_ID);
        // Byte orders for `nft list`: keys big-endian.
        a.bytes(13, &[0, 4, 2, 0, 0, 0, 1, 4, 0, 0, 0, 0]);
    });
    batch.message(Kind::NewChain, CREATE, |a| {
        a.text(1, TABLE);
        a.text(3, "output");
        a.text(7, "nat");
        a.be32(5, 1);
        // NF_INET_LOCAL_OUT, priority -100.
        a.nest(4, |a| {
            a.be32(1, 3);
            a.be32(2, 0xffff_ff9c);
        });
    });
    rule(batch, "output", |a| {
        a.expr("ct", |a| {
            a.be32(1, REG);
            a.be32(2, 0); // state
        });
        a.expr("bitwise", |a| {
            a.be32(1, REG);
            a.be32(2, REG);
            a.be32(3, 4);
            a.nest(4, |a| a.bytes(1, &STATE_NEW.to_ne_bytes()));
            a.nest(5, |a| a.bytes(1, &[0; 4]));
        });
        a.expr("cmp", |a| {
            a.be32(1, REG);
            a.be32(2, 1); // not equal
            a.nest(3, |a| a.bytes(1, &[0; 4]));
        });
        a.expr("payload", |a| {
            a.be32(1, REG);
            a.be32(2, 1); // network header
            a.be32(3, 16); // destination address
            a.be32(4, 4);
        });
        a.expr("lookup", |a| {
            a.be32(2, REG);
            a.be32(3, 0);
            a.text(1, VIPS);
            a.be32(4, VIPS_ID);
        });
    });
}

fn rule(batch: &mut Batch, chain: &str, exprs: impl FnOnce(&mut Attrs)) {
    batch.message(Kind::NewRule, CREATE | APPEND, |a| {
        a.text(1, TABLE);
        a.text(2, chain);
        a.nest(4, exprs);
    });
}

fn element(batch: &mut Batch, kind: Kind, vip: Ipv4Addr) {
    batch.message(kind, create(kind), |a| {
        a.text(1, TABLE);
        a.text(2, VIPS);
        a.nest(3, |a| {
            a.nest(1, |a| {
                a.nest(1, |a| a.bytes(1, &vip.octets()));
                if matches!(kind, Kind::NewSetElem) {
                    a.nest(2, |a| {
                        a.nest(2, |a| {
                            a.be32(1, GOTO);
                            a.text(2, &chain_name(vip));
                        });
                    });
                }
            });
        });
    });
}

fn balance(batch: &mut Batch, set_id: u32, vip: Ipv4Addr, backends: &[Ipv4Addr]) {
    const MAP: &str = "__map%d";
    let count = u32::try_from(backends.len()).unwrap_or(u32::MAX);
    batch.message(Kind::NewSet, CREATE, |a| {
        a.text(1, TABLE);
        a.text(2, MAP);
        a.be32(3, SET_ANONYMOUS_CONSTANT_MAP);
        a.be32(4, TYPE_INTEGER);
        a.be32(5, 4);
        a.be32(6, TYPE_IPV4);
        a.be32(7, 4);
        a.be32(10, set_id);
        a.nest(9, |a| a.be32(1, count));
        // Byte orders for `nft list`: keys of the host, data big-endian.
        a.bytes(13, &[0, 4, 1, 0, 0, 0, 1, 4, 2, 0, 0, 0]);
    });
    // An attribute holds 64 KiB at most; an element takes 28 bytes.
    for (chunk_no, chunk) in backends.chunks(1000).enumerate() {
        batch.message(Kind::NewSetElem, CREATE, |a| {
            a.text(1, TABLE);
            a.text(2, MAP);
            a.be32(4, set_id);
            a.nest(3, |a| {
                for (index, addr) in chunk.iter().enumerate() {
                    let key = u32::try_from(chunk_no * 1000 + index).unwrap_or(u32::MAX);
                    a.nest(1, |a| {
                        a.nest(1, |a| a.bytes(1, &key.to_ne_bytes()));
                        a.nest(2, |a| a.bytes(1, &addr.octets()));
                    });
                }
            });
        });
    }
    rule(batch, &chain_name(vip), |a| {
        a.expr("numgen", |a| {
            a.be32(1, REG);
            a.be32(2, count);
            a.be32(3, 1); // random: a counter would send every task's first call to one endpoint
            a.be32(4, 0);
        });
        a.expr("lookup", |a| {
            a.be32(2, REG);
            a.be32(3, REG);
            a.text(1, MAP);
            a.be32(4, set_id);
        });
        destination(a);
    });
    if let Some(first) = backends.first() {
        rule(batch, &chain_name(vip), |a| {
            a.expr("immediate", |a| {
                a.be32(1, REG);
                a.nest(2, |a| a.bytes(1, &first.octets()));
            });
            destination(a);
        });
    }
}

/// The connection goes to the address in the register.
fn destination(a: &mut Attrs) {
    a.expr("nat", |a| {
        a.be32(1, 1); // destination
        a.be32(2, 2); // AF_INET
        a.be32(3, REG);
    });
}

fn refuse(batch: &mut Batch, vip: Ipv4Addr) {
    rule(batch, &chain_name(vip), |a| {
        a.expr("meta", |a| {
            a.be32(2, 16); // l4proto
            a.be32(1, REG);
        });
        a.expr("cmp", |a| {
            a.be32(1, REG);
            a.be32(2, 0);
            a.nest(3, |a| a.bytes(1, &[6]));
        });
        a.expr("reject", |a| {
            a.be32(1, 1); // TCP reset
            a.bytes(2, &[0]);
        });
    });
    rule(batch, &chain_name(vip), |a| {
        a.expr("reject", |a| {
            a.be32(1, 0); // ICMP unreachable
            a.bytes(2, &[3]); // port
        });
    });
}
