//! One service.

use super::blobs::Blobs;
use super::field::{Field, Report};
use super::keys::{self, SERVICE, SERVICE_NETWORK};
use super::network::Networks;
use super::volume::Volumes;
use super::yaml::shorten;
use super::{Input, command, deploy, environment, files, image, labels, mounts, names, ports};
use crate::model::{BlobFile, BlobKind, ServiceSpec, StackService};
use std::collections::BTreeMap;

/// What a service may refer to.
pub(super) struct Scope<'a> {
    pub input: &'a Input<'a>,
    pub networks: &'a Networks,
    pub volumes: &'a Volumes,
    pub secrets: &'a Blobs,
    pub configs: &'a Blobs,
}

/// A service as it was read.
pub(super) struct Read {
    pub service: StackService,
    /// Whether it is on the stack's default network.
    pub default_network: bool,
}

/// Reads the service of a full name.
pub(super) fn read(
    scope: &Scope<'_>,
    field: &Field<'_>,
    full: &str,
    report: &mut Report<'_>,
) -> Read {
    if let Err(problem) = names::check_service(field.key, full) {
        report.refuse(field, problem);
    }
    let mut spec = ServiceSpec {
        name: full.into(),
        stack: Some(scope.input.stack.into()),
        ..ServiceSpec::default()
    };
    let mut networks = BTreeMap::new();
    let mut blobs: Vec<BlobFile> = Vec::new();
    let mut has_image = false;
    let fields = field.fields(report, "a mapping with an image");
    let readable = fields.is_some();
    for key in fields.unwrap_or_default() {
        let container = &mut spec.template.container;
        match key.key {
            "image" => {
                has_image = true;
                if let Some(text) = key.text(report, "an image reference") {
                    image::check(text).unwrap_or_else(|problem| report.refuse(&key, problem));
                    container.image = text.into();
                }
            }
            "command" => container.command = command::read(report, &key),
            "entrypoint" => container.entrypoint = command::read(report, &key),
            "environment" => container.env = environment::read(report, &key, scope.input.env),
            "labels" => container.labels = labels::read(report, &key),
            "volumes" => container.mounts = mounts::read(scope, &key, report),
            "ports" => spec.ports = ports::read(report, &key),
            "deploy" => deploy::read(report, &key, &mut spec),
            "networks" => networks = read_networks(scope, &key, report),
            "secrets" => blobs.extend(files::read(scope.secrets, &key, BlobKind::Secret, report)),
            "configs" => blobs.extend(files::read(scope.configs, &key, BlobKind::Config, report)),
            _ => keys::refuse(report, &key, &SERVICE),
        }
    }
    if readable && !has_image {
        report.refuse_with(field, "it has no image", "add image: NAME");
    }
    order_files(&mut blobs, &spec, field, report);
    if networks.is_empty() {
        networks.insert("default".to_owned(), Vec::new());
    }
    let default_network = networks.contains_key("default");
    let full_names = networks.into_iter().map(|(key, aliases)| {
        let mut all = vec![field.key.to_owned()];
        all.extend(aliases.into_iter().filter(|alias| alias != field.key));
        (scope.networks.full_name(&key, scope.input.stack), all)
    });
    Read {
        service: StackService {
            networks: full_names.collect(),
            blobs,
            spec,
        },
        default_network,
    }
}

/// Ordered by target, so that the order in the file makes no difference. Nothing else is at the same place.
fn order_files(
    files: &mut [BlobFile],
    spec: &ServiceSpec,
    field: &Field<'_>,
    report: &mut Report<'_>,
) {
    files.sort_by(|a, b| a.target.cmp(&b.target));
    for mount in &spec.template.container.mounts {
        if files.iter().any(|file| file.target == mount.target) {
            let shown = shorten(&mount.target);
            let problem =
                format!("a volume and a secret or a config have the same target {shown:?}");
            report.refuse_with(field, problem, "give one another target");
        }
    }
    for pair in files.windows(2) {
        // Two of one kind were told of where they stand.
        if let [a, b] = pair
            && a.target == b.target
            && a.source.kind != b.source.kind
        {
            let shown = shorten(&a.target);
            let problem = format!("a secret and a config have the same target {shown:?}");
            report.refuse_with(field, problem, "give one another target");
        }
    }
}

/// Keys of networks, and the aliases on each.
fn read_networks(
    scope: &Scope<'_>,
    field: &Field<'_>,
    report: &mut Report<'_>,
) -> BTreeMap<String, Vec<String>> {
    let mut out = BTreeMap::new();
    if field.is_list() {
        for item in field
            .items(report, "a list of networks")
            .unwrap_or_default()
        {
            let Some(key) = item.text(report, "the name of a network") else {
                continue;
            };
            check_declared(scope, &item, key, report);
            if out.insert(key.to_owned(), Vec::new()).is_some() {
                report.refuse(
                    &item,
                    format!("the network {:?} is there twice", shorten(key)),
                );
            }
        }
        return out;
    }
    for entry in field
        .fields(report, "a list or a mapping of networks")
        .unwrap_or_default()
    {
        check_declared(scope, &entry, entry.key, report);
        let aliases = if entry.is_null() {
            Vec::new()
        } else {
            read_attachment(&entry, report)
        };
        out.insert(entry.key.to_owned(), aliases);
    }
    out
}

fn check_declared(scope: &Scope<'_>, field: &Field<'_>, key: &str, report: &mut Report<'_>) {
    if scope.networks.has(key) || key == "default" {
        return;
    }
    let cure = match keys::nearest(key, scope.networks.keys()) {
        Some(near) => format!("did you mean {near}?"),
        None => "declare it under networks:".into(),
    };
    report.refuse_with(
        field,
        format!("the network {:?} is not declared", shorten(key)),
        cure,
    );
}

fn read_attachment(field: &Field<'_>, report: &mut Report<'_>) -> Vec<String> {
    let mut aliases: Vec<String> = Vec::new();
    for key in field
        .fields(report, "a mapping or nothing")
        .unwrap_or_default()
    {
        match key.key {
            "aliases" => {
                for item in key.items(report, "a list of names").unwrap_or_default() {
                    let Some(alias) = item.text(report, "a name") else {
                        continue;
                    };
                    if let Err(problem) = names::check_alias(alias) {
                        report.refuse(&item, problem);
                    } else if !aliases.iter().any(|known| known == alias) {
                        aliases.push(alias.into());
                    }
                }
            }
            _ => keys::refuse(report, &key, &SERVICE_NETWORK),
        }
    }
    aliases
}
