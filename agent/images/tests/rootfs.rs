//! Images stacked by overlayfs: needs root.

mod support;

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use images::{LoadOptions, Store, mount_rootfs, quiet, resolve_user, unmount_rootfs};
use support::*;
use tar::EntryType;

/// Three layers, each packed another way, with all a layer can hold.
fn image() -> TestImage {
    let capability: &[u8] =
        b"\x01\x00\x00\x02\x00\x0a\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00";
    let bottom = Layer::new()
        .dir("./", 0o755)
        .dir("bin", 0o755)
        .raw("bin/su", EntryType::Regular, 0o4755, (0, 0), "", b"su")
        .pax(&[
            ("SCHILY.xattr.security.capability", capability),
            ("SCHILY.xattr.user.note", b"hi"),
        ])
        .raw("bin/ping", EntryType::Regular, 0o755, (0, 0), "", b"ping")
        .link("bin/ping6", "bin/ping")
        .symlink("sbin", "/bin")
        .file("sbin/through", "link")
        .dir("etc", 0o755)
        .file(
            "etc/passwd",
            "root:x:0:0::/root:/bin/sh\napp:x:101:102::/srv/app:/bin/sh\n",
        )
        .file("etc/group", "app:x:102:\nextra:x:500:app\n")
        .raw("tmp", EntryType::Directory, 0o1777, (0, 0), "", b"")
        .raw("srv/app", EntryType::Directory, 0o2750, (101, 102), "", b"")
        .file("srv/app/old", "old")
        .file("srv/app/keep", "keep")
        .dir("data", 0o700)
        .file("data/a", "a")
        .file("data/b", "b")
        .device("dev/null", EntryType::Char, 1, 3)
        .device("dev/sda", EntryType::Block, 8, 0)
        .device("run/fifo", EntryType::Fifo, 0, 0)
        .tar();
    let middle = Layer::new()
        // /tmp and /srv/app are not described here: they keep their looks.
        .file("tmp/x", "x")
        .file("srv/app/.wh.old", "")
        .file("data/.wh..wh..opq", "")
        .file("data/c", "c")
        .file(".wh..wh.aufs", "")
        .tar();
    let top = Layer::new()
        .dir("./", 0o755)
        .file("bin/.wh.su", "")
        .raw(
            "bin/ping",
            EntryType::Regular,
            0o711,
            (0, 0),
            "",
            b"new ping",
        )
        // Hidden and made again: nothing of the old one shows.
        .file("srv/.wh.app", "")
        .raw("srv/app", EntryType::Directory, 0o750, (101, 102), "", b"")
        .file("srv/app/new", "new")
        .tar();
    TestImage::new(vec![(GZIP, bottom), (ZSTD, middle), (PLAIN, top)])
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn three_layers_stack_as_the_spec_says() {
    let temp = tempfile::tempdir().unwrap();
    let store = Store::open(&temp.path().join("images")).unwrap();
    let image = image();
    let infos = load(&store, &pack(&image.layout(Some("app:1")))).unwrap();
    assert_eq!(infos.len(), 1);
    assert_eq!(infos[0].id, image.id());
    assert_eq!(infos[0].references[0].familiar(), "app:1");
    assert_eq!(infos[0].layers, 3);
    let image = store.get("app:1").unwrap();
    assert_eq!(image.config.cmd, ["/bin/run"]);
    let dir = temp.path().join("c, with: odd\\name");
    let rootfs = mount_rootfs(&image, &dir).unwrap();
    assert_eq!(
        mount_rootfs(&image, &dir).unwrap(),
        rootfs,
        "a second mount is the first"
    );

    let stat = |path: &str| fs::symlink_metadata(rootfs.join(path)).unwrap();
    assert!(!rootfs.join("bin/su").exists(), "a whiteout hides");
    assert_eq!(stat("bin/ping").mode() & 0o7777, 0o711);
    assert_eq!(
        fs::read_to_string(rootfs.join("bin/ping6")).unwrap(),
        "ping"
    );
    assert_eq!(
        fs::read_to_string(rootfs.join("bin/through")).unwrap(),
        "link"
    );
    assert_eq!(
        fs::read_link(rootfs.join("sbin")).unwrap(),
        Path::new("/bin")
    );
    assert_eq!(
        names(&rootfs.join("data")),
        ["c"],
        "an opaque folder hides what is below"
    );
    assert_eq!(
        stat("data").mode() & 0o7777,
        0o700,
        "a folder left out keeps its mode"
    );
    assert_eq!(stat("tmp").mode() & 0o7777, 0o1777);
    assert_eq!(names(&rootfs.join("srv/app")), ["new"]);
    assert_eq!((stat("srv/app").uid(), stat("srv/app").gid()), (101, 102));
    assert_eq!(stat("etc/passwd").mtime(), 1_600_000_000);
    assert!(stat("dev/null").file_type().is_char_device() && stat("dev/null").rdev() == 0x103);
    assert!(stat("dev/sda").file_type().is_block_device());
    assert!(stat("run/fifo").file_type().is_fifo());
    assert_eq!(
        names(&rootfs),
        ["bin", "data", "dev", "etc", "run", "sbin", "srv", "tmp"]
    );

    let bottom = &image.layers[0];
    assert_eq!(
        fs::symlink_metadata(bottom.join("bin/su")).unwrap().mode() & 0o7777,
        0o4755
    );
    assert_eq!(
        fs::symlink_metadata(bottom.join("bin/ping"))
            .unwrap()
            .nlink(),
        2
    );
    assert_eq!(
        fs::symlink_metadata(bottom.join("bin")).unwrap().mtime(),
        1_600_000_000
    );
    assert_eq!(
        xattr(&bottom.join("bin/ping"), c"user.note"),
        Some(b"hi".to_vec())
    );
    assert_eq!(
        xattr(&bottom.join("bin/ping"), c"security.capability").map(|value| value[5]),
        Some(0x0a)
    );

    let user = resolve_user(&rootfs, &image.config.user).unwrap();
    assert_eq!(
        (user.uid, user.gid, user.additional_gids, user.home.as_str()),
        (101, 102, vec![500], "/srv/app")
    );

    fs::write(rootfs.join("written"), "w").unwrap();
    assert!(!bottom.join("written").exists());
    fs::write(dir.join("log"), "kept").unwrap();
    unmount_rootfs(&dir).unwrap();
    assert_eq!(names(&dir), ["log"]);
    unmount_rootfs(&dir).unwrap();
    unmount_rootfs(&temp.path().join("never")).unwrap();
}

fn xattr(path: &Path, name: &std::ffi::CStr) -> Option<Vec<u8>> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(path.as_os_str().as_bytes()).unwrap();
    let mut value = vec![0_u8; 256];
    // SAFETY: both names are NUL-terminated, and the buffer is as long as told.
    let n = unsafe {
        libc::lgetxattr(
            path.as_ptr(),
            name.as_ptr(),
            value.as_mut_ptr().cast(),
            value.len(),
        )
    };
    value.truncate(usize::try_from(n).ok()?);
    Some(value)
}

