//! Any secret or config.

use super::{labels, meta, text};
use crate::model::*;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

fn blob_kind() -> impl Strategy<Value = BlobKind> {
    select(vec![BlobKind::Secret, BlobKind::Config])
}

pub(super) fn blob_key() -> impl Strategy<Value = BlobKey> {
    (blob_kind(), text()).prop_map(|(kind, name)| BlobKey { kind, name })
}

pub(super) fn blob_file() -> impl Strategy<Value = BlobFile> {
    (blob_key(), text(), any::<[u32; 3]>()).prop_map(|(source, target, [uid, gid, mode])| {
        BlobFile {
            source,
            target,
            uid,
            gid,
            mode,
        }
    })
}

pub(super) fn blob_spec() -> impl Strategy<Value = BlobSpec> {
    let data = vec(any::<u8>(), 0..8).prop_map(Data::from);
    (blob_key(), option::of(text()), labels(), data).prop_map(|(key, stack, labels, data)| {
        BlobSpec {
            kind: key.kind,
            name: key.name,
            stack,
            labels,
            data,
        }
    })
}

pub(crate) fn blob() -> impl Strategy<Value = Blob> {
    (any::<u128>(), meta(), any::<u32>(), blob_spec()).prop_map(|(id, meta, version, spec)| Blob {
        id: BlobId(id),
        meta,
        version,
        spec,
    })
}
