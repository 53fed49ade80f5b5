//! Each key that is honoured, by what it makes.

use super::*;
use crate::model::*;

#[test]
fn a_service_without_networks_is_on_the_stacks_default_network() {
    let (spec, _) = read_file("services: {web: {image: nginx}}").expect("good");
    let network = NetworkSpec {
        name: "shop_default".into(),
        stack: Some("shop".into()),
        ..NetworkSpec::default()
    };
    assert_eq!(spec.networks, [("shop_default".into(), network)].into());
    assert_eq!(
        spec.services["shop_web"].networks,
        [("shop_default".into(), vec!["web".into()])].into()
    );
    assert_eq!(
        spec.services["shop_web"].spec.stack.as_deref(),
        Some("shop")
    );
}

#[test]
fn the_default_network_may_be_declared() {
    let text = "services: {web: {image: nginx}}\nnetworks: {default: {external: true, name: demo}}";
    let (spec, _) = read_file(text).expect("good");
    assert_eq!(spec.networks.len(), 0);
    assert_eq!(spec.external_networks, ["demo"]);
    assert_eq!(
        spec.services["shop_web"].networks,
        [("demo".into(), vec!["web".into()])].into()
    );
}

#[test]
fn no_default_network_is_made_that_nobody_uses() {
    let text = "services: {web: {image: nginx, networks: [a]}}\nnetworks: {a: }";
    let (spec, _) = read_file(text).expect("good");
    assert_eq!(spec.networks.keys().collect::<Vec<_>>(), ["shop_a"]);
}

#[test]
fn the_short_name_is_the_first_alias_on_every_network() {
    let text = web("networks: {a: {aliases: [x, web, y, x]}, default: }") + "networks: {a: }";
    let (web, _) = taken(&text);
    assert_eq!(web.networks["shop_a"], ["web", "x", "y"]);
    assert_eq!(web.networks["shop_default"], ["web"]);
}

#[test]
fn an_absent_command_is_not_an_empty_one() {
    let words = |text: &str| taken(&web(text)).0.spec.template.container;
    assert_eq!(words("").command, None);
    assert_eq!(words("command:").command, None);
    assert_eq!(words("command: ''").command, Some(vec![]));
    assert_eq!(words("entrypoint: []").entrypoint, Some(vec![]));
    assert_eq!(
        words("command: redis-server --save ''").command,
        Some(vec!["redis-server".into(), "--save".into(), String::new()])
    );
}

#[test]
fn environment_forms_mean_the_same() {
    let env = |text: &str| taken(&web(text)).0.spec.template.container.env;
    let want = ["A=1", "B=", "PASSED=on"];
    assert_eq!(env("environment: {PASSED: , B: '', A: 1}"), want);
    assert_eq!(env("environment: [PASSED, A=1, B=]"), want);
    assert_eq!(env("environment: ['A=b=c']"), ["A=b=c"]);
}

#[test]
fn a_variable_without_a_value_is_left_out_with_a_warning() {
    let (web, warnings) = taken(&web("environment: [MISSING]"));
    assert_eq!(web.spec.template.container.env.len(), 0);
    let want = "stack.yml:4: services.web.environment[0]: MISSING has no value, here or in your environment; it is left out";
    assert_eq!(warnings, [want]);
}

#[test]
fn an_unset_variable_is_empty_with_one_warning() {
    let (web, warnings) = taken(&web("command: echo $UNSET\nlabels: {a: $UNSET}"));
    assert_eq!(
        web.spec.template.container.command,
        Some(vec!["echo".into()])
    );
    let want =
        "stack.yml:4: services.web.command: the variable UNSET is not set; it is taken as empty";
    assert_eq!(warnings, [want]);
}

#[test]
fn ports_of_the_ingress_mode_are_taken_with_a_warning() {
    let warning = "stack.yml:4: services.web.ports: published on the node where a task runs (mode: host), not on every \
                   node; the mesh is not supported yet";
    for (text, warns) in [
        ("ports: [\"8080:80\"]", true),
        ("ports: [{target: 80, published: 8080}]", true),
        (
            "ports: [{target: 80, published: \"8080\", mode: ingress}]",
            true,
        ),
        (
            "ports: [{target: 80, published: 8080, mode: host, protocol: tcp}]",
            false,
        ),
        (
            "ports: [{target: 80, published: \"${TWO}0${TWO}0\", mode: host}]",
            false,
        ),
    ] {
        let (web, warnings) = taken(&web(text));
        assert_eq!(web.spec.ports[0].target, 80, "{text}");
        assert_eq!(
            warnings,
            if warns { vec![warning] } else { vec![] },
            "{text}"
        );
    }
}

