//! Stacks.

use super::{ConvertError, all, each, need};
use crate::model::{Stack, StackService, StackSpec};
use crate::proto;

impl From<&Stack> for proto::Stack {
    fn from(stack: &Stack) -> Self {
        Self {
            name: stack.name.clone(),
            meta: Some((&stack.meta).into()),
            volumes: stack.volumes.clone(),
        }
    }
}

impl TryFrom<proto::Stack> for Stack {
    type Error = ConvertError;

    fn try_from(stack: proto::Stack) -> Result<Self, ConvertError> {
        Ok(Self {
            name: stack.name,
            meta: need("Stack", "meta", stack.meta)?.into(),
            volumes: stack.volumes,
        })
    }
}

impl From<&StackSpec> for proto::StackSpec {
    fn from(spec: &StackSpec) -> Self {
        let volume = |labels: &crate::model::Labels| proto::VolumeSpec {
            labels: labels.clone(),
        };
        Self {
            name: spec.name.clone(),
            networks: spec
                .networks
                .iter()
                .map(|(name, n)| (name.clone(), n.into()))
                .collect(),
            external_networks: spec.external_networks.clone(),
            volumes: spec
                .volumes
                .iter()
                .map(|(name, labels)| (name.clone(), volume(labels)))
                .collect(),
            services: spec
                .services
                .iter()
                .map(|(name, s)| (name.clone(), s.into()))
                .collect(),
            blobs: each(&spec.blobs),
            external_blobs: each(&spec.external_blobs),
        }
    }
}

impl TryFrom<proto::StackSpec> for StackSpec {
    type Error = ConvertError;

    fn try_from(spec: proto::StackSpec) -> Result<Self, ConvertError> {
        let networks = spec
            .networks
            .into_iter()
            .map(|(name, n)| Ok((name, n.try_into()?)));
        let services = spec
            .services
            .into_iter()
            .map(|(name, s)| Ok((name, s.try_into()?)));
        Ok(Self {
            name: spec.name,
            networks: networks.collect::<Result<_, ConvertError>>()?,
            external_networks: spec.external_networks,
            volumes: spec
                .volumes
                .into_iter()
                .map(|(name, volume)| (name, volume.labels))
                .collect(),
            services: services.collect::<Result<_, ConvertError>>()?,
            blobs: all(spec.blobs)?,
            external_blobs: all(spec.external_blobs)?,
        })
    }
}

impl From<&StackService> for proto::StackService {
    fn from(service: &StackService) -> Self {
        let list = |values: &Vec<String>| proto::StringList {
            values: values.clone(),
        };
        Self {
            spec: Some((&service.spec).into()),
            networks: service
                .networks
                .iter()
                .map(|(name, names)| (name.clone(), list(names)))
                .collect(),
            blobs: each(&service.blobs),
        }
    }
}

impl TryFrom<proto::StackService> for StackService {
    type Error = ConvertError;

    fn try_from(service: proto::StackService) -> Result<Self, ConvertError> {
        Ok(Self {
            spec: need("StackService", "spec", service.spec)?.try_into()?,
            networks: service
                .networks
                .into_iter()
                .map(|(name, list)| (name, list.values))
                .collect(),
            blobs: all(service.blobs)?,
        })
    }
}
