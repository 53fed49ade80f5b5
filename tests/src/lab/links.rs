//! The network of a lab, made with `ip`.
//!
//! The bridge stands in a namespace of its own (the switch), not in the machine's: there a Docker or a
//! firewall may drop what bridges forward. The machine has one link into it.
//!
//! ```text
//! machine: lab-NAME (.1) --veth-- host    switch: br0    node1 --veth-- eth0 (.10) :node1
//! ```

use std::{net::Ipv4Addr, process::Command, time::Duration};

use anyhow::{Context, Result};
use ipnet::Ipv4Net;

use super::{enter::Door, names, record::Record};
use crate::run;

const LIMIT: Duration = Duration::from_secs(30);

/// Makes the bridge, the links and the addresses.
pub fn make(record: &Record) -> Result<()> {
    let switch = record.switch.context("the lab has no switch")?.pid;
    let host = names::host_address(record.subnet)?;
    let prefix = record.subnet.prefix_len();
    let link = &record.link;
    ip(
        None,
        &format!(
            "link add {link} type veth peer name host netns {switch}\n\
             addr add {host}/{prefix} dev {link}\n\
             link set {link} up\n"
        ),
    )?;
    let mut script = String::from(
        "link set lo up\nlink add br0 type bridge\nlink set br0 up\nlink set host master br0\nlink set host up\n",
    );
    for node in &record.nodes {
        let name = &node.name;
        let holder = node
            .holder
            .with_context(|| format!("{name} has no holder"))?
            .pid;
        script += &format!(
            "link add {name} type veth peer name eth0 netns {holder}\n\
             link set {name} master br0\nlink set {name} up\n"
        );
    }
    ip(Some(&Door::to_switch(record)?), &script)?;
    for node in &record.nodes {
        let script = format!(
            "link set lo up\naddr add {}/{prefix} dev eth0\nlink set eth0 up\nroute add default via {host}\n",
            node.address
        );
        ip(Some(&Door::to_node(record, &node.name)?), &script)?;
    }
    Ok(())
}

/// How a node is cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The cable is pulled: the node sees its carrier go.
    Unplugged,
    /// The switch drops everything, and nobody is told.
    Silent,
}

/// Cuts a node off from all others and from the machine.
pub fn cut(record: &Record, node: &str, how: Cut) -> Result<()> {
    let name = &record.node(node)?.name;
    let script = match how {
        Cut::Unplugged => format!("link set {name} down\n"),
        // The link stays up, but leads nowhere.
        Cut::Silent => format!("link set {name} nomaster\n"),
    };
    ip(Some(&Door::to_switch(record)?), &script)
}

/// Undoes any [`cut`].
pub fn heal(record: &Record, node: &str) -> Result<()> {
    let name = &record.node(node)?.name;
    let script = format!("link set {name} master br0\nlink set {name} up\n");
    ip(Some(&Door::to_switch(record)?), &script)
}

/// Removes the machine's link into the lab; the kernel removes the rest with the namespaces.
/// A link that isn't there is no error.
pub fn remove(link: &str) -> Result<()> {
    if !exists(link) {
        return Ok(());
    }
    let done = ip(None, &format!("link del {link}\n"));
    // It may have gone meanwhile with the namespace of its other end.
    if exists(link) { done } else { Ok(()) }
}

/// Whether the machine has an interface of this name.
#[must_use]
pub fn exists(link: &str) -> bool {
    std::path::Path::new("/sys/class/net").join(link).exists()
}

/// The IPv4 subnets that the machine has routes to, but for its default route.
pub fn used_subnets() -> Result<Vec<Ipv4Net>> {
    let mut command = Command::new("ip");
    command.args(["-4", "route", "show", "table", "all"]);
    let output = run::bounded(&mut command, b"", LIMIT)
        .context(NO_IP)?
        .checked()?;
    Ok(output.stdout.lines().filter_map(destination).collect())
}

fn destination(line: &str) -> Option<Ipv4Net> {
    // "192.168.1.0/24 dev eth0 ...", "broadcast 192.168.1.255 dev eth0 ...", "default via ..."
    let word = line
        .split_ascii_whitespace()
        .find(|w| w.starts_with(|c: char| c.is_ascii_digit()))?;
    if line.starts_with("default") {
        return None;
    }
    word.parse()
        .ok()
        .or_else(|| Some(Ipv4Net::from(word.parse::<Ipv4Addr>().ok()?)))
}

const NO_IP: &str = "the lab needs the `ip` command (Debian package iproute2)";

fn ip(door: Option<&Door>, script: &str) -> Result<()> {
    let mut command = Command::new("ip");
    command.args(["-batch", "-"]);
    if let Some(door) = door {
        door.apply(&mut command)?;
    }
    let output = run::bounded(&mut command, script.as_bytes(), LIMIT).context(NO_IP)?;
    output
        .checked()
        .map(drop)
        .with_context(|| format!("while running:\n{script}"))
}

#[cfg(test)]
mod tests {
    use super::destination;

    #[test]
    fn routes_name_the_subnets_in_use() {
        let net = |line| destination(line).map(|n| n.to_string());
        assert_eq!(
            net("192.168.1.0/24 dev eth0 scope link").as_deref(),
            Some("192.168.1.0/24")
        );
        assert_eq!(
            net("broadcast 10.0.0.255 dev eth0 table local").as_deref(),
            Some("10.0.0.255/32")
        );
        assert_eq!(net("default via 10.0.0.1 dev eth0"), None);
    }
}
