//! What may be on a disk after its power was cut: all that was synced, and of the rest any part.
//!
//! Of each write that no sync covers, any of its sectors may be there; one may be there without those before
//! it. Files appear, are renamed and removed in order, and last once their folder was synced.

use super::world::{Call, Done};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

const SECTOR: usize = 512;

/// Numbers from a seed.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below a bound.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound.max(1) as u64).unwrap()
    }
}

/// How the unsynced part is chosen.
#[derive(Debug, Clone, Copy)]
pub enum Fate {
    /// None of it.
    Lost,
    /// All of it: as after kill -9.
    Kept,
    /// Any writes, each whole.
    Some,
    /// Any sectors of any writes.
    Torn,
}

pub const FATES: [Fate; 4] = [Fate::Torn, Fate::Some, Fate::Lost, Fate::Kept];

#[derive(Default)]
struct Content(Vec<u8>);

impl Content {
    fn write(&mut self, at: usize, bytes: &[u8]) {
        if self.0.len() < at + bytes.len() {
            self.0.resize(at + bytes.len(), 0);
        }
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }
}

/// Writes to `to` what is left of `from` when the power was cut after `end` of what was done.
pub fn write(done: &[Done], end: usize, fate: Fate, dice: &mut Dice, from: &Path, to: &Path) {
    // Which file a name is at each time, files being numbered.
    let mut names: BTreeMap<PathBuf, usize> = BTreeMap::new();
    let mut files = 0;
    // Up to where a file, a folder is synced.
    let mut synced: BTreeMap<usize, usize> = BTreeMap::new();
    let mut listed: BTreeMap<PathBuf, usize> = BTreeMap::new();
    let mut of: Vec<Option<usize>> = Vec::new();
    for step in &done[..end] {
        let file = match &step.call {
            Call::Create(path) => {
                files += 1;
                names.insert(path.clone(), files);
                Some(files)
            }
            Call::Write(path, ..) | Call::Resize(path, _) | Call::Lengthen(path, _) => {
                names.get(path).copied()
            }
            Call::Rename(from, to) => {
                let file = names.remove(from);
                names.extend(file.map(|file| (to.clone(), file)));
                file
            }
            Call::Remove(path) => names.remove(path),
            Call::Sync(path) => {
                let file = names.get(path).copied();
                let covers = match file {
                    Some(file) => synced.entry(file).or_default(),
                    None => listed.entry(path.clone()).or_default(),
                };
                *covers = step.covers.max(*covers);
                file
            }
            _ => None,
        };
        of.push(file);
    }
    let mut contents: BTreeMap<usize, Content> = BTreeMap::new();
    let mut there: BTreeMap<PathBuf, usize> = BTreeMap::new();
    let mut folders = Vec::new();
    let mut listing_goes_on = true;
    for (number, (step, file)) in done[..end].iter().zip(&of).enumerate() {
        let is_synced = file.is_some_and(|file| synced.get(&file).is_some_and(|c| number < *c));
        let mut is_listed = |path: &Path| {
            let above = path.parent().unwrap_or(Path::new(""));
            let lasts = listed.get(above).is_some_and(|covers| number < *covers);
            if !lasts {
                listing_goes_on &= match fate {
                    Fate::Lost => false,
                    Fate::Kept => true,
                    Fate::Some | Fate::Torn => dice.below(2) == 0,
                };
            }
            lasts || listing_goes_on
        };
        match (&step.call, file) {
            (Call::MakeDir(path), _) if is_listed(path) => folders.push(path.clone()),
            (Call::Create(path), Some(file)) if is_listed(path) => {
                there.insert(path.clone(), *file);
            }
            (Call::Rename(from, to), Some(file)) if is_listed(to) => {
                there.remove(from);
                there.insert(to.clone(), *file);
            }
            (Call::Remove(path), _) if is_listed(path) => {
                there.remove(path);
            }
            (Call::Resize(_, length), Some(file))
                if is_synced || matches!(fate, Fate::Kept) || dice.below(2) == 0 =>
            {
                let length = usize::try_from(*length).unwrap();
                contents.entry(*file).or_default().0.resize(length, 0);
            }
            (Call::Lengthen(_, length), Some(file))
                if is_synced || matches!(fate, Fate::Kept) || dice.below(2) == 0 =>
            {
                let content = &mut contents.entry(*file).or_default().0;
                let length = usize::try_from(*length).unwrap().max(content.len());
                content.resize(length, 0);
            }
            (Call::Write(_, at, bytes), Some(file)) => {
                let content = contents.entry(*file).or_default();
                let at = usize::try_from(*at).unwrap();
                match fate {
                    _ if is_synced => content.write(at, bytes),
                    Fate::Kept => content.write(at, bytes),
                    Fate::Lost => {}
                    Fate::Some if dice.below(2) == 0 => content.write(at, bytes),
                    Fate::Some => {}
                    Fate::Torn => {
                        let mut begin = 0;
                        while begin < bytes.len() {
                            let next = SECTOR - (at + begin) % SECTOR;
                            let end = bytes.len().min(begin + next);
                            if dice.below(2) == 0 {
                                content.write(at + begin, &bytes[begin..end]);
                            }
                            begin = end;
                        }
                    }
                }
            }
            _ => {}
        }
    }
    let place = |path: &Path| to.join(path.strip_prefix(from).unwrap());
    fs::create_dir_all(to).unwrap();
    for folder in folders {
        let _ = fs::create_dir_all(place(&folder));
    }
    for (path, file) in there {
        let place = place(&path);
        // Without its folder it is not there either.
        if place.parent().is_some_and(Path::is_dir) {
            fs::write(place, &contents.entry(file).or_default().0).unwrap();
        }
    }
}
