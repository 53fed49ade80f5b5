//! The OCI configuration of a container: Docker's defaults, and what the spec says.

use crate::spec::{ContainerSpec, ExecSpec, MountKind, User};
use serde_json::{Value, json};
use std::path::Path;

/// Docker's default capabilities.
const CAPABILITIES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

fn capability(name: &str) -> String {
    let upper = name.to_ascii_uppercase();
    if upper.starts_with("CAP_") {
        upper
    } else {
        format!("CAP_{upper}")
    }
}

fn capabilities(spec: &ContainerSpec, user: &User, unified: bool) -> Value {
    let dropped: Vec<String> = spec.cap_drop.iter().map(|c| capability(c)).collect();
    let all = dropped.iter().any(|c| c == "CAP_ALL");
    let mut list: Vec<String> = CAPABILITIES
        .iter()
        .map(|c| (*c).to_owned())
        // On cgroup v2 nothing here keeps a device that was made from being used.
        .filter(|c| !(unified && c == "CAP_MKNOD"))
        .filter(|c| !all && !dropped.contains(c))
        .collect();
    for added in spec.cap_add.iter().map(|c| capability(c)) {
        if !list.contains(&added) {
            list.push(added);
        }
    }
    // Only root begins with them; others may gain them by a set-uid program within the bounds.
    let own = if user.uid == 0 {
        list.clone()
    } else {
        Vec::new()
    };
    json!({ "bounding": list, "effective": own, "permitted": own, "inheritable": [], "ambient": [] })
}

fn environment(env: &[String]) -> Vec<String> {
    let mut env = env.to_vec();
    for (key, value) in [
        (
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        ),
        ("HOME", "/"),
    ] {
        if !env
            .iter()
            .any(|e| e.split_once('=').is_some_and(|(k, _)| k == key))
        {
            env.push(format!("{key}={value}"));
        }
    }
    env
}

fn process(
    spec: &ContainerSpec,
    unified: bool,
    user: &User,
    args: &[String],
    env: &[String],
    cwd: &Path,
) -> Value {
    json!({
        "terminal": false,
        "user": { "uid": user.uid, "gid": user.gid, "additionalGids": user.additional_gids },
        "args": args,
        "env": environment(env),
        "cwd": cwd,
        "capabilities": capabilities(spec, user, unified),
        "noNewPrivileges": spec.no_new_privileges,
    })
}

/// The process of an exec: the container's, with what the exec says otherwise.
pub(crate) fn exec_process(spec: &ContainerSpec, exec: &ExecSpec, unified: bool) -> Value {
    let mut env: Vec<String> = spec
        .env
        .iter()
        .filter(|own| {
            let key = own.split_once('=').map_or(own.as_str(), |(k, _)| k);
            !exec
                .env
                .iter()
                .any(|e| e.split_once('=').is_some_and(|(k, _)| k == key))
        })
        .cloned()
        .collect();
    env.extend(exec.env.iter().cloned());
    let user = exec.user.as_ref().unwrap_or(&spec.user);
    process(
        spec,
        unified,
        user,
        &exec.args,
        &env,
        exec.cwd.as_deref().unwrap_or(&spec.cwd),
    )
}

fn mounts(spec: &ContainerSpec, unified: bool) -> Vec<Value> {
    let usual = |target: &str, kind: &str, source: &str, options: &[&str]| json!({ "destination": target, "type": kind, "source": source, "options": options });
    let mut list = vec![
        usual("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        usual(
            "/dev",
            "tmpfs",
            "tmpfs",
            &["nosuid", "strictatime", "mode=755", "size=65536k"],
        ),
        usual(
            "/dev/pts",
            "devpts",
            "devpts",
            &[
                "nosuid",
                "noexec",
                "newinstance",
                "ptmxmode=0666",
                "mode=0620",
                "gid=5",
            ],
        ),
        usual(
            "/dev/shm",
            "tmpfs",
            "shm",
            &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"],
        ),
        usual(
            "/dev/mqueue",
            "mqueue",
            "mqueue",
            &["nosuid", "noexec", "nodev"],
        ),
        usual(
            "/sys",
            "sysfs",
            "sysfs",
            &["nosuid", "noexec", "nodev", "ro"],
        ),
    ];
    // A cgroup namespace comes with v2 only; on v1 the host's hierarchies are nothing a container should see.
    if unified {
        list.push(usual(
            "/sys/fs/cgroup",
            "cgroup",
            "cgroup",
            &["nosuid", "noexec", "nodev", "relatime", "ro"],
        ));
    }
    for mount in &spec.mounts {
        let mut options = mount.options.clone();
        let (kind, source) = match &mount.kind {
            MountKind::Bind { source } => {
                options.push("rbind".into());
                options.push("rprivate".into());
                ("bind", source.display().to_string())
            }
            MountKind::Tmpfs { size_bytes, mode } => {
                options.extend(["nosuid".into(), "nodev".into()]);
                options.push(format!("mode={:o}", mode.unwrap_or(0o1777)));
                options.extend(size_bytes.map(|size| format!("size={size}")));
                ("tmpfs", "tmpfs".into())
            }
        };
        if mount.read_only {
            options.push("ro".into());
        }
        list.push(json!({ "destination": mount.target, "type": kind, "source": source, "options": options }));
    }
    list
}

