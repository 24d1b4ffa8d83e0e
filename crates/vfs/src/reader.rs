//! The main file of a connection that only reads: a pinned version of the store.

use crate::code::Code;
use crate::context::Context;
use sqlrep_store::{PageCount, PageNumber, Pin, PinKind, StoreError};
use std::sync::Arc;

/// Which version a reader sees.
pub(crate) enum Reader {
    /// The newest entry end, pinned while SQLite holds a lock.
    ///
    /// Invariant: `pinned` is there exactly while the lock is SHARED, so one transaction sees one version.
    Newest { pinned: Option<Pin> },
    /// Always this one.
    At(Arc<Pin>),
}

impl Reader {
    /// SQLite takes SHARED.
    pub(crate) fn share(&mut self, context: &Context) {
        if let Self::Newest { pinned } = self {
            *pinned = Some(context.store().pin(PinKind::Sql));
        }
    }

    /// SQLite lets go.
    pub(crate) fn release(&mut self) {
        if let Self::Newest { pinned } = self {
            *pinned = None;
        }
    }

    /// The pinned version; without a lock (SQLite reads the header once when it opens the file), the newest for the moment.
    fn with_pin<T>(&self, context: &Context, act: impl FnOnce(&Pin) -> T) -> T {
        match self {
            Self::At(pin) => act(pin),
            Self::Newest { pinned: Some(pin) } => act(pin),
            Self::Newest { pinned: None } => act(&context.store().pin(PinKind::Sql)),
        }
    }

    pub(crate) fn count(&self, context: &Context) -> PageCount {
        self.with_pin(context, |pin| pin.end().pages)
    }

    pub(crate) fn read(
        &self,
        context: &Context,
        page: PageNumber,
        offset: usize,
        buf: &mut [u8],
    ) -> Result<(), Code> {
        let read = self.with_pin(context, |pin| read_pinned(pin, page, offset, buf))?;
        read.map_err(|error| context.failed(error, Code::READ))
    }
}

/// Reads a page of a pinned version; a page past its end is a short read.
pub(crate) fn read_pinned(
    pin: &Pin,
    page: PageNumber,
    offset: usize,
    buf: &mut [u8],
) -> Result<Result<(), StoreError>, Code> {
    if page.get() > pin.end().pages.0 {
        buf.fill(0);
        return Err(Code::SHORT_READ);
    }
    Ok(pin.read(page, offset, buf))
}
