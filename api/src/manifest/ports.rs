//! Published ports.

use super::field::{Field, Report};
use super::keys::{self, PORT};
use super::yaml::{Value, shorten};
use crate::model::{Protocol, PublishedPort};
use std::collections::BTreeSet;

/// What the ingress mode becomes until there is a mesh.
const INGRESS: &str = "published on the node where a task runs (mode: host), not on every node; \
                       the mesh is not supported yet";
const RANDOM: &str = "a port of the cluster's choice is not supported yet";
const HOST_IP: &str = "a host address is not supported yet";

/// Reads `ports:`. Each published port is there once.
pub(super) fn read(report: &mut Report<'_>, field: &Field<'_>) -> Vec<PublishedPort> {
    let mut ports = Vec::new();
    let mut taken = BTreeSet::new();
    let mut ingress = false;
    for item in field.items(report, "a list of ports").unwrap_or_default() {
        let read = if item.is_map() {
            long(report, &item)
        } else {
            short(report, &item)
        };
        let Some((read, is_ingress)) = read else {
            continue;
        };
        ingress |= is_ingress;
        for port in read {
            if !taken.insert((port.protocol, port.published)) {
                let problem = format!(
                    "port {}/{} is published twice",
                    port.published,
                    port.protocol.as_str()
                );
                report.refuse(&item, problem);
                break;
            }
            ports.push(port);
        }
    }
    if ingress {
        report.warn(field, INGRESS);
    }
    ports
}

type Read = Option<(Vec<PublishedPort>, bool)>;

/// `8080:80`, `8000-8002:80-82/udp`.
fn short(report: &mut Report<'_>, item: &Field<'_>) -> Read {
    let text = match &item.node.value {
        Value::Number(text, Some(_)) => text,
        _ => item.text(report, "a port such as \"8080:80\", or a mapping")?,
    };
    match parse(text) {
        Ok(ports) => Some((ports, true)),
        Err((problem, cure)) => {
            report.refuse_with(item, problem, cure);
            None
        }
    }
}

fn parse(text: &str) -> Result<Vec<PublishedPort>, (String, String)> {
    let shown = shorten(text);
    let usage = "write it as \"8080:80\", with /udp for UDP";
    let (numbers, protocol) = match text.split_once('/') {
        None => (text, Protocol::Tcp),
        Some((numbers, "tcp")) => (numbers, Protocol::Tcp),
        Some((numbers, "udp")) => (numbers, Protocol::Udp),
        Some((_, other)) => {
            let problem = format!("{:?} is no protocol of published ports", shorten(other));
            return Err((problem, "tcp and udp are".into()));
        }
    };
    let (published, target) = match numbers.rsplit_once(':') {
        None => {
            let (first, last) = range(numbers).map_err(|problem| (problem, usage.into()))?;
            let number = if first == last {
                first.to_string()
            } else {
                format!("{first}-{last}")
            };
            return Err((
                RANDOM.into(),
                format!("write which, as in \"{number}:{number}\""),
            ));
        }
        Some((left, target)) => match left.rsplit_once(':') {
            None => (left, target),
            Some((host, published)) => {
                let host = host.trim_start_matches('[').trim_end_matches(']');
                if !host.is_empty() && host.parse::<std::net::IpAddr>().is_err() {
                    return Err((format!("{shown:?} is no port mapping"), usage.into()));
                }
                return Err((
                    format!("{shown:?}: {HOST_IP}"),
                    format!("write \"{published}:{target}\""),
                ));
            }
        },
    };
    if published.is_empty() {
        return Err((format!("{shown:?}: {RANDOM}"), usage.into()));
    }
    let (published, target) = match (range(published), range(target)) {
        (Ok(published), Ok(target)) => (published, target),
        (Err(problem), _) | (_, Err(problem)) => return Err((problem, usage.into())),
    };
    let (many, targets) = (published.1 - published.0, target.1 - target.0);
    if many != targets {
        let reason = if targets == 0 {
            RANDOM
        } else {
            "the two ranges differ in length"
        };
        return Err((
            format!("{shown:?}: {reason}"),
            "write as many published ports as targets".into(),
        ));
    }
    let pair = |(published, target)| PublishedPort {
        protocol,
        published,
        target,
    };
    Ok((published.0..=published.1)
        .zip(target.0..=target.1)
        .map(pair)
        .collect())
}

/// `80` or `80-82`, first and last.
fn range(text: &str) -> Result<(u16, u16), String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let port = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let number = if digits {
            text.parse::<u16>().ok()
        } else {
            None
        };
        number
            .filter(|n| *n > 0)
            .ok_or_else(|| format!("{:?} is no port: 1 to 65535 are", shorten(text)))
    };
    let (first, last) = (port(first)?, port(last)?);
    if first <= last {
        Ok((first, last))
    } else {
        Err(format!("the range {first}-{last} runs backwards"))
    }
}

