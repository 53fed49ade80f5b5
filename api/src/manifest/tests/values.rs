//! Values that are not taken, and in which words.

use super::*;

/// The one error of a service `web` with these lines.
fn one(lines: &str) -> String {
    let errors = refused(&web(lines));
    assert_eq!(errors.len(), 1, "{lines}: {errors:#?}");
    let error = errors[0]
        .strip_prefix("stack.yml:4: services.web.")
        .unwrap_or(&errors[0]);
    error.to_owned()
}

fn table(cases: &[(&str, &str)]) {
    for (lines, want) in cases {
        assert_eq!(one(lines), *want, "{lines}");
    }
}

#[test]
fn wrong_types_say_what_was_expected_and_found() {
    table(&[
        (
            "command: {a: b}",
            "command: expected a text or a list, found a mapping",
        ),
        (
            "command: 5",
            "command: expected a text or a list, found the number 5; write it in quotes",
        ),
        (
            "command: [{}]",
            "command[0]: expected a text, found a mapping",
        ),
        (
            "environment: x",
            "environment: expected a mapping or a list of variables, found the text \"x\"",
        ),
        (
            "environment: {A: [1]}",
            "environment.A: expected a text, a number or nothing, found a list",
        ),
        (
            "environment: [1]",
            "environment[0]: expected a variable such as KEY=value, found the number 1; write it in quotes",
        ),
        (
            "networks: x",
            "networks: expected a list or a mapping of networks, found the text \"x\"",
        ),
        (
            "networks: [{}]",
            "networks[0]: expected the name of a network, found a mapping",
        ),
        (
            "networks: {default: x}",
            "networks.default: expected a mapping or nothing, found the text \"x\"",
        ),
        (
            "ports: 80",
            "ports: expected a list of ports, found the number 80",
        ),
        (
            "ports: [[]]",
            "ports[0]: expected a port such as \"8080:80\", or a mapping, found a list",
        ),
        (
            "ports: [80.5]",
            "ports[0]: expected a port such as \"8080:80\", or a mapping, found the number 80.5; write it in quotes",
        ),
        (
            "volumes: {a: b}",
            "volumes: expected a list of volumes, found a mapping",
        ),
        (
            "volumes: [true]",
            "volumes[0]: expected a volume such as data:/data, or a mapping, found the boolean true; write it in quotes",
        ),
        ("deploy: []", "deploy: expected a mapping, found a list"),
        (
            "deploy: {replicas: two}",
            "deploy.replicas: expected a whole number from 0 to 4294967295, found the text \"two\"",
        ),
        (
            "deploy: {replicas: -1}",
            "deploy.replicas: expected a whole number from 0 to 4294967295, found the number -1",
        ),
        (
            "deploy: {replicas: 1.5}",
            "deploy.replicas: expected a whole number from 0 to 4294967295, found the number 1.5",
        ),
        (
            "deploy: {replicas: 4294967296}",
            "deploy.replicas: expected a whole number from 0 to 4294967295, found the number 4294967296",
        ),
        (
            "deploy: {mode: global}",
            "deploy.mode: not supported yet; replicated is the only mode",
        ),
        (
            "deploy: {mode: swarm}",
            "deploy.mode: expected one of replicated, global, replicated-job, global-job, found \"swarm\"",
        ),
        (
            "deploy: {exclusive: sometimes}",
            "deploy.exclusive: expected true or false, found the text \"sometimes\"",
        ),
        (
            "deploy: {disconnect: {stop_after: 500ms}}",
            "deploy.disconnect.stop_after: shorter than a second: every hiccup of the network would stop the task; give 1s or more; without it a node that is cut off keeps the task",
        ),
        (
            "deploy: {disconnect: {stop_afer: 5s}}",
            "deploy.disconnect.stop_afer: unknown key; did you mean stop_after?",
        ),
        (
            "deploy: {labels: 1}",
            "deploy.labels: expected a mapping or a list of labels, found the number 1",
        ),
        (
            "deploy: {placement: x}",
            "deploy.placement: expected a mapping, found the text \"x\"",
        ),
        (
            "deploy: {placement: {constraints: node.id==x}}",
            "deploy.placement.constraints: expected a list of constraints, found the text \"node.id==x\"",
        ),
        (
            "deploy: {restart_policy: any}",
            "deploy.restart_policy: expected a mapping, found the text \"any\"",
        ),
        (
            "deploy: {restart_policy: {condition: always}}",
            "deploy.restart_policy.condition: expected one of none, on-failure, any, found \"always\"",
        ),
        (
            "deploy: {restart_policy: {delay: 5}}",
            "deploy.restart_policy.delay: expected a duration such as 5s or 1m30s, found the number 5",
        ),
        (
            "deploy: {restart_policy: {window: soon}}",
            "deploy.restart_policy.window: expected a duration such as 5s or 1m30s, found \"soon\"",
        ),
        (
            "labels: [a=1, a=2]",
            "labels[1]: the label \"a\" is there twice",
        ),
        ("labels: ['=x']", "labels[0]: the label has no key"),
    ]);
    assert_eq!(
        refused("services: {web: {image: 7}}"),
        [
            "stack.yml:1: services.web.image: expected an image reference, found the number 7; write it in quotes"
        ]
    );
}

