//! Networks.

use super::{ConvertError, id_bytes, ids, need, subnet};
use crate::model::{Network, NetworkId, NetworkSpec};
use crate::proto;

impl From<&Network> for proto::Network {
    fn from(network: &Network) -> Self {
        Self {
            id: id_bytes(network.id.0),
            meta: Some((&network.meta).into()),
            spec: Some((&network.spec).into()),
            vni: network.vni,
            subnet: network.subnet.to_string(),
        }
    }
}

impl TryFrom<proto::Network> for Network {
    type Error = ConvertError;

    fn try_from(network: proto::Network) -> Result<Self, ConvertError> {
        Ok(Self {
            id: NetworkId(ids::read("Network", "id", &network.id)?),
            meta: need("Network", "meta", network.meta)?.into(),
            spec: need("Network", "spec", network.spec)?.try_into()?,
            vni: network.vni,
            subnet: subnet("Network", "subnet", &network.subnet)?,
        })
    }
}

impl From<&NetworkSpec> for proto::NetworkSpec {
    fn from(spec: &NetworkSpec) -> Self {
        Self {
            name: spec.name.clone(),
            stack: spec.stack.clone(),
            labels: spec.labels.clone(),
            subnet: spec.subnet.map(|s| s.to_string()),
            internal: spec.internal,
            attachable: spec.attachable,
        }
    }
}

impl TryFrom<proto::NetworkSpec> for NetworkSpec {
    type Error = ConvertError;

    fn try_from(spec: proto::NetworkSpec) -> Result<Self, ConvertError> {
        Ok(Self {
            name: spec.name,
            stack: spec.stack,
            labels: spec.labels,
            subnet: spec
                .subnet
                .map(|s| subnet("NetworkSpec", "subnet", &s))
                .transpose()?,
            internal: spec.internal,
            attachable: spec.attachable,
        })
    }
}
