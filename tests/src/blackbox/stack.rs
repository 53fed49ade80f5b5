//! What runs on the cluster meanwhile, and a user who changes it all the time.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result};
use api::proto::ScaleServiceRequest;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{calls, clients::Shared, dice::Dice, plan::MANAGERS, watch};
use crate::{Lab, places, wait_for};

/// The stack's name, and those of its services.
pub const NAME: &str = "bb";
/// On the workers.
pub const SHOP: &str = "bb_shop";
/// On the watcher, who is thereby told of the network that all are on.
pub const WATCHED: &str = "bb_watched";
/// In the end.
pub const SHOP_TASKS: u32 = 4;
/// In the end.
pub const WATCHED_TASKS: u32 = 2;

const LIMIT: Duration = Duration::from_secs(90);

/// The stack.
#[derive(Debug, Clone, Copy)]
pub struct Stack {
    /// By which its processes are told from all others of this machine.
    pub number: u32,
}

impl Stack {
    /// What its containers run: something that ends soon when it is told to.
    #[must_use]
    pub fn command(self) -> [String; 3] {
        let script = format!(
            "trap exit TERM; while sleep 0.5; do :; done # {}",
            self.number
        );
        ["sh".into(), "-c".into(), script]
    }

    fn text(self) -> String {
        let service = |replicas: u32, where_: &str| {
            serde_json::json!({
                "image": "busybox:1",
                "command": self.command(),
                "networks": ["n"],
                "deploy": {"replicas": replicas, "placement": {"constraints": [where_]}},
            })
        };
        // JSON is YAML.
        let mut stack = serde_json::json!({
            "services": {
                "shop": service(SHOP_TASKS, "node.role==worker"),
                "watched": service(WATCHED_TASKS, &format!("node.hostname=={}", watch::NAME)),
            },
            "networks": {"n": {}},
        });
        // No container runs on the watcher but its own.
        let constraints = &mut stack["services"]["shop"]["deploy"]["placement"]["constraints"];
        if let Some(list) = constraints.as_array_mut() {
            list.push(format!("node.hostname!={}", watch::NAME).into());
        }
        stack.to_string()
    }

    /// Deploys it. The watcher has to be there.
    pub fn deploy(self, lab: &Lab) -> Result<()> {
        let archive = places::image("busybox")?.display().to_string();
        for node in lab.nodes() {
            node.run_ok(["clusterctl", "image", "load", "-i", &archive])?;
        }
        let manager = lab.node(1);
        let deploy = format!(r#"printf "%s" "$1" | clusterctl deploy -c - {NAME}"#);
        wait_for("the stack is deployed", LIMIT, || {
            manager.run_ok(["sh", "-c", &deploy, "sh", &self.text()])?;
            Ok(true)
        })
        .context("before anything was disturbed")
    }
}

/// A user who scales both services, through whatever manager, until told to stop.
pub async fn user(shared: Arc<Shared>, seed: u64, stop: CancellationToken) {
    let mut dice = Dice::new(seed, 50);
    let doors = shared.sockets.iter().map(|path| calls::door(path.clone()));
    let mut doors: Vec<_> = doors.collect();
    while !stop.is_cancelled() {
        let at = dice.below(MANAGERS);
        let (service, most) = *dice.one(&[(SHOP, SHOP_TASKS), (WATCHED, WATCHED_TASKS)]);
        let request = ScaleServiceRequest {
            service: service.into(),
            replicas: u32::try_from(dice.between(1, u64::from(most) + 1)).unwrap_or(1),
        };
        // Whether it worked is of no matter: the end is asked for again.
        let _ = timeout(calls::BOUND, doors[at].scale_service(request)).await;
        sleep(Duration::from_millis(dice.between(200, 1_500))).await;
    }
}
