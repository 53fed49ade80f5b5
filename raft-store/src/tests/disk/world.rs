//! A watched folder: what was done to its files, in order, and which call is to fail.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

/// A call on a file.
#[derive(Debug, Clone)]
pub enum Call {
    Open(PathBuf),
    /// From where, and how much.
    Read(PathBuf, u64, usize),
    SyncRange(PathBuf),
    Create(PathBuf),
    MakeDir(PathBuf),
    Write(PathBuf, u64, Vec<u8>),
    Resize(PathBuf, u64),
    /// To at least so many bytes.
    Lengthen(PathBuf, u64),
    Sync(PathBuf),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
}

impl Call {
    fn is_change(&self) -> bool {
        !matches!(self, Self::Open(_) | Self::Read(..) | Self::SyncRange(_))
    }

    /// What is called, and on which file, without its folder.
    pub fn name(&self) -> String {
        let (what, path) = match self {
            Self::Open(path) => ("open", path),
            Self::Read(path, ..) => ("read", path),
            Self::SyncRange(path) => ("sync a range of", path),
            Self::Create(path) => ("create", path),
            Self::MakeDir(path) => ("make", path),
            Self::Write(path, ..) => ("write", path),
            Self::Resize(path, _) => ("resize", path),
            Self::Lengthen(path, _) => ("lengthen", path),
            Self::Sync(path) => ("sync", path),
            Self::Rename(path, _) => ("rename", path),
            Self::Remove(path) => ("remove", path),
        };
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // Names that are numbers: one kind.
        let name = name.trim_start_matches(|c: char| c.is_ascii_digit() || c == 'X');
        format!("{what} {name}")
    }
}

/// Something that was done.
#[derive(Debug)]
pub struct Done {
    pub call: Call,
    /// Of a sync: how much had been done when it began.
    pub covers: usize,
}

/// Which call fails.
#[derive(Debug, Clone, Copy)]
pub struct Fault {
    /// Of all calls, counted from 0.
    pub at: usize,
    pub errno: i32,
    /// All that come after it, too, but for those that only read.
    pub stays: bool,
}

#[derive(Default)]
struct Inner {
    done: Vec<Done>,
    calls: usize,
    kinds: BTreeMap<String, Vec<usize>>,
    fault: Option<Fault>,
    /// The one that failed.
    failed: Option<String>,
    sync_takes: Duration,
    keeps: bool,
    /// Pages in memory: reading them asks no disk.
    cached: BTreeSet<(PathBuf, u64)>,
}

const PAGE: u64 = 4096;

impl Inner {
    /// Whether the disk is asked.
    fn asks(&mut self, call: &Call) -> bool {
        let (path, at, length) = match call {
            Call::Read(path, at, length) => (path, *at, *length),
            Call::Write(path, at, bytes) => (path, *at, bytes.len()),
            _ => return true,
        };
        let pages = at / PAGE..(at + length as u64).div_ceil(PAGE);
        let is_news: Vec<bool> = pages
            .map(|page| self.cached.insert((path.clone(), page)))
            .collect();
        is_news.contains(&true) || matches!(call, Call::Write(..))
    }
}

/// A watched folder.
pub struct World {
    root: PathBuf,
    inner: Mutex<Inner>,
}

static COUNT: AtomicUsize = AtomicUsize::new(0);
static ALL: RwLock<Vec<Arc<World>>> = RwLock::new(Vec::new());

impl World {
    /// Whether any folder is watched.
    pub fn any() -> bool {
        COUNT.load(Ordering::Relaxed) > 0
    }

    /// The one that a file belongs to.
    pub fn of(path: &Path) -> Option<Arc<Self>> {
        let all = ALL.read().unwrap_or_else(PoisonError::into_inner);
        all.iter()
            .find(|world| path.starts_with(&world.root))
            .cloned()
    }

    fn start(root: &Path, inner: Inner) -> Watched {
        let world = Arc::new(Self {
            root: root.to_owned(),
            inner: Mutex::new(inner),
        });
        ALL.write()
            .unwrap_or_else(PoisonError::into_inner)
            .push(world.clone());
        COUNT.fetch_add(1, Ordering::SeqCst);
        Watched(world)
    }