#[test]
fn many_layers_and_none_mount() {
    let temp = tempfile::tempdir().unwrap();
    let store = Store::open(&temp.path().join("images")).unwrap();
    for count in [0, 1, 127, 200] {
        let layers = (0..count)
            .map(|n| (PLAIN, Layer::new().file(&format!("f{n}"), "x").tar()))
            .collect();
        let image = TestImage::new(layers);
        load(&store, &pack(&image.layout(Some(&format!("many:{count}"))))).unwrap();
        let dir = temp.path().join(format!("c{count}"));
        let rootfs = mount_rootfs(&store.get(&format!("many:{count}")).unwrap(), &dir).unwrap();
        assert_eq!(names(&rootfs).len(), count);
        fs::write(rootfs.join("new"), "n").unwrap();
        unmount_rootfs(&dir).unwrap();
        assert!(names(&dir).is_empty());
    }
    let mut image = store.get("many:200").unwrap();
    image.layers.push(image.layers[0].clone());
    let dir = temp.path().join("too-many");
    let error = mount_rootfs(&image, &dir).unwrap_err();
    assert!(error.to_string().contains("201 layers"), "{error}");
    assert!(!dir.exists());
}

#[test]
fn a_failed_mount_leaves_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let store = Store::open(&temp.path().join("images")).unwrap();
    load(&store, &pack(&image().layout(Some("app:1")))).unwrap();
    let mut image = store.get("app:1").unwrap();
    image.layers[1] = temp.path().join("gone");
    let dir = temp.path().join("c");
    assert!(mount_rootfs(&image, &dir).is_err());
    assert!(!dir.exists());
}

#[test]
fn writes_survive_a_reboot() {
    let temp = tempfile::tempdir().unwrap();
    let store = Store::open(&temp.path().join("images")).unwrap();
    load(&store, &pack(&image().layout(Some("app:1")))).unwrap();
    let image = store.get("app:1").unwrap();
    let dir = temp.path().join("c");
    let rootfs = mount_rootfs(&image, &dir).unwrap();
    fs::write(rootfs.join("etc/written"), "w").unwrap();
    nix::mount::umount(&rootfs).unwrap();
    let rootfs = mount_rootfs(&image, &dir).unwrap();
    assert_eq!(fs::read_to_string(rootfs.join("etc/written")).unwrap(), "w");
    // Busy, as when somebody's shell is still in it.
    let busy = fs::File::open(rootfs.join("etc/written")).unwrap();
    unmount_rootfs(&dir).unwrap();
    drop(busy);
    assert!(names(&dir).is_empty());
}

#[test]
fn a_passwd_file_that_is_a_trap_is_not_opened() {
    let temp = tempfile::tempdir().unwrap();
    let store = Store::open(&temp.path().join("images")).unwrap();
    let layer = Layer::new()
        .device("etc/passwd", EntryType::Fifo, 0, 0)
        .symlink("etc/group", "/../../../etc/group");
    let image = TestImage::new(vec![(PLAIN, layer.tar())]);
    let options = LoadOptions {
        name: Some("trap".parse().unwrap()),
        ..LoadOptions::default()
    };
    store
        .load(
            "trap.tar",
            &pack(&image.layout(None))[..],
            &options,
            &quiet(),
        )
        .unwrap();
    let dir = temp.path().join("c");
    let rootfs = mount_rootfs(&store.get("trap").unwrap(), &dir).unwrap();
    let error = resolve_user(&rootfs, "root").unwrap_err().full();
    assert!(error.contains("no regular file"), "{error}");
    unmount_rootfs(&dir).unwrap();
}
