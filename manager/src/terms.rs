//! What runs only while this manager leads: started when it begins to, ended and joined when it no longer
//! does.

use crate::backup::Keeper;
use crate::dialer::Dialer;
use crate::dispatch::Dispatch;
use crate::leader;
use crate::outreach;
use crate::upkeep;
use api::model::NodeId;
use raft_store::{Handle, Leadership};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// How long before a new leader asks again whether it leads.
const RETRY: Duration = Duration::from_millis(20);

/// Goes on until it is stopped.
pub async fn run(
    handle: Handle,
    me: NodeId,
    dialer: Dialer,
    dispatch: Dispatch,
    keeper: Keeper,
    stop: CancellationToken,
) {
    let mut leadership = handle.leadership();
    loop {
        let term = {
            let led = tokio::select! {
                led = leadership.wait_for(|now| now.own) => led,
                () = stop.cancelled() => return,
            };
            match led {
                Ok(now) => now.term,
                // Raft has stopped.
                Err(_) => return,
            }
        };
        let over = stop.child_token();
        let mut work = tokio::spawn(lead(
            handle.clone(),
            me,
            dialer.clone(),
            dispatch.clone(),
            keeper.clone(),
            over.clone(),
        ));
        let ended = tokio::select! {
            ended = &mut work => Some(ended),
            () = until_over(leadership.clone(), term, stop.clone()) => None,
        };
        over.cancel();
        let ended = match ended {
            Some(ended) => ended,
            None => work.await,
        };
        if let Err(error) = ended {
            tracing::error!("the leader's work failed: {error}");
            // It begins anew, but not in a busy loop.
            sleep(RETRY).await;
        }
        if stop.is_cancelled() {
            return;
        }
        tracing::info!(term, "this manager does not lead any more");
    }
}

async fn until_over(
    mut leadership: watch::Receiver<Leadership>,
    term: u64,
    stop: CancellationToken,
) {
    tokio::select! {
        // An error means that Raft has stopped.
        _ = leadership.wait_for(|now| !now.own || now.term != term) => {}
        () = stop.cancelled() => {}
    }
}

async fn lead(
    handle: Handle,
    me: NodeId,
    dialer: Dialer,
    dispatch: Dispatch,
    keeper: Keeper,
    stop: CancellationToken,
) {
    // Nothing is decided before every entry of the terms before is applied.
    while let Err(error) = handle.linearizable().await {
        tracing::debug!("not leading yet: {error}");
        tokio::select! {
            () = sleep(RETRY) => {}
            () = stop.cancelled() => return,
        }
    }
    tracing::info!("this manager leads the cluster");
    tokio::join!(
        leader::run(handle.clone(), stop.clone()),
        keeper.run(stop.clone()),
        upkeep::run(handle.clone(), me, stop.clone()),
        outreach::run(handle.clone(), dialer, me, stop.clone()),
        dispatch.lead(stop)
    );
}
