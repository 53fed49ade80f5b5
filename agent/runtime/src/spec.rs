//! What to run: the container as the agent asks for it. Plain data and its validation;
//! [`crate::oci`] turns it into an OCI configuration.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    lease::Terms,
    signal::Signal,
};

/// The longest container id; it names directories, sockets and cgroups.
pub const ID_LEN_MAX: usize = 64;

/// One container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// Names the run directory and the cgroup: letters, digits, `_`, `-`, `.`.
    pub id: String,
    /// The root filesystem, mounted by the caller; absolute.
    pub rootfs: PathBuf,
    /// What the image is called; for error messages only.
    pub image: String,
    /// The command and its arguments, entrypoint included.
    pub args: Vec<String>,
    /// `KEY=value`. `PATH` and `HOME` get Docker's defaults where missing.
    pub env: Vec<String>,
    /// The working directory; created in the root filesystem when missing.
    pub cwd: PathBuf,
    /// Who runs it.
    pub user: User,
    /// The host name inside; none keeps the host's.
    pub hostname: Option<String>,
    /// Mounts on top of the usual ones (`/proc`, `/dev`, `/sys`, …), in order.
    pub mounts: Vec<Mount>,
    /// The network namespace to join. None: a new one with an unconfigured
    /// loopback. The host's: `/proc/1/ns/net`.
    pub netns: Option<PathBuf>,
    /// Limits; the default is none.
    pub resources: Resources,
    /// Refuses writes to the root filesystem (mounts stay as they are).
    pub read_only_rootfs: bool,
    /// Stops set-uid programs from gaining privileges.
    pub no_new_privileges: bool,
    /// Capabilities beyond Docker's default set (`CAP_NET_ADMIN` or `NET_ADMIN`).
    pub cap_add: Vec<String>,
    /// Capabilities to take from the default set; `ALL` takes all.
    pub cap_drop: Vec<String>,
    /// Kernel parameters of the container's own namespaces.
    pub sysctls: BTreeMap<String, String>,
    /// What [`crate::Runtime::stop`] sends first; SIGTERM when none.
    pub stop_signal: Option<Signal>,
    /// Where the output goes.
    pub log: LogConfig,
    /// Kept with the container and given back by [`crate::Runtime::list`].
    pub labels: BTreeMap<String, String>,
    /// How long it may run without its node's lease being renewed; for ever when none.
    #[serde(default)]
    pub lease: Option<Terms>,
    /// It may not begin from then on, milliseconds since the machine's boot: the lease it was decided by is over, and one
    /// that runs again by then tells nothing of it.
    #[serde(default)]
    pub begin_before_ms: Option<u64>,
}

impl ContainerSpec {
    /// A container with defaults for everything but what must be given.
    pub fn new(
        id: impl Into<String>,
        rootfs: impl Into<PathBuf>,
        args: Vec<String>,
        log: impl Into<PathBuf>,
    ) -> Self {
        Self {
            id: id.into(),
            rootfs: rootfs.into(),
            image: String::new(),
            args,
            env: Vec::new(),
            cwd: PathBuf::from("/"),
            user: User::default(),
            hostname: None,
            mounts: Vec::new(),
            netns: None,
            resources: Resources::default(),
            read_only_rootfs: false,
            no_new_privileges: false,
            cap_add: Vec::new(),
            cap_drop: Vec::new(),
            sysctls: BTreeMap::new(),
            stop_signal: None,
            log: LogConfig::new(log),
            labels: BTreeMap::new(),
            lease: None,
            begin_before_ms: None,
        }
    }
}

/// Numeric identity inside the container (the caller resolves names in the image).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups.
    pub additional_gids: Vec<u32>,
}

/// One mount of the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Absolute, inside the container; created when missing.
    pub target: PathBuf,
    /// What is mounted.
    pub kind: MountKind,
    /// Refuses writes.
    pub read_only: bool,
    /// Further mount options, as `mount -o` takes them (`nosuid`, `rshared`, …).
    pub options: Vec<String>,
}

/// What a [`Mount`] mounts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountKind {
    /// A directory or file of the host; absolute and existing.
    Bind {
        /// The path on the host.
        source: PathBuf,
    },
    /// Memory.
    Tmpfs {
        /// At most so many bytes; the kernel's default when none.
        size_bytes: Option<u64>,
        /// Permission bits of its root; 1777 when none.
        mode: Option<u32>,
    },
}

/// Limits of a container. None means none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Memory in bytes; as much swap again where the kernel counts swap.
    pub memory_bytes_max: Option<u64>,
    /// Memory in bytes that is kept for it under pressure.
    pub memory_bytes_reserved: Option<u64>,
    /// CPU time in billionths of a core (1 500 000 000 is one and a half).
    pub nano_cpus_max: Option<u64>,
    /// Relative weight, Docker's scale: 1024 is normal.
    pub cpu_shares: Option<u64>,
    /// Processes and threads.
    pub pids_max: Option<u32>,
}

/// Where the shim writes a container's output, and how much of it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogConfig {
    /// The current file; older ones are `<path>.1` (newest) to `<path>.N`.
    pub path: PathBuf,
    /// A file is rotated before it grows over this.
    pub max_bytes: u64,
    /// How many files are kept, the current one included; at least 1.
    pub max_files: u32,
}

