//! The whole state, as bytes.

use super::{ConvertError, id_bytes, ids, need};
use crate::model::ServiceId;
use crate::proto;
use crate::state::Tables;
use bytes::Bytes;
use prost::Message;
use std::sync::Arc;

/// The tables as they are written to a snapshot.
#[must_use]
pub fn encode_tables(tables: &Tables) -> Vec<u8> {
    proto::StateSnapshot::from(tables).encode_to_vec()
}

/// The tables of a snapshot.
///
/// # Errors
/// The bytes are no snapshot that this version knows.
pub fn decode_tables(bytes: &[u8]) -> Result<Tables, ConvertError> {
    // The ids inside then share this one copy.
    proto::StateSnapshot::decode(Bytes::copy_from_slice(bytes))
        .map_err(|e| ConvertError::new("StateSnapshot", "", e.into()))?
        .try_into()
}

fn write<'a, M: 'a, P: From<&'a M>>(values: &'a [Arc<M>]) -> Vec<P> {
    values.iter().map(|value| P::from(value)).collect()
}

fn read<P, M: TryFrom<P, Error = ConvertError>>(
    values: Vec<P>,
) -> Result<Vec<Arc<M>>, ConvertError> {
    values
        .into_iter()
        .map(|value| M::try_from(value).map(Arc::new))
        .collect()
}

impl From<&Tables> for proto::StateSnapshot {
    fn from(tables: &Tables) -> Self {
        let templates = tables
            .templates
            .iter()
            .map(|(service, revision, template)| proto::TemplateVersion {
                service: id_bytes(service.0),
                revision: *revision,
                template: Some((&**template).into()),
            });
        Self {
            revision: tables.revision,
            cluster: tables.cluster.as_deref().map(Into::into),
            nodes: write(&tables.nodes),
            networks: write(&tables.networks),
            services: write(&tables.services),
            stacks: write(&tables.stacks),
            tasks: write(&tables.tasks),
            templates: templates.collect(),
            blobs: write(&tables.blobs),
        }
    }
}

impl TryFrom<proto::StateSnapshot> for Tables {
    type Error = ConvertError;

    fn try_from(snapshot: proto::StateSnapshot) -> Result<Self, ConvertError> {
        let template = |version: proto::TemplateVersion| {
            let service = ServiceId(ids::read("TemplateVersion", "service", &version.service)?);
            let template = need("TemplateVersion", "template", version.template)?.try_into()?;
            Ok((service, version.revision, Arc::new(template)))
        };
        Ok(Self {
            revision: snapshot.revision,
            cluster: snapshot
                .cluster
                .map(|c| c.try_into().map(Arc::new))
                .transpose()?,
            nodes: read(snapshot.nodes)?,
            networks: read(snapshot.networks)?,
            services: read(snapshot.services)?,
            stacks: read(snapshot.stacks)?,
            tasks: read(snapshot.tasks)?,
            templates: snapshot
                .templates
                .into_iter()
                .map(template)
                .collect::<Result<_, ConvertError>>()?,
            blobs: read(snapshot.blobs)?,
        })
    }
}
