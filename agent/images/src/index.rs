//! What the store holds: the one file that says which images there are. Everything on disk that it does
//! not name is rubbish, to be collected. The lookups are pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::digest::{Digest, ImageId};
use crate::error::{Error, Result};
use crate::reference::Reference;

const VERSION: u32 = 1;
const FILE: &str = "index.json";
/// Shorter prefixes of ids are taken for names alone.
const ID_PREFIX_MIN: usize = 4;

/// One layer of a stored image.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct LayerRecord {
    pub(crate) diff_id: Digest,
    pub(crate) chain_id: Digest,
    /// Bytes of its files, unpacked.
    pub(crate) bytes: u64,
}

/// One stored image.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) manifest: Digest,
    /// Other digests it was asked for by: of an index over several platforms.
    pub(crate) list_digests: BTreeSet<Digest>,
    pub(crate) references: BTreeSet<Reference>,
    pub(crate) created: Option<String>,
    pub(crate) layers: Vec<LayerRecord>,
    /// A registry has it, so it can be had again.
    pub(crate) pulled: bool,
    /// Seconds since 1970 when a container last used it, or it came.
    pub(crate) last_used_s: u64,
}

/// All stored images, by id.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Index {
    version: u32,
    pub(crate) images: BTreeMap<ImageId, Record>,
}

/// When the reaper takes an image that no container uses.
#[derive(Debug, Clone, Copy)]
pub struct PrunePolicy {
    /// Now.
    pub now: SystemTime,
    /// An image without a name goes when unused for so long.
    pub untagged_after: Duration,
    /// A pulled image goes, names and all, when unused for so long; none: never. Loaded images with a name
    /// are never taken, since they could not be had again.
    pub pulled_after: Option<Duration>,
}

/// What a removal did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removed {
    /// Names dropped.
    pub untagged: Vec<Reference>,
    /// The image, if it is gone altogether.
    pub deleted: Option<ImageId>,
}

