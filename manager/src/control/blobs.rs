//! Secrets and configs: listed, made, labelled, removed. What a secret holds is told to nobody here.

use super::{Change, Control, Refusal, lookup, validate};
use api::convert;
use api::model::{Blob, BlobId, BlobKind, BlobSpec, Meta};
use api::proto::{
    self, BlobData, BlobRow, CreateBlobRequest, ListBlobsReply, ListBlobsRequest,
    ReadConfigRequest, RemoveBlobReply, RemoveBlobRequest, UpdateBlobRequest,
};
use api::state::{Op, State};
use tonic::Status;

fn kind(number: i32) -> Result<BlobKind, Refusal> {
    let wire = convert::enumeration::<proto::BlobKind>(number)?;
    Ok(BlobKind::try_from(wire)?)
}

pub async fn list(control: &Control, request: ListBlobsRequest) -> Result<ListBlobsReply, Status> {
    let kind = kind(request.kind)?;
    let blobs = control
        .read(|state| {
            let mut chosen = Vec::new();
            if request.names.is_empty() {
                let of_kind = state.blobs().values().filter(|b| b.spec.kind == kind);
                chosen.extend(of_kind.cloned());
                chosen.sort_by(|a, b| (&a.spec.name, a.version).cmp(&(&b.spec.name, b.version)));
            }
            for text in &request.names {
                chosen.push(lookup::blob(state, kind, text)?);
            }
            Ok::<_, Refusal>(chosen.iter().map(|blob| row(state, blob)).collect())
        })
        .await??;
    Ok(ListBlobsReply { blobs })
}

/// All but its content.
fn row(state: &State, blob: &Blob) -> BlobRow {
    let mut services: Vec<String> = state
        .blob_services(blob.id)
        .map(|service| service.spec.name.clone())
        .collect();
    services.sort();
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    BlobRow {
        id: convert::id_bytes(blob.id.0),
        meta: Some((&blob.meta).into()),
        version: blob.version,
        key: Some((&blob.spec.key()).into()),
        stack: blob.spec.stack.clone(),
        labels: blob.spec.labels.clone(),
        size: count(blob.spec.data.as_bytes().len()),
        services,
        tasks: count(state.blob_tasks(blob.id).count()),
    }
}

pub async fn read_config(
    control: &Control,
    request: ReadConfigRequest,
) -> Result<BlobData, Status> {
    let config = control
        .read(|state| lookup::blob(state, BlobKind::Config, &request.name))
        .await??;
    Ok((&config.spec.data).into())
}

pub async fn create(control: &Control, request: CreateBlobRequest) -> Result<BlobRow, Status> {
    let spec = request
        .spec
        .ok_or_else(|| Status::invalid_argument("the request has no secret or config"))?;
    let spec = BlobSpec::try_from(spec).map_err(Refusal::from)?;
    let key = spec.key();
    let mut problems = Vec::new();
    validate::blob(&spec, &mut problems);
    if let Some(stack) = &spec.stack {
        problems.push(format!("{key}: only deploying stack {stack} makes its own"));
    }
    if !problems.is_empty() {
        return Err(Refusal::invalid(problems.join("\n")).into());
    }
    let id = BlobId::random();
    control
        .change(|state, _| {
            if state.blobs_named(&key).next().is_some() {
                return Err(Refusal::taken(format!(
                    "{key} is there already; its content can't be changed: take another name, or remove it first \
                     with `clusterctl {} rm {}`",
                    key.kind, key.name
                )));
            }
            let blob = Blob {
                id,
                meta: Meta::default(),
                version: 0,
                spec: spec.clone(),
            };
            Ok(Change {
                ops: vec![Op::CreateBlob(Box::new(blob))],
                answer: (),
            })
        })
        .await?;
    made(control, id)
}

fn made(control: &Control, id: BlobId) -> Result<BlobRow, Status> {
    control
        .handle
        .read(|state| state.blobs().get(&id).map(|blob| row(state, blob)))
        .ok_or_else(|| Status::not_found("it was removed meanwhile"))
}

pub async fn update(control: &Control, request: UpdateBlobRequest) -> Result<BlobRow, Status> {
    let kind = kind(request.kind)?;
    let id = control
        .change(|state, _| {
            let blob = lookup::blob(state, kind, &request.name)?;
            let mut spec = blob.spec.clone();
            for label in &request.labels_removed {
                if spec.labels.remove(label).is_none() {
                    let key = spec.key();
                    return Err(Refusal::not_found(format!("{key} has no label {label:?}")));
                }
            }
            spec.labels.extend(request.labels_set.clone());
            let mut problems = Vec::new();
            validate::blob(&spec, &mut problems);
            if !problems.is_empty() {
                return Err(Refusal::invalid(problems.join("\n")));
            }
            let ops = if spec == blob.spec {
                Vec::new()
            } else {
                vec![Op::UpdateBlob {
                    id: blob.id,
                    labels: spec.labels,
                    at_revision: blob.meta.revision,
                }]
            };
            Ok(Change {
                ops,
                answer: blob.id,
            })
        })
        .await?;
    made(control, id)
}

pub async fn remove(
    control: &Control,
    request: RemoveBlobRequest,
) -> Result<RemoveBlobReply, Status> {
    let kind = kind(request.kind)?;
    control
        .change(|state, _| {
            let blob = lookup::blob(state, kind, &request.name)?;
            Ok(Change {
                ops: vec![Op::RemoveBlob(blob.id)],
                answer: RemoveBlobReply {},
            })
        })
        .await
}
