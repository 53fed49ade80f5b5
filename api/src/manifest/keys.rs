//! The keys of each mapping: honoured, known to Compose but not supported yet, and what to say of others.

use super::field::{Field, Report};
use super::yaml::{Value, shorten};

/// Where keys are often written by mistake.
#[derive(Debug, PartialEq)]
enum Place {
    Top,
    Service,
    Other,
}

/// The keys of one mapping.
pub(super) struct Keys {
    place: Place,
    honoured: &'static [&'static str],
    refused: &'static [&'static str],
}

pub(super) const TOP: Keys = Keys {
    place: Place::Top,
    honoured: &[
        "services", "networks", "volumes", "secrets", "configs", "name", "version",
    ],
    refused: &["include", "models"],
};

pub(super) const SERVICE: Keys = Keys {
    place: Place::Service,
    honoured: &[
        "image",
        "command",
        "entrypoint",
        "environment",
        "networks",
        "ports",
        "volumes",
        "deploy",
        "labels",
        "secrets",
        "configs",
    ],
    refused: &[
        "annotations",
        "attach",
        "blkio_config",
        "build",
        "cap_add",
        "cap_drop",
        "cgroup",
        "cgroup_parent",
        "container_name",
        "cpu_count",
        "cpu_percent",
        "cpu_period",
        "cpu_quota",
        "cpu_rt_period",
        "cpu_rt_runtime",
        "cpu_shares",
        "cpus",
        "cpuset",
        "credential_spec",
        "depends_on",
        "develop",
        "device_cgroup_rules",
        "devices",
        "dns",
        "dns_opt",
        "dns_search",
        "domainname",
        "env_file",
        "expose",
        "extends",
        "external_links",
        "extra_hosts",
        "gpus",
        "group_add",
        "healthcheck",
        "hostname",
        "init",
        "ipc",
        "isolation",
        "label_file",
        "links",
        "logging",
        "mac_address",
        "mem_limit",
        "mem_reservation",
        "mem_swappiness",
        "memswap_limit",
        "models",
        "network_mode",
        "oom_kill_disable",
        "oom_score_adj",
        "pid",
        "pids_limit",
        "platform",
        "post_start",
        "pre_stop",
        "privileged",
        "profiles",
        "provider",
        "pull_policy",
        "read_only",
        "restart",
        "runtime",
        "scale",
        "security_opt",
        "shm_size",
        "stdin_open",
        "stop_grace_period",
        "stop_signal",
        "storage_opt",
        "sysctls",
        "tmpfs",
        "tty",
        "ulimits",
        "use_api_socket",
        "user",
        "userns_mode",
        "uts",
        "volumes_from",
        "working_dir",
    ],
};

pub(super) const DEPLOY: Keys = Keys {
    place: Place::Other,
    honoured: &[
        "mode",
        "replicas",
        "labels",
        "placement",
        "restart_policy",
        "disconnect",
        "exclusive",
    ],
    refused: &[
        "endpoint_mode",
        "resources",
        "rollback_config",
        "update_config",
    ],
};

pub(super) const PLACEMENT: Keys = Keys {
    place: Place::Other,
    honoured: &["constraints"],
    refused: &["preferences", "max_replicas_per_node"],
};

pub(super) const RESTART_POLICY: Keys = Keys {
    place: Place::Other,
    honoured: &["condition", "delay", "max_attempts", "window"],
    refused: &[],
};

pub(super) const DISCONNECT: Keys = Keys {
    place: Place::Other,
    honoured: &["stop_after"],
    refused: &[],
};

pub(super) const SERVICE_NETWORK: Keys = Keys {
    place: Place::Other,
    honoured: &["aliases"],
    refused: &[
        "driver_opts",
        "gw_priority",
        "interface_name",
        "ipv4_address",
        "ipv6_address",
        "link_local_ips",
        "mac_address",
        "priority",
    ],
};

pub(super) const PORT: Keys = Keys {
    place: Place::Other,
    honoured: &["target", "published", "protocol", "mode"],
    refused: &["app_protocol", "host_ip", "name"],
};

pub(super) const MOUNT: Keys = Keys {
    place: Place::Other,
    honoured: &["type", "source", "target", "read_only"],
    refused: &["bind", "volume", "tmpfs", "image", "consistency"],
};

pub(super) const NETWORK: Keys = Keys {
    place: Place::Other,
    honoured: &[
        "external",
        "name",
        "driver",
        "internal",
        "attachable",
        "labels",
        "ipam",
    ],
    refused: &["driver_opts", "enable_ipv4", "enable_ipv6"],
};

pub(super) const IPAM: Keys = Keys {
    place: Place::Other,
    honoured: &["driver", "config"],
    refused: &["options"],
};

pub(super) const IPAM_CONFIG: Keys = Keys {
    place: Place::Other,
    honoured: &["subnet"],
    refused: &["aux_addresses", "gateway", "ip_range"],
};

pub(super) const VOLUME: Keys = Keys {
    place: Place::Other,
    honoured: &["external", "name", "driver", "labels"],
    refused: &["driver_opts"],
};

pub(super) const SECRET: Keys = Keys {
    place: Place::Other,
    honoured: &["file", "environment", "external", "name", "labels"],
    refused: &["driver", "driver_opts", "template_driver"],
};

pub(super) const CONFIG: Keys = Keys {
    place: Place::Other,
    honoured: &[
        "file",
        "content",
        "environment",
        "external",
        "name",
        "labels",
    ],
    refused: &["template_driver"],
};