#[test]
fn constraints() {
    table(&[
        (
            "deploy: {placement: {constraints: [node.disk==ssd]}}",
            "deploy.placement.constraints[0]: constraint \"node.disk==ssd\": unknown key \"node.disk\"; known are node.id, node.hostname, node.ip, node.role, node.platform.os, node.platform.arch, node.labels.KEY, engine.labels.KEY",
        ),
        (
            "deploy: {placement: {constraints: [node.id]}}",
            "deploy.placement.constraints[0]: constraint \"node.id\": write it KEY==VALUE or KEY!=VALUE",
        ),
        (
            "deploy: {placement: {constraints: [node.role==boss]}}",
            "deploy.placement.constraints[0]: constraint \"node.role==boss\": a role is manager or worker, not \"boss\"",
        ),
    ]);
}

#[test]
fn a_value_that_is_wrong_for_want_of_variables_names_them() {
    let errors = refused("services:\n  web:\n    image: 'redis:$NOPE${NO_MORE}$NOPE'\n");
    let want = "stack.yml:3: services.web.image: \"redis:\" is no image reference: \"\" is no tag; the variables NOPE and \
                NO_MORE are not set and taken as empty";
    assert_eq!(errors, [want]);
    // What is wrong otherwise keeps its cure.
    let error = one("restart: $NOPE");
    assert!(error.contains("use deploy.restart_policy"), "{error}");
}

#[test]
fn variables() {
    table(&[
        (
            "environment: {A: 'cost 5$'}",
            "environment.A: \"$\" is no variable; write $NAME, ${NAME}, ${NAME:-default}, or $$ for a dollar sign",
        ),
        (
            "deploy: {replicas: $NOPE}",
            "deploy.replicas: expected a whole number from 0 to 4294967295, found the text \"\"; the variable NOPE is not set and taken as empty",
        ),
        (
            "command: '${NOPE?set it}'",
            "command: the variable NOPE is not set: set it",
        ),
        (
            "environment: [A=1, 'A=2']",
            "environment[1]: the variable A is set twice",
        ),
        (
            "environment: ['=1']",
            "environment[0]: \"\" can't be the name of a variable",
        ),
        (
            "environment: [' A=1']",
            "environment[0]: \" A\" can't be the name of a variable",
        ),
        (
            "environment: {A=B: 1}",
            "environment.A=B: \"A=B\" can't be the name of a variable",
        ),
        (
            "command: 'a ''b'",
            "command: \"a 'b\" has a ' that is not closed",
        ),
    ]);
}

