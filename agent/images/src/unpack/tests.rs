//! Random trees, packed and unpacked, must come out equal.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use proptest::prelude::*;
use tar::{Builder, EntryType, Header};

use super::metadata::c_string;
use super::*;
use crate::limits::Limits;

#[derive(Debug, Clone)]
enum Node {
    File(Vec<u8>),
    Symlink(String),
    HardLink(prop::sample::Index),
    Fifo,
    Char(u32, u32),
    Dir,
}

#[derive(Debug, Clone)]
struct Item {
    path: Vec<String>,
    node: Node,
    mode: u32,
    owner: (u32, u32),
    mtime: i64,
    xattr: Option<Vec<u8>>,
}

fn item() -> impl Strategy<Value = Item> {
    let name = "[a-c]|[a-z.ü ]{1,12}|[a-z]{100}".prop_filter("names of their own", |name| {
        !matches!(name.as_str(), "." | "..") && !name.starts_with(".wh.")
    });
    let node = prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..2000).prop_map(Node::File),
        1 => "[a-z/.]{1,150}".prop_map(Node::Symlink),
        1 => any::<prop::sample::Index>().prop_map(Node::HardLink),
        1 => Just(Node::Fifo),
        1 => (0_u32..4000, 1_u32..100_000).prop_map(|(major, minor)| Node::Char(major, minor)),
        3 => Just(Node::Dir),
    ];
    (
        prop::collection::vec(name, 1..5),
        node,
        0_u32..0o10000,
        (0_u32..70_000, 0_u32..3_000_000),
        -1000_i64..2_000_000_000,
        prop::option::of(prop::collection::vec(any::<u8>(), 0..50)),
    )
        .prop_map(|(path, node, mode, owner, mtime, xattr)| Item {
            path,
            node,
            mode,
            owner,
            mtime,
            xattr,
        })
}

/// What the tree must look like, and the tar that says so. Items that don't fit the ones before are left out.
fn pack(items: &[Item]) -> (Vec<u8>, BTreeMap<String, Item>) {
    let mut tree: BTreeMap<String, Item> = BTreeMap::new();
    let mut files: Vec<String> = Vec::new();
    let mut builder = Builder::new(Vec::new());
    for item in items {
        let path = item.path.join("/");
        let parents: Vec<String> = (1..item.path.len())
            .map(|n| item.path[..n].join("/"))
            .collect();
        let fits = parents
            .iter()
            .all(|p| tree.get(p).is_none_or(|i| matches!(i.node, Node::Dir)));
        if !fits
            || tree
                .keys()
                .any(|known| *known == path || known.starts_with(&format!("{path}/")))
        {
            continue;
        }
        let mut item = item.clone();
        let mut target = String::new();
        let (kind, data): (EntryType, &[u8]) = match &item.node {
            Node::File(data) => (EntryType::Regular, data),
            Node::Symlink(to) => {
                target.clone_from(to);
                (EntryType::Symlink, b"")
            }
            Node::HardLink(index) => {
                if files.is_empty() {
                    continue;
                }
                target.clone_from(index.get(&files));
                (EntryType::Link, b"")
            }
            Node::Fifo => (EntryType::Fifo, b""),
            Node::Char(..) => (EntryType::Char, b""),
            Node::Dir => (EntryType::Directory, b""),
        };
        if matches!(
            item.node,
            Node::Symlink(_) | Node::Fifo | Node::Char(..) | Node::HardLink(_)
        ) {
            item.xattr = None;
        }
        let mtime = item.mtime.to_string();
        let mut records: Vec<(&str, &[u8])> =
            vec![("path", path.as_bytes()), ("mtime", mtime.as_bytes())];
        if !target.is_empty() {
            records.push(("linkpath", target.as_bytes()));
        }
        if let Some(value) = &item.xattr {
            records.push(("SCHILY.xattr.user.test", value));
        }
        builder.append_pax_extensions(records).unwrap();
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(item.mode);
        header.set_uid(item.owner.0.into());
        header.set_gid(item.owner.1.into());
        header.set_mtime(0);
        header.set_size(data.len() as u64);
        if let Node::Char(major, minor) = item.node {
            header.set_device_major(major).unwrap();
            header.set_device_minor(minor).unwrap();
        }
        header.set_cksum();
        builder.append(&header, data).unwrap();
        if let Node::HardLink(_) = item.node {
            item = tree[&target].clone();
        } else if matches!(item.node, Node::File(_)) {
            files.push(path.clone());
        }
        for parent in parents {
            let implied = Item {
                node: Node::Dir,
                mode: 0o755,
                owner: (0, 0),
                mtime: i64::MIN,
                xattr: None,
                path: vec![],
            };
            tree.entry(parent).or_insert(implied);
        }
        tree.insert(path, item);
    }
    (builder.into_inner().unwrap(), tree)
}

