//! From a task and its image to the container that the runtime is to run. Pure but for what it is given.

use api::model::{ContainerSpec, Task};
use images::{ImageConfig, User};
use std::path::{Path, PathBuf};

/// Where a task's files are on this node.
#[derive(Debug, Clone)]
pub struct Places {
    /// `<state>/containers/<id>`.
    pub dir: PathBuf,
}

impl Places {
    /// The image's stack: rootfs, upper and work folder.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.dir.join("root")
    }

    /// The container's log; kept after it, for `service logs`.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.dir.join("log/container.log")
    }

    /// Says that the container was begun, and once it has ended, how.
    #[must_use]
    pub fn begun(&self) -> PathBuf {
        self.dir.join("begun")
    }

    /// The id of its image, which is in use as long as this is there.
    #[must_use]
    pub fn image(&self) -> PathBuf {
        self.dir.join("image")
    }

    /// Files bound over the image's: hosts, hostname, resolv.conf.
    #[must_use]
    pub fn etc(&self, name: &str) -> PathBuf {
        self.dir.join("etc").join(name)
    }

    /// Its secrets and configs: a file system of its own, in memory.
    #[must_use]
    pub fn secrets(&self) -> PathBuf {
        self.dir.join("secrets")
    }

    /// A volume without a name.
    #[must_use]
    pub fn anonymous(&self, number: usize) -> PathBuf {
        self.dir.join("volumes").join(number.to_string())
    }
}

/// A mount whose source is on this node already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadyMount {
    /// On the node.
    pub source: PathBuf,
    /// In the container.
    pub target: String,
    /// Not writable.
    pub read_only: bool,
    /// Further options, such as `nosuid`.
    pub options: &'static [&'static str],
}

/// Why there is no container to be made of a task.
#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    /// Neither the service nor the image says what to run.
    #[error("image {0} says no command; give the service an entrypoint or a command")]
    NoCommand(String),
    /// A signal the image made up.
    #[error("image {image}: {source}")]
    StopSignal {
        /// Its name.
        image: String,
        /// The runtime's word.
        #[source]
        source: runtime::Error,
    },
}

/// What is run: docker's rule is that a new entrypoint also drops the image's command.
#[must_use]
pub fn command(spec: &ContainerSpec, image: &ImageConfig) -> Vec<String> {
    let (entrypoint, inherited) = match &spec.entrypoint {
        Some(own) => (own.clone(), Vec::new()),
        None => (image.entrypoint.clone(), image.cmd.clone()),
    };
    let command = spec.command.clone().unwrap_or(inherited);
    entrypoint.into_iter().chain(command).collect()
}

/// The environment: the image's, then the service's, which wins; a bare `KEY` takes it away.
#[must_use]
pub fn environment(
    spec: &ContainerSpec,
    image: &ImageConfig,
    hostname: &str,
    home: Option<&str>,
) -> Vec<String> {
    let mut env: Vec<(String, Option<String>)> = Vec::new();
    let mut set = |entry: &str| {
        let (key, value) = match entry.split_once('=') {
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (entry, None),
        };
        match env.iter_mut().find(|(k, _)| k == key) {
            Some(slot) => slot.1 = value,
            None => env.push((key.to_owned(), value)),
        }
    };
    set("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    set(&format!("HOSTNAME={hostname}"));
    set(&format!(
        "HOME={}",
        home.filter(|h| !h.is_empty()).unwrap_or("/")
    ));
    for entry in image.env.iter().chain(&spec.env) {
        set(entry);
    }
    env.into_iter()
        .filter_map(|(key, value)| Some(format!("{key}={}", value?)))
        .collect()
}

/// What is needed beside the task's own words.
#[derive(Debug, Clone)]
pub struct Parts<'a> {
    /// The image's configuration.
    pub image: &'a ImageConfig,
    /// The mounted image.
    pub rootfs: &'a Path,
    /// Its user, looked up in it.
    pub user: &'a User,
    /// Volumes and binds.
    pub mounts: &'a [ReadyMount],
    /// The task's network namespace.
    pub netns: &'a Path,
    /// The task's places.
    pub places: &'a Places,
}

