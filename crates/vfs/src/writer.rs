//! The main file of a connection that writes: a transaction's layer over the newest version, or over a private one.
//!
//! A spilled cache and a commit look alike to a VFS, so nothing written reaches the store before
//! `COMMIT_PHASETWO`, behind the cut of the file. A layer that is still there when SQLite goes back to SHARED
//! belongs to a rollback. What a large transaction changes is in memory up to the connection's room, beyond it in a
//! scratch file, and goes to the store page by page.

use crate::code::Code;
use crate::context::Context;
use crate::error::Refusal;
use crate::images::{Images, Kept};
use crate::layer::{Layer, Place};
use crate::reader::read_pinned;
use sqlrep_store::{Image, PageCount, PageNumber, Pin, StoreError, Version};
use std::sync::Arc;

/// What stands in bytes 96 to 99 of page 1 in place of SQLite's own version number, if the writer normalizes: the oldest
/// version that this crate accepts. Part of the format of replicated databases (safety rule 32).
pub const PAGE_ONE_VERSION: u32 = 3_051_003;

/// Where SQLite keeps the number of the version that last wrote the database.
const VERSION_OFFSET: usize = 96;

/// Where page 1 counts the transactions that wrote the file.
const CHANGE_COUNTER_OFFSET: usize = 24;

/// What a transaction is computed on.
enum Base {
    /// The newest version of the store, noted when SQLite took SHARED.
    Newest { held: Option<(Version, PageCount)> },
    /// A pinned version and what earlier transactions of this connection put over it. Never published.
    Private { pin: Arc<Pin>, overlay: Layer },
}

/// Invariant: `transaction` is there from the first write of a transaction until its commit or the end of its lock.
pub(crate) struct Writer {
    base: Base,
    transaction: Option<Layer>,
    /// Of all layers.
    images: Images,
    normalize_version: bool,
    /// A page of zeros, shared by all that need one.
    zeros: Image,
}

impl Writer {
    pub(crate) fn newest(context: &Context, normalize_version: bool) -> Self {
        Self::on(Base::Newest { held: None }, context, normalize_version)
    }

    pub(crate) fn private(context: &Context, pin: Arc<Pin>) -> Self {
        let overlay = Layer::over(pin.end().pages);
        Self::on(Base::Private { pin, overlay }, context, false)
    }

    fn on(base: Base, context: &Context, normalize_version: bool) -> Self {
        Self {
            base,
            transaction: None,
            images: Images::new(context.store().clone(), context.room().clone()),
            normalize_version,
            zeros: Image::from(vec![0; context.page_bytes()]),
        }
    }

    /// SQLite takes SHARED.
    pub(crate) fn share(&mut self, context: &Context) {
        if let Base::Newest { held } = &mut self.base {
            *held = Some(context.store().newest());
        }
    }

    /// SQLite goes back to SHARED or further: what wasn't committed is gone.
    pub(crate) fn roll_back(&mut self) {
        if let Some(transaction) = self.transaction.take() {
            transaction.release(&mut self.images);
        }
    }

    /// SQLite lets go.
    pub(crate) fn release(&mut self) {
        if let Base::Newest { held } = &mut self.base {
            *held = None;
        }
    }

    fn base_count(&self, context: &Context) -> PageCount {
        match &self.base {
            Base::Newest { held: Some(held) } => held.1,
            Base::Newest { held: None } => context.store().newest().1,
            Base::Private { overlay, .. } => overlay.count(),
        }
    }

    pub(crate) fn count(&self, context: &Context) -> PageCount {
        let transaction = self.transaction.as_ref().map(Layer::count);
        transaction.unwrap_or_else(|| self.base_count(context))
    }

    /// The transaction's layer, begun if need be, and where its images are.
    fn layer(&mut self, context: &Context) -> (&mut Layer, &mut Images) {
        let count = self.base_count(context);
        let layer = self.transaction.get_or_insert_with(|| Layer::over(count));
        (layer, &mut self.images)
    }

    pub(crate) fn read(
        &self,
        context: &Context,
        page: PageNumber,
        offset: usize,
        buf: &mut [u8],
    ) -> Result<(), Code> {
        match self.transaction.as_ref().map(|layer| layer.place(page)) {
            Some(Place::Here(kept)) => self.copy(context, page, kept, (offset, buf)),
            Some(Place::Zeros) => copy(&self.zeros, offset, buf),
            Some(Place::PastEnd) => past_end(buf),
            Some(Place::Below) | None => self.read_base(context, page, offset, buf),
        }
    }

    /// Copies a part of an image of a layer.
    fn copy(
        &self,
        context: &Context,
        page: PageNumber,
        kept: &Kept,
        (offset, buf): (usize, &mut [u8]),
    ) -> Result<(), Code> {
        if let Kept::Memory(image) = kept {
            return copy(image, offset, buf);
        }
        let image = self.images.image(page, kept);
        let image = image.map_err(|error| context.failed(error, Code::READ))?;
        copy(&image, offset, buf)
    }