    /// Records what is done to a folder; what is there already lasts.
    pub fn record(root: &Path) -> Watched {
        let mut done = Vec::new();
        existing(root, &mut done);
        let inner = Inner {
            done,
            keeps: true,
            ..Inner::default()
        };
        Self::start(root, inner)
    }

    /// Counts the calls on a folder, and has one fail.
    pub fn fail(root: &Path, fault: Option<Fault>) -> Watched {
        let inner = Inner {
            fault,
            ..Inner::default()
        };
        Self::start(root, inner)
    }

    /// Every sync in the folder takes so much longer.
    pub fn slow(root: &Path, sync_takes: Duration) -> Watched {
        let inner = Inner {
            sync_takes,
            ..Inner::default()
        };
        Self::start(root, inner)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a call, or not.
    pub fn run(
        &self,
        what: Call,
        call: impl FnOnce() -> i64,
        refuse: impl FnOnce(i32) -> i64,
    ) -> i64 {
        let mut inner = self.lock();
        if !inner.asks(&what) {
            return call();
        }
        let number = inner.calls;
        inner.calls += 1;
        inner.kinds.entry(what.name()).or_default().push(number);
        if let Some(fault) = inner.fault {
            let is_due = number == fault.at || number > fault.at && fault.stays && what.is_change();
            if is_due {
                inner.failed.get_or_insert_with(|| what.name());
                drop(inner);
                return refuse(fault.errno);
            }
        }
        if let Call::Sync(_) = what {
            // Others go on writing meanwhile.
            let (covers, takes) = (inner.done.len(), inner.sync_takes);
            drop(inner);
            std::thread::sleep(takes);
            let result = call();
            if result >= 0 {
                self.keep(&mut self.lock(), what, covers);
            }
            return result;
        }
        let result = call();
        if result >= 0 && what.is_change() {
            let what = match what {
                Call::Write(path, at, mut data) => {
                    data.truncate(usize::try_from(result).unwrap_or(0));
                    Call::Write(path, at, data)
                }
                other => other,
            };
            self.keep(&mut inner, what, 0);
        }
        result
    }

    fn keep(&self, inner: &mut Inner, call: Call, covers: usize) {
        if inner.keeps {
            inner.done.push(Done { call, covers });
        }
    }
}

/// What makes a folder as it is, each step of it synced.
fn existing(dir: &Path, done: &mut Vec<Done>) {
    let mut push = |call, covers| done.push(Done { call, covers });
    let mut folders = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            push(Call::MakeDir(path.clone()), 0);
            folders.push(path);
        } else {
            let bytes = std::fs::read(&path).unwrap();
            push(Call::Create(path.clone()), 0);
            push(Call::Write(path.clone(), 0, bytes), 0);
            push(Call::Sync(path), usize::MAX);
        }
    }
    push(Call::Sync(dir.to_owned()), usize::MAX);
    for folder in folders {
        existing(&folder, done);
    }
    // Only what is there by now.
    let covers = done.len();
    for step in done.iter_mut() {
        step.covers = step.covers.min(covers);
    }
}

/// Watches until it is dropped.
pub struct Watched(Arc<World>);

impl Watched {
    /// How much was done.
    pub fn done(&self) -> usize {
        self.0.lock().done.len()
    }

    /// All that was done, and no more from now on.
    pub fn take(&self) -> Vec<Done> {
        let mut inner = self.0.lock();
        inner.keeps = false;
        std::mem::take(&mut inner.done)
    }

    /// Which calls there were, by what they were.
    pub fn kinds(&self) -> BTreeMap<String, Vec<usize>> {
        self.0.lock().kinds.clone()
    }

    /// What failed.
    pub fn failed(&self) -> Option<String> {
        self.0.lock().failed.clone()
    }

    /// Nothing is in memory any more, as after a start of the machine.
    pub fn forget(&self) {
        self.0.lock().cached.clear();
    }

    /// The fault is over.
    pub fn mend(&self) {
        self.0.lock().fault = None;
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let mut all = ALL.write().unwrap_or_else(PoisonError::into_inner);
        all.retain(|world| !Arc::ptr_eq(world, &self.0));
        COUNT.fetch_sub(1, Ordering::SeqCst);
    }
}