/// The container.
///
/// # Errors
/// When there is nothing to run, or the image's stop signal is none.
pub fn assemble(
    task: &Task,
    spec: &ContainerSpec,
    parts: &Parts<'_>,
) -> Result<runtime::ContainerSpec, ContainerError> {
    let args = command(spec, parts.image);
    if args.is_empty() {
        return Err(ContainerError::NoCommand(spec.image.clone()));
    }
    let hostname = crate::netview::hostname(task);
    let mut container =
        runtime::ContainerSpec::new(task.id.to_string(), parts.rootfs, args, parts.places.log());
    container.image.clone_from(&spec.image);
    container.env = environment(spec, parts.image, &hostname, Some(&parts.user.home));
    container.cwd = match parts.image.working_dir.as_str() {
        "" => PathBuf::from("/"),
        dir => Path::new("/").join(dir),
    };
    container.user = runtime::User {
        uid: parts.user.uid,
        gid: parts.user.gid,
        additional_gids: parts.user.additional_gids.clone(),
    };
    container.hostname = Some(hostname);
    container.netns = Some(parts.netns.to_owned());
    container.stop_signal = parts
        .image
        .stop_signal
        .as_deref()
        .filter(|name| !name.is_empty())
        .map(str::parse)
        .transpose()
        .map_err(|source| ContainerError::StopSignal {
            image: spec.image.clone(),
            source,
        })?;
    let own = ["hosts", "hostname", "resolv.conf"].map(|name| ReadyMount {
        source: parts.places.etc(name),
        target: format!("/etc/{name}"),
        read_only: false,
        options: &[],
    });
    container.mounts = own
        .iter()
        .chain(parts.mounts)
        .map(|mount| runtime::Mount {
            target: PathBuf::from(&mount.target),
            kind: runtime::MountKind::Bind {
                source: mount.source.clone(),
            },
            read_only: mount.read_only,
            options: mount.options.iter().map(|o| (*o).to_owned()).collect(),
        })
        .collect();
    container
        .labels
        .insert("service".into(), task.service.to_string());
    container.labels.insert("task".into(), task.name());
    Ok(container)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> ImageConfig {
        ImageConfig {
            entrypoint: vec!["entry".into()],
            cmd: vec!["a".into(), "b".into()],
            env: vec!["A=image".into(), "B=image".into()],
            ..ImageConfig::default()
        }
    }

    #[test]
    fn entrypoint_and_command_replace_as_dockers_do() {
        let own = |entrypoint: Option<&[&str]>, command: Option<&[&str]>| {
            let list = |l: Option<&[&str]>| l.map(|l| l.iter().map(|s| (*s).to_owned()).collect());
            let spec = ContainerSpec {
                entrypoint: list(entrypoint),
                command: list(command),
                ..ContainerSpec::default()
            };
            super::command(&spec, &image()).join(" ")
        };
        assert_eq!(own(None, None), "entry a b");
        assert_eq!(own(None, Some(&["c"])), "entry c");
        assert_eq!(own(Some(&["new"]), None), "new");
        assert_eq!(own(Some(&["new"]), Some(&["c"])), "new c");
        assert_eq!(own(Some(&[]), Some(&["c"])), "c");
        assert_eq!(own(None, Some(&[])), "entry");
    }

    #[test]
    fn the_services_environment_wins_over_the_images() {
        let spec = ContainerSpec {
            env: vec!["B=mine".into(), "C=".into(), "A".into()],
            ..ContainerSpec::default()
        };
        let env = environment(&spec, &image(), "host", Some("/home/x"));
        assert!(
            env.contains(&"B=mine".into()) && env.contains(&"C=".into()),
            "{env:?}"
        );
        assert!(
            !env.iter().any(|e| e.starts_with("A=")),
            "a bare key takes it away: {env:?}"
        );
        assert!(env.contains(&"HOSTNAME=host".into()) && env.contains(&"HOME=/home/x".into()));
        assert_eq!(env.iter().filter(|e| e.starts_with("B=")).count(), 1);
    }
}