#[test]
fn networks() {
    table(&[
        (
            "networks: [front]",
            "networks[0]: the network \"front\" is not declared; declare it under networks:",
        ),
        (
            "networks: [default, default]",
            "networks[1]: the network \"default\" is there twice",
        ),
        (
            "networks: {default: {aliases: x}}",
            "networks.default.aliases: expected a list of names, found the text \"x\"",
        ),
        (
            "networks: {default: {aliases: [a b]}}",
            "networks.default.aliases[0]: the alias name \"a b\" holds ' '; letters, digits, - and _ are allowed",
        ),
    ]);
    for (text, want) in [
        (
            "networks: []",
            "networks: expected a mapping of networks, found a list",
        ),
        (
            "networks: {a: x}",
            "networks.a: expected a mapping or nothing, found the text \"x\"",
        ),
        (
            "networks: {a: {driver: bridge}}",
            "networks.a.driver: the driver \"bridge\" is not supported; overlay is the only one; remove this key",
        ),
        (
            "networks: {a: {internal: maybe}}",
            "networks.a.internal: expected true or false, found the text \"maybe\"",
        ),
        (
            "networks: {a b: }",
            "networks.a b: the network name \"shop_a b\" holds ' '; letters, digits, \"-\", \"_\" and \".\" are allowed",
        ),
        (
            "networks: {a: {name: -x}}",
            "networks.a: the network name \"-x\" has to begin with a letter or a digit",
        ),
        (
            "networks: {a: {name: x}, b: {name: x}}",
            "networks.b: another network of this file is called \"x\" too",
        ),
        (
            "networks: {a: {external: true, internal: true}}",
            "networks.a.internal: an external network is already there as it is; remove this key",
        ),
        (
            "networks: {a: {external: {name: x}, name: y}}",
            "networks.a.external.name: there is a name beside it already; remove one of the two",
        ),
        (
            "networks: {a: {ipam: {config: [{subnet: 10.0.0.1/24}]}}}",
            "networks.a.ipam.config[0].subnet: \"10.0.0.1/24\" is an address inside a subnet; did you mean 10.0.0.0/24?",
        ),
        (
            "networks: {a: {ipam: {config: [{subnet: fd00::/64}]}}}",
            "networks.a.ipam.config[0].subnet: \"fd00::/64\" is an IPv6 subnet; only IPv4 is supported yet",
        ),
        (
            "networks: {a: {ipam: {config: [{subnet: ten}]}}}",
            "networks.a.ipam.config[0].subnet: \"ten\" is no subnet; write it as 10.1.0.0/24",
        ),
        (
            "networks: {a: {ipam: {config: [{subnet: 10.0.0.0/31}]}}}",
            "networks.a.ipam.config[0].subnet: \"10.0.0.0/31\" is no useful size; take a prefix from /8 to /29",
        ),
        (
            "networks: {a: {ipam: {config: [{subnet: 10.0.0.0/24}, {subnet: 10.0.1.0/24}]}}}",
            "networks.a.ipam.config[1]: a second subnet is not supported yet",
        ),
        (
            "networks: {a: {name: shop_default}}",
            "services: services without networks need a network shop_default, but that name is taken in this file; give these services their networks",
        ),
    ] {
        let errors = refused(&(web("") + text));
        assert_eq!(errors.len(), 1, "{text}: {errors:?}");
        let error = errors[0].split_once(": ").map(|(_, rest)| rest);
        assert_eq!(error, Some(want), "{text}");
    }
}

#[test]
fn volumes() {
    table(&[
        (
            "volumes: [data:/data]",
            "volumes[0]: the volume \"data\" is not declared; declare it under volumes:",
        ),
        (
            "volumes: [a/b:/data]",
            "volumes[0]: \"a/b\" is neither a volume's name nor a path; write ./a/b for a path beside the file",
        ),
        (
            "volumes: [~/x:/data]",
            "volumes[0]: ~ is not supported: each node has its own; write the path out",
        ),
        (
            "volumes: [/a:b]",
            "volumes[0]: the target \"b\" is no absolute path; it is a path in the container, such as /data",
        ),
        (
            "volumes: [/a:/]",
            "volumes[0]: the target is the container's root",
        ),
        (
            "volumes: [/a:/b/../c]",
            "volumes[0]: the target \"/b/../c\" holds \"..\"",
        ),
        (
            "volumes: [/a:/b:z]",
            "volumes[0]: the volume's mode \"z\" is not supported; ro and rw are",
        ),
        (
            "volumes: ['/a:/b:ro:x']",
            "volumes[0]: \"/a:/b:ro:x\" has too many colons; write it as NAME:/PATH, or ./PATH:/PATH, with :ro for read-only",
        ),
        (
            "volumes: [/a:/x, /b:/x/]",
            "volumes[1]: \"/x\" is mounted twice",
        ),
        (
            "volumes: [{type: tmpfs, target: /x}]",
            "volumes[0].type: not supported yet; volume and bind are",
        ),
        (
            "volumes: [{target: /x}]",
            "volumes[0]: it has no type; add type: volume or type: bind",
        ),
        (
            "volumes: [{type: bind, source: /x}]",
            "volumes[0]: it has no target; add target: the path in the container",
        ),
        (
            "volumes: [{type: bind, target: /x}]",
            "volumes[0]: it has no source; add source: the path on the node",
        ),
    ]);
    for (text, want) in [
        (
            "volumes: {a: {driver: nfs}}",
            "volumes.a.driver: the driver \"nfs\" is not supported; local is the only one; remove this key",
        ),
        (
            "volumes: {a: {external: true, labels: {}}}",
            "volumes.a.labels: an external volume is already there as it is; remove this key",
        ),
        (
            "volumes: {a/b: }",
            "volumes.a/b: the volume name \"shop_a/b\" holds '/'; letters, digits, \"-\", \"_\" and \".\" are allowed",
        ),
        (
            "volumes: {a: , b: {name: shop_a}}",
            "volumes.b: another volume of this file is called \"shop_a\" too",
        ),
    ] {
        assert_eq!(
            refused(&(web("") + text)),
            [format!("stack.yml:4: {want}")],
            "{text}"
        );
    }
}

