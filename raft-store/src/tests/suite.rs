//! openraft's own suite.

use crate::cover::Cover;
use crate::log::Log;
use crate::machine::Machine;
use crate::snapshot::Snapshots;
use crate::types::TypeConfig;
use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use std::fs::File;

struct Builder;

impl StoreBuilder<TypeConfig, Log, Machine, tempfile::TempDir> for Builder {
    async fn build(&self) -> Result<(tempfile::TempDir, Log, Machine), StorageError<TypeConfig>> {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::open(
            &dir.path().join("log"),
            Cover::Sealed(super::key()),
            File::sync_data,
        )
        .unwrap();
        let (machine, _) =
            Machine::open(Snapshots::open(dir.path().join("snapshots"), super::key()).unwrap())
                .unwrap();
        Ok((dir, log, machine))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openrafts_storage_suite() {
    Suite::test_all(Builder).await.unwrap();
}
