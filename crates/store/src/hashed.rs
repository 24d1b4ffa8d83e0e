//! A file written from front to back, and xxh3 over all of it.

use crate::StoreError;
use sqlrep_disk::File;
use std::sync::Arc;
use xxhash_rust::xxh3::Xxh3;

/// Its end moves with each write; nothing of it is synced before [`sync`](Self::sync).
pub(crate) struct HashedFile {
    file: Arc<dyn File>,
    hash: Xxh3,
    at: u64,
}

impl HashedFile {
    /// Begins at the front of an empty file.
    pub(crate) fn begin(file: Arc<dyn File>) -> Self {
        Self {
            file,
            hash: Xxh3::new(),
            at: 0,
        }
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.file.write_at(self.at, bytes)?;
        self.hash.update(bytes);
        self.at += bytes.len() as u64;
        Ok(())
    }

    pub(crate) fn sync(&self) -> Result<(), StoreError> {
        Ok(self.file.sync()?)
    }

    /// Bytes written.
    pub(crate) fn bytes(&self) -> u64 {
        self.at
    }

    /// Over everything written.
    pub(crate) fn hash(&self) -> u64 {
        self.hash.digest()
    }
}