impl Index {
    /// Reads the store's index; an empty one if there is none yet.
    pub(crate) fn read(dir: &Path) -> Result<Self> {
        let path = dir.join(FILE);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(Error::io("read", &path)(error)),
        };
        let damaged = |reason: String| Error::DamagedIndex {
            path: path.clone(),
            reason,
        };
        let index: Self =
            serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        if index.version > VERSION {
            return Err(damaged(format!(
                "version {}, this program knows {VERSION}",
                index.version
            )));
        }
        Ok(index)
    }

    /// Writes it so that a crash leaves the old or the new one. What it names must be on disk before.
    pub(crate) fn write(&mut self, dir: &Path) -> Result<()> {
        self.version = VERSION;
        let path = dir.join(FILE);
        let temp = dir.join("index.json.new");
        let bytes =
            serde_json::to_vec(self).map_err(|error| Error::io("write", &path)(error.into()))?;
        let written = File::create(&temp).and_then(|mut file| {
            file.write_all(&bytes)?;
            file.sync_all()
        });
        if let Err(error) = written {
            let _ = fs::remove_file(&temp);
            return Err(Error::io("write", &path)(error));
        }
        fs::rename(&temp, &path)
            .and_then(|()| File::open(dir)?.sync_all())
            .map_err(Error::io("write", &path))
    }

    /// The image a text names: a name, a name with a digest, an id or its beginning.
    pub(crate) fn find(&self, name: &str) -> Result<Option<ImageId>> {
        if let Some(prefix) = name.strip_prefix("sha256:") {
            return self.find_id(name, prefix);
        }
        if is_hex(name) && name.len() == 64 {
            return self.find_id(name, name);
        }
        let reference: Reference = name.parse()?;
        if let Some(id) = self.find_reference(&reference) {
            return Ok(Some(id));
        }
        if is_hex(name) && name.len() >= ID_PREFIX_MIN {
            self.find_id(name, name)
        } else {
            Ok(None)
        }
    }

    /// A digest pins content, whatever repository it is asked of; else the tag decides.
    pub(crate) fn find_reference(&self, reference: &Reference) -> Option<ImageId> {
        let matches = |record: &Record| match reference.digest() {
            Some(digest) => record.manifest == digest || record.list_digests.contains(&digest),
            None => record.references.contains(reference),
        };
        self.images
            .iter()
            .find(|(_, record)| matches(record))
            .map(|(id, _)| *id)
    }

    fn find_id(&self, written: &str, prefix: &str) -> Result<Option<ImageId>> {
        if !is_hex(prefix) || prefix.is_empty() || prefix.len() > 64 {
            let reason = "an image id is up to 64 hex digits".to_owned();
            return Err(Error::BadReference {
                name: written.chars().take(300).collect(),
                reason,
            });
        }
        let found: Vec<ImageId> = self
            .images
            .keys()
            .filter(|id| id.hex().starts_with(prefix))
            .copied()
            .collect();
        match found.as_slice() {
            [] => Ok(None),
            [id] => Ok(Some(*id)),
            several => Err(Error::AmbiguousId {
                prefix: written.to_owned(),
                candidates: several
                    .iter()
                    .take(5)
                    .map(Digest::short)
                    .collect::<Vec<_>>()
                    .join(", "),
            }),
        }
    }

    /// Enters an image, or joins it with what is known of it; its names leave other images.
    pub(crate) fn add(&mut self, id: ImageId, mut record: Record) {
        for (other, existing) in &mut self.images {
            if *other != id {
                existing
                    .references
                    .retain(|reference| !record.references.contains(reference));
            }
        }
        if let Some(old) = self.images.remove(&id) {
            if old.manifest != record.manifest {
                record.list_digests.insert(old.manifest);
            }
            record.list_digests.extend(old.list_digests);
            record.references.extend(old.references);
            record.pulled |= old.pulled;
        }
        self.images.insert(id, record);
    }

    /// Drops a name, or all of an image's when it is named by id; the image with its last name, unless it is
    /// in use.
    pub(crate) fn remove(
        &mut self,
        name: &str,
        in_use: &BTreeSet<ImageId>,
        force: bool,
    ) -> Result<Option<Removed>> {
        let Some(id) = self.find(name)? else {
            return Ok(None);
        };
        let Some(record) = self.images.get_mut(&id) else {
            return Ok(None);
        };
        let tag = name
            .parse::<Reference>()
            .ok()
            .filter(|reference| record.references.contains(reference));
        if tag.is_none() && record.references.len() > 1 && !force {
            let names = record
                .references
                .iter()
                .map(Reference::familiar)
                .collect::<Vec<_>>()
                .join(", ");
            return Err(Error::SeveralNames {
                id: id.short(),
                names,
            });
        }
        let mut removed = Removed::default();
        let untagged: Vec<Reference> = match tag {
            Some(tag) => vec![tag],
            None => record.references.iter().cloned().collect(),
        };
        let last = untagged.len() == record.references.len();
        if last && in_use.contains(&id) && !force {
            return Err(Error::InUse {
                name: name.to_owned(),
                id: id.short(),
            });
        }
        record
            .references
            .retain(|reference| !untagged.contains(reference));
        removed.untagged = untagged;
        if last && !in_use.contains(&id) {
            self.images.remove(&id);
            removed.deleted = Some(id);
        }
        Ok(Some(removed))
    }

    /// The reaper's choice. Images in use are noted as used now.
    pub(crate) fn prune(
        &mut self,
        in_use: &BTreeSet<ImageId>,
        policy: &PrunePolicy,
    ) -> Vec<ImageId> {
        let now = seconds(policy.now);
        let mut gone = Vec::new();
        self.images.retain(|id, record| {
            if in_use.contains(id) {
                record.last_used_s = record.last_used_s.max(now);
                return true;
            }
            let unused = now.saturating_sub(record.last_used_s);
            let due = (record.references.is_empty() && unused >= policy.untagged_after.as_secs())
                || (record.pulled
                    && policy
                        .pulled_after
                        .is_some_and(|after| unused >= after.as_secs()));
            if due {
                gone.push(*id);
            }
            !due
        });
        gone
    }

    /// Names in `blobs/` that are kept.
    pub(crate) fn blobs(&self) -> BTreeSet<String> {
        self.images
            .iter()
            .flat_map(|(id, record)| [id.hex(), record.manifest.hex()])
            .collect()
    }

    /// Names in `layers/` that are kept.
    pub(crate) fn layers(&self) -> BTreeSet<String> {
        self.images
            .values()
            .flat_map(|record| &record.layers)
            .map(|layer| layer.chain_id.hex())
            .collect()
    }
}

/// Seconds since 1970.
pub(crate) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

