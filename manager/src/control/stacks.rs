//! Stacks: listed, deployed, removed.

use super::services::task_ids;
use super::{Change, Control, Refusal, deploy, lookup};
use crate::aside::aside;
use api::model::StackSpec;
use api::proto::{
    DeployStackReply, DeployStackRequest, ListStacksReply, ListStacksRequest, RemoveStackReply,
    RemoveStackRequest, StackRow,
};
use api::state::{Op, State};
use std::collections::BTreeSet;
use tonic::Status;

/// A stack of more services is planned aside: thousands take seconds.
const SMALL: usize = 50;

pub async fn list(control: &Control, _: ListStacksRequest) -> Result<ListStacksReply, Status> {
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let stacks = control
        .read(|state| {
            let rows = state.stacks().values().map(|stack| StackRow {
                stack: Some((&**stack).into()),
                services: count(state.services_of_stack(&stack.name).count()),
                networks: count(deploy::networks_of_stack(state, &stack.name).count()),
            });
            rows.collect()
        })
        .await?;
    Ok(ListStacksReply { stacks })
}

pub async fn deploy(
    control: &Control,
    request: DeployStackRequest,
) -> Result<DeployStackReply, Status> {
    let spec = request
        .spec
        .ok_or_else(|| Status::invalid_argument("the request has no stack"))?;
    let spec = StackSpec::try_from(spec).map_err(Refusal::from)?;
    control
        .change_stack(&spec.name, |state, at| {
            let plan = || deploy::plan(state, &spec, at, rand::random);
            let (ops, answer) = match spec.services.len() {
                ..=SMALL => plan(),
                _ => aside(plan),
            }?;
            Ok(Change { ops, answer })
        })
        .await
}

/// Its services go at once, their tasks as they end, its networks, secrets and configs after their last task.
pub async fn remove(
    control: &Control,
    request: RemoveStackRequest,
) -> Result<RemoveStackReply, Status> {
    control
        .change_stack(&request.stack, |state, _| {
            let (ops, answer) = removal(state, &request.stack)?;
            Ok(Change { ops, answer })
        })
        .await
}

/// What removes a stack.
///
/// # Errors
/// When it is not there.
pub fn removal(state: &State, name: &str) -> Result<(Vec<Op>, RemoveStackReply), Refusal> {
    let stack = lookup::stack(state, name)?;
    let mut ops = Vec::new();
    let mut answer = RemoveStackReply::default();
    for service in state.services_of_stack(&stack.name) {
        answer
            .removed
            .push(format!("service {}", service.spec.name));
        answer.tasks.extend(task_ids(state, service.id));
        ops.push(Op::RemoveService(service.id));
    }
    let networks = deploy::networks_of_stack(state, &stack.name);
    answer
        .removed
        .extend(networks.map(|network| format!("network {}", network.spec.name)));
    let blobs = deploy::blobs_of_stack(state, &stack.name);
    let keys: BTreeSet<_> = blobs.map(|blob| blob.spec.key()).collect();
    answer.removed.extend(keys.iter().map(ToString::to_string));
    ops.push(Op::RemoveStack(stack.name.clone()));
    Ok((ops, answer))
}
