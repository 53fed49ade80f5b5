//! What clusterctl asks of this node itself, through the socket.

mod images;
mod recover;

use crate::node::Node;
use api::convert;
use api::proto::daemon_server;
use api::proto::{
    DaemonInfo, ForceNewClusterRequest, GetInfoRequest, ImageProgress, InitReply, InitRequest,
    JoinProgress, JoinRequest, LeaveReply, LeaveRequest, ListImagesReply, ListImagesRequest,
    LoadImageInput, PullImageRequest, RecoverProgress, RemoveImageReply, RemoveImageRequest,
    RestoreInput, UnlockReply, UnlockRequest, UpdateSelfReply, UpdateSelfRequest,
};
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use zeroize::Zeroizing;

/// Steps of a join on their way to the caller.
const STEPS: usize = 16;

type Steps<T> = ReceiverStream<Result<T, Status>>;

/// The service.
#[derive(Clone)]
pub struct Daemon(pub Arc<Node>);

/// A refusal with all its causes.
fn refused(error: &anyhow::Error) -> Status {
    Status::failed_precondition(format!("{error:#}"))
}

#[tonic::async_trait]
impl daemon_server::Daemon for Daemon {
    type JoinStream = Steps<JoinProgress>;
    type RestoreStream = Steps<RecoverProgress>;
    type ForceNewClusterStream = Steps<RecoverProgress>;
    type LoadImageStream = Steps<ImageProgress>;
    type PullImageStream = Steps<ImageProgress>;

    async fn get_info(&self, _: Request<GetInfoRequest>) -> Result<Response<DaemonInfo>, Status> {
        Ok(Response::new(self.0.info()))
    }

    async fn init(&self, request: Request<InitRequest>) -> Result<Response<InitReply>, Status> {
        // A caller that goes away in the middle must not leave half a cluster.
        let node = self.0.clone();
        let made = tokio::spawn(async move { node.init(request.into_inner()).await });
        let made = made
            .await
            .map_err(|e| Status::internal(format!("clusterd failed: {e}")))?;
        made.map(Response::new).map_err(|error| refused(&error))
    }

    async fn join(
        &self,
        request: Request<JoinRequest>,
    ) -> Result<Response<Self::JoinStream>, Status> {
        let (tx, rx) = mpsc::channel(STEPS);
        let node = self.0.clone();
        tokio::spawn(async move {
            let outcome = node.join(request.into_inner(), &tx).await;
            let last = match outcome {
                Ok((done, message)) => Ok(JoinProgress {
                    message,
                    done: Some(done),
                }),
                Err(error) => Err(refused(&error)),
            };
            // A caller that is gone doesn't care.
            let _ = tx.send(last).await;
        });
        Ok(Response::new(ReceiverStream::new(rx)))
    }

    async fn leave(&self, request: Request<LeaveRequest>) -> Result<Response<LeaveReply>, Status> {
        let node = self.0.clone();
        let left = tokio::spawn(async move { node.leave(request.into_inner().force).await });
        let left = left
            .await
            .map_err(|e| Status::internal(format!("clusterd failed: {e}")))?;
        let (left, node, parting) = left.map_err(|error| refused(&error))?;
        let mut advice = Vec::from_iter(parting.advice.map(str::to_owned));
        if !left.told && !parting.was_removed {
            advice.push(format!(
                "No manager could be told. If there are others, run this there once one is back: clusterctl node rm --force {node}"
            ));
        }
        let (problems, advice) = (left.problems, advice.join("\n"));
        Ok(Response::new(LeaveReply { problems, advice }))
    }

    async fn unlock(
        &self,
        request: Request<UnlockRequest>,
    ) -> Result<Response<UnlockReply>, Status> {
        let key = Zeroizing::new(request.into_inner().key);
        let node = self.0.clone();
        // A caller that goes away in the middle must not leave half a manager.
        let unlocked = tokio::spawn(async move { node.unlock(&key).await });
        let unlocked = unlocked
            .await
            .map_err(|e| Status::internal(format!("clusterd failed: {e}")))?;
        unlocked
            .map(|()| Response::new(UnlockReply {}))
            .map_err(|error| refused(&error))
    }

    async fn restore(
        &self,
        request: Request<Streaming<RestoreInput>>,
    ) -> Result<Response<Self::RestoreStream>, Status> {
        recover::restore(self.0.clone(), request.into_inner())
            .await
            .map(Response::new)
    }

    async fn force_new_cluster(
        &self,
        _: Request<ForceNewClusterRequest>,
    ) -> Result<Response<Self::ForceNewClusterStream>, Status> {
        Ok(Response::new(recover::force_new_cluster(self.0.clone())))
    }

    async fn update_self(
        &self,
        request: Request<UpdateSelfRequest>,
    ) -> Result<Response<UpdateSelfReply>, Status> {
        // A caller that goes away in the middle must not leave it half done.
        let (node, request) = (self.0.clone(), request.into_inner());
        let done =
            tokio::spawn(async move { node.update_self(&request.addr, &request.manager).await });
        let addr = done
            .await
            .map_err(|e| Status::internal(format!("clusterd failed: {e}")))?
            .map_err(|error| refused(&error))?;
        Ok(Response::new(UpdateSelfReply {
            addr: addr.to_string(),
        }))
    }

    async fn load_image(
        &self,
        request: Request<Streaming<LoadImageInput>>,
    ) -> Result<Response<Self::LoadImageStream>, Status> {
        self.0.check_unlocked()?;
        Ok(Response::new(images::load(
            self.0.images(),
            request.into_inner(),
        )))
    }

    async fn pull_image(
        &self,
        request: Request<PullImageRequest>,
    ) -> Result<Response<Self::PullImageStream>, Status> {
        self.0.check_unlocked()?;
        images::pull(self.0.images(), request.into_inner()).map(Response::new)
    }

    async fn list_images(
        &self,
        _: Request<ListImagesRequest>,
    ) -> Result<Response<ListImagesReply>, Status> {
        self.0.check_unlocked()?;
        Ok(Response::new(images::list(&self.0.images())))
    }

    async fn remove_image(
        &self,
        request: Request<RemoveImageRequest>,
    ) -> Result<Response<RemoveImageReply>, Status> {
        self.0.check_unlocked()?;
        let in_use = self.0.images_in_use().await;
        images::remove(self.0.images(), request.into_inner(), in_use)
            .await
            .map(Response::new)
    }
}

/// An id on the wire, empty when there is none.
pub fn optional_id(id: Option<u128>) -> bytes::Bytes {
    id.map(convert::id_bytes).unwrap_or_default()
}
