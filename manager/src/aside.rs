//! What waits for a disk, or computes for long, and must not hold up what else is to be done.

use tokio::runtime::{Handle, RuntimeFlavor};

/// Runs `work` here while another thread goes on with this one's tasks: clusterd has as many for them as there
/// are processors, and among those tasks are heartbeats. Where there is no other thread (tests), it just runs.
pub fn aside<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|tokio| tokio.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

#[cfg(test)]
mod tests {
    use super::aside;

    #[test]
    fn others_go_on_meanwhile_though_there_is_one_thread() {
        let tokio = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .build()
            .unwrap();
        let (tx, rx) = std::sync::mpsc::channel();
        let waits = tokio.spawn(async move { aside(|| rx.recv()) });
        tokio.spawn(async move { tx.send(5) });
        assert_eq!(tokio.block_on(waits).unwrap(), Ok(5));
        assert_eq!(aside(|| 5), 5, "outside of any runtime");
    }

    #[tokio::test]
    async fn it_runs_where_there_is_no_other_thread() {
        assert_eq!(aside(|| 5), 5);
    }
}
