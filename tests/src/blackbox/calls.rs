//! A call on a register, as the API has it, and what its answer means.

use std::{path::PathBuf, time::Duration};

use api::proto::{
    BlobData, BlobKind, BlobSpec, CreateBlobRequest, ListBlobsRequest, ListNodesRequest,
    ReadConfigRequest, RemoveBlobRequest, UpdateNodeRequest, control_client::ControlClient,
};
use hyper_util::rt::TokioIo;
use manager::{dialer::was_not_sent, proxy::STALE_HEADER};
use tokio::{net::UnixStream, time::timeout};
use tonic::{
    Code, Request, Status,
    metadata::MetadataValue,
    transport::{Channel, Endpoint, Uri},
};

use super::{
    history::{Answer, Ask, Value},
    keys::{Key, Kind},
};

/// Of a config: its value once more.
const LABEL: &str = "value";
/// How long a client waits.
pub const BOUND: Duration = Duration::from_millis(2_500);

/// A way to the socket of one node, which connects when it is used and again after it broke.
#[must_use]
pub fn door(socket: PathBuf) -> ControlClient<Channel> {
    let connector = tower::service_fn(move |_: Uri| {
        let path = socket.clone();
        async move { Ok::<_, std::io::Error>(TokioIo::new(UnixStream::connect(path).await?)) }
    });
    ControlClient::new(
        Endpoint::from_static("http://clusterd").connect_with_connector_lazy(connector),
    )
}

/// Makes a call; none where it was certainly never sent.
pub async fn call(door: &mut ControlClient<Channel>, key: &Key, ask: Ask) -> Option<Answer> {
    let made = async {
        match (key.kind, ask) {
            (Kind::Label, Ask::Read | Ask::StaleRead) => label(door, key, ask).await,
            (Kind::Config, Ask::Read) => config(door, key).await,
            (Kind::Config, Ask::StaleRead) => config_listed(door, key, ask).await,
            (Kind::Label, _) => {
                let request = labelling(key, ask);
                door.update_node(request).await.map(|_| Answer::Done)
            }
            (Kind::Config, Ask::Create(value) | Ask::Set(value)) => {
                let request = creation(key, value);
                door.create_blob(request).await.map(|_| Answer::Done)
            }
            (Kind::Config, Ask::Remove) => {
                let request = RemoveBlobRequest {
                    kind: BlobKind::Config.into(),
                    name: key.name.clone(),
                };
                door.remove_blob(request).await.map(|_| Answer::Done)
            }
        }
    };
    match timeout(BOUND, made).await {
        Ok(Ok(answer)) => Some(answer),
        Ok(Err(status)) if was_not_sent(&status) => None,
        Ok(Err(status)) => Some(meaning(key.kind, ask, &status)),
        Err(_) => Some(Answer::Unknown("no answer".into())),
    }
}

/// What a refusal says of the register.
fn meaning(kind: Kind, ask: Ask, status: &Status) -> Answer {
    let text = format!("{:?}: {}", status.code(), status.message());
    match (status.code(), kind, ask) {
        (Code::AlreadyExists, Kind::Config, Ask::Create(_)) => Answer::Exists,
        (Code::NotFound, Kind::Label, Ask::Remove) if status.message().contains("has no label") => {
            Answer::Absent
        }
        (Code::NotFound, Kind::Config, Ask::Remove) => Answer::Absent,
        (Code::NotFound, Kind::Config, Ask::Read | Ask::StaleRead) => Answer::Holds(None),
        // A config that was made and removed before its maker was answered is not found, either.
        (Code::NotFound, ..) => Answer::Unknown(text),
        (
            Code::InvalidArgument
            | Code::FailedPrecondition
            | Code::PermissionDenied
            | Code::ResourceExhausted
            | Code::Aborted,
            ..,
        ) => Answer::Refused(text),
        _ => Answer::Unknown(text),
    }
}

fn asked<T>(message: T, ask: Ask) -> Request<T> {
    let mut request = Request::new(message);
    if ask == Ask::StaleRead {
        let yes = MetadataValue::from_static("1");
        request.metadata_mut().insert(STALE_HEADER, yes);
    }
    request
}

async fn label(door: &mut ControlClient<Channel>, key: &Key, ask: Ask) -> Result<Answer, Status> {
    let request = ListNodesRequest {
        nodes: vec![format!("node{}", key.node)],
    };
    let rows = door
        .list_nodes(asked(request, ask))
        .await?
        .into_inner()
        .nodes;
    let node = rows.into_iter().next().and_then(|row| row.node);
    let labels = node.and_then(|node| node.spec).map(|spec| spec.labels);
    let Some(labels) = labels else {
        return Err(Status::internal("a node without its labels"));
    };
    Ok(held(labels.get(&key.name).map(String::as_bytes)))
}

async fn config(door: &mut ControlClient<Channel>, key: &Key) -> Result<Answer, Status> {
    let request = ReadConfigRequest {
        name: key.name.clone(),
    };
    let data = door.read_config(request).await?.into_inner();
    Ok(held(Some(&data.value[..])))
}

/// By its label: a config's content is told by whoever leads alone.
async fn config_listed(
    door: &mut ControlClient<Channel>,
    key: &Key,
    ask: Ask,
) -> Result<Answer, Status> {
    let request = ListBlobsRequest {
        kind: BlobKind::Config.into(),
        names: vec![key.name.clone()],
    };
    let rows = door
        .list_blobs(asked(request, ask))
        .await?
        .into_inner()
        .blobs;
    let row = rows.into_iter().next();
    let row = row.ok_or_else(|| Status::not_found("an empty list"))?;
    let value = row.labels.get(LABEL).map_or("", String::as_str);
    Ok(held(Some(value.as_bytes())))
}

/// What was read. What is no value of ours is one that nobody has written.
fn held(bytes: Option<&[u8]>) -> Answer {
    let value = |bytes| std::str::from_utf8(bytes).ok()?.parse().ok();
    Answer::Holds(bytes.map(|bytes| value(bytes).unwrap_or(Value::MAX)))
}

fn labelling(key: &Key, ask: Ask) -> UpdateNodeRequest {
    let mut request = UpdateNodeRequest {
        node: format!("node{}", key.node),
        ..UpdateNodeRequest::default()
    };
    match ask {
        Ask::Set(value) | Ask::Create(value) => {
            request
                .labels_set
                .insert(key.name.clone(), value.to_string());
        }
        _ => request.labels_removed.push(key.name.clone()),
    }
    request
}

fn creation(key: &Key, value: Value) -> CreateBlobRequest {
    CreateBlobRequest {
        spec: Some(BlobSpec {
            kind: BlobKind::Config.into(),
            name: key.name.clone(),
            labels: [(LABEL.to_owned(), value.to_string())].into(),
            data: Some(BlobData {
                value: value.to_string().into_bytes().into(),
            }),
            ..BlobSpec::default()
        }),
    }
}
