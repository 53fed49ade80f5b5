use super::world::World;
use std::time::Instant;

/// `cargo test -p scheduler --release -- --ignored --nocapture large`
#[test]
#[ignore = "a measurement: it prints how long large passes take"]
fn large() {
    let sizes = [(1_000, 1_000, 100), (10_000, 1_000, 1_000)];
    for (nodes, services, replicas) in sizes {
        let mut world = World::of(nodes);
        let network = world.network(1, "10.0.0.0/8");
        for n in 1..=services {
            world.service(n, replicas, |spec| {
                spec.template.placement.constraints =
                    vec!["node.platform.arch==amd64".parse().unwrap()];
                if n % 2 == 0 {
                    spec.template.networks = super::world::attached(network);
                }
            });
        }
        println!("{services} services of {replicas} tasks on {nodes} nodes");
        let began = Instant::now();
        let decision = world.decide(256);
        println!("  all decided: {:?}", began.elapsed());
        let began = Instant::now();
        world.commit_all(decision.transactions);
        println!("  all applied: {:?}", began.elapsed());
        for (what, change) in [("nothing to do", 0), ("one more task", 1)] {
            world.scale(api::model::ServiceId(2), replicas + change);
            let began = Instant::now();
            let ops: usize = world
                .decide(256)
                .transactions
                .iter()
                .map(|t| t.ops.len())
                .sum();
            println!("  {what}: {ops} changes in {:?}", began.elapsed());
        }
        world.set_node(api::model::NodeId(1), api::model::NodeState::Down);
        let began = Instant::now();
        let ops: usize = world
            .decide(256)
            .transactions
            .iter()
            .map(|t| t.ops.len())
            .sum();
        println!("  a node is lost: {ops} changes in {:?}", began.elapsed());
    }
}