fn check(root: &Path, tree: &BTreeMap<String, Item>) -> Result<(), TestCaseError> {
    for (path, item) in tree {
        let at = root.join(path);
        let meta = fs::symlink_metadata(&at)
            .map_err(|error| TestCaseError::fail(format!("{path}: {error}")))?;
        let kind = meta.file_type();
        match &item.node {
            Node::File(data) => {
                prop_assert!(kind.is_file());
                prop_assert_eq!(&fs::read(&at).unwrap(), data);
            }
            Node::Symlink(to) => prop_assert_eq!(fs::read_link(&at).unwrap(), Path::new(to)),
            Node::Fifo => prop_assert!(kind.is_fifo()),
            Node::Char(major, minor) => {
                prop_assert!(kind.is_char_device());
                prop_assert_eq!(meta.rdev(), makedev((*major).into(), (*minor).into()));
            }
            Node::Dir => prop_assert!(kind.is_dir()),
            Node::HardLink(_) => unreachable!("replaced by what it links to"),
        }
        prop_assert_eq!((meta.uid(), meta.gid()), item.owner, "{}", path);
        if !matches!(item.node, Node::Symlink(_)) {
            prop_assert_eq!(meta.mode() & 0o7777, item.mode, "{}", path);
        }
        if item.mtime != i64::MIN {
            prop_assert_eq!(meta.mtime(), item.mtime, "{}", path);
        }
        if let Some(expected) = &item.xattr {
            let mut value = vec![0_u8; 100];
            let path = c_string(at.as_os_str().as_bytes());
            // SAFETY: both names are NUL-terminated, and the buffer is as long as told.
            let n = unsafe {
                libc::lgetxattr(
                    path.as_ptr(),
                    c"user.test".as_ptr(),
                    value.as_mut_ptr().cast(),
                    value.len(),
                )
            };
            value.truncate(usize::try_from(n).unwrap());
            prop_assert_eq!(&value, expected);
        }
    }
    Ok(())
}

fn count(root: &Path) -> usize {
    fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| {
            1 + if entry.file_type().unwrap().is_dir() {
                count(&entry.path())
            } else {
                0
            }
        })
        .sum()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_random_tree_comes_out_equal(items in prop::collection::vec(item(), 0..40)) {
        let (tar, tree) = pack(&items);
        let temp = tempfile::tempdir().unwrap();
        let budget = Budget::new(Limits::default());
        let bytes = unpack("test", &tar[..], temp.path(), &[], &budget).unwrap();
        check(temp.path(), &tree)?;
        prop_assert_eq!(count(temp.path()), tree.len());
        let data: u64 = items.iter().map(|item| match &item.node {
            Node::File(data) => data.len() as u64,
            _ => 0,
        }).sum();
        prop_assert!(bytes <= data);
    }

    /// Whatever names and links a layer has, nothing outside of its folder changes.
    #[test]
    fn nothing_escapes(entries in prop::collection::vec(
        ("(\\.\\.|a|b|/|\\.wh\\.a|\\.wh\\.\\.wh\\.\\.opq|\\.){1,4}", 0_u8..5, "(\\.\\./|a|b|/|victim|\\.){1,6}"), 0..20)
    ) {
        let temp = tempfile::tempdir().unwrap();
        fs::write(temp.path().join("victim"), "v").unwrap();
        let into = temp.path().join("x/y");
        fs::create_dir_all(&into).unwrap();
        for (path, kind, target) in &entries {
            // Each alone, so that one refusal does not hide the next.
            let mut builder = Builder::new(Vec::new());
            let kind = [EntryType::Regular, EntryType::Symlink, EntryType::Link, EntryType::Directory, EntryType::Fifo]
                [usize::from(*kind)];
            let data: &[u8] = if kind == EntryType::Regular { b"evil" } else { b"" };
            let mut header = Header::new_gnu();
            header.set_entry_type(kind);
            header.set_mode(0o777);
            header.set_size(data.len() as u64);
            header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
            header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
            header.set_cksum();
            builder.append(&header, data).unwrap();
            let tar = builder.into_inner().unwrap();
            let _ = unpack("test", &tar[..], &into, &[], &Budget::new(Limits::default()));
        }
        let mut names: Vec<_> = fs::read_dir(temp.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        prop_assert_eq!(names, ["victim", "x"]);
        prop_assert_eq!(fs::read_dir(temp.path().join("x")).unwrap().count(), 1);
        let victim = fs::metadata(temp.path().join("victim")).unwrap();
        prop_assert_eq!((victim.len(), victim.nlink()), (1, 1));
    }
}
