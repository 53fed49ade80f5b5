//! What to do with one task: a state machine without I/O. Inputs are what happened, actions what is to be
//! done next; the shell in `driver.rs` does it and comes back with what came of it.
//!
//! ```text
//! Found nothing ─ Prepare ─ Prepared ─(delay)─ Start ─ Started ─ Running ─ Exited ─┐
//! Found running ────────────────────────────────────────────────┘                  Clean ─ Done
//! Found exited, lost or refused, refused now, asked to stop at any point ───────────────────┘
//! ```
//!
//! Invariants: states reported only move forward; an end is reported once everything of the task has been
//! removed from the node (or could not be, which is then said); after `Done` nothing more is asked for.

use api::model::{TaskState, TaskStatus, Timestamp};

/// What a new daemon finds of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Nothing: it was never begun.
    Nothing,
    /// Its container runs.
    Running {
        /// Its process.
        pid: u32,
        /// Since when.
        since: Timestamp,
    },
    /// Its container ended while nobody looked.
    Exited(Exit),
    /// It could not be prepared, and why. What says so may have been lost, or have been heard and acted on.
    Refused(String),
    /// It was begun, and its container is gone: the machine was restarted.
    Lost,
    /// It has ended, and is to run again in the same task: what to say of that once it does.
    Again(String),
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Exit {
    /// 128 + signal when killed.
    pub code: i32,
    /// More than the code tells: out of memory, shim lost.
    pub message: String,
}

/// The end of a task, as it is kept on disk until the managers let the task go: it is not to be begun again.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(untagged)]
pub enum End {
    /// Its container ended.
    Exited(Exit),
    /// It never had one.
    Refused {
        /// Why.
        refused: String,
    },
}

impl From<End> for Found {
    fn from(end: End) -> Self {
        match end {
            End::Exited(exit) => Self::Exited(exit),
            End::Refused { refused } => Self::Refused(refused),
        }
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// The managers want another state.
    Desired(TaskState),
    /// Image, volumes and network are there.
    Prepared,
    /// They can't be: why.
    Refused(String),
    /// The restart's delay is over.
    DelayOver,
    /// The process runs.
    Started {
        /// Its process.
        pid: u32,
        /// When it began.
        since: Timestamp,
    },
    /// It could not be started: why.
    StartFailed(String),
    /// It ended.
    Exited(Exit),
    /// All of it has been removed, or this could not be.
    Cleaned(Result<(), String>),
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Tell the managers.
    Report(TaskStatus),
    /// Image, volumes, network.
    Prepare,
    /// Give preparing up, if it can be.
    CancelPrepare,
    /// Wait so many milliseconds, then `DelayOver`.
    Delay(u64),
    /// Start the container.
    Start,
    /// Wait for the container's end.
    Watch,
    /// Stop the container; its end comes as `Exited`.
    Stop,
    /// Remove everything, after so many milliseconds.
    Clean(u64),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    New,
    Preparing,
    Waiting,
    Starting,
    Running,
    Stopping,
    Cleaning { end: TaskStatus, failures: u32 },
    Done,
}

/// Failed removals before the end is reported all the same.
const CLEAN_TRIES: u32 = 3;
/// The longest a manager's clock may make this node wait, ms: its clock may be wrong.
const DELAY_MAX_MS: u64 = 600_000;

/// One task's course.
#[derive(Debug)]
pub struct Machine {
    phase: Phase,
    desired: TaskState,
    not_before: Timestamp,
    last: TaskState,
    /// Said once it runs.
    note: String,
}

impl Machine {
    /// Begins with what was found.
    #[must_use]
    pub fn begin(
        desired: TaskState,
        not_before: Timestamp,
        found: Found,
        now: Timestamp,
    ) -> (Self, Vec<Action>) {
        let mut machine = Self {
            phase: Phase::New,
            desired,
            not_before,
            last: TaskState::New,
            note: String::new(),
        };
        let found = match found {
            Found::Again(note) => {
                machine.note = note;
                Found::Nothing
            }
            found => found,
        };
        let mut actions = Vec::new();
        match found {
            Found::Nothing if machine.stopping() => {
                machine.clean(&mut actions, now, TaskState::Shutdown, "", None)
            }
            Found::Nothing | Found::Again(_) => {
                machine.phase = Phase::Preparing;
                machine.report(&mut actions, now, TaskState::Preparing, "", None, None);
                actions.push(Action::Prepare);
            }
            Found::Running { pid, since } => machine.running(&mut actions, now, pid, since),
            Found::Exited(exit) => machine.exited(&mut actions, now, &exit),
            Found::Refused(_) if machine.stopping() => {
                machine.clean(&mut actions, now, TaskState::Shutdown, "", None);
            }
            Found::Refused(why) => {
                machine.clean(&mut actions, now, TaskState::Rejected, &why, None);
            }
            Found::Lost => {
                let why = "its container was gone when clusterd started; the machine was restarted";
                machine.clean(&mut actions, now, TaskState::Failed, why, None);
            }
        }
        (machine, actions)
    }

    /// Whether nothing is left to do.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.phase == Phase::Done
    }

    /// Whether a refusal would be its end.
    #[must_use]
    pub fn is_preparing(&self) -> bool {
        self.phase == Phase::Preparing
    }

