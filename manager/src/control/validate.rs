//! Rules that a spec from the wire has to keep, whoever made it. All broken ones are told at once.

mod blobs;

pub use blobs::blob;

use api::model::{
    ClusterSpec, ContainerSpec, LEASE_MIN_MS, Labels, MountSource, NetworkSpec, ServiceMode,
    ServiceSpec, StackSpec, TaskTemplate,
};
use std::collections::BTreeSet;

/// Most replicas of a service.
pub const REPLICAS_MAX: u32 = 100_000;
/// Longest name of a service, as a DNS label.
const LABEL_MAX: usize = 63;
/// Longest alias: labels with dots between them.
const ALIAS_MAX: usize = 253;
/// Longest name of a network or a volume.
const OBJECT_MAX: usize = 128;
/// Longest text of a key, a value or a path.
const TEXT_MAX: usize = 64 * 1024;
/// Most entries of a list: env, ports, mounts, labels.
const LIST_MAX: usize = 4_096;

/// Broken rules, each naming its object.
pub type Problems = Vec<String>;

/// Letters, digits and some others, a letter or digit first.
fn is_object(text: &str, most: usize) -> bool {
    text.len() <= most
        && text
            .bytes()
            .next()
            .is_some_and(|c| c.is_ascii_alphanumeric())
        && text
            .bytes()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'.' | b'-'))
}

/// One part of a DNS name.
fn is_label(text: &str) -> bool {
    is_object(text, LABEL_MAX)
        && !text.contains('.')
        && text
            .bytes()
            .last()
            .is_some_and(|c| c.is_ascii_alphanumeric())
}

fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}

/// A name that DNS answers, or that is a part of such a name: a service's, a stack's.
fn label(what: &str, text: &str, problems: &mut Problems) {
    if !is_label(text) {
        problems.push(format!(
            "{what} {:?}: a name has 1 to {LABEL_MAX} of a-z A-Z 0-9 _ - and begins and ends with a letter or digit",
            shown(text)
        ));
    }
}

/// A name of a network or a volume.
fn object(what: &str, text: &str, problems: &mut Problems) {
    if !is_object(text, OBJECT_MAX) {
        problems.push(format!(
            "{what} {:?}: a name has 1 to {OBJECT_MAX} of a-z A-Z 0-9 _ . - and begins with a letter or digit",
            shown(text)
        ));
    }
}

fn labels(what: &str, labels: &Labels, problems: &mut Problems) {
    bounded(what, "labels", labels.len(), problems);
    for (key, value) in labels {
        if key.is_empty() || key.contains(['=', '\0']) || value.contains('\0') {
            problems.push(format!("{what}: {key:?} is no label"));
        }
        if key.len() + value.len() > TEXT_MAX {
            problems.push(format!(
                "{what}: label {:?} is too long",
                key.chars().take(40).collect::<String>()
            ));
        }
    }
}

fn bounded(what: &str, list: &str, len: usize, problems: &mut Problems) {
    if len > LIST_MAX {
        problems.push(format!(
            "{what}: {len} {list} are too many, {LIST_MAX} is the most"
        ));
    }
}

/// A network.
pub fn network(spec: &NetworkSpec, problems: &mut Problems) {
    object("network", &spec.name, problems);
    let what = format!("network {}", spec.name);
    labels(&what, &spec.labels, problems);
    if let Some(subnet) = spec.subnet {
        let first = subnet.network();
        if subnet.addr() != first {
            problems.push(format!(
                "{what}: {subnet} is no subnet; {} is",
                subnet.trunc()
            ));
        }
        if !(8..=29).contains(&subnet.prefix_len()) {
            problems.push(format!(
                "{what}: subnet {subnet} has to be between /8 and /29"
            ));
        }
        if first.is_loopback()
            || first.is_multicast()
            || first.is_link_local()
            || first.octets()[0] == 0
        {
            problems.push(format!("{what}: subnet {subnet} is not for networks"));
        }
    }
}

/// A service. Whether its networks are there is not looked at.
pub fn service(spec: &ServiceSpec, problems: &mut Problems) {
    label("service", &spec.name, problems);
    let what = format!("service {}", spec.name);
    labels(&what, &spec.labels, problems);
    let ServiceMode::Replicated { replicas } = spec.mode;
    if replicas > REPLICAS_MAX {
        problems.push(format!(
            "{what}: {replicas} replicas are too many, {REPLICAS_MAX} is the most"
        ));
    }
    bounded(&what, "ports", spec.ports.len(), problems);
    let mut published = BTreeSet::new();
    for port in &spec.ports {
        if port.published == 0 || port.target == 0 {
            problems.push(format!(
                "{what}: port {}:{} is none",
                port.published, port.target
            ));
        }
        if !published.insert((port.protocol, port.published)) {
            problems.push(format!(
                "{what}: port {}/{} is published twice",
                port.published,
                port.protocol.as_str()
            ));
        }
    }
    template(&what, &spec.template, problems);
}

