//! Real containers, on a root file system of one busybox. Needs root.

mod world;

use runtime::logs::{LogQuery, Stream};
use runtime::{
    ContainerSpec, Error, ExecSpec, ExitStatus, LogConfig, Runtime, RuntimeConfig, ShimCommand,
    Signal,
};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use world::*;

const LONG: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn exit_codes_and_both_streams_are_kept() {
    let world = World::new();
    let id = world.run("echo out; echo err >&2; hostname; exit 7").await;
    assert_eq!(world.wait(&id).await.code, 7);
    let lines = world.lines(&id, LogQuery::default()).await;
    assert!(
        lines.contains(&(Stream::Stdout, "out".into()))
            && lines.contains(&(Stream::Stderr, "err".into())),
        "{lines:?}"
    );
    world.clean(&id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_ignores_the_stop_signal_is_killed_after_the_grace() {
    let world = World::new();
    let deaf = world
        .run("trap '' TERM; sleep 1000 & while true; do wait; done")
        .await;
    let ended = world
        .runtime
        .stop(&deaf, None, Duration::from_millis(200))
        .await
        .unwrap();
    assert_eq!((ended.code, ended.signal), (137, Some(9)));
    let polite = world
        .run("trap 'exit 3' TERM; echo ready; sleep 1000 & wait")
        .await;
    // The trap has to be set before the signal comes.
    let query = LogQuery {
        follow: true,
        ..LogQuery::default()
    };
    let mut lines = world
        .runtime
        .logs(&polite, world.log(&polite), query)
        .await
        .unwrap();
    let first = tokio::time::timeout(LONG, lines.next())
        .await
        .expect("it says nothing")
        .unwrap()
        .unwrap();
    assert_eq!(first.bytes, b"ready");
    let ended = world
        .runtime
        .stop(&polite, Some(Signal::TERM), LONG)
        .await
        .unwrap();
    assert_eq!(ended.code, 3, "{ended:?}");
    for id in [deaf, polite] {
        world.clean(&id).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_executed_says_so_and_leaves_nothing() {
    let world = World::new();
    let mut spec = world.spec("");
    spec.args = vec!["/bin/nothing-here".into()];
    let id = spec.id.clone();
    match world.runtime.run(spec, vec![]).await {
        Err(Error::Start { message, .. }) => assert!(message.contains("nothing-here"), "{message}"),
        other => panic!("{other:?}"),
    }
    assert!(world.runtime.list().await.unwrap().is_empty());
    assert!(cgroups_named(&id).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn exec_passes_streams_environment_and_code() {
    let world = World::new();
    let id = world.run("sleep 1000").await;
    let spec = ExecSpec {
        args: ["/bin/sh", "-c", "cat; echo \"$A\" >&2; exit 5"]
            .map(str::to_owned)
            .to_vec(),
        env: vec!["A=b".into()],
        ..ExecSpec::default()
    };
    let mut session = world.runtime.exec(&id, spec).await.unwrap();
    let mut stdin = session.stdin.take().unwrap();
    stdin.write_all(b"through").await.unwrap();
    drop(stdin);
    let (mut out, mut err) = (String::new(), String::new());
    session
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut out)
        .await
        .unwrap();
    session
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut err)
        .await
        .unwrap();
    assert_eq!(
        (out.as_str(), err.as_str(), session.wait().await.unwrap()),
        ("through", "b\n", 5)
    );
    let missing = ExecSpec {
        args: vec!["/bin/nope".into()],
        ..ExecSpec::default()
    };
    match world.runtime.exec(&id, missing).await {
        Err(Error::Start { code, .. }) => assert_eq!(code, 127),
        other => panic!("{other:?}"),
    }
    let mut long = world
        .runtime
        .exec(
            &id,
            ExecSpec {
                args: vec!["/bin/sleep".into(), "1000".into()],
                ..ExecSpec::default()
            },
        )
        .await
        .unwrap();
    long.kill();
    assert_eq!(
        tokio::time::timeout(LONG, long.wait())
            .await
            .unwrap()
            .unwrap(),
        137
    );
    world.clean(&id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_daemon_finds_containers_their_ends_and_their_descriptors() {
    let world = World::new();
    let spec = world.spec("cat /tmp/go; exit 4");
    let (id, root) = (spec.id.clone(), spec.rootfs.clone());
    nix::unistd::mkfifo(&root.join("tmp/go"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let (mut reader, mut writer) = std::io::pipe().unwrap();
    let held = vec![writer.try_clone().unwrap().into()];
    let started = world.runtime.run(spec, held).await.unwrap();

    let later = runtime(&world.dir.path().join("run"));
    let list = later.list().await.unwrap();
    assert_eq!(
        list.iter()
            .map(|c| (c.id.as_str(), c.pid))
            .collect::<Vec<_>>(),
        [(id.as_str(), Some(started.pid))]
    );
    let back = later.held_fds(&id).await.unwrap();
    writer.write_all(b"x").unwrap();
    drop(writer);
    let mut again = fs::File::from(back.into_iter().next().unwrap());
    again.write_all(b"y").unwrap();
    let mut got = [0; 2];
    reader.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"xy");

    fs::write(root.join("tmp/go"), "").unwrap();
    let ended = tokio::time::timeout(LONG, later.wait(&id))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(ended.code, 4);
    // Once more, long after: the file tells.
    assert_eq!(later.wait(&id).await.unwrap().code, 4);
    world.clean(&id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_whose_shim_was_killed_does_not_run_on() {
    let world = World::new();
    let id = world.run("sleep 1000").await;
    let record =
        fs::read_to_string(world.dir.path().join("run").join(&id).join("running.json")).unwrap();
    let record: serde_json::Value = serde_json::from_str(&record).unwrap();
    let pid = |who: &str| {
        nix::unistd::Pid::from_raw(i32::try_from(record[who]["pid"].as_i64().unwrap()).unwrap())
    };
    nix::sys::signal::kill(pid("shim"), nix::sys::signal::Signal::SIGKILL).unwrap();
    let ended = world.wait(&id).await;
    assert!(ended.message.unwrap().contains("shim"));
    world.clean(&id).await;
    let init = fs::read_to_string(format!("/proc/{}/cmdline", pid("init"))).unwrap_or_default();
    assert!(!init.contains("sleep"), "it runs on");
}

#[tokio::test(flavor = "multi_thread")]
async fn too_much_memory_is_told_as_such() {
    let world = World::new();
    let mut spec = world.spec("head -c 100000000 /dev/zero | { read -r x; sleep 1000; }");
    spec.args = [
        "/bin/sh",
        "-c",
        "x=$(head -c 200000000 /dev/zero | busybox tr '\\0' a); echo ${#x}",
    ]
    .map(str::to_owned)
    .to_vec();
    spec.resources.memory_bytes_max = Some(32 << 20);
    let id = spec.id.clone();
    world.runtime.run(spec, vec![]).await.unwrap();
    let ended = world.wait(&id).await;
    assert!(ended.oom_killed, "{ended:?}");
    world.clean(&id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn thirty_at_once() {
    let world = World::new();
    let specs: Vec<_> = (0..30)
        .map(|n| world.spec(&format!("echo {n}; sleep 1000")))
        .collect();
    let ids: Vec<String> = specs.iter().map(|s| s.id.clone()).collect();
    let runs = specs.into_iter().map(|spec| {
        let runtime = world.runtime.clone();
        tokio::spawn(async move { runtime.run(spec, vec![]).await })
    });
    for run in runs.collect::<Vec<_>>() {
        run.await.unwrap().unwrap();
    }
    assert_eq!(world.runtime.list().await.unwrap().len(), 30);
    for id in &ids {
        world.clean(id).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_followed_log_survives_rotation_and_ends_with_the_container() {
    let world = World::new();
    let mut spec = world.spec("for i in $(seq 2000); do echo line $i; done; exit 0");
    spec.log = LogConfig {
        path: world.log(&spec.id),
        max_bytes: 8192,
        max_files: 50,
    };
    let id = spec.id.clone();
    world.runtime.run(spec, vec![]).await.unwrap();
    let lines = world
        .lines(
            &id,
            LogQuery {
                follow: true,
                ..LogQuery::default()
            },
        )
        .await;
    let wanted: Vec<_> = (1..=2000)
        .map(|n| (Stream::Stdout, format!("line {n}")))
        .collect();
    assert_eq!(lines.len(), wanted.len());
    assert_eq!(lines, wanted);
    let tail = world
        .lines(
            &id,
            LogQuery {
                tail: Some(3),
                ..LogQuery::default()
            },
        )
        .await;
    assert_eq!(tail, wanted[1997..]);
    world.clean(&id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn users_folders_and_environment_are_as_asked() {
    let world = World::new();
    let mut spec = world.spec("id -u; pwd; echo $A; hostname; cat /etc/hosts");
    spec.user.uid = 1000;
    spec.env = vec!["A=b".into()];
    spec.cwd = "/tmp".into();
    spec.hostname = Some("inside".into());
    let hosts = world.dir.path().join("hosts");
    fs::write(&hosts, "127.0.0.1 localhost\n").unwrap();
    spec.mounts.push(runtime::Mount {
        target: "/etc/hosts".into(),
        kind: runtime::MountKind::Bind { source: hosts },
        read_only: true,
        options: vec![],
    });
    let id = spec.id.clone();
    world.runtime.run(spec, vec![]).await.unwrap();
    assert_eq!(world.wait(&id).await.code, 0);
    let said: Vec<String> = world
        .lines(&id, LogQuery::default())
        .await
        .into_iter()
        .map(|l| l.1)
        .collect();
    assert_eq!(said, ["1000", "/tmp", "b", "inside", "127.0.0.1 localhost"]);
    world.clean(&id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_begins_with_the_usual_signals() {
    let world = World::new();
    let id = world.run("cat /proc/self/status").await;
    assert_eq!(world.wait(&id).await.code, 0);
    let lines = world.lines(&id, LogQuery::default()).await;
    for field in ["SigBlk:", "SigIgn:"] {
        let line = lines.iter().find(|l| l.1.starts_with(field)).expect(field);
        let mask = u64::from_str_radix(line.1.split_whitespace().last().unwrap(), 16).unwrap();
        // A shell may ignore some of its own accord; these two are what a parent passes on.
        let inherited = (1 << (libc::SIGPIPE - 1)) | (1 << (libc::SIGCHLD - 1));
        assert_eq!(mask & inherited, 0, "{}", line.1);
    }
    world.clean(&id).await;
}

/// Processes that were forked off a shim of this folder and have not become something else.
fn shims_of(folder: &Path) -> Vec<String> {
    let needle = folder.display().to_string();
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.parse::<u32>().is_ok())
        .filter(|pid| {
            fs::read_to_string(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|words| words.split('\0').any(|word| word == needle))
        })
        .collect()
}

/// What the next daemon does with a start that a killed one was in the middle of: at any moment of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_is_cut_off_leaves_nothing() {
    let world = World::new();
    let cuts = (0..32).map(|after_ms| {
        let (world, spec) = (&world, world.spec("sleep 1000"));
        async move {
            let id = spec.id.clone();
            let run = world.runtime.clone();
            let folder = world.dir.path().join("run").join(&id);
            let starting = tokio::spawn(async move { run.run(spec, vec![]).await });
            while !folder.exists() && !starting.is_finished() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            tokio::time::sleep(Duration::from_millis(after_ms)).await;
            world.runtime.delete(&id).await.unwrap();
            let is_cut = starting.await.unwrap().is_err();
            // It may have begun, or got through, just after the look.
            world.runtime.delete(&id).await.unwrap();
            assert!(!folder.exists(), "{after_ms} ms");
            assert!(!folder.with_added_extension("gone").exists());
            assert_eq!(cgroups_named(&id), [] as [PathBuf; 0], "{after_ms} ms");
            assert_eq!(shims_of(&folder), [] as [String; 0], "{after_ms} ms");
            is_cut
        }
    });
    let cut = futures_util::future::join_all(cuts).await;
    assert!(cut.contains(&true), "no start was cut off");
}

#[tokio::test]
async fn a_container_ends_with_its_lease_though_nobody_looks_and_none_begins_without() {
    use runtime::lease::{Terms, boot_ms};
    let world = World::new();
    let leased = |lease_ms, script: &str| {
        let mut spec = world.spec(script);
        spec.lease = Some(Terms {
            lease_ms,
            grace_ms: 300,
        });
        spec
    };
    let refused = world.runtime.run(leased(60_000, "sleep 60"), vec![]).await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("the node has no lease"), "{refused}");
    world.runtime.renew_lease(boot_ms().unwrap()).unwrap();
    // Decided by a lease that was over since.
    let mut late = leased(60_000, "sleep 60");
    late.begin_before_ms = Some(boot_ms().unwrap());
    let refused = world.runtime.run(late, vec![]).await.unwrap_err();
    assert!(
        refused.to_string().contains("over before it had begun"),
        "{refused}"
    );
    // One that doesn't listen, and one whose lease is far from over.
    let deaf = leased(700, "trap '' TERM; while true; do sleep 1; done");
    let (short, long) = (deaf, leased(600_000, "sleep 60"));
    let (short_id, long_id) = (short.id.clone(), long.id.clone());
    world.runtime.run(short, vec![]).await.unwrap();
    world.runtime.run(long, vec![]).await.unwrap();
    let exit = tokio::time::timeout(LONG, world.runtime.wait(&short_id))
        .await
        .expect("it ran on")
        .unwrap();
    assert_eq!(exit.code, 137);
    let why = exit.message.unwrap_or_default();
    assert!(why.contains("heard no manager for 700 ms"), "{why}");
    let running = world.runtime.list().await.unwrap();
    let running = running.iter().find(|state| state.id == long_id).unwrap();
    assert!(running.pid.is_some() && running.exit.is_none());
    world.runtime.delete(&short_id).await.unwrap();
    world.runtime.delete(&long_id).await.unwrap();
}