    fn read_base(
        &self,
        context: &Context,
        page: PageNumber,
        offset: usize,
        buf: &mut [u8],
    ) -> Result<(), Code> {
        let read = match &self.base {
            Base::Newest { .. } if page.get() > self.base_count(context).0 => return past_end(buf),
            Base::Newest { .. } => context.store().read_newest(page, offset, buf),
            Base::Private { pin, overlay } => match overlay.place(page) {
                Place::Here(kept) => return self.copy(context, page, kept, (offset, buf)),
                Place::Zeros => return copy(&self.zeros, offset, buf),
                Place::PastEnd => return past_end(buf),
                Place::Below => read_pinned(pin, page, offset, buf)?,
            },
        };
        read.map_err(|error| context.failed(error, Code::READ))
    }

    /// Never refuses: whether and when a page is spilled hangs on the cache, the verdict on a transaction must not (safety
    /// rule 36). It fails only where this node does.
    pub(crate) fn write(
        &mut self,
        context: &Context,
        page: PageNumber,
        bytes: &[u8],
    ) -> Result<(), Code> {
        let image = if self.normalize_version && page.get() == 1 {
            let mut bytes = bytes.to_vec();
            bytes[VERSION_OFFSET..VERSION_OFFSET + 4]
                .copy_from_slice(&PAGE_ONE_VERSION.to_be_bytes());
            Image::from(bytes)
        } else {
            Image::copy_from_slice(bytes)
        };
        let (layer, images) = self.layer(context);
        let written = layer.write(images, page, image);
        written.map_err(|error| context.failed(error, Code::WRITE))
    }

    pub(crate) fn resize(&mut self, context: &Context, count: PageCount) {
        let (layer, images) = self.layer(context);
        layer.resize(images, count);
    }

    /// `FCNTL_SYNC`: the last point at which SQLite rolls back cleanly.
    pub(crate) fn judge(&self, context: &Context) -> Result<(), Code> {
        let pages_max = context.transaction_pages_max();
        let pages = self.pages_changed();
        if pages <= u64::from(pages_max) || !self.commits(context)? {
            return Ok(());
        }
        Err(context.refused(Refusal::TooLarge { pages, pages_max }, Code::FULL))
    }

    fn pages_changed(&self) -> u64 {
        let Some(transaction) = &self.transaction else {
            return 0;
        };
        let pages = match &self.base {
            Base::Newest { .. } => transaction.len(),
            Base::Private { overlay, .. } => overlay.len_with(transaction),
        };
        u64::try_from(pages).expect("page numbers have 32 bits")
    }

    /// Whether this `FCNTL_SYNC` is a commit's. A rollback of a spilled transaction makes the same call; but a commit has
    /// counted up the change counter in page 1, a rollback has put the old page 1 back.
    fn commits(&self, context: &Context) -> Result<bool, Code> {
        let first = PageNumber::new(1).expect("1 is not 0");
        let transaction = self.transaction.as_ref();
        let Some(kept) = transaction.and_then(|layer| layer.page(first)) else {
            return Ok(false);
        };
        let (mut before, mut after) = ([0; 4], [0; 4]);
        self.copy(context, first, kept, (CHANGE_COUNTER_OFFSET, &mut after))?;
        match self.read_base(context, first, CHANGE_COUNTER_OFFSET, &mut before) {
            // An empty database: its first transaction.
            Ok(()) | Err(Code::SHORT_READ) => {}
            Err(code) => return Err(code),
        }
        Ok(after != before)
    }

    /// `FCNTL_COMMIT_PHASETWO`: the transaction is complete, the cut of the file included.
    pub(crate) fn commit(&mut self, context: &Context) -> Result<(), Code> {
        let pages_changed = self.pages_changed();
        let Some(transaction) = self.transaction.take() else {
            return Ok(());
        };
        match &mut self.base {
            Base::Private { overlay, .. } => overlay.merge(&mut self.images, transaction),
            Base::Newest { held } => {
                let lock_page = context.page_size().lock_page();
                let count = transaction.count();
                let pages = transaction.changes(&self.images, &self.zeros, lock_page);
                let published = publish(context, *held, count, pages);
                transaction.release(&mut self.images);
                *held = Some((published?, count));
                context.committed(pages_changed);
            }
        }
        Ok(())
    }
}

fn publish(
    context: &Context,
    held: Option<(Version, PageCount)>,
    count: PageCount,
    pages: impl Iterator<Item = Result<(PageNumber, Image), StoreError>>,
) -> Result<Version, Code> {
    let newest = context.store().newest().0;
    let began_on = held.expect("SQLite commits under a lock").0;
    if began_on != newest {
        return Err(context.refused(Refusal::Overtaken { began_on, newest }, Code::COMMIT));
    }
    match context.store().publish_pages(count, pages) {
        Ok(version) => {
            context.published(version);
            Ok(version)
        }
        Err(error) => {
            let code = context.failed(error, Code::COMMIT);
            Err(context.refused(Refusal::StoreFailed, code))
        }
    }
}

fn copy(image: &Image, offset: usize, buf: &mut [u8]) -> Result<(), Code> {
    buf.copy_from_slice(&image[offset..offset + buf.len()]);
    Ok(())
}

fn past_end(buf: &mut [u8]) -> Result<(), Code> {
    buf.fill(0);
    Err(Code::SHORT_READ)
}
