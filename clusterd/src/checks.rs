//! What this machine lacks, said at start with what to do about it.

use std::path::Path;
use std::process::{Command, Stdio};

/// Something missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lack {
    /// What, and the cure.
    pub text: String,
    /// Nothing works without it.
    pub fatal: bool,
}

/// Looks at the machine.
#[must_use]
pub fn machine() -> Vec<Lack> {
    let mut lacks = Vec::new();
    let mut lack = |fatal, text: &str| {
        lacks.push(Lack {
            text: text.into(),
            fatal,
        })
    };
    if !nix::unistd::geteuid().is_root() {
        lack(
            true,
            "clusterd is not root: it makes namespaces, mounts and networks; run it with sudo or as a service",
        );
        return lacks;
    }
    if !file_system("overlay") && !modprobe("overlay") {
        lack(
            false,
            "the kernel has no overlayfs: no container can start; load it with `modprobe overlay`, or use a kernel with \
             CONFIG_OVERLAY_FS",
        );
    }
    if !Path::new("/sys/module/vxlan").exists() && !modprobe("vxlan") {
        lack(
            false,
            "the kernel has no VXLAN: networks can't span nodes; load it with `modprobe vxlan`, or use a kernel with \
             CONFIG_VXLAN",
        );
    }
    if !runs("nft", "--version") {
        lack(
            false,
            "the program nft is missing: no network can be made; install the package nftables",
        );
    }
    if let Some(text) = cgroups(&std::fs::read_to_string("/proc/self/mounts").unwrap_or_default()) {
        lack(false, text);
    }
    lacks
}

fn file_system(name: &str) -> bool {
    let list = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    list.lines()
        .any(|line| line.split_whitespace().last() == Some(name))
}

fn quiet(mut command: Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|s| s.success())
}

fn modprobe(module: &str) -> bool {
    let mut command = Command::new("modprobe");
    command.arg("-q").arg(module);
    quiet(command)
}

fn runs(program: &str, arg: &str) -> bool {
    let mut command = Command::new(program);
    command.arg(arg);
    quiet(command)
}

/// Says what is wrong with the cgroups that are mounted.
fn cgroups(mounts: &str) -> Option<&'static str> {
    let of_type = |wanted: &str| {
        mounts
            .lines()
            .any(|line| line.split(' ').nth(2) == Some(wanted))
    };
    let memory_v1 = mounts.lines().any(|line| {
        let mut fields = line.split(' ').skip(2);
        fields.next() == Some("cgroup")
            && fields
                .next()
                .is_some_and(|opts| opts.split(',').any(|o| o == "memory"))
    });
    if of_type("cgroup2") || memory_v1 {
        None
    } else if of_type("cgroup") {
        Some(
            "cgroup v1 is mounted without its memory controller: boot with cgroup_enable=memory, or use cgroup v2",
        )
    } else {
        Some(
            "no cgroups are mounted: no container can start; mount them with `mount -t cgroup2 none /sys/fs/cgroup`",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::cgroups;

    #[test]
    fn each_kind_of_cgroups_is_known() {
        assert_eq!(cgroups("none /sys/fs/cgroup cgroup2 rw 0 0\n"), None);
        assert_eq!(
            cgroups("cgroup /sys/fs/cgroup/memory cgroup rw,relatime,memory 0 0\n"),
            None
        );
        assert!(
            cgroups("cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n")
                .unwrap()
                .contains("memory controller")
        );
        assert!(
            cgroups("proc /proc proc rw 0 0\n")
                .unwrap()
                .contains("mount -t cgroup2")
        );
    }
}