fn resources(spec: &ContainerSpec) -> Value {
    let wanted = &spec.resources;
    let device = |kind: &str, major: i64, minor: Option<i64>| json!({ "allow": true, "type": kind, "major": major, "minor": minor, "access": "rwm" });
    let mut devices = vec![
        json!({ "allow": false, "access": "rwm" }),
        json!({ "allow": true, "type": "c", "access": "m" }),
        json!({ "allow": true, "type": "b", "access": "m" }),
    ];
    for (major, minor) in [
        (1, 3),
        (1, 5),
        (1, 7),
        (1, 8),
        (1, 9),
        (5, 0),
        (5, 1),
        (5, 2),
    ] {
        devices.push(device("c", major, Some(minor)));
    }
    devices.push(json!({ "allow": true, "type": "c", "major": 136, "access": "rwm" }));
    let mut all = json!({ "devices": devices });
    if wanted.memory_bytes_max.is_some() || wanted.memory_bytes_reserved.is_some() {
        let limit = wanted.memory_bytes_max;
        all["memory"] = json!({ "limit": limit, "reservation": wanted.memory_bytes_reserved });
    }
    if let Some(nano) = wanted.nano_cpus_max {
        const PERIOD_US: u64 = 100_000;
        let quota = (u128::from(nano) * u128::from(PERIOD_US) / 1_000_000_000).max(1_000);
        all["cpu"] =
            json!({ "quota": u64::try_from(quota).unwrap_or(u64::MAX), "period": PERIOD_US });
    }
    if let Some(shares) = wanted.cpu_shares {
        all["cpu"]["shares"] = json!(shares);
    }
    if let Some(pids) = wanted.pids_max {
        all["pids"] = json!({ "limit": pids });
    }
    all
}

/// Whether this machine has cgroup v2 alone.
pub(crate) fn is_unified() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// The configuration. `unified`: cgroup v2.
pub(crate) fn config(spec: &ContainerSpec, cgroup: &str, unified: bool) -> Value {
    let mut namespaces = vec![
        json!({ "type": "pid" }),
        json!({ "type": "ipc" }),
        json!({ "type": "uts" }),
        json!({ "type": "mount" }),
        match &spec.netns {
            Some(path) => json!({ "type": "network", "path": path }),
            None => json!({ "type": "network" }),
        },
    ];
    if unified {
        namespaces.push(json!({ "type": "cgroup" }));
    }
    let mut config = json!({
        "ociVersion": "1.0.2",
        "root": { "path": spec.rootfs, "readonly": spec.read_only_rootfs },
        "process": process(spec, unified, &spec.user, &spec.args, &spec.env, &spec.cwd),
        "mounts": mounts(spec, unified),
        "annotations": {},
        "linux": {
            "cgroupsPath": cgroup,
            "namespaces": namespaces,
            "resources": resources(spec),
            "sysctl": spec.sysctls,
            "maskedPaths": [
                "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys",
                "/proc/latency_stats", "/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats",
                "/sys/devices/virtual/powercap", "/sys/firmware"
            ],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    });
    if let Some(hostname) = &spec.hostname {
        config["hostname"] = json!(hostname);
    }
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> ContainerSpec {
        ContainerSpec::new("t1", "/r", vec!["/bin/true".into()], "/log/t1.log")
    }

    #[test]
    fn the_configuration_is_one_that_libcontainer_reads() {
        for unified in [false, true] {
            let value = config(&spec(), "/clusterd/t1", unified);
            let read: oci_spec::runtime::Spec = serde_json::from_value(value).unwrap();
            assert_eq!(read.root().as_ref().unwrap().path(), Path::new("/r"));
        }
    }

    #[test]
    fn only_root_begins_with_capabilities() {
        let user = User {
            uid: 7,
            ..User::default()
        };
        assert_eq!(capabilities(&spec(), &user, false)["effective"], json!([]));
        assert_eq!(
            capabilities(&spec(), &user, false)["bounding"]
                .as_array()
                .unwrap()
                .len(),
            14
        );
        let mut dropped = spec();
        dropped.cap_drop = vec!["all".into()];
        dropped.cap_add = vec!["net_admin".into()];
        assert_eq!(
            capabilities(&dropped, &User::default(), false)["effective"],
            json!(["CAP_NET_ADMIN"])
        );
    }

    #[test]
    fn an_execs_environment_wins() {
        let mut container = spec();
        container.env = vec!["A=1".into(), "B=1".into()];
        let exec = ExecSpec {
            args: vec!["x".into()],
            env: vec!["B=2".into()],
            ..ExecSpec::default()
        };
        let env = exec_process(&container, &exec, false)["env"].to_string();
        assert!(
            env.contains("A=1") && env.contains("B=2") && !env.contains("B=1"),
            "{env}"
        );
    }
}