#[test]
fn mounts() {
    let mounts = |text: &str| {
        taken(&(web(text) + "volumes: {data: , given: {external: true}}"))
            .0
            .spec
            .template
            .container
            .mounts
    };
    let mount = |source, target: &str, read_only| Mount {
        source,
        target: target.into(),
        read_only,
    };
    let bind = |path: &str| MountSource::Bind(path.into());
    for (text, want) in [
        (
            "data:/d",
            mount(MountSource::Volume("shop_data".into()), "/d", false),
        ),
        (
            "given:/d:rw",
            mount(MountSource::Volume("given".into()), "/d", false),
        ),
        ("/abs/./x:/d:ro", mount(bind("/abs/x"), "/d", true)),
        ("./x:/d/e/", mount(bind("/home/me/shop/x"), "/d/e", false)),
        ("../x:/d", mount(bind("/home/me/x"), "/d", false)),
        (".:/d", mount(bind("/home/me/shop"), "/d", false)),
        ("/d", mount(MountSource::Anonymous, "/d", false)),
    ] {
        assert_eq!(mounts(&format!("volumes: [\"{text}\"]")), [want], "{text}");
    }
}

#[test]
fn a_restart_policy() {
    let policy = |text: &str| {
        taken(&web(&format!("deploy: {{restart_policy: {{{text}}}}}")))
            .0
            .spec
            .template
            .restart
    };
    let default = RestartPolicy::default();
    assert_eq!(policy(""), default);
    assert_eq!(
        policy("condition: none"),
        RestartPolicy {
            condition: RestartCondition::None,
            ..default.clone()
        }
    );
    assert_eq!(
        policy("delay: 0s"),
        RestartPolicy {
            delay_ms: Some(0),
            ..default.clone()
        }
    );
    assert_eq!(policy("window: 0s, max_attempts: 0"), default);
    assert_eq!(
        policy("window: 2m, max_attempts: 4"),
        RestartPolicy {
            window_ms: Some(120_000),
            max_attempts: Some(4),
            ..default
        }
    );
}

#[test]
fn extensions_are_left_alone_wherever_they_stand() {
    let text = "x-a: {b: [1]}\nservices: {web: {image: a, x-b: 1, deploy: {x-c: , placement: {x-d: }, restart_policy: {x-e: }}, \
                networks: {n: {x-f: }}, ports: [{target: 1, published: 1, mode: host, x-g: }], \
                volumes: [{type: volume, target: /x, x-h: }]}}\n\
                networks: {n: {x-i: , ipam: {x-j: , config: [{x-k: }]}}, o: {external: true, x-l: }}\nvolumes: {v: {x-m: }}";
    assert_eq!(read_file(text).expect("good").1, Vec::<String>::new());
}

#[test]
fn labels_of_both_kinds() {
    let (web, _) = taken(&web(
        "labels: [a=1, b]\ndeploy: {labels: {c: 2, d: , e: true}}",
    ));
    let labels = |pairs: &[(&str, &str)]| {
        pairs
            .iter()
            .map(|(k, v)| ((*k).into(), (*v).into()))
            .collect::<Labels>()
    };
    assert_eq!(
        web.spec.template.container.labels,
        labels(&[("a", "1"), ("b", "")])
    );
    assert_eq!(
        web.spec.labels,
        labels(&[("c", "2"), ("d", ""), ("e", "true")])
    );
}

#[test]
fn the_order_of_keys_makes_no_difference() {
    let one = read_file("services: {a: {image: x, environment: {A: 1, B: 2}}, b: {image: y}}")
        .expect("good");
    let two = read_file("services: {b: {image: y}, a: {environment: {B: 2, A: 1}, image: x}}")
        .expect("good");
    assert_eq!(one, two);
}

#[test]
fn a_service_says_what_becomes_of_tasks_that_are_cut_off() {
    let terms = |text: &str| taken(&web(text)).0.spec.template.disconnect;
    assert_eq!(terms(""), Disconnect::default());
    let both = Disconnect {
        stop_after_ms: Some(30_000),
        exclusive: true,
    };
    for prefix in ["", "x-"] {
        let text =
            format!("deploy: {{{prefix}exclusive: true, {prefix}disconnect: {{stop_after: 30s}}}}");
        assert_eq!(terms(&text), both);
    }
}
