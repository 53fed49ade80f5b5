//! The networks of the file.

use super::field::{Field, Report};
use super::keys::{self, IPAM, IPAM_CONFIG, NETWORK};
use super::names;
use super::volume::external;
use super::yaml::shorten;
use crate::model::NetworkSpec;
use ipnet::Ipv4Net;
use std::collections::BTreeMap;

/// What the file declares.
pub(super) struct Networks {
    /// Full names by key; absent when the section could not be read.
    keys: Option<BTreeMap<String, String>>,
    /// By full name.
    pub own: BTreeMap<String, NetworkSpec>,
    /// Full names.
    pub external: Vec<String>,
}

impl Networks {
    pub fn none() -> Self {
        Self {
            keys: Some(BTreeMap::new()),
            own: BTreeMap::new(),
            external: Vec::new(),
        }
    }

    pub fn has(&self, key: &str) -> bool {
        self.keys.as_ref().is_none_or(|keys| keys.contains_key(key))
    }

    pub fn keys(&self) -> Vec<&String> {
        self.keys.iter().flat_map(BTreeMap::keys).collect()
    }

    /// Of a declared network, or of the one that is made when none is declared.
    pub fn full_name(&self, key: &str, stack: &str) -> String {
        let declared = self.keys.as_ref().and_then(|keys| keys.get(key));
        declared
            .cloned()
            .unwrap_or_else(|| format!("{stack}_{key}"))
    }

    pub fn is_taken(&self, full: &str) -> bool {
        self.own.contains_key(full) || self.external.iter().any(|name| name == full)
    }
}

/// Reads `networks:`.
pub(super) fn read(report: &mut Report<'_>, section: &Field<'_>, stack: &str) -> Networks {
    let mut networks = Networks::none();
    let Some(fields) = section.fields(report, "a mapping of networks") else {
        networks.keys = None;
        return networks;
    };
    for field in fields {
        let (mut spec, is_external) = read_one(report, &field);
        if spec.name.is_empty() {
            spec.name = if is_external {
                field.key.into()
            } else {
                format!("{stack}_{}", field.key)
            };
        }
        if let Err(problem) = names::check_network(&spec.name) {
            report.refuse(&field, problem);
        }
        if networks.is_taken(&spec.name) {
            report.refuse(
                &field,
                format!(
                    "another network of this file is called {:?} too",
                    shorten(&spec.name)
                ),
            );
        }
        networks
            .keys
            .get_or_insert_default()
            .insert(field.key.into(), spec.name.clone());
        if is_external {
            networks.external.push(spec.name);
        } else {
            spec.stack = Some(stack.into());
            networks.own.insert(spec.name.clone(), spec);
        }
    }
    networks
}

/// Without its stack; the name is empty when none is written.
fn read_one(report: &mut Report<'_>, field: &Field<'_>) -> (NetworkSpec, bool) {
    let mut spec = NetworkSpec::default();
    if field.is_null() {
        return (spec, false);
    }
    let Some(fields) = field.fields(report, "a mapping or nothing") else {
        return (spec, false);
    };
    let outside = external(report, &fields, &mut spec.name);
    for key in fields {
        match key.key {
            "external" => {}
            "name" => spec.name = key.text(report, "a name").unwrap_or_default().into(),
            other if outside && !other.starts_with("x-") => {
                report.refuse_with(
                    &key,
                    "an external network is already there as it is",
                    "remove this key",
                );
            }
            "driver" => {
                if let Some(driver) = key.text(report, "overlay")
                    && driver != "overlay"
                {
                    let problem = format!("the driver {:?} is not supported", shorten(driver));
                    report.refuse_with(&key, problem, "overlay is the only one; remove this key");
                }
            }
            "internal" => spec.internal = key.flag(report).unwrap_or_default(),
            "attachable" => spec.attachable = key.flag(report).unwrap_or_default(),
            "labels" => spec.labels = super::labels::read(report, &key),
            "ipam" => spec.subnet = ipam(report, &key),
            _ => keys::refuse(report, &key, &NETWORK),
        }
    }
    (spec, outside)
}

fn ipam(report: &mut Report<'_>, field: &Field<'_>) -> Option<Ipv4Net> {
    let mut subnet = None;
    for key in field.fields(report, "a mapping")? {
        match key.key {
            "driver" => {
                if let Some(driver) = key.text(report, "default")
                    && driver != "default"
                {
                    report.refuse(
                        &key,
                        format!("the driver {:?} is not supported", shorten(driver)),
                    );
                }
            }
            "config" => {
                let items = key
                    .items(report, "a list with one mapping")
                    .unwrap_or_default();
                for (i, item) in items.iter().enumerate() {
                    if i == 0 {
                        subnet = ipam_config(report, item);
                    } else {
                        report.refuse(item, "a second subnet is not supported yet");
                    }
                }
            }
            _ => keys::refuse(report, &key, &IPAM),
        }
    }
    subnet
}

fn ipam_config(report: &mut Report<'_>, field: &Field<'_>) -> Option<Ipv4Net> {
    let mut subnet = None;
    for key in field.fields(report, "a mapping with a subnet")? {
        match key.key {
            "subnet" => {
                let text = key
                    .text(report, "a subnet such as 10.1.0.0/24")
                    .unwrap_or_default();
                if !text.is_empty() {
                    subnet = check_subnet(text)
                        .map_err(|(problem, cure)| report.refuse_with(&key, problem, cure))
                        .ok();
                }
            }
            _ => keys::refuse(report, &key, &IPAM_CONFIG),
        }
    }
    subnet
}

fn check_subnet(text: &str) -> Result<Ipv4Net, (String, String)> {
    // A gateway, a resolver and a task need an address each.
    const LONGEST_PREFIX: u8 = 29;
    let shown = shorten(text);
    let Ok(net) = text.parse::<Ipv4Net>() else {
        return Err(match text.parse::<ipnet::Ipv6Net>() {
            Ok(_) => (
                format!("{shown:?} is an IPv6 subnet"),
                "only IPv4 is supported yet".into(),
            ),
            Err(_) => (
                format!("{shown:?} is no subnet"),
                "write it as 10.1.0.0/24".into(),
            ),
        });
    };
    if net.trunc() != net {
        return Err((
            format!("{shown:?} is an address inside a subnet"),
            format!("did you mean {}?", net.trunc()),
        ));
    }
    if net.prefix_len() > LONGEST_PREFIX || net.prefix_len() < 8 {
        return Err((
            format!("{shown:?} is no useful size"),
            format!("take a prefix from /8 to /{LONGEST_PREFIX}"),
        ));
    }
    Ok(net)
}
