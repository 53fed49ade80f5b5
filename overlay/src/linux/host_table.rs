//! The host's table `ip clusterd`: published ports in, tasks out to the world. Text for `nft`, one
//! transaction per change; no other table is ever touched.

use super::Ns;
use crate::{
    Error, Protocol, Result,
    plan::{HOST_VETH_PREFIX, gateway_of},
};
use ipnet::Ipv4Net;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io::Write as _,
    net::{Ipv4Addr, SocketAddrV4},
    process::{Command, Stdio},
};

type Ports = BTreeMap<(Protocol, u16), SocketAddrV4>;

/// The table, by the `nft` program run in the host's namespace. Calls block for a few milliseconds.
#[derive(Debug)]
pub struct HostTable {
    host: Ns,
    pool: Ipv4Net,
    /// The table's fixed part as nft listed it after we made it.
    made: Option<Vec<Value>>,
}

impl HostTable {
    /// For the host's namespace and the gateway's subnet.
    #[must_use]
    pub fn new(host: Ns, pool: Ipv4Net) -> Self {
        Self {
            host,
            pool,
            made: None,
        }
    }

    /// Published ports in the table; `None` if there is no table.
    ///
    /// # Errors
    /// If nft can't be run.
    pub fn published(&self) -> Result<Option<Ports>> {
        Ok(self.list()?.map(|listing| ports_of(&listing)))
    }

    /// Published ports, if the table is as we made it; `None` if it has to be made anew.
    ///
    /// # Errors
    /// If nft can't be run.
    pub fn published_if_intact(&self) -> Result<Option<Ports>> {
        let listing = self.list()?;
        Ok(listing.and_then(|listing| {
            let intact = self.made.as_ref() == Some(&fixed_part(&listing));
            intact.then(|| ports_of(&listing))
        }))
    }

    /// Replaces the whole table in one transaction; connections under way keep what they have.
    ///
    /// # Errors
    /// If nft refuses; then nothing is changed.
    pub fn reset(&mut self, ports: &Ports) -> Result<()> {
        self.made = None;
        self.apply(&render(self.pool, ports))?;
        self.made = self.list()?.map(|listing| fixed_part(&listing));
        Ok(())
    }

    /// Changes published ports.
    ///
    /// # Errors
    /// If nft refuses; then nothing is changed.
    pub fn publish(&self, add: &Ports, del: &Ports) -> Result<()> {
        let mut text = String::new();
        for ((protocol, port), to) in del {
            let _ = writeln!(
                text,
                "delete element ip clusterd {}",
                element(*protocol, *port, *to)
            );
        }
        for ((protocol, port), to) in add {
            let _ = writeln!(
                text,
                "add element ip clusterd {}",
                element(*protocol, *port, *to)
            );
        }
        self.apply(&text)
    }

    /// Removes the table. None there is no error.
    ///
    /// # Errors
    /// If nft refuses.
    pub fn remove(&mut self) -> Result<()> {
        self.made = None;
        self.apply("table ip clusterd\ndelete table ip clusterd\n")
    }

    fn apply(&self, text: &str) -> Result<()> {
        self.host.run(|| {
            let mut nft = Command::new("nft")
                .args(["-f", "-"])
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .map_err(Error::NoNft)?;
            if let Some(mut stdin) = nft.stdin.take() {
                stdin
                    .write_all(text.as_bytes())
                    .map_err(Error::io("writing rules to nft"))?;
            }
            let output = nft
                .wait_with_output()
                .map_err(Error::io("waiting for nft"))?;
            if output.status.success() {
                Ok(())
            } else {
                let said = String::from_utf8_lossy(&output.stderr);
                Err(Error::Nft(said.trim().to_owned()))
            }
        })
    }

    fn list(&self) -> Result<Option<Vec<Value>>> {
        self.host.run(|| {
            let output = Command::new("nft")
                .args(["-j", "list", "table", "ip", super::TABLE])
                .stdin(Stdio::null())
                .output()
                .map_err(Error::NoNft)?;
            if !output.status.success() {
                return Ok(None);
            }
            let listing: Value = serde_json::from_slice(&output.stdout)
                .map_err(|e| Error::Nft(format!("unreadable listing: {e}")))?;
            Ok(listing.get("nftables").and_then(Value::as_array).cloned())
        })
    }
}

fn map_name(protocol: Protocol) -> String {
    format!("published_{protocol}")
}

