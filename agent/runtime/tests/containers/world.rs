//! A folder, a runtime in it, and containers of it.

use super::*;

pub struct World {
    pub dir: tempfile::TempDir,
    pub runtime: Runtime,
}

pub fn busybox() -> PathBuf {
    ["/bin/busybox", "/usr/bin/busybox"]
        .into_iter()
        .map(PathBuf::from)
        .find(|p| p.exists())
        .expect("busybox is missing: install the package busybox-static")
}

pub fn runtime(run_dir: &Path) -> Runtime {
    let shim = ShimCommand {
        program: env!("CARGO_BIN_EXE_runtime-shim").into(),
        args: vec![],
    };
    Runtime::new(RuntimeConfig::new(run_dir.to_owned(), shim)).unwrap()
}

impl World {
    pub fn new() -> Self {
        assert!(
            nix::unistd::geteuid().is_root(),
            "these tests make containers: run them as root"
        );
        let dir = tempfile::tempdir().unwrap();
        let runtime = runtime(&dir.path().join("run"));
        Self { dir, runtime }
    }

    pub fn rootfs(&self, id: &str) -> PathBuf {
        let root = self.dir.path().join("root").join(id);
        for part in ["bin", "tmp", "etc"] {
            fs::create_dir_all(root.join(part)).unwrap();
        }
        fs::copy(busybox(), root.join("bin/busybox")).unwrap();
        for applet in [
            "sh", "sleep", "echo", "cat", "id", "hostname", "env", "true", "false", "pwd", "head",
            "seq",
        ] {
            symlink("busybox", root.join("bin").join(applet)).unwrap();
        }
        root
    }

    pub fn log(&self, id: &str) -> PathBuf {
        self.dir.path().join("log").join(id)
    }

    pub fn spec(&self, script: &str) -> ContainerSpec {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let id = format!(
            "rt-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let args = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
        ContainerSpec::new(id.clone(), self.rootfs(&id), args, self.log(&id))
    }

    pub async fn run(&self, script: &str) -> String {
        let spec = self.spec(script);
        let id = spec.id.clone();
        self.runtime.run(spec, vec![]).await.unwrap();
        id
    }

    pub async fn wait(&self, id: &str) -> ExitStatus {
        tokio::time::timeout(LONG, self.runtime.wait(id))
            .await
            .expect("it did not end")
            .unwrap()
    }

    pub async fn lines(&self, id: &str, query: LogQuery) -> Vec<(Stream, String)> {
        let mut lines = self.runtime.logs(id, self.log(id), query).await.unwrap();
        let mut all = Vec::new();
        while let Some(line) = tokio::time::timeout(LONG, lines.next())
            .await
            .expect("the log did not end")
        {
            let line = line.unwrap();
            all.push((line.stream, String::from_utf8(line.bytes).unwrap()));
        }
        all
    }

    pub async fn clean(&self, id: &str) {
        self.runtime.delete(id).await.unwrap();
        assert!(!self.dir.path().join("run").join(id).exists());
        assert_eq!(cgroups_named(id), Vec::<PathBuf>::new(), "cgroups are left");
    }
}

pub fn cgroups_named(id: &str) -> Vec<PathBuf> {
    fn walk(dir: &Path, id: &str, depth: u32, found: &mut Vec<PathBuf>) {
        let Ok(entries) = fs::read_dir(dir) else {
            return;
        };
        for entry in entries
            .flatten()
            .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()))
        {
            if entry.file_name().to_str() == Some(id) {
                found.push(entry.path());
            } else if depth > 0 {
                walk(&entry.path(), id, depth - 1, found);
            }
        }
    }
    let mut found = Vec::new();
    walk(Path::new("/sys/fs/cgroup"), id, 5, &mut found);
    found
}
