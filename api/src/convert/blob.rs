//! Secrets and configs.

use super::{ConvertError, enum_field, id_bytes, ids, need};
use crate::model::{Blob, BlobFile, BlobId, BlobKey, BlobRef, BlobSpec, Data};
use crate::proto;
use std::fmt;

/// Never its content.
impl fmt::Debug for proto::BlobData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlobData({} bytes)", self.value.len())
    }
}

impl From<&Data> for proto::BlobData {
    fn from(data: &Data) -> Self {
        Self {
            value: bytes::Bytes::copy_from_slice(data.as_bytes()),
        }
    }
}

impl From<proto::BlobData> for Data {
    fn from(data: proto::BlobData) -> Self {
        // A copy of its own: the message's bytes are shared with the whole message.
        data.value.to_vec().into()
    }
}

impl From<&Blob> for proto::Blob {
    fn from(blob: &Blob) -> Self {
        Self {
            id: id_bytes(blob.id.0),
            meta: Some((&blob.meta).into()),
            version: blob.version,
            spec: Some((&blob.spec).into()),
        }
    }
}

impl TryFrom<proto::Blob> for Blob {
    type Error = ConvertError;

    fn try_from(blob: proto::Blob) -> Result<Self, ConvertError> {
        Ok(Self {
            id: BlobId(ids::read("Blob", "id", &blob.id)?),
            meta: need("Blob", "meta", blob.meta)?.into(),
            version: blob.version,
            spec: need("Blob", "spec", blob.spec)?.try_into()?,
        })
    }
}

impl From<&BlobSpec> for proto::BlobSpec {
    fn from(spec: &BlobSpec) -> Self {
        Self {
            kind: proto::BlobKind::from(spec.kind).into(),
            name: spec.name.clone(),
            stack: spec.stack.clone(),
            labels: spec.labels.clone(),
            data: Some((&spec.data).into()),
        }
    }
}

impl TryFrom<proto::BlobSpec> for BlobSpec {
    type Error = ConvertError;

    fn try_from(spec: proto::BlobSpec) -> Result<Self, ConvertError> {
        Ok(Self {
            kind: enum_field::<proto::BlobKind, _>("BlobSpec", "kind", spec.kind)?,
            name: spec.name,
            stack: spec.stack,
            labels: spec.labels,
            data: need("BlobSpec", "data", spec.data)?.into(),
        })
    }
}

impl From<&BlobKey> for proto::BlobKey {
    fn from(key: &BlobKey) -> Self {
        Self {
            kind: proto::BlobKind::from(key.kind).into(),
            name: key.name.clone(),
        }
    }
}

impl TryFrom<proto::BlobKey> for BlobKey {
    type Error = ConvertError;

    fn try_from(key: proto::BlobKey) -> Result<Self, ConvertError> {
        Ok(Self {
            kind: enum_field::<proto::BlobKind, _>("BlobKey", "kind", key.kind)?,
            name: key.name,
        })
    }
}

impl From<&BlobFile> for proto::BlobFile {
    fn from(file: &BlobFile) -> Self {
        Self {
            source: Some((&file.source).into()),
            target: file.target.clone(),
            uid: file.uid,
            gid: file.gid,
            mode: file.mode,
        }
    }
}

impl TryFrom<proto::BlobFile> for BlobFile {
    type Error = ConvertError;

    fn try_from(file: proto::BlobFile) -> Result<Self, ConvertError> {
        Ok(Self {
            source: need("BlobFile", "source", file.source)?.try_into()?,
            target: file.target,
            uid: file.uid,
            gid: file.gid,
            mode: file.mode,
        })
    }
}

impl From<&BlobRef> for proto::BlobRef {
    fn from(reference: &BlobRef) -> Self {
        Self {
            blob: id_bytes(reference.blob.0),
            file: Some((&reference.file).into()),
        }
    }
}

impl TryFrom<proto::BlobRef> for BlobRef {
    type Error = ConvertError;

    fn try_from(reference: proto::BlobRef) -> Result<Self, ConvertError> {
        Ok(Self {
            blob: BlobId(ids::read("BlobRef", "blob", &reference.blob)?),
            file: need("BlobRef", "file", reference.file)?.try_into()?,
        })
    }
}