#[test]
fn names_near_a_declared_one_are_suggested() {
    let text =
        web("networks: [fornt]\nvolumes: [dtaa:/data]") + "networks: {front: }\nvolumes: {data: }";
    assert_eq!(
        refused(&text),
        [
            "stack.yml:4: services.web.networks[0]: the network \"fornt\" is not declared; did you mean front?",
            "stack.yml:5: services.web.volumes[0]: the volume \"dtaa\" is not declared; did you mean data?",
        ]
    );
}

#[test]
fn ports() {
    table(&[
        (
            "ports: [80]",
            "ports[0]: a port of the cluster's choice is not supported yet; write which, as in \"80:80\"",
        ),
        (
            "ports: [\"8080:80\", \"8080:81\"]",
            "ports[1]: port 8080/tcp is published twice",
        ),
        (
            "ports: [{target: 80}]",
            "ports[0]: a port of the cluster's choice is not supported yet; add published: the port of the node",
        ),
        (
            "ports: [{published: 80}]",
            "ports[0]: it has no target; add target: the port in the container",
        ),
        (
            "ports: [{target: 0, published: 80}]",
            "ports[0].target: expected a whole number from 1 to 65535, found the number 0",
        ),
        (
            "ports: [{target: 80, published: 70000}]",
            "ports[0].published: expected a whole number from 1 to 65535, found the number 70000",
        ),
        (
            "ports: [{target: 80, published: '80-90'}]",
            "ports[0].published: a range in the long form is not supported yet",
        ),
        (
            "ports: [{target: 80, published: 80, protocol: sctp}]",
            "ports[0].protocol: expected one of tcp, udp, found \"sctp\"",
        ),
        (
            "ports: [{target: 80, published: 80, mode: mesh}]",
            "ports[0].mode: expected one of host, ingress, found \"mesh\"",
        ),
        (
            "ports: [{target: 80, published: 80, host_ip: 127.0.0.1}]",
            "ports[0].host_ip: a host address is not supported yet; remove this key",
        ),
    ]);
}

#[test]
fn names_of_services() {
    let long = "a".repeat(60);
    for (name, want) in [
        (
            "we.b",
            "the service name \"we.b\" holds '.'; letters, digits, - and _ are allowed",
        ),
        (
            "-web",
            "the service name \"-web\" has to begin and end with a letter or a digit",
        ),
        (
            long.as_str(),
            &format!(
                "the service name {:?} has 65 characters, at most 63 are allowed",
                format!("shop_{}…", "a".repeat(55))
            ),
        ),
    ] {
        let errors = refused(&format!("services: {{{name}: {{image: a}}}}"));
        assert_eq!(errors, [format!("stack.yml:1: services.{name}: {want}")]);
    }
    assert_eq!(
        refused("services: {web: {image: a}, Web: {image: a}}"),
        [
            "stack.yml:1: services.Web: another service's name differs only by capital letters; rename one"
        ]
    );
}
