//! Services: listed, scaled, removed.

use super::{Change, Control, Refusal, lookup, validate};
use api::convert;
use api::model::{ServiceId, ServiceMode};
use api::proto::{
    self, ListServicesReply, ListServicesRequest, RemoveServiceReply, RemoveServiceRequest,
    ScaleServiceRequest, ServiceRow,
};
use api::state::{Op, State};
use bytes::Bytes;
use tonic::Status;

pub async fn list(
    control: &Control,
    request: ListServicesRequest,
) -> Result<ListServicesReply, Status> {
    let rows = control
        .read(|state| {
            let mut chosen = Vec::new();
            if request.services.is_empty() {
                chosen.extend(state.services().values().cloned());
                chosen.sort_by(|a, b| a.spec.name.cmp(&b.spec.name));
            }
            for text in &request.services {
                chosen.push(lookup::service(state, text)?);
            }
            if let Some(stack) = &request.stack {
                lookup::stack(state, stack)?;
                chosen.retain(|service| service.spec.stack.as_ref() == Some(stack));
            }
            Ok::<_, Refusal>(chosen.iter().map(|service| row(state, service)).collect())
        })
        .await??;
    Ok(ListServicesReply { services: rows })
}

fn row(state: &State, service: &api::model::Service) -> ServiceRow {
    let running = state
        .tasks_of_service(service.id)
        .filter(|task| state.is_running(task))
        .count();
    let ServiceMode::Replicated { replicas } = service.spec.mode;
    let name = |on: &api::model::NetworkAttachment| {
        state
            .networks()
            .get(&on.network)
            .map(|network| network.spec.name.clone())
            .unwrap_or_default()
    };
    ServiceRow {
        service: Some(service.into()),
        running: u32::try_from(running).unwrap_or(u32::MAX),
        wanted: replicas,
        networks: service.spec.template.networks.iter().map(name).collect(),
    }
}

pub async fn scale(
    control: &Control,
    request: ScaleServiceRequest,
) -> Result<proto::Service, Status> {
    let id = control
        .change(|state, _| {
            let (ops, answer) = scaling(state, &request.service, request.replicas)?;
            Ok(Change { ops, answer })
        })
        .await?;
    control
        .handle
        .read(|state| {
            state
                .services()
                .get(&id)
                .map(|service| proto::Service::from(&**service))
        })
        .ok_or_else(|| Status::not_found("the service was removed meanwhile"))
}

/// What gives a service so many replicas.
///
/// # Errors
/// When it is not there, or so many are not allowed.
pub fn scaling(state: &State, name: &str, replicas: u32) -> Result<(Vec<Op>, ServiceId), Refusal> {
    let service = lookup::service(state, name)?;
    let mut spec = service.spec.clone();
    spec.mode = ServiceMode::Replicated { replicas };
    let mut problems = Vec::new();
    validate::service(&spec, &mut problems);
    if !problems.is_empty() {
        return Err(Refusal::invalid(problems.join("\n")));
    }
    let ops = if spec == service.spec {
        Vec::new()
    } else {
        vec![Op::UpdateService {
            id: service.id,
            spec: Box::new(spec),
            vips: service.vips.clone(),
            at_revision: service.meta.revision,
        }]
    };
    Ok((ops, service.id))
}

/// Ids of a service's tasks, those that have ended too.
pub fn task_ids(state: &State, service: ServiceId) -> impl Iterator<Item = Bytes> {
    state
        .tasks_of_service(service)
        .map(|task| convert::id_bytes(task.id.0))
}

pub async fn remove(
    control: &Control,
    request: RemoveServiceRequest,
) -> Result<RemoveServiceReply, Status> {
    control
        .change(|state, _| {
            let service = lookup::service(state, &request.service)?;
            let tasks = task_ids(state, service.id).collect();
            Ok(Change {
                ops: vec![Op::RemoveService(service.id)],
                answer: RemoveServiceReply { tasks },
            })
        })
        .await
}
