use std::{path::Path, sync::Arc};

use tempfile::TempDir;

use super::*;
use crate::{
    Storage,
    conformance::{NOW_UNIX_NANO, StorageUnderTest, check_storage},
};

struct InDirectory(TempDir);

impl InDirectory {
    fn fresh() -> Self {
        Self(TempDir::new().unwrap())
    }
}

#[async_trait]
impl StorageUnderTest for InDirectory {
    async fn open(&self) -> Arc<dyn Storage> {
        Arc::new(open(self.0.path()).unwrap())
    }
}

fn open(directory: &Path) -> Result<SqliteStorage, StorageError> {
    SqliteStorage::open(&SqliteConfig::new(directory), clock())
}

fn clock() -> Clock {
    Arc::new(|| NOW_UNIX_NANO)
}

#[tokio::test]
async fn it_is_a_storage() {
    check_storage(InDirectory::fresh).await;
}
