//! Files that can't be read, keys that are not taken, and how errors are put.

use super::*;

#[test]
fn all_errors_are_reported_in_the_files_order() {
    let text = "\
services:
  web:
    image: Nginx
    dependson: [db]
    build: .
    deploy:
      replica: 2
      replicas: many
  db:
    image: redis
    restart: always
    ports: [80, \"8080:80\", \"8080:81\"]
    networks: [fornt]
networks:
  front:
    driver: bridge
models:
  a: {file: b}
nonsense: 1
";
    insta::assert_snapshot!(refused(text).join("\n"), @r#"
    stack.yml:3: services.web.image: "Nginx" is no image reference: "Nginx" has capital letters; names are lower case
    stack.yml:4: services.web.dependson: unknown key; did you mean depends_on?
    stack.yml:5: services.web.build: not supported yet; build the image beforehand and load it with `clusterctl image load`
    stack.yml:7: services.web.deploy.replica: unknown key; did you mean replicas?
    stack.yml:8: services.web.deploy.replicas: expected a whole number from 0 to 4294967295, found the text "many"
    stack.yml:11: services.db.restart: not supported yet; use deploy.restart_policy.condition: none, on-failure or any
    stack.yml:12: services.db.ports[0]: a port of the cluster's choice is not supported yet; write which, as in "80:80"
    stack.yml:12: services.db.ports[2]: port 8080/tcp is published twice
    stack.yml:13: services.db.networks[0]: the network "fornt" is not declared; did you mean front?
    stack.yml:16: networks.front.driver: the driver "bridge" is not supported; overlay is the only one; remove this key
    stack.yml:17: models: not supported yet; take it out to deploy without it
    stack.yml:19: nonsense: unknown key
    "#);
}

#[test]
fn an_error_knows_its_place() {
    let files = vec![(PathBuf::from("a/stack.yml"), web("restart: always"))];
    let input = Input {
        stack: "shop",
        files,
        env: &env,
        read_file: &disk,
        base_dir: Path::new("/"),
    };
    let errors = read(input).expect_err("restart is refused");
    let want = ManifestError {
        file: "a/stack.yml".into(),
        at: Some(Position { line: 4, column: 5 }),
        path: "services.web.restart".into(),
        problem: "not supported yet".into(),
        cure: Some("use deploy.restart_policy.condition: none, on-failure or any".into()),
    };
    assert_eq!(errors, [want]);
}

#[test]
fn what_comes_through_an_anchor_is_reported_where_it_is_written() {
    let text = "x-a: &a\n  privileged: true\nservices:\n  web:\n    <<: *a\n    image: nginx\n";
    assert_eq!(
        refused(text),
        [
            "stack.yml:2: services.web.privileged: not supported yet; take it out to deploy without it"
        ]
    );
}

#[test]
fn files_that_are_no_yaml() {
    for (text, want) in [
        ("", "stack.yml: the file is empty; it needs services:"),
        (
            "# only words\n",
            "stack.yml: the file is empty; it needs services:",
        ),
        (
            "services:\n  web: {image: a\n",
            "stack.yml:2: not readable as YAML: ",
        ),
        (
            "services:\n  web:\n    image: a: b\n",
            "stack.yml:3: not readable as YAML: ",
        ),
        (
            "services:\n\tweb: 1\n",
            "stack.yml:2: not readable as YAML: ",
        ),
        (
            "services:\n  web: *nope\n",
            "stack.yml:2: not readable as YAML: alias references unknown anchor",
        ),
        (
            "a: &a [*a]",
            "stack.yml:1: not readable as YAML: recursive references",
        ),
        (
            "services:\n  web: !reset null\n",
            "stack.yml:2: unsupported tag `!reset`; tags are not supported yet",
        ),
        (
            "services: {}\n---\nservices: {}\n",
            "stack.yml:3: a second document begins here; write one file for each stack",
        ),
        ("~: 1", "stack.yml:1: an empty key"),
        (
            "- a",
            "stack.yml:1: expected a mapping with services, found a list",
        ),
        (
            "hello",
            "stack.yml:1: expected a mapping with services, found the text \"hello\"",
        ),
    ] {
        let errors = refused(text);
        assert_eq!(errors.len(), 1, "{text}: {errors:?}");
        assert!(errors[0].starts_with(want), "{text}: {}", errors[0]);
    }
}

#[test]
fn services_have_to_be_there() {
    for (text, want) in [
        (
            "networks: {a: }",
            "stack.yml: services: missing; write what is to be run under services:",
        ),
        (
            "services: {}",
            "stack.yml:1: services: there are none; write what is to be run",
        ),
        (
            "services:",
            "stack.yml:1: services: expected a mapping of services, found nothing",
        ),
        (
            "services: [a]",
            "stack.yml:1: services: expected a mapping of services, found a list",
        ),
        (
            "services: {web: }",
            "stack.yml:1: services.web: expected a mapping with an image, found nothing",
        ),
        (
            "services: {web: {}}",
            "stack.yml:1: services.web: it has no image; add image: NAME",
        ),
        (
            "services: {web: nginx}",
            "stack.yml:1: services.web: expected a mapping with an image, found the text \"nginx\"",
        ),
    ] {
        assert_eq!(refused(text), [want], "{text}");
    }
}

#[test]
fn duplicate_keys_are_all_reported() {
    let text = "services:\n  web:\n    image: a\n    image: b\n  db:\n    image: c\n  web:\n    image: d\n";
    let cure = "remove one of the two";
    assert_eq!(
        refused(text),
        [
            format!(
                "stack.yml:4: services.web.image: duplicate key, it stands on line 3 already; {cure}"
            ),
            format!(
                "stack.yml:7: services.web: duplicate key, it stands on line 2 already; {cure}"
            ),
        ]
    );
}

/// Each key that Compose knows is refused by name, with its line.
#[test]
fn keys_that_are_not_supported_yet() {
    for key in [
        "annotations",
        "build",
        "cap_add",
        "container_name",
        "depends_on",
        "devices",
        "dns",
        "env_file",
        "expose",
        "extends",
        "extra_hosts",
        "healthcheck",
        "hostname",
        "init",
        "ipc",
        "links",
        "logging",
        "network_mode",
        "pid",
        "privileged",
        "profiles",
        "pull_policy",
        "read_only",
        "restart",
        "scale",
        "security_opt",
        "shm_size",
        "stop_grace_period",
        "stop_signal",
        "sysctls",
        "tmpfs",
        "tty",
        "ulimits",
        "user",
        "working_dir",
    ] {
        let errors = refused(&web(&format!("{key}: x")));
        assert_eq!(errors.len(), 1, "{errors:?}");
        let want = format!("stack.yml:4: services.web.{key}: not supported yet");
        assert!(errors[0].starts_with(&want), "{}", errors[0]);
    }
    for (lines, want) in [
        ("deploy: {resources: {}}", "services.web.deploy.resources"),
        (
            "deploy: {endpoint_mode: vip}",
            "services.web.deploy.endpoint_mode",
        ),
        (
            "deploy: {update_config: {}}",
            "services.web.deploy.update_config",
        ),
        (
            "deploy: {rollback_config: {}}",
            "services.web.deploy.rollback_config",
        ),
        (
            "deploy: {placement: {preferences: []}}",
            "services.web.deploy.placement.preferences",
        ),
        (
            "deploy: {placement: {max_replicas_per_node: 1}}",
            "services.web.deploy.placement.max_replicas_per_node",
        ),
        (
            "networks: {default: {ipv4_address: 10.0.0.1}}",
            "services.web.networks.default.ipv4_address",
        ),
        (
            "ports: [{target: 1, published: 1, name: x, mode: host}]",
            "services.web.ports[0].name",
        ),
        (
            "volumes: [{type: volume, target: /x, bind: {}}]",
            "services.web.volumes[0].bind",
        ),
    ] {
        assert_eq!(
            refused(&web(lines)),
            [format!(
                "stack.yml:4: {want}: not supported yet; take it out to deploy without it"
            )]
        );
    }
    for (text, want) in [
        ("include: []", "include"),
        (
            "networks: {a: {enable_ipv6: true}}",
            "networks.a.enable_ipv6",
        ),
        ("networks: {a: {driver_opts: {}}}", "networks.a.driver_opts"),
        (
            "networks: {a: {ipam: {options: {}}}}",
            "networks.a.ipam.options",
        ),
        (
            "networks: {a: {ipam: {config: [{gateway: 10.0.0.1}]}}}",
            "networks.a.ipam.config[0].gateway",
        ),
        ("volumes: {a: {driver_opts: {}}}", "volumes.a.driver_opts"),
    ] {
        assert_eq!(
            refused(&(web("") + text)),
            [format!(
                "stack.yml:4: {want}: not supported yet; take it out to deploy without it"
            )]
        );
    }
}

#[test]
fn unknown_keys_get_the_nearest_known_one() {
    for (lines, want) in [
        (
            "dependson: x",
            "services.web.dependson: unknown key; did you mean depends_on?",
        ),
        (
            "enviroment: {}",
            "services.web.enviroment: unknown key; did you mean environment?",
        ),
        ("bananas: 1", "services.web.bananas: unknown key"),
        (
            "replicas: 2",
            "services.web.replicas: unknown key; did you mean deploy.replicas?",
        ),
        (
            "constraints: []",
            "services.web.constraints: unknown key; did you mean deploy.placement.constraints?",
        ),
        (
            "deploy: {replica: 2}",
            "services.web.deploy.replica: unknown key; did you mean replicas?",
        ),
        (
            "deploy: {placement: {constraint: []}}",
            "services.web.deploy.placement.constraint: unknown key; did you mean constraints?",
        ),
        (
            "deploy: {restart_policy: {conditions: any}}",
            "services.web.deploy.restart_policy.conditions: unknown key; did you mean condition?",
        ),
        (
            "networks: {default: {alias: []}}",
            "services.web.networks.default.alias: unknown key; did you mean aliases?",
        ),
        (
            "volumes: [{typ: bind, type: volume, target: /x}]",
            "services.web.volumes[0].typ: unknown key; did you mean type?",
        ),
    ] {
        assert_eq!(refused(&web(lines)), [format!("stack.yml:4: {want}")]);
    }
    for (text, want) in [
        (
            "service: {}",
            "service: unknown key; did you mean services?",
        ),
        (
            "db: {image: redis}",
            "db: unknown key; did you mean services.db?",
        ),
        (
            "networks: {a: {intern: true}}",
            "networks.a.intern: unknown key; did you mean internal?",
        ),
        (
            "volumes: {a: {label: {}}}",
            "volumes.a.label: unknown key; did you mean labels?",
        ),
    ] {
        assert_eq!(refused(&(web("") + text)), [format!("stack.yml:4: {want}")]);
    }
}

#[test]
fn one_file_of_a_bounded_size() {
    let read_files = |files: Vec<(PathBuf, String)>| {
        let input = Input {
            stack: "shop",
            files,
            env: &env,
            read_file: &disk,
            base_dir: Path::new("/"),
        };
        read(input)
            .expect_err("refused")
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    let two = vec![
        (PathBuf::from("a.yml"), String::new()),
        (PathBuf::from("b.yml"), String::new()),
    ];
    assert_eq!(
        read_files(two),
        [
            "b.yml: 2 Compose files were given; give exactly one: merging several is not supported yet"
        ]
    );
    let large = vec![(PathBuf::from("a.yml"), " ".repeat(FILE_LIMIT + 1))];
    assert_eq!(
        read_files(large),
        ["a.yml: the file has 1048577 bytes, at most 1048576 are read"]
    );
}

#[test]
fn a_bad_stack_name_is_refused() {
    let files = vec![(PathBuf::from("a.yml"), web(""))];
    let input = Input {
        stack: "my.shop",
        files,
        env: &env,
        read_file: &disk,
        base_dir: Path::new("/"),
    };
    let errors = read(input).expect_err("refused");
    assert_eq!(
        errors[0].to_string(),
        "a.yml: the stack name \"my.shop\" holds '.'; letters, digits, - and _ are allowed"
    );
}

#[test]
fn aliases_that_explode_and_deep_nesting_are_refused() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for i in 1..10 {
        let before = format!("*a{}", i - 1);
        text += &format!("a{i}: &a{i} [{}]\n", vec![before; 10].join(", "));
    }
    let want = "more values, or values nested deeper, than a Compose file may have; check what its aliases (*name) expand to";
    let errors = refused(&text);
    assert!(errors.len() == 1 && errors[0].ends_with(want), "{errors:?}");
    for open in ["[", "{a: ", "- ", "a:\n "] {
        let errors = refused(&format!("services: {}", open.repeat(10_000)));
        assert_eq!(errors.len(), 1, "{errors:?}");
    }
}

#[test]
fn the_list_of_errors_is_bounded() {
    let lines: String = (0..500).map(|i| format!("bad{i:04}: 1\n")).collect();
    let errors = refused(&lines);
    assert_eq!(errors.len(), 201);
    assert_eq!(errors[200], "stack.yml: 301 more errors");
}
