//! `deploy:`

use super::field::{Field, Report};
use super::keys::{self, DEPLOY, DISCONNECT, PLACEMENT, RESTART_POLICY};
use super::{duration, labels};
use crate::model::{
    Constraint, LEASE_MIN_MS, RestartCondition, RestartPolicy, ServiceMode, ServiceSpec,
};

/// Reads `deploy:` into the service.
pub(super) fn read(report: &mut Report<'_>, field: &Field<'_>, spec: &mut ServiceSpec) {
    for key in field.fields(report, "a mapping").unwrap_or_default() {
        match key.key {
            "mode" => mode(report, &key),
            "replicas" => {
                if let Some(replicas) = key.number(report, 0, u32::MAX) {
                    spec.mode = ServiceMode::Replicated { replicas };
                }
            }
            "labels" => spec.labels = labels::read(report, &key),
            "placement" => spec.template.placement.constraints = placement(report, &key),
            "restart_policy" => spec.template.restart = restart_policy(report, &key),
            // With x- other readers of the file, which know nothing of it, take it too.
            "exclusive" | "x-exclusive" => {
                spec.template.disconnect.exclusive = key.flag(report).unwrap_or_default();
            }
            "disconnect" | "x-disconnect" => {
                spec.template.disconnect.stop_after_ms = stop_after(report, &key);
            }
            _ => keys::refuse(report, &key, &DEPLOY),
        }
    }
}

fn stop_after(report: &mut Report<'_>, field: &Field<'_>) -> Option<u64> {
    let mut stop_after = None;
    for key in field.fields(report, "a mapping").unwrap_or_default() {
        match key.key {
            "stop_after" => {
                stop_after = duration::read(report, &key);
                if stop_after.is_some_and(|ms| ms < LEASE_MIN_MS) {
                    report.refuse_with(
                        &key,
                        "shorter than a second: every hiccup of the network would stop the task",
                        "give 1s or more; without it a node that is cut off keeps the task",
                    );
                }
            }
            _ => keys::refuse(report, &key, &DISCONNECT),
        }
    }
    stop_after
}

fn mode(report: &mut Report<'_>, field: &Field<'_>) {
    let words = [
        ("replicated", true),
        ("global", false),
        ("replicated-job", false),
        ("global-job", false),
    ];
    if field.word(report, &words) == Some(false) {
        report.refuse_with(field, "not supported yet", "replicated is the only mode");
    }
}

fn placement(report: &mut Report<'_>, field: &Field<'_>) -> Vec<Constraint> {
    let mut constraints = Vec::new();
    for key in field.fields(report, "a mapping").unwrap_or_default() {
        match key.key {
            "constraints" => {
                for item in key
                    .items(report, "a list of constraints")
                    .unwrap_or_default()
                {
                    match item
                        .text(report, "a constraint such as node.role==worker")
                        .map(str::parse)
                    {
                        Some(Ok(constraint)) => constraints.push(constraint),
                        Some(Err(error)) => {
                            let error: crate::model::ConstraintError = error;
                            report.refuse(&item, error.to_string());
                        }
                        None => {}
                    }
                }
            }
            _ => keys::refuse(report, &key, &PLACEMENT),
        }
    }
    constraints
}

fn restart_policy(report: &mut Report<'_>, field: &Field<'_>) -> RestartPolicy {
    let mut policy = RestartPolicy::default();
    for key in field.fields(report, "a mapping").unwrap_or_default() {
        match key.key {
            "condition" => {
                let words = [
                    ("none", RestartCondition::None),
                    ("on-failure", RestartCondition::OnFailure),
                    ("any", RestartCondition::Any),
                ];
                policy.condition = key.word(report, &words).unwrap_or_default();
            }
            "delay" => policy.delay_ms = duration::read(report, &key),
            // Swarm's 0 is "no bound", for both.
            "max_attempts" => {
                policy.max_attempts = key.number(report, 0, u32::MAX).filter(|n| *n > 0)
            }
            "window" => policy.window_ms = duration::read(report, &key).filter(|ms| *ms > 0),
            _ => keys::refuse(report, &key, &RESTART_POLICY),
        }
    }
    policy
}
