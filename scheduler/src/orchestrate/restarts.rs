//! Whether and when a task that ended gets a successor.
//!
//! Times are the leader's: a task's end is when the leader noted it, which the task's `updated_at` then says.
//! The nodes' clocks may differ.

use api::model::{RestartCondition, RestartPolicy, Service, Task, TaskState, Timestamp};

/// Delay before the first restart, ms; it doubles with each quick end.
const BACKOFF_FIRST_MS: u64 = 100;
const BACKOFF_MAX_MS: u64 = 5_000;
/// Quick ends after which the delay is the greatest: 100, 200, 400, 800, 1600, 3200, 5000.
const BACKOFF_STEPS: usize = 7;
/// A run this long, ms, was no quick end.
const HEALTHY_MS: u64 = 10_000;

/// Whether a slot without a live task gets a successor.
pub(super) enum Verdict {
    Now,
    At(Timestamp),
    /// It has finished, one way or the other.
    Never {
        failed: bool,
    },
}

/// How a task of the slot came to its end.
pub(super) struct End<'a> {
    pub task: &'a Task,
    /// When, by the leader's clock.
    at: Timestamp,
    /// Rather than because it was asked to.
    by_itself: bool,
    /// Whether the leader has asked it to end, or noted that it did.
    noted: bool,
}

impl<'a> End<'a> {
    /// Of a task that has ended; of one whose node is gone nothing is known. `succeeded`: its slot has a successor,
    /// so its end is noted by now.
    pub fn of(task: &'a Task, succeeded: bool, now: Timestamp) -> Option<Self> {
        let noted = task.desired > TaskState::Running;
        let by_itself = match task.status.state {
            TaskState::Complete | TaskState::Failed | TaskState::Rejected => true,
            // It says that it was asked to. Nobody has; but once that is noted, it will look so.
            TaskState::Shutdown => !noted && !succeeded,
            _ => return None,
        };
        let is_shutdown = task.status.state == TaskState::Shutdown;
        let at = if noted || (is_shutdown && !succeeded) {
            task.meta.updated_at
        } else {
            now
        };
        Some(Self {
            task,
            at,
            by_itself,
            noted,
        })
    }

    /// Whether it is to be noted now, though the slot's next task is to come later or never.
    pub fn is_to_be_noted(&self) -> bool {
        !self.noted && self.task.status.state != TaskState::Shutdown
    }

    /// Whether it is to be noted when the slot's next task is made.
    pub fn is_unnoted(&self) -> bool {
        !self.noted
    }

    fn is_quick(&self) -> bool {
        self.at.since_ms(self.task.meta.created_at) < HEALTHY_MS
    }

    /// Whether it counts as one of the attempts that are behind `last`.
    fn is_attempt(&self, policy: &RestartPolicy, last: &Self) -> bool {
        self.task.template_revision == last.task.template_revision
            && self.by_itself
            && policy
                .window_ms
                .is_none_or(|window| last.at.since_ms(self.at) <= window)
    }
}

/// What follows the slot's last end. `ends`: all that is known, newest first.
pub(super) fn verdict(service: &Service, ends: &[End<'_>], now: Timestamp) -> Verdict {
    let Some((last, before)) = ends.split_first() else {
        return Verdict::Now;
    };
    let policy = &service.spec.template.restart;
    if !last.by_itself || last.task.template_revision != service.template_revision {
        return Verdict::Now;
    }
    let failed = last.task.status.state != TaskState::Complete;
    let again = match policy.condition {
        RestartCondition::None => false,
        RestartCondition::OnFailure => failed,
        RestartCondition::Any => true,
    };
    // Restarts are counted back from the last end, so what was used up then stays so.
    let restarts = || {
        before
            .iter()
            .filter(|end| end.is_attempt(policy, last))
            .count()
    };
    if !again
        || policy
            .max_attempts
            .is_some_and(|max| restarts() >= count(max))
    {
        return Verdict::Never { failed };
    }
    let due = last.at.plus_ms(delay_ms(policy, ends));
    // Noted in the future: by a leader whose clock was ahead. Nobody knows how long ago that is.
    if due <= now || last.at > now {
        Verdict::Now
    } else {
        Verdict::At(due)
    }
}

fn count(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// How many of the newest in a row ended quickly, by themselves, in one version.
fn streak(ends: &[End<'_>]) -> usize {
    let version = ends.first().map(|end| end.task.template_revision);
    ends.iter()
        .take_while(|end| {
            Some(end.task.template_revision) == version && end.by_itself && end.is_quick()
        })
        .take(BACKOFF_STEPS)
        .count()
}

fn delay_ms(policy: &RestartPolicy, ends: &[End<'_>]) -> u64 {
    #[cfg(feature = "sabotage")]
    if api::sabotage::has(api::sabotage::Bug::RestartStorm) {
        return 0;
    }
    policy.delay_ms.unwrap_or_else(|| {
        let doublings = u32::try_from(streak(ends).saturating_sub(1)).unwrap_or(u32::MAX);
        BACKOFF_FIRST_MS
            .saturating_mul(2u64.saturating_pow(doublings))
            .min(BACKOFF_MAX_MS)
    })
}

/// How many of the newest ends the next verdict will be made from.
pub(super) fn evidence(policy: &RestartPolicy, ends: &[End<'_>]) -> usize {
    let backoff = if policy.delay_ms.is_none() {
        streak(ends)
    } else {
        0
    };
    let attempts = match (policy.max_attempts, ends.first()) {
        (Some(max), Some(last)) => {
            let attempts = ends
                .iter()
                .zip(1..)
                .filter(|(end, _)| end.is_attempt(policy, last));
            attempts
                .take(count(max).saturating_add(1))
                .last()
                .map_or(0, |(_, place)| place)
        }
        _ => 0,
    };
    backoff.max(attempts)
}