fn template(what: &str, template: &TaskTemplate, problems: &mut Problems) {
    if let Some(ms) = template
        .disconnect
        .stop_after_ms
        .filter(|ms| *ms < LEASE_MIN_MS)
    {
        problems.push(format!(
            "{what}: disconnect.stop_after is {ms} ms, and {LEASE_MIN_MS} ms are the least"
        ));
    }
    container(what, &template.container, problems);
    bounded(
        what,
        "constraints",
        template.placement.constraints.len(),
        problems,
    );
    blobs::files(
        what,
        template.blobs.iter().map(|reference| &reference.file),
        &template.container,
        problems,
    );
    bounded(what, "networks", template.networks.len(), problems);
    let mut seen = BTreeSet::new();
    for attachment in &template.networks {
        if !seen.insert(attachment.network) {
            problems.push(format!(
                "{what}: it is twice on network {}",
                attachment.network
            ));
        }
        aliases(what, &attachment.aliases, problems);
    }
}

fn aliases(what: &str, aliases: &[String], problems: &mut Problems) {
    bounded(what, "aliases", aliases.len(), problems);
    for alias in aliases {
        if alias.len() > ALIAS_MAX || !alias.split('.').all(is_label) {
            problems.push(format!("{what}: alias {:?} is no DNS name", shown(alias)));
        }
    }
}

/// Services whose tasks would be stopped when a heartbeat is lost.
pub fn leases<'a>(
    services: impl Iterator<Item = &'a ServiceSpec>,
    cluster: &ClusterSpec,
) -> Problems {
    let least_ms = cluster.lease_min_ms();
    let short = services.filter_map(|spec| {
        let lease_ms = spec.template.disconnect.lease_ms()?;
        (lease_ms < least_ms).then(|| {
            format!(
                "service {}: its tasks would be stopped after {lease_ms} ms without a manager, and the nodes' heartbeats come every {} ms: give three of them at least, deploy.disconnect.stop_after: {least_ms}ms",
                spec.name, cluster.heartbeat_ms
            )
        })
    });
    short.collect()
}

fn container(what: &str, spec: &ContainerSpec, problems: &mut Problems) {
    let image = &spec.image;
    if image.is_empty()
        || image.len() > 512
        || image.contains(|c: char| c.is_whitespace() || c.is_control())
    {
        let shown: String = image.chars().take(80).collect();
        problems.push(format!("{what}: {shown:?} is no image"));
    }
    labels(what, &spec.labels, problems);
    for (list, words) in [("entrypoint", &spec.entrypoint), ("command", &spec.command)] {
        let words = words.as_deref().unwrap_or_default();
        bounded(what, list, words.len(), problems);
        if words
            .iter()
            .any(|word| word.contains('\0') || word.len() > TEXT_MAX)
        {
            problems.push(format!(
                "{what}: a word of its {list} holds a NUL or is too long"
            ));
        }
    }
    bounded(what, "environment variables", spec.env.len(), problems);
    for entry in &spec.env {
        let key = entry.split('=').next().unwrap_or_default();
        if key.is_empty() || !entry.contains('=') || entry.contains('\0') || entry.len() > TEXT_MAX
        {
            let shown: String = entry.chars().take(40).collect();
            problems.push(format!(
                "{what}: environment entry {shown:?} is not KEY=value"
            ));
        }
    }
    bounded(what, "mounts", spec.mounts.len(), problems);
    let mut targets = BTreeSet::new();
    for mount in &spec.mounts {
        let target = &mount.target;
        if !is_path(target) || target == "/" {
            problems.push(format!(
                "{what}: mount target {target:?} is no absolute path below /"
            ));
        }
        if !targets.insert(target) {
            problems.push(format!("{what}: two mounts have the target {target}"));
        }
        match &mount.source {
            MountSource::Volume(volume) => object(&format!("{what}: volume"), volume, problems),
            MountSource::Bind(path) if !is_path(path) => {
                problems.push(format!("{what}: bind source {path:?} is no absolute path"));
            }
            MountSource::Bind(_) | MountSource::Anonymous => {}
        }
    }
}

fn is_path(text: &str) -> bool {
    text.starts_with('/')
        && text.len() <= 4_096
        && !text.contains('\0')
        && text.split('/').all(|part| part != ".." && part != ".")
}