fn is_hex(text: &str) -> bool {
    text.bytes()
        .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(manifest: &[u8], names: &[&str]) -> Record {
        Record {
            manifest: Digest::of(manifest),
            list_digests: BTreeSet::new(),
            references: names.iter().map(|name| name.parse().unwrap()).collect(),
            created: None,
            layers: Vec::new(),
            pulled: false,
            last_used_s: 1000,
        }
    }

    fn index(images: &[(&[u8], &[&str])]) -> Index {
        let mut index = Index::default();
        for (name, names) in images {
            index.add(Digest::of(name), record(name, names));
        }
        index
    }

    #[test]
    fn names_digests_and_id_prefixes_find() {
        let index = index(&[(b"a", &["redis", "redis:7"]), (b"b", &[])]);
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        for (name, id) in [
            ("redis", Some(a)),
            ("docker.io/library/redis:7", Some(a)),
            ("redis:8", None),
            (&format!("redis@{a}"), Some(a)),
            (&format!("other/name:tag@{b}"), Some(b)),
            (&b.to_string(), Some(b)),
            (&b.hex(), Some(b)),
            (&b.hex()[..6], Some(b)),
            (&b.to_string()[..12], Some(b)),
            ("abcd", None),
        ] {
            assert_eq!(index.find(name).unwrap(), id, "{name}");
        }
        assert!(index.find("Bad Name").is_err());
        assert!(index.find("sha256:xyz").is_err());
    }

    #[test]
    fn a_shared_prefix_is_ambiguous() {
        let mut images = Index::default();
        for n in 0..40_u32 {
            images.add(Digest::of(&n.to_le_bytes()), record(&n.to_le_bytes(), &[]));
        }
        let shared = images
            .images
            .keys()
            .map(|id| id.hex()[..1].to_owned())
            .fold(BTreeMap::new(), |mut counts, p| {
                *counts.entry(p).or_insert(0) += 1;
                counts
            });
        let (prefix, _) = shared.into_iter().find(|(_, n)| *n > 1).unwrap();
        assert!(matches!(
            images.find(&format!("sha256:{prefix}")),
            Err(Error::AmbiguousId { .. })
        ));
    }

    #[test]
    fn a_name_moves_to_the_newer_image() {
        let index = index(&[(b"a", &["redis"]), (b"b", &["redis"])]);
        assert_eq!(index.find("redis").unwrap(), Some(Digest::of(b"b")));
        assert!(index.images[&Digest::of(b"a")].references.is_empty());
    }

    #[test]
    fn removal_obeys_use_and_names() {
        let a = Digest::of(b"a");
        let free = BTreeSet::new();
        let used = BTreeSet::from([a]);
        let two: &[(&[u8], &[&str])] = &[(b"a", &["x:1", "x:2"])];
        let one: &[(&[u8], &[&str])] = &[(b"a", &["x:1"])];
        // images, name, in use, force -> names dropped and whether deleted, or an error
        for (images, name, in_use, force, expected) in [
            (two, "x:1".to_owned(), &free, false, Ok((1, false))),
            (two, "x:1".to_owned(), &used, false, Ok((1, false))),
            (two, a.hex(), &free, false, Err("several names")),
            (two, a.hex(), &free, true, Ok((2, true))),
            (two, a.hex(), &used, true, Ok((2, false))),
            (one, "x:1".to_owned(), &free, false, Ok((1, true))),
            (one, "x:1".to_owned(), &used, false, Err("in use")),
            (one, "x:1".to_owned(), &used, true, Ok((1, false))),
            (one, a.hex(), &used, false, Err("in use")),
            (one, format!("x@{a}"), &free, false, Ok((1, true))),
        ] {
            let mut index = index(images);
            match (index.remove(&name, in_use, force), expected) {
                (Ok(Some(removed)), Ok((untagged, deleted))) => {
                    assert_eq!(
                        (removed.untagged.len(), removed.deleted.is_some()),
                        (untagged, deleted),
                        "{name}"
                    );
                    assert_eq!(index.images.contains_key(&a), !deleted);
                }
                (Err(error), Err(text)) => assert!(error.to_string().contains(text), "{error}"),
                (got, expected) => panic!("{name}: {got:?} is not {expected:?}"),
            }
        }
        assert!(index(one).remove("y", &free, false).unwrap().is_none());
    }

    #[test]
    fn the_reaper_spares_what_cannot_be_had_again() {
        let mut images = index(&[
            (b"untagged", &[]),
            (b"loaded", &["l"]),
            (b"pulled", &["p"]),
            (b"used", &["u"]),
        ]);
        for name in [&b"pulled"[..], b"used"] {
            images.images.get_mut(&Digest::of(name)).unwrap().pulled = true;
        }
        let used = BTreeSet::from([Digest::of(b"used")]);
        let mut at = |seconds: u64| {
            let policy = PrunePolicy {
                now: UNIX_EPOCH + Duration::from_secs(1000 + seconds),
                untagged_after: Duration::from_secs(10),
                pulled_after: Some(Duration::from_secs(100)),
            };
            images.prune(&used, &policy)
        };
        assert_eq!(at(9), []);
        assert_eq!(at(10), [Digest::of(b"untagged")]);
        assert_eq!(at(100), [Digest::of(b"pulled")]);
        assert_eq!(at(100_000), []);
        assert_eq!(images.images[&Digest::of(b"used")].last_used_s, 101_000);
    }
}
