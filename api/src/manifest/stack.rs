//! The file as a whole.

use super::blobs::{self, Blobs};
use super::field::{Field, Report};
use super::keys::{self, TOP};
use super::network::Networks;
use super::service::{self, Scope};
use super::volume::Volumes;
use super::yaml::Node;
use super::{Input, network, volume};
use crate::model::{BlobKind, NetworkSpec, StackSpec};
use std::collections::BTreeSet;

/// Reads the sections; errors go to the report.
pub(super) fn read(input: &Input<'_>, root: &Node, report: &mut Report<'_>) -> StackSpec {
    let mut spec = StackSpec {
        name: input.stack.into(),
        ..StackSpec::default()
    };
    let root = Field::root(root);
    if root.is_null() {
        report.error(
            None,
            "",
            "the file is empty".into(),
            Some("it needs services:".into()),
        );
        return spec;
    }
    let Some(sections) = root.fields(report, "a mapping with services") else {
        return spec;
    };

    let (mut services, mut networks, mut volumes) = (None, None, None);
    let (mut secrets, mut configs) = (None, None);
    for section in sections {
        match section.key {
            "services" => services = Some(section),
            "networks" => networks = Some(section),
            "volumes" => volumes = Some(section),
            "secrets" => secrets = Some(section),
            "configs" => configs = Some(section),
            "version" => report.warn(&section, "obsolete and ignored; it can be removed"),
            "name" => warn_name(input, &section, report),
            _ => keys::refuse(report, &section, &TOP),
        }
    }
    let networks = networks.map_or_else(Networks::none, |s| network::read(report, &s, input.stack));
    let volumes = volumes.map_or_else(Volumes::none, |s| volume::read(report, &s, input.stack));
    let read_blobs = |section: &Option<Field<'_>>, kind, report: &mut Report<'_>| match section {
        Some(section) => blobs::read(input, section, kind, report),
        None => Blobs::none(kind),
    };
    let read_secrets = read_blobs(&secrets, BlobKind::Secret, report);
    let read_configs = read_blobs(&configs, BlobKind::Config, report);
    match services {
        Some(section) => {
            let scope = Scope {
                input,
                networks: &networks,
                volumes: &volumes,
                secrets: &read_secrets,
                configs: &read_configs,
            };
            read_services(&scope, &section, report, &mut spec);
        }
        None => {
            let cure = Some("write what is to be run under services:".into());
            report.error(None, "services", "missing".into(), cure);
        }
    }
    spec.networks.extend(networks.own);
    spec.external_networks = networks.external;
    spec.volumes = volumes.own;
    for blobs in [read_secrets, read_configs] {
        spec.blobs.extend(blobs.own);
        spec.external_blobs.extend(blobs.external);
    }
    if let Some(section) = configs.or(secrets) {
        blobs::check_total(report, &section, &spec.blobs);
    }
    spec
}

/// The stack's name comes from the command line.
fn warn_name(input: &Input<'_>, section: &Field<'_>, report: &mut Report<'_>) {
    if let Some(name) = section.text(report, "a name")
        && name != input.stack
    {
        report.warn(
            section,
            format!("ignored; the stack is called {}", input.stack),
        );
    }
}

fn read_services(
    scope: &Scope<'_>,
    section: &Field<'_>,
    report: &mut Report<'_>,
    spec: &mut StackSpec,
) {
    let Some(services) = section.fields(report, "a mapping of services") else {
        return;
    };
    if services.is_empty() {
        report.refuse_with(section, "there are none", "write what is to be run");
    }
    // DNS knows no capital letters.
    let mut seen = BTreeSet::new();
    let mut uses_default = false;
    for field in services {
        if !seen.insert(field.key.to_lowercase()) {
            report.refuse_with(
                &field,
                "another service's name differs only by capital letters",
                "rename one",
            );
        }
        let full = format!("{}_{}", scope.input.stack, field.key);
        let read = service::read(scope, &field, &full, report);
        uses_default |= read.default_network;
        spec.services.insert(full, read.service);
    }
    if uses_default && !scope.networks.has("default") {
        let name = scope.networks.full_name("default", scope.input.stack);
        if scope.networks.is_taken(&name) {
            report.refuse_with(
                section,
                format!(
                    "services without networks need a network {name}, but that name is taken in this file"
                ),
                "give these services their networks",
            );
        }
        let stack = Some(scope.input.stack.into());
        spec.networks.insert(
            name.clone(),
            NetworkSpec {
                name,
                stack,
                ..NetworkSpec::default()
            },
        );
    }
}