fn element(protocol: Protocol, port: u16, to: SocketAddrV4) -> String {
    format!(
        "{} {{ {port} : {} . {} }}",
        map_name(protocol),
        to.ip(),
        to.port()
    )
}

/// The whole table. A task that comes by this node's own published port, maybe its own, comes as the
/// gateway: a packet from its own address would be taken for a forgery.
fn render(pool: Ipv4Net, ports: &Ports) -> String {
    let tasks = format!("{HOST_VETH_PREFIX}*");
    let gateway = gateway_of(pool);
    let mut text = format!(
        r#"table ip clusterd
delete table ip clusterd
table ip clusterd {{
	comment "made by clusterd, changes are undone"
	map published_tcp {{
		type inet_service : ipv4_addr . inet_service
	}}
	map published_udp {{
		type inet_service : ipv4_addr . inet_service
	}}
	chain published {{
		dnat ip to tcp dport map @published_tcp
		dnat ip to udp dport map @published_udp
	}}
	chain raw_in {{
		type filter hook prerouting priority -300; policy accept;
		iifname "{tasks}" ip daddr 127.0.0.0/8 drop
	}}
	chain dnat_in {{
		type nat hook prerouting priority -100; policy accept;
		fib daddr type local jump published
	}}
	chain dnat_out {{
		type nat hook output priority -100; policy accept;
		fib daddr type local jump published
	}}
	chain nat_post {{
		type nat hook postrouting priority 100; policy accept;
		ip saddr 127.0.0.0/8 oifname "{tasks}" snat to {gateway}
		ip saddr {pool} oifname "{tasks}" snat to {gateway}
		ip saddr {pool} oifname != "{tasks}" masquerade
	}}
	chain through {{
		type filter hook forward priority 0; policy accept;
		oifname "{tasks}" ct state established,related accept
		oifname "{tasks}" ct status dnat accept
		oifname "{tasks}" drop
		iifname "{tasks}" accept
	}}
}}
"#
    );
    for ((protocol, port), to) in ports {
        let _ = writeln!(
            text,
            "add element ip clusterd {}",
            element(*protocol, *port, *to)
        );
    }
    text
}

/// What of a listing never changes by our doing: all but handles and the published ports.
fn fixed_part(listing: &[Value]) -> Vec<Value> {
    listing
        .iter()
        .filter(|object| object.get("metainfo").is_none())
        .map(|object| {
            let mut object = object.clone();
            if let Some(body) = object
                .as_object_mut()
                .and_then(|outer| outer.values_mut().next())
                .and_then(Value::as_object_mut)
            {
                body.remove("handle");
                body.remove("elem");
            }
            object
        })
        .collect()
}

fn ports_of(listing: &[Value]) -> Ports {
    let mut ports = Ports::new();
    for map in listing.iter().filter_map(|object| object.get("map")) {
        let name = map.get("name").and_then(Value::as_str).unwrap_or_default();
        let Some(protocol) = [Protocol::Tcp, Protocol::Udp]
            .into_iter()
            .find(|p| map_name(*p) == name)
        else {
            continue;
        };
        let elements = map.get("elem").and_then(Value::as_array);
        for element in elements.into_iter().flatten() {
            if let Some((port, to)) = port_of(element) {
                ports.insert((protocol, port), to);
            }
        }
    }
    ports
}

/// `[8080, {"concat": ["172.30.0.5", 80]}]`
fn port_of(element: &Value) -> Option<(u16, SocketAddrV4)> {
    let number = |v: &Value| u16::try_from(v.as_u64()?).ok();
    let port = number(element.get(0)?)?;
    let to = element.get(1)?.get("concat")?;
    let addr: Ipv4Addr = to.get(0)?.as_str()?.parse().ok()?;
    Some((port, SocketAddrV4::new(addr, number(to.get(1)?)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_is_read_back() {
        let listing: Value = serde_json::from_str(
            r#"[{"metainfo":{}},{"map":{"name":"published_tcp","handle":7,
                "elem":[[8080,{"concat":["172.30.0.5",80]}]]}}]"#,
        )
        .unwrap();
        let listing = listing.as_array().unwrap();
        let ports = ports_of(listing);
        assert_eq!(
            ports.get(&(Protocol::Tcp, 8080)),
            Some(&"172.30.0.5:80".parse().unwrap())
        );
        assert_eq!(
            fixed_part(listing),
            [serde_json::json!({"map": {"name": "published_tcp"}})]
        );
    }
}