    /// Takes what happened.
    #[must_use]
    pub fn on(&mut self, input: Input, now: Timestamp) -> Vec<Action> {
        let mut actions = Vec::new();
        match (self.phase.clone(), input) {
            (_, Input::Desired(desired)) => {
                let before = self.stopping();
                self.desired = self.desired.max(desired);
                if self.stopping() && !before {
                    self.stop(&mut actions, now);
                }
            }
            (Phase::Preparing, Input::Prepared | Input::Refused(_)) if self.stopping() => {
                self.clean(&mut actions, now, TaskState::Shutdown, "", None);
            }
            (Phase::Preparing, Input::Prepared) => {
                let wait = self.not_before.since_ms(now).min(DELAY_MAX_MS);
                if wait > 0 {
                    self.phase = Phase::Waiting;
                    self.report(&mut actions, now, TaskState::Ready, "", None, None);
                    actions.push(Action::Delay(wait));
                } else {
                    self.start(&mut actions, now);
                }
            }
            (Phase::Preparing, Input::Refused(why)) => {
                self.clean(&mut actions, now, TaskState::Rejected, &why, None);
            }
            (Phase::Waiting, Input::DelayOver) => self.start(&mut actions, now),
            (Phase::Starting, Input::Started { pid, since }) => {
                self.running(&mut actions, now, pid, since)
            }
            (Phase::Starting, Input::StartFailed(_)) if self.stopping() => {
                self.clean(&mut actions, now, TaskState::Shutdown, "", None);
            }
            (Phase::Starting, Input::StartFailed(why)) => {
                self.clean(&mut actions, now, TaskState::Failed, &why, None);
            }
            (Phase::Running | Phase::Stopping, Input::Exited(exit)) => {
                self.exited(&mut actions, now, &exit)
            }
            (Phase::Cleaning { end, .. }, Input::Cleaned(Ok(()))) => {
                self.phase = Phase::Done;
                self.report_status(&mut actions, end);
            }
            (Phase::Cleaning { mut end, failures }, Input::Cleaned(Err(why))) => {
                let failures = failures + 1;
                if failures == CLEAN_TRIES {
                    let told = if end.message.is_empty() {
                        String::new()
                    } else {
                        format!("{}; ", end.message)
                    };
                    end.message = format!("{told}not all of it could be removed: {why}");
                    self.report_status(&mut actions, end.clone());
                }
                self.phase = Phase::Cleaning { end, failures };
                actions.push(Action::Clean((500u64 << failures.min(6)).min(30_000)));
            }
            // What comes late has been overtaken by what was done since.
            _ => {}
        }
        actions
    }

    fn stopping(&self) -> bool {
        self.desired > TaskState::Running
    }

    fn stop(&mut self, actions: &mut Vec<Action>, now: Timestamp) {
        match self.phase {
            Phase::New | Phase::Waiting => self.clean(actions, now, TaskState::Shutdown, "", None),
            Phase::Preparing => actions.push(Action::CancelPrepare),
            Phase::Running => {
                self.phase = Phase::Stopping;
                actions.push(Action::Stop);
            }
            // Starting: it is stopped as soon as it runs. The others are on their way out.
            Phase::Starting | Phase::Stopping | Phase::Cleaning { .. } | Phase::Done => {}
        }
    }

    fn start(&mut self, actions: &mut Vec<Action>, now: Timestamp) {
        self.phase = Phase::Starting;
        self.report(actions, now, TaskState::Starting, "", None, None);
        actions.push(Action::Start);
    }

    fn running(&mut self, actions: &mut Vec<Action>, now: Timestamp, pid: u32, since: Timestamp) {
        self.phase = Phase::Running;
        // The same words again from a new daemon: to the managers nothing has changed.
        let note = std::mem::take(&mut self.note);
        self.report(actions, since, TaskState::Running, &note, Some(pid), None);
        actions.push(Action::Watch);
        if self.stopping() {
            self.stop(actions, now);
        }
    }

    fn exited(&mut self, actions: &mut Vec<Action>, now: Timestamp, exit: &Exit) {
        let (state, message) = match (self.stopping(), exit.code) {
            (true, _) => (TaskState::Shutdown, exit.message.clone()),
            (false, 0) => (TaskState::Complete, exit.message.clone()),
            (false, code) if exit.message.is_empty() => {
                (TaskState::Failed, format!("exit code {code}"))
            }
            (false, code) => (
                TaskState::Failed,
                format!("exit code {code}: {}", exit.message),
            ),
        };
        self.clean(actions, now, state, &message, Some(exit.code));
    }

    fn clean(
        &mut self,
        actions: &mut Vec<Action>,
        now: Timestamp,
        state: TaskState,
        why: &str,
        code: Option<i32>,
    ) {
        let end = TaskStatus {
            state,
            at: now,
            message: why.into(),
            pid: None,
            exit_code: code,
        };
        self.phase = Phase::Cleaning { end, failures: 0 };
        actions.push(Action::Clean(0));
    }

    fn report(
        &mut self,
        actions: &mut Vec<Action>,
        now: Timestamp,
        state: TaskState,
        message: &str,
        pid: Option<u32>,
        exit_code: Option<i32>,
    ) {
        self.report_status(
            actions,
            TaskStatus {
                state,
                at: now,
                message: message.into(),
                pid,
                exit_code,
            },
        );
    }

    fn report_status(&mut self, actions: &mut Vec<Action>, status: TaskStatus) {
        if status.state > self.last {
            self.last = status.state;
            actions.push(Action::Report(status));
        }
    }
}

#[cfg(test)]
mod tests;
