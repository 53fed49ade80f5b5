//! When a scheduled backup is due, and which old ones go. Pure.

use api::model::{BackupNote, BackupSchedule, NodeId, Recovery, Timestamp};

/// How long before one that failed is tried again, milliseconds; shorter where backups are more frequent.
const RETRY_MS: u64 = 60_000;

/// How long until the next is due, milliseconds: 0 now, none without a schedule. A clock that was set back
/// makes no flood: what lies ahead of it counts as just made.
pub fn due_in(recovery: &Recovery, now: Timestamp) -> Option<u64> {
    let schedule = recovery.schedule.as_ref()?;
    let since = |at: Timestamp| now.since_ms(at);
    let next = recovery
        .made
        .iter()
        .map(|note| note.at)
        .max()
        .map_or(0, |at| schedule.every_ms.saturating_sub(since(at)));
    let retry = recovery.failure.as_ref().map_or(0, |failure| {
        RETRY_MS
            .min(schedule.every_ms)
            .saturating_sub(since(failure.at))
    });
    Some(next.max(retry))
}

/// One more was made: which notes stay, and which files of this node go. Those of nodes that are none any more
/// are forgotten; their files are not this node's to remove.
pub fn keep(
    recovery: &Recovery,
    made: BackupNote,
    is_node: impl Fn(NodeId) -> bool,
) -> (Vec<BackupNote>, Vec<String>) {
    let own = made.node;
    let most = recovery
        .schedule
        .as_ref()
        .map_or(1, |schedule| schedule.keep.max(1)) as usize;
    let mut notes: Vec<BackupNote> = recovery.made.clone();
    notes.retain(|note| note.path != made.path || note.node != own);
    notes.push(made);
    notes.retain(|note| is_node(note.node));
    notes.sort_by_key(|note| note.at);
    let count = notes.iter().filter(|note| note.node == own).count();
    let mut spare = count.saturating_sub(most);
    let mut gone = Vec::new();
    notes.retain(|note| {
        let goes = note.node == own && spare > 0;
        if goes {
            spare -= 1;
            gone.push(note.path.clone());
        }
        !goes
    });
    (notes, gone)
}

/// What the file made now is called: its cluster and its moment, so that names sort by time and two clusters
/// can share a folder.
pub fn file_name(cluster: &str, at: Timestamp) -> String {
    let short: String = cluster.chars().take(12).collect();
    format!("cluster-{short}-{:013}.backup", at.0)
}

/// What a user may choose.
///
/// # Errors
/// What is wrong with it.
pub fn check(schedule: &BackupSchedule) -> Result<(), String> {
    if schedule.every_ms < 60_000 {
        return Err("backups are made every minute at most: give --every 1m or more".into());
    }
    if !(1..=100).contains(&schedule.keep) {
        return Err(format!(
            "{} backups can't be kept: give --keep 1 to 100",
            schedule.keep
        ));
    }
    if !schedule.dir.starts_with('/') {
        return Err(format!("the folder {:?} is no absolute path", schedule.dir));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::model::BackupFailure;

    fn note(node: u128, at: i64) -> BackupNote {
        BackupNote {
            at: Timestamp(at),
            node: NodeId(node),
            path: format!("/b/{at}"),
            bytes: 1,
            revision: 1,
        }
    }

    fn recovery(keep: u32, made: Vec<BackupNote>) -> Recovery {
        let schedule = BackupSchedule {
            every_ms: 3_600_000,
            keep,
            dir: "/b".into(),
            salt: vec![],
            memory_kib: 0,
            passes: 0,
            lanes: 0,
            key: vec![],
        };
        Recovery {
            schedule: Some(schedule),
            made,
            ..Recovery::default()
        }
    }

    #[test]
    fn the_first_is_due_at_once_and_the_next_after_its_time() {
        let hour = 3_600_000;
        assert_eq!(due_in(&Recovery::default(), Timestamp(5)), None);
        assert_eq!(due_in(&recovery(1, vec![]), Timestamp(5)), Some(0));
        let made = recovery(1, vec![note(1, 1_000), note(2, 500)]);
        assert_eq!(due_in(&made, Timestamp(1_000)), Some(hour));
        assert_eq!(due_in(&made, Timestamp(2_000)), Some(hour - 1_000));
        assert_eq!(due_in(&made, Timestamp(1_000 + 7_200_000)), Some(0));
        // Set back.
        assert_eq!(due_in(&made, Timestamp(0)), Some(hour));
        // Failed: soon again, not at once.
        let mut failed = recovery(1, vec![]);
        failed.failure = Some(BackupFailure {
            at: Timestamp(1_000),
            node: NodeId(1),
            why: "full".into(),
        });
        assert_eq!(due_in(&failed, Timestamp(1_000)), Some(RETRY_MS));
        assert_eq!(due_in(&failed, Timestamp(1_000 + 60_000)), Some(0));
    }

    #[test]
    fn a_node_keeps_its_newest_and_touches_no_others() {
        let before = recovery(2, vec![note(1, 10), note(2, 11), note(1, 20), note(3, 5)]);
        let (notes, gone) = keep(&before, note(1, 30), |node| node != NodeId(3));
        assert_eq!(gone, ["/b/10"]);
        assert_eq!(notes, [note(2, 11), note(1, 20), note(1, 30)]);
        // Fewer from now on.
        let (notes, gone) = keep(&recovery(1, notes), note(1, 40), |_| true);
        assert_eq!(gone, ["/b/20", "/b/30"]);
        assert_eq!(notes, [note(2, 11), note(1, 40)]);
    }

    #[test]
    fn names_sort_by_time() {
        let (a, b) = (Timestamp(999_999_999_999), Timestamp(1_000_000_000_000));
        assert!(file_name("c", a) < file_name("c", b));
    }
}
