//! Services, and what their tasks are made from.

use super::*;

pub(super) fn port() -> impl Strategy<Value = PublishedPort> {
    (
        select(vec![Protocol::Tcp, Protocol::Udp]),
        1..=u16::MAX,
        1..=u16::MAX,
    )
        .prop_map(|(protocol, published, target)| PublishedPort {
            protocol,
            published,
            target,
        })
}

fn mount() -> impl Strategy<Value = Mount> {
    let source = prop_oneof![
        text().prop_map(MountSource::Volume),
        Just(MountSource::Anonymous),
        text().prop_map(MountSource::Bind),
    ];
    (source, text(), any::<bool>()).prop_map(|(source, target, read_only)| Mount {
        source,
        target,
        read_only,
    })
}

fn constraint() -> impl Strategy<Value = Constraint> {
    let known = vec![
        "node.id==x",
        "node.hostname!=a==b",
        "node.ip==10.0.0.0/8",
        "node.ip!=10.1.2.3",
        "node.role==manager",
        "node.platform.os==linux",
        "node.platform.arch!=x86_64",
        "node.labels.a b != c d",
        "node.labels.a!=b==c",
        "engine.labels.disk==ssd",
    ];
    let written = prop_oneof![
        select(known).prop_map(String::from),
        "node.labels.[^ ]{1,6}[!=]=[^ ]{1,6}"
    ];
    written.prop_filter_map("not a constraint", |text| text.parse().ok())
}

fn restart() -> impl Strategy<Value = RestartPolicy> {
    let condition = select(vec![
        RestartCondition::None,
        RestartCondition::OnFailure,
        RestartCondition::Any,
    ]);
    (
        condition,
        any::<Option<u64>>(),
        any::<Option<u32>>(),
        any::<Option<u64>>(),
    )
        .prop_map(
            |(condition, delay_ms, max_attempts, window_ms)| RestartPolicy {
                condition,
                delay_ms,
                max_attempts,
                window_ms,
            },
        )
}

pub(super) fn template() -> impl Strategy<Value = TaskTemplate> {
    let container = (
        text(),
        option::of(texts()),
        option::of(texts()),
        texts(),
        vec(mount(), 0..3),
        labels(),
    )
        .prop_map(
            |(image, entrypoint, command, env, mounts, labels)| ContainerSpec {
                image,
                entrypoint,
                command,
                env,
                mounts,
                labels,
            },
        );
    let attachment = (any::<u128>(), texts()).prop_map(|(id, aliases)| NetworkAttachment {
        network: NetworkId(id),
        aliases,
    });
    let reference = (any::<u128>(), blob_file()).prop_map(|(id, file)| BlobRef {
        blob: BlobId(id),
        file,
    });
    (
        container,
        restart(),
        vec(constraint(), 0..3),
        vec(attachment, 0..3),
        any::<u64>(),
        vec(reference, 0..3),
        (option::of(any::<u64>()), any::<bool>()),
    )
        .prop_map(
            |(
                container,
                restart,
                constraints,
                networks,
                force,
                blobs,
                (stop_after_ms, exclusive),
            )| {
                TaskTemplate {
                    container,
                    restart,
                    placement: Placement { constraints },
                    networks,
                    force,
                    blobs,
                    disconnect: Disconnect {
                        stop_after_ms,
                        exclusive,
                    },
                }
            },
        )
}

pub(super) fn service_spec() -> impl Strategy<Value = ServiceSpec> {
    let mode = select(vec![EndpointMode::Vip, EndpointMode::DnsRr]);
    (
        text(),
        option::of(text()),
        labels(),
        any::<u32>(),
        mode,
        vec(port(), 0..3),
        template(),
    )
        .prop_map(
            |(name, stack, labels, replicas, endpoint_mode, ports, template)| ServiceSpec {
                name,
                stack,
                labels,
                mode: ServiceMode::Replicated { replicas },
                endpoint_mode,
                ports,
                template,
            },
        )
}

pub(crate) fn service() -> impl Strategy<Value = Service> {
    (any::<u128>(), meta(), service_spec(), any::<u64>(), vips()).prop_map(
        |(id, meta, spec, template_revision, vips)| Service {
            id: ServiceId(id),
            meta,
            spec,
            template_revision,
            vips,
        },
    )
}