/// `{target: 80, published: 8080, protocol: tcp, mode: host}`.
fn long(report: &mut Report<'_>, item: &Field<'_>) -> Read {
    let (mut target, mut published, mut protocol, mut ingress) =
        (None, None, Some(Protocol::Tcp), true);
    let (mut has_target, mut has_published) = (false, false);
    for key in item.fields(report, "a port")? {
        match key.key {
            "target" => {
                has_target = true;
                target = key.number(report, 1, u16::MAX);
            }
            "published" => {
                has_published = true;
                published = match &key.node.value {
                    Value::Text(text) if text.contains('-') => {
                        report.refuse(&key, "a range in the long form is not supported yet");
                        None
                    }
                    _ => key.number(report, 1, u16::MAX),
                };
            }
            "protocol" => {
                protocol = key.word(report, &[("tcp", Protocol::Tcp), ("udp", Protocol::Udp)])
            }
            "mode" => {
                ingress = key
                    .word(report, &[("host", false), ("ingress", true)])
                    .unwrap_or(ingress)
            }
            "host_ip" => report.refuse_with(&key, HOST_IP, "remove this key"),
            _ => keys::refuse(report, &key, &PORT),
        }
    }
    if !has_target {
        report.refuse_with(
            item,
            "it has no target",
            "add target: the port in the container",
        );
    }
    if !has_published {
        report.refuse_with(item, RANDOM, "add published: the port of the node");
    }
    Some((
        vec![PublishedPort {
            protocol: protocol?,
            published: published?,
            target: target?,
        }],
        ingress,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn short_forms() {
        use Protocol::{Tcp, Udp};
        for (text, want) in [
            ("8080:80", vec![(Tcp, 8080, 80)]),
            ("8080:80/tcp", vec![(Tcp, 8080, 80)]),
            ("53:5353/udp", vec![(Udp, 53, 5353)]),
            (
                "8000-8002:80-82",
                vec![(Tcp, 8000, 80), (Tcp, 8001, 81), (Tcp, 8002, 82)],
            ),
            ("65535:1", vec![(Tcp, 65535, 1)]),
        ] {
            let port = |(protocol, published, target)| PublishedPort {
                protocol,
                published,
                target,
            };
            assert_eq!(
                parse(text),
                Ok(want.into_iter().map(port).collect()),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_refused_says_why() {
        for (text, want) in [
            (
                "80",
                "a port of the cluster's choice is not supported yet; write which, as in \"80:80\"",
            ),
            (
                "80-82",
                "a port of the cluster's choice is not supported yet; write which, as in \"80-82:80-82\"",
            ),
            (
                ":80",
                "\":80\": a port of the cluster's choice is not supported yet; write it as \"8080:80\", with /udp for UDP",
            ),
            (
                "127.0.0.1:8080:80",
                "\"127.0.0.1:8080:80\": a host address is not supported yet; write \"8080:80\"",
            ),
            (
                "[::1]:8080:80",
                "\"[::1]:8080:80\": a host address is not supported yet; write \"8080:80\"",
            ),
            (
                "5000:5000:5000:1",
                "\"5000:5000:5000:1\" is no port mapping; write it as \"8080:80\", with /udp for UDP",
            ),
            (
                "8000-8010:80",
                "\"8000-8010:80\": a port of the cluster's choice is not supported yet; write as many published ports as targets",
            ),
            (
                "8000-8001:80-82",
                "\"8000-8001:80-82\": the two ranges differ in length; write as many published ports as targets",
            ),
            (
                "8080:70000",
                "\"70000\" is no port: 1 to 65535 are; write it as \"8080:80\", with /udp for UDP",
            ),
            (
                "0:80",
                "\"0\" is no port: 1 to 65535 are; write it as \"8080:80\", with /udp for UDP",
            ),
            (
                "a:b",
                "\"a\" is no port: 1 to 65535 are; write it as \"8080:80\", with /udp for UDP",
            ),
            (
                "+1:80",
                "\"+1\" is no port: 1 to 65535 are; write it as \"8080:80\", with /udp for UDP",
            ),
            (
                "82-80:82-80",
                "the range 82-80 runs backwards; write it as \"8080:80\", with /udp for UDP",
            ),
            (
                "80:80/sctp",
                "\"sctp\" is no protocol of published ports; tcp and udp are",
            ),
        ] {
            let (problem, cure) = parse(text).expect_err(text);
            assert_eq!(format!("{problem}; {cure}"), want);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[0-9:/udptc.-]{0,20}") {
            let _ = parse(&text);
        }
    }
}