pub(super) const SERVICE_BLOB: Keys = Keys {
    place: Place::Other,
    honoured: &["source", "target", "uid", "gid", "mode"],
    refused: &[],
};

pub(super) const EXTERNAL: Keys = Keys {
    place: Place::Other,
    honoured: &["name"],
    refused: &[],
};

/// Refuses a key that no other code took. Extensions (`x-…`) are the author's own.
pub(super) fn refuse(report: &mut Report<'_>, field: &Field<'_>, keys: &Keys) {
    let key = field.key;
    if key.starts_with("x-") {
        return;
    }
    if keys.refused.contains(&key) {
        match cure(key) {
            Some(cure) => report.refuse_with(field, "not supported yet", cure),
            None => report.refuse_with(
                field,
                "not supported yet",
                "take it out to deploy without it",
            ),
        }
        return;
    }
    match elsewhere(field, keys).or_else(|| nearest(key, keys.honoured.iter().chain(keys.refused)))
    {
        Some(near) => report.refuse_with(field, "unknown key", format!("did you mean {near}?")),
        None => report.refuse(field, "unknown key"),
    }
}

/// What to do instead of some keys.
fn cure(key: &str) -> Option<&'static str> {
    Some(match key {
        "restart" => "use deploy.restart_policy.condition: none, on-failure or any",
        "scale" => "use deploy.replicas",
        "build" => "build the image beforehand and load it with `clusterctl image load`",
        "env_file" => "write the variables under environment",
        "links" | "external_links" => "services of one network find each other by name",
        "expose" => "services of one network reach all of each other's ports",
        _ => return None,
    })
}

/// Keys that belong a level up or down.
fn elsewhere(field: &Field<'_>, keys: &Keys) -> Option<String> {
    let key = field.key;
    let at_service = keys.place == Place::Service;
    if at_service && (DEPLOY.honoured.contains(&key) || DEPLOY.refused.contains(&key)) {
        return Some(format!("deploy.{key}"));
    }
    if at_service && PLACEMENT.honoured.contains(&key) {
        return Some(format!("deploy.placement.{key}"));
    }
    match &field.node.value {
        Value::Map(entries)
            if keys.place == Place::Top && entries.iter().any(|e| e.key == "image") =>
        {
            Some(format!("services.{}", shorten(key)))
        }
        _ => None,
    }
}

/// The known word that was probably meant: at most two slips away, or begun by the same letters.
pub(super) fn nearest<'k>(
    word: &str,
    known: impl IntoIterator<Item = &'k (impl AsRef<str> + 'k)>,
) -> Option<String> {
    const LONGEST: usize = 40;
    if word.len() > LONGEST {
        return None;
    }
    let plain = |text: &str| text.to_lowercase().replace('-', "_");
    let word = plain(word);
    let rank = |candidate: &str| {
        let candidate = plain(candidate);
        let slips = distance(&word, &candidate);
        if slips <= 2 && slips * 2 < candidate.chars().count().max(3) {
            return Some(slips);
        }
        let begun = word.len() >= 3 && candidate.starts_with(&word);
        let longer = candidate.len() >= 4 && word.starts_with(&candidate);
        (begun || longer).then_some(3)
    };
    let ranked = known
        .into_iter()
        .filter_map(|k| rank(k.as_ref()).map(|rank| (rank, k.as_ref())));
    // The first of the best: honoured keys come before the others.
    ranked
        .min_by_key(|(rank, _)| *rank)
        .map(|(_, known)| known.to_owned())
}

/// Insertions, deletions, substitutions and swaps of neighbours between two short texts.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.iter().enumerate() {
        let mut row = Vec::with_capacity(b.len() + 1);
        row.push(i + 1);
        for (j, to) in b.iter().enumerate() {
            let mut best = (last[j] + usize::from(from != to))
                .min(last[j + 1] + 1)
                .min(row[j] + 1);
            if i > 0 && j > 0 && a[i - 1] == *to && b[j - 1] == *from {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_key_is_suggested() {
        let known = SERVICE
            .honoured
            .iter()
            .chain(SERVICE.refused)
            .copied()
            .collect::<Vec<_>>();
        for (word, want) in [
            ("dependson", Some("depends_on")),
            ("depends-on", Some("depends_on")),
            ("Image", Some("image")),
            ("imgae", Some("image")),
            ("enviroment", Some("environment")),
            ("env", Some("environment")),
            ("port", Some("ports")),
            ("volume", Some("volumes")),
            ("commands", Some("command")),
            ("entry", Some("entrypoint")),
            ("x", None),
            ("bananas", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, &known).as_deref(), want, "{word}");
        }
    }

    #[test]
    fn no_key_is_honoured_and_refused() {
        for keys in [
            TOP,
            SERVICE,
            DEPLOY,
            PLACEMENT,
            PORT,
            MOUNT,
            NETWORK,
            IPAM,
            IPAM_CONFIG,
            VOLUME,
            SECRET,
            CONFIG,
            SERVICE_BLOB,
        ] {
            assert!(keys.honoured.iter().all(|key| !keys.refused.contains(key)));
        }
    }

    #[test]
    fn distances() {
        for (a, b, want) in [
            ("", "", 0),
            ("", "ab", 2),
            ("ab", "ba", 1),
            ("kitten", "sitting", 3),
            ("a", "a", 0),
        ] {
            assert_eq!(distance(a, b), want);
            assert_eq!(distance(b, a), want);
        }
    }
}