impl LogConfig {
    /// 3 files of 10 MiB.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            max_bytes: 10 * 1024 * 1024,
            max_files: 3,
        }
    }
}

/// A further process in a running container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecSpec {
    /// The command and its arguments.
    pub args: Vec<String>,
    /// `KEY=value`, added to the container's, the later winning.
    pub env: Vec<String>,
    /// The working directory; the container's when none.
    pub cwd: Option<PathBuf>,
    /// Who runs it; the container's user when none.
    pub user: Option<User>,
}

/// Refuses an id that can't name a directory, a socket and a cgroup.
pub fn validate_id(id: &str) -> Result<()> {
    let why = if id.is_empty() {
        "it is empty"
    } else if id.len() > ID_LEN_MAX {
        "it is longer than 64 bytes"
    } else if !id.as_bytes()[0].is_ascii_alphanumeric() {
        "it must begin with a letter or a digit"
    } else if !id
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
    {
        "only letters, digits, '_', '-' and '.' are allowed"
    } else {
        return Ok(());
    };
    Err(Error::InvalidId {
        id: id.to_owned(),
        why,
    })
}

/// Checks everything that can be checked without touching the machine.
pub fn validate(spec: &ContainerSpec) -> Result<()> {
    validate_id(&spec.id)?;
    let refuse = |field, why: String| {
        Err(Error::InvalidSpec {
            id: spec.id.clone(),
            field,
            why,
        })
    };
    if !spec.rootfs.is_absolute() {
        return refuse(
            "rootfs",
            format!("{} is not an absolute path", spec.rootfs.display()),
        );
    }
    if !spec.log.path.is_absolute() || spec.log.path.file_name().is_none() {
        return refuse(
            "log",
            format!("{} is not an absolute file path", spec.log.path.display()),
        );
    }
    if spec.log.max_files == 0 || spec.log.max_bytes < 4096 {
        return refuse(
            "log",
            "at least 1 file of at least 4096 bytes is needed".to_owned(),
        );
    }
    for mount in &spec.mounts {
        if !mount.target.is_absolute() {
            return refuse(
                "mounts",
                format!("target {} is not absolute", mount.target.display()),
            );
        }
        if let MountKind::Bind { source } = &mount.kind
            && !source.is_absolute()
        {
            return refuse(
                "mounts",
                format!("source {} is not absolute", source.display()),
            );
        }
    }
    if spec.resources.memory_bytes_max.is_some_and(|b| b < 6 << 20) {
        return refuse(
            "memory limit",
            "less than 6 MiB can't start a process".to_owned(),
        );
    }
    validate_process(&spec.id, &spec.args, &spec.env, &spec.cwd)
}

/// Checks what a container's and an exec's process have in common.
pub fn validate_process(
    id: &str,
    args: &[String],
    env: &[String],
    cwd: &std::path::Path,
) -> Result<()> {
    let refuse = |field, why: String| {
        Err(Error::InvalidSpec {
            id: id.to_owned(),
            field,
            why,
        })
    };
    if args.first().is_none_or(|program| program.is_empty()) {
        return refuse("command", "there is nothing to run".to_owned());
    }
    if let Some(arg) = args.iter().find(|a| a.contains('\0')) {
        return refuse("command", format!("{arg:?} contains a NUL byte"));
    }
    for entry in env {
        match entry.split_once('=') {
            Some((key, _)) if !key.is_empty() && !entry.contains('\0') => {}
            _ => return refuse("environment", format!("{entry:?} is not KEY=value")),
        }
    }
    if !cwd.is_absolute() {
        return refuse(
            "working directory",
            format!("{} is not an absolute path", cwd.display()),
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> ContainerSpec {
        ContainerSpec::new("t1", "/r", vec!["/bin/true".into()], "/log/t1.log")
    }

    #[test]
    fn a_good_spec_passes() {
        validate(&good()).unwrap();
    }

    #[test]
    fn ids_that_could_leave_the_run_directory_are_refused() {
        for id in [
            "",
            ".",
            "..",
            "a/b",
            "-x",
            ".tmp",
            "a b",
            "ä",
            &"x".repeat(65),
        ] {
            assert!(validate_id(id).is_err(), "{id:?}");
        }
        for id in ["a", "A1", "shop_web.1.x9-z"] {
            validate_id(id).unwrap();
        }
    }

    #[test]
    fn each_bad_field_is_named() {
        type Spoil = fn(&mut ContainerSpec);
        let cases: [(&str, Spoil); 7] = [
            ("command", |s| s.args.clear()),
            ("command", |s| s.args.push("a\0b".into())),
            ("environment", |s| s.env.push("NOEQUALS".into())),
            ("environment", |s| s.env.push("=x".into())),
            ("working directory", |s| s.cwd = "tmp".into()),
            ("rootfs", |s| s.rootfs = "r".into()),
            ("log", |s| s.log.max_files = 0),
        ];
        for (field, spoil) in cases {
            let mut spec = good();
            spoil(&mut spec);
            let text = validate(&spec).unwrap_err().to_string();
            assert!(text.contains(field) && text.contains("t1"), "{text}");
        }
    }
}
