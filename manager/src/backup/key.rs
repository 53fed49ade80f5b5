//! From a passphrase to a key: Argon2id, whose cost stands in the file, so that it can be raised later.

use api::proto::BackupKdf;
use argon2::{Algorithm, Argon2, Params, Version};
use zeroize::Zeroizing;

/// A shorter passphrase is refused, characters.
pub const PASSPHRASE_MIN: usize = 8;
/// RFC 9106's second recommendation: 64 MiB, three passes.
const MEMORY_KIB: u32 = 64 * 1024;
const PASSES: u32 = 3;
const LANES: u32 = 1;
/// What a file may ask for: it is read before it is proven.
const MEMORY_KIB_MAX: u32 = 1024 * 1024;
const PASSES_MAX: u32 = 16;
const SALT: usize = 16;

/// The key of a file.
pub type Key = Zeroizing<[u8; 32]>;

/// How a new file's key is made.
pub fn fresh() -> BackupKdf {
    BackupKdf {
        salt: rand::random::<[u8; SALT]>().to_vec().into(),
        memory_kib: MEMORY_KIB,
        passes: PASSES,
        lanes: LANES,
    }
}

/// Takes a good part of a second and 64 MiB. None when no version of this program writes such settings.
pub fn derive(passphrase: &str, kdf: &BackupKdf) -> Option<Key> {
    if kdf.memory_kib > MEMORY_KIB_MAX || kdf.passes > PASSES_MAX || kdf.lanes > 4 {
        return None;
    }
    let params = Params::new(kdf.memory_kib, kdf.passes, kdf.lanes, Some(32)).ok()?;
    let mut key = Key::default();
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase.as_bytes(), &kdf.salt, key.as_mut_slice())
        .ok()?;
    Some(key)
}
