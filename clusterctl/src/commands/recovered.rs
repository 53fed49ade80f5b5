//! A cluster that was brought back: its progress, and what is to be done next.

use crate::output;
use crate::progress::Progress;
use crate::time;
use anyhow::{Context, Result};
use api::proto::{RecoverDone, RecoverProgress};
use tonic::Streaming;

/// Follows it to its end.
///
/// # Errors
/// Why it was not brought back.
pub async fn follow(mut stream: Streaming<RecoverProgress>) -> Result<RecoverDone> {
    let mut progress = Progress::start();
    while let Some(step) = stream.message().await? {
        if let Some(done) = step.done {
            progress.finish();
            return Ok(done);
        }
        progress.say(&step.message);
    }
    Err(anyhow::anyhow!("its log says how far it came"))
        .context("clusterd ended the call before it was done")
}

/// Says what it is now, and what to do.
///
/// # Errors
/// When stdout can't be written.
pub fn tell(done: &RecoverDone) -> Result<()> {
    output::line(text(done)?)
}

fn text(done: &RecoverDone) -> Result<String> {
    let mut text = format!(
        "Cluster {} goes on with this machine (node {}, {}) as its only manager, at revision {}.\n",
        api::convert::cluster_id(&done.cluster_id)?,
        api::convert::node_id(&done.node_id)?,
        done.addr,
        done.revision
    );
    if done.created_at > 0 {
        text.push_str(&format!(
            "It is as it was at {}: what was changed after that is lost.\n",
            time::show(done.created_at)
        ));
    }
    let mut steps = Vec::new();
    if !done.known.is_empty() && !done.known.contains(&done.addr) {
        steps.push(format!(
            "Workers look for a manager at {}, and this machine is at {}: give it one of those addresses, or let each \
             worker `clusterctl leave --force` and join anew.",
            output::join(&done.known),
            done.addr
        ));
    }
    if !done.dropped.is_empty() {
        steps.push(format!(
            "Former managers ({}) are no part of it any more, and their tasks are started elsewhere. Should one come back: \
             `clusterctl leave --force` there, then join it anew.",
            output::join(&done.dropped)
        ));
    }
    if done.created_at > 0 {
        steps.push(
            "Nodes that joined after the backup are unknown to it: `clusterctl leave --force` there, then join them anew."
                .into(),
        );
    }
    if !done.kept.is_empty() {
        steps.push(format!(
            "Workers ({}) come back by themselves, with their containers: `clusterctl node ls` shows them.",
            output::join(&done.kept)
        ));
    }
    steps.push(
        "Add managers again, three in all: `clusterctl join-token manager` prints the command."
            .into(),
    );
    text.push_str("\nNext:\n");
    for (number, step) in (1..).zip(steps) {
        text.push_str(&format!("  {number}. {step}\n"));
    }
    Ok(text.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::convert::id_bytes;

    #[test]
    fn what_is_next_depends_on_what_was_lost() {
        let forced = RecoverDone {
            cluster_id: id_bytes(1),
            node_id: id_bytes(2),
            addr: "10.0.0.1:2377".into(),
            revision: 9,
            dropped: vec!["node2 10.0.0.2".into()],
            ..RecoverDone::default()
        };
        let said = text(&forced).unwrap();
        assert!(said.contains("Former managers (node2 10.0.0.2)"), "{said}");
        assert!(
            !said.contains("backup") && !said.contains("look for"),
            "{said}"
        );
        let restored = RecoverDone {
            known: vec!["10.0.0.1:2377".into()],
            created_at: 1_750_000_000_000,
            ..forced.clone()
        };
        let said = text(&restored).unwrap();
        assert!(said.contains("as it was at 2025-06-15"), "{said}");
        assert!(!said.contains("look for"), "{said}");
        let elsewhere = RecoverDone {
            addr: "10.0.0.9:2377".into(),
            ..restored
        };
        assert!(
            text(&elsewhere)
                .unwrap()
                .contains("look for a manager at 10.0.0.1:2377")
        );
    }
}
