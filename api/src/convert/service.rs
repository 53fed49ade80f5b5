//! Services, without their template.

use super::{ConvertError, Problem, all, each, enum_field, id_bytes, ids, need, port};
use crate::model::{
    EndpointMode, NetworkId, PublishedPort, Service, ServiceId, ServiceMode, ServiceSpec,
};
use crate::proto;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

impl From<&Service> for proto::Service {
    fn from(service: &Service) -> Self {
        Self {
            id: id_bytes(service.id.0),
            meta: Some((&service.meta).into()),
            spec: Some((&service.spec).into()),
            template_revision: service.template_revision,
            vips: write_vips(&service.vips),
        }
    }
}

impl TryFrom<proto::Service> for Service {
    type Error = ConvertError;

    fn try_from(service: proto::Service) -> Result<Self, ConvertError> {
        Ok(Self {
            id: ServiceId(ids::read("Service", "id", &service.id)?),
            meta: need("Service", "meta", service.meta)?.into(),
            spec: need("Service", "spec", service.spec)?.try_into()?,
            template_revision: service.template_revision,
            vips: read_vips("Service", service.vips)?,
        })
    }
}

pub(super) fn write_vips(vips: &BTreeMap<NetworkId, Ipv4Addr>) -> Vec<proto::TaskAddress> {
    let write = |(network, addr): (&NetworkId, &Ipv4Addr)| proto::TaskAddress {
        network: id_bytes(network.0),
        addr: (*addr).into(),
    };
    vips.iter().map(write).collect()
}

pub(super) fn read_vips(
    message: &'static str,
    vips: Vec<proto::TaskAddress>,
) -> Result<BTreeMap<NetworkId, Ipv4Addr>, ConvertError> {
    let mut out = BTreeMap::new();
    for vip in vips {
        let network = NetworkId(ids::read(message, "vips.network", &vip.network)?);
        if out.insert(network, vip.addr.into()).is_some() {
            return Err(ConvertError::new(
                message,
                "vips",
                Problem::Twice(format!("network {network}")),
            ));
        }
    }
    Ok(out)
}

impl From<&ServiceSpec> for proto::ServiceSpec {
    fn from(spec: &ServiceSpec) -> Self {
        let ServiceMode::Replicated { replicas } = spec.mode;
        Self {
            name: spec.name.clone(),
            stack: spec.stack.clone(),
            labels: spec.labels.clone(),
            endpoint_mode: proto::EndpointMode::from(spec.endpoint_mode).into(),
            ports: each(&spec.ports),
            template: Some((&spec.template).into()),
            mode: Some(proto::service_spec::Mode::Replicated(proto::Replicated {
                replicas,
            })),
        }
    }
}

impl TryFrom<proto::ServiceSpec> for ServiceSpec {
    type Error = ConvertError;

    fn try_from(spec: proto::ServiceSpec) -> Result<Self, ConvertError> {
        let proto::service_spec::Mode::Replicated(mode) = need("ServiceSpec", "mode", spec.mode)?;
        Ok(Self {
            name: spec.name,
            stack: spec.stack,
            labels: spec.labels,
            mode: ServiceMode::Replicated {
                replicas: mode.replicas,
            },
            endpoint_mode: enum_field::<proto::EndpointMode, _>(
                "ServiceSpec",
                "endpoint_mode",
                spec.endpoint_mode,
            )?,
            ports: all(spec.ports)?,
            template: need("ServiceSpec", "template", spec.template)?.try_into()?,
        })
    }
}

impl From<&PublishedPort> for proto::PublishedPort {
    fn from(port: &PublishedPort) -> Self {
        Self {
            protocol: proto::Protocol::from(port.protocol).into(),
            published: port.published.into(),
            target: port.target.into(),
        }
    }
}

impl TryFrom<proto::PublishedPort> for PublishedPort {
    type Error = ConvertError;

    fn try_from(wire: proto::PublishedPort) -> Result<Self, ConvertError> {
        Ok(Self {
            protocol: enum_field::<proto::Protocol, _>("PublishedPort", "protocol", wire.protocol)?,
            published: port("PublishedPort", "published", wire.published)?,
            target: port("PublishedPort", "target", wire.target)?,
        })
    }
}

impl From<EndpointMode> for proto::EndpointMode {
    fn from(mode: EndpointMode) -> Self {
        match mode {
            EndpointMode::Vip => Self::Vip,
            EndpointMode::DnsRr => Self::Dnsrr,
        }
    }
}

impl TryFrom<proto::EndpointMode> for EndpointMode {
    type Error = ConvertError;

    fn try_from(mode: proto::EndpointMode) -> Result<Self, ConvertError> {
        match mode {
            proto::EndpointMode::Unspecified => Err(ConvertError::new(
                "EndpointMode",
                "",
                Problem::Enum(mode.into()),
            )),
            proto::EndpointMode::Vip => Ok(Self::Vip),
            proto::EndpointMode::Dnsrr => Ok(Self::DnsRr),
        }
    }
}