/// A stack: its parts, and that they fit together.
pub fn stack(spec: &StackSpec, problems: &mut Problems) {
    label("stack", &spec.name, problems);
    let owner = Some(spec.name.as_str());
    for (key, part) in &spec.networks {
        network(part, problems);
        if *key != part.name || part.stack.as_deref() != owner {
            problems.push(format!(
                "network {key}: it is not one of stack {}",
                spec.name
            ));
        }
    }
    for external in &spec.external_networks {
        object("network", external, problems);
        if spec.networks.contains_key(external) {
            problems.push(format!(
                "network {external}: it can't be the stack's own and external"
            ));
        }
    }
    blobs::of_stack(spec, problems);
    for (volume, volume_labels) in &spec.volumes {
        object("volume", volume, problems);
        labels(&format!("volume {volume}"), volume_labels, problems);
    }
    for (key, part) in &spec.services {
        service(&part.spec, problems);
        let what = format!("service {key}");
        if *key != part.spec.name || part.spec.stack.as_deref() != owner {
            problems.push(format!("{what}: it is not one of stack {}", spec.name));
        }
        let sources = part.blobs.iter().map(|file| &file.source);
        for source in sources.filter(|source| !blobs::has(spec, source)) {
            problems.push(format!("{what}: {source} is not one of the stack's"));
        }
        blobs::files(
            &what,
            part.blobs.iter(),
            &part.spec.template.container,
            problems,
        );
        if !part.spec.template.networks.is_empty() || !part.spec.template.blobs.is_empty() {
            problems.push(format!(
                "{what}: a stack's services name their networks, secrets and configs, not number them"
            ));
        }
        for (network, names) in &part.networks {
            if !spec.networks.contains_key(network) && !spec.external_networks.contains(network) {
                problems.push(format!(
                    "{what}: network {network} is not one of the stack's"
                ));
            }
            aliases(&what, names, problems);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use api::model::{Mount, Protocol, PublishedPort};

    fn told(change: impl Fn(&mut ServiceSpec)) -> Problems {
        let mut spec = testing::service(1, "web").spec;
        change(&mut spec);
        let mut problems = Problems::new();
        service(&spec, &mut problems);
        problems
    }

    #[test]
    fn a_good_service_has_no_problem() {
        assert_eq!(told(|_| {}), Problems::new());
    }

    #[test]
    fn every_broken_rule_is_told_with_its_service() {
        let port = PublishedPort {
            protocol: Protocol::Tcp,
            published: 80,
            target: 8080,
        };
        let mount = |target: &str, source| Mount {
            source,
            target: target.into(),
            read_only: false,
        };
        let cases: Vec<(Problems, &str)> = vec![
            (told(|s| s.name = "a b".into()), "a name has 1 to 63"),
            (told(|s| s.name = String::new()), "a name has 1 to 63"),
            (told(|s| s.name = "x".repeat(64)), "a name has 1 to 63"),
            (
                told(|s| s.mode = ServiceMode::Replicated { replicas: 100_001 }),
                "too many",
            ),
            (
                told(|s| s.ports = vec![port, port]),
                "port 80/tcp is published twice",
            ),
            (
                told(|s| s.ports = vec![PublishedPort { target: 0, ..port }]),
                "is none",
            ),
            (
                told(|s| s.template.container.image = "a b".into()),
                "is no image",
            ),
            (
                told(|s| s.template.container.env = vec!["KEY".into()]),
                "not KEY=value",
            ),
            (
                told(|s| s.template.container.env = vec!["=x".into()]),
                "not KEY=value",
            ),
            (
                told(|s| s.template.container.mounts = vec![mount("data", MountSource::Anonymous)]),
                "no absolute path",
            ),
            (
                told(|s| {
                    s.template.container.mounts =
                        vec![mount("/a", MountSource::Bind("/x/../y".into()))]
                }),
                "no absolute path",
            ),
            (
                told(|s| {
                    s.template.container.mounts =
                        vec![mount("/a", MountSource::Volume("../x".into()))]
                }),
                "volume \"../x\"",
            ),
        ];
        for (problems, part) in cases {
            assert!(
                problems.len() == 1 && problems[0].contains(part),
                "{part}: {problems:?}"
            );
        }
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let problems = told(|s| {
            s.template.container.image = String::new();
            s.mode = ServiceMode::Replicated { replicas: u32::MAX };
        });
        assert_eq!(problems.len(), 2);
    }

    #[test]
    fn a_network_keeps_its_rules() {
        let told = |subnet: &str| {
            let spec = NetworkSpec {
                name: "demo".into(),
                subnet: Some(subnet.parse().unwrap()),
                ..NetworkSpec::default()
            };
            let mut problems = Problems::new();
            network(&spec, &mut problems);
            problems
        };
        assert!(told("10.1.0.0/24").is_empty());
        assert_eq!(
            told("10.1.0.1/24"),
            ["network demo: 10.1.0.1/24 is no subnet; 10.1.0.0/24 is"]
        );
        for bad in [
            "10.0.0.0/30",
            "127.0.0.0/8",
            "224.0.0.0/8",
            "169.254.0.0/16",
        ] {
            assert_eq!(told(bad).len(), 1, "{bad}");
        }
    }
}
