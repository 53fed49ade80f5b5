//! Restarts while no manager can be reached: pure, time is passed in.
//!
//! What ends then is started again in the same task, by the service's own policy: to the managers the task goes on,
//! and its state moves neither back nor to an end that nobody would replace. Once a manager is there again, what ends
//! is told, and replaced by them.

use api::model::{RestartCondition, RestartPolicy, TaskId, TaskState};
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// So long no manager has to have been there: an election and a reconnection take less.
pub const ALONE_AFTER: Duration = Duration::from_secs(5);
/// The delays between restarts: doubling, unless the policy names one.
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// A run this long was no quick end.
const HEALTHY: Duration = Duration::from_secs(10);
/// Restarts of one task that are remembered, for the policy's window.
const REMEMBERED: usize = 1_000;

/// What has become of tasks here since no manager could be reached.
#[derive(Debug, Default)]
pub struct Alone {
    tasks: BTreeMap<TaskId, Course>,
}

#[derive(Debug, Default)]
struct Course {
    /// When it was started again, the last at the back.
    restarts: VecDeque<Instant>,
    /// Ends in a row after a short run.
    quick: u32,
    /// When its last end was seen, and how it was.
    end: Option<(Instant, TaskState)>,
}

impl Alone {
    /// A task has ended, as seen now or before. Whether it is to be started again now.
    pub fn is_due(
        &mut self,
        task: TaskId,
        policy: &RestartPolicy,
        end: TaskState,
        now: Instant,
    ) -> bool {
        let course = self.tasks.entry(task).or_default();
        if course.end.is_none() {
            let ran = course
                .restarts
                .back()
                .map(|since| now.duration_since(*since));
            let is_quick = ran.is_some_and(|ran| ran < HEALTHY);
            course.quick = if is_quick { course.quick + 1 } else { 0 };
        }
        let (at, _) = *course.end.get_or_insert((now, end));
        let wanted = match policy.condition {
            RestartCondition::None => false,
            RestartCondition::OnFailure => end != TaskState::Complete,
            RestartCondition::Any => true,
        };
        let used = course.restarts.iter().filter(|restart| {
            policy.window_ms.is_none_or(|window| {
                at.saturating_duration_since(**restart) <= Duration::from_millis(window)
            })
        });
        let is_left = policy
            .max_attempts
            .is_none_or(|most| used.count() < usize::try_from(most).unwrap_or(usize::MAX));
        wanted && is_left && now.saturating_duration_since(at) >= course.delay(policy)
    }

    /// It is started again. How often that was so far.
    pub fn restarted(&mut self, task: TaskId, now: Instant) -> usize {
        let course = self.tasks.entry(task).or_default();
        course.end = None;
        if course.restarts.len() == REMEMBERED {
            course.restarts.pop_front();
        }
        course.restarts.push_back(now);
        course.restarts.len()
    }

    /// Forgets the tasks that are not wanted any more.
    pub fn retain(&mut self, wanted: impl Fn(&TaskId) -> bool) {
        self.tasks.retain(|task, _| wanted(task));
    }
}

impl Course {
    fn delay(&self, policy: &RestartPolicy) -> Duration {
        match policy.delay_ms {
            Some(ms) => Duration::from_millis(ms),
            None => BACKOFF_FIRST
                .saturating_mul(2u32.saturating_pow(self.quick))
                .min(BACKOFF_MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TASK: TaskId = TaskId(1);

    /// Fails whenever it is started, and is looked at every 50 ms: when it was started again, in ms.
    fn starts(policy: &RestartPolicy, end: TaskState, for_ms: u64) -> Vec<u64> {
        let (mut alone, start) = (Alone::default(), Instant::now());
        let mut starts = Vec::new();
        for ms in (0..for_ms).step_by(50) {
            let now = start + Duration::from_millis(ms);
            if alone.is_due(TASK, policy, end, now) {
                alone.restarted(TASK, now);
                starts.push(ms);
            }
        }
        starts
    }

    #[test]
    fn what_fails_again_and_again_is_started_ever_more_slowly() {
        let starts = starts(&RestartPolicy::default(), TaskState::Failed, 60_000);
        let gaps: Vec<u64> = starts.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(starts[0], 100);
        assert!(gaps.windows(2).all(|pair| pair[0] <= pair[1]), "{gaps:?}");
        assert!(*gaps.last().unwrap() >= 5_000, "{gaps:?}");
    }

    #[test]
    fn the_services_policy_holds_here_too() {
        let policy = |condition, max_attempts| RestartPolicy {
            condition,
            max_attempts,
            delay_ms: Some(0),
            window_ms: None,
        };
        let times = |condition, most, end| starts(&policy(condition, most), end, 5_000).len();
        use RestartCondition::{Any, None as Never, OnFailure};
        assert_eq!(times(Never, None, TaskState::Failed), 0);
        assert_eq!(times(OnFailure, None, TaskState::Complete), 0);
        assert_eq!(times(OnFailure, Some(3), TaskState::Failed), 3);
        assert!(times(Any, None, TaskState::Complete) > 50);
    }

    #[test]
    fn attempts_outside_the_window_do_not_count() {
        let policy = RestartPolicy {
            max_attempts: Some(1),
            window_ms: Some(1_000),
            delay_ms: Some(0),
            ..RestartPolicy::default()
        };
        // Each run lasts so long.
        let starts = |run_ms: u64| {
            let (mut alone, mut now) = (Alone::default(), Instant::now());
            let mut count = 0;
            while count < 5 && alone.is_due(TASK, &policy, TaskState::Failed, now) {
                alone.restarted(TASK, now);
                count += 1;
                now += Duration::from_millis(run_ms);
            }
            count
        };
        assert_eq!(starts(500), 1);
        assert_eq!(starts(1_500), 5);
    }
}
