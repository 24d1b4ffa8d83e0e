//! The newest entry end of a store, as what page sets are applied to.

use crate::PageSource;
use sqlrep_store::{Checksum, EntryEnd, Image, PageCount, PageNumber, PageSize, Store, StoreError};
use std::sync::Arc;

/// It stays readable while versions above it are made: nothing is finished meanwhile.
pub(crate) struct Before<'a> {
    store: &'a Store,
    end: Arc<EntryEnd>,
}

impl<'a> Before<'a> {
    /// What is committed now.
    pub(crate) fn of(store: &'a Store) -> Self {
        let end = store.committed();
        Self { store, end }
    }
}

impl PageSource for Before<'_> {
    fn page_size(&self) -> PageSize {
        self.store.page_size()
    }

    fn count(&self) -> PageCount {
        self.end.pages
    }

    fn checksum(&self) -> Checksum {
        self.end.checksum
    }

    fn image(&self, page: PageNumber) -> Result<Image, StoreError> {
        self.store.image_at(page, self.end.version)
    }

    fn hash(&self, page: PageNumber) -> Result<u64, StoreError> {
        Ok(self.store.hash_at(page, self.end.version))
    }
}
