//! Sending and receiving a whole state, page by page.
//!
//! A source reads a pinned entry end, so nobody waits for it and nothing is held in memory; a page that
//! reads back wrong ends it (safety rule 7). A sink fills a generation directory of its own; dropping it
//! removes that, and only [`Replica::install`](crate::Replica::install) makes it the live one (safety rule 3).

use crate::chunk::{self, Chunk, Head};
use crate::{ReplicaError, entry_id, position};
use bytes::{BufMut, Bytes};
use sqlrep_core::{EntryEnd, MachineError, SnapshotSink, SnapshotSource};
use sqlrep_store::{InstallEnd, Installer, PageNumber, Pin, Side, Store};
use std::sync::Arc;

/// A pinned entry end on its way out.
pub struct Source {
    end: EntryEnd,
    pages: Option<Pages>,
}

/// Where sending stands.
struct Pages {
    pin: Pin,
    store: Arc<Store>,
    /// None until the head went out; then the next page.
    next: Option<u32>,
}

impl Source {
    /// Sends what `pin` holds.
    pub(crate) fn of(store: Arc<Store>, pin: Pin) -> Self {
        let end = entry_end(&pin);
        Self {
            end,
            pages: Some(Pages {
                pin,
                store,
                next: None,
            }),
        }
    }

    /// Describes an end whose pages are no longer at hand.
    pub(crate) fn description(end: EntryEnd) -> Self {
        Self { end, pages: None }
    }
}

fn entry_end(pin: &Pin) -> EntryEnd {
    let end = pin.end();
    EntryEnd {
        id: end.position.map(entry_id),
        side: end.side.core.clone(),
    }
}

impl SnapshotSource for Source {
    fn end(&self) -> EntryEnd {
        self.end.clone()
    }

    fn next(&mut self) -> Result<Option<Bytes>, MachineError> {
        let pages = self.pages.as_mut().ok_or(ReplicaError::NotHeld)?;
        Ok(pages.next_chunk()?)
    }
}

impl Pages {
    fn next_chunk(&mut self) -> Result<Option<Bytes>, ReplicaError> {
        let Some(first) = self.next else {
            self.next = Some(1);
            let end = self.pin.end();
            return Ok(Some(chunk::encode_head(&Head {
                page_size: self.store.page_size(),
                pages: end.pages,
                checksum: end.checksum,
                mode: end.side.mode.clone(),
            })));
        };
        let size = self.store.page_size();
        let (mut out, mut number, mut any) = (chunk::begin_pages(), first, false);
        let mut image = vec![0; size.bytes() as usize];
        while number <= self.pin.end().pages.0 && chunk::has_room(&out, size) {
            let page = PageNumber::new(number).expect("counted from 1");
            number += 1;
            if page == size.lock_page() {
                continue;
            }
            self.pin.read(page, 0, &mut image)?;
            out.put_u32_le(page.get());
            out.put_slice(&image);
            any = true;
        }
        self.next = Some(number);
        Ok(any.then(|| chunk::seal(out)))
    }
}

/// A state on its way in.
pub struct Sink {
    end: EntryEnd,
    /// Empty until the head came.
    mode: Bytes,
    store: Arc<Store>,
    state: Receiving,
}

/// Invariant: pages are taken only between the head and `complete`.
enum Receiving {
    Nothing,
    Pages(Installer),
    Complete(Installer),
}

impl Sink {
    pub(crate) fn new(store: Arc<Store>, end: EntryEnd) -> Self {
        Self {
            end,
            mode: Bytes::new(),
            store,
            state: Receiving::Nothing,
        }
    }

    /// The mode's side state that it brings; empty until its first chunk came.
    #[must_use]
    pub fn mode_side(&self) -> &[u8] {
        &self.mode
    }

    /// The complete generation, to be switched to.
    pub(crate) fn into_installer(self) -> Result<Installer, ReplicaError> {
        match self.state {
            Receiving::Complete(installer) => Ok(installer),
            Receiving::Nothing | Receiving::Pages(_) => Err(damaged("it isn't complete")),
        }
    }

    fn begin(&mut self, head: Head) -> Result<(), ReplicaError> {
        if !matches!(self.state, Receiving::Nothing) {
            return Err(damaged("it has two heads"));
        }
        if head.page_size != self.store.page_size() {
            let (theirs, ours) = (head.page_size.bytes(), self.store.page_size().bytes());
            return Err(damaged(format!(
                "pages of {theirs} bytes, this database has {ours}"
            )));
        }
        let id = self.end.id.ok_or_else(|| damaged("it shows no entry"))?;
        let side = Side {
            core: self.end.side.clone(),
            mode: head.mode.clone(),
            ..Side::default()
        };
        let (pages, checksum) = (head.pages, head.checksum);
        let end = InstallEnd {
            position: position(id),
            pages,
            checksum,
            side,
        };
        self.state = Receiving::Pages(self.store.begin_install(end)?);
        self.mode = head.mode;
        Ok(())
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), ReplicaError> {
        match chunk::decode(bytes).map_err(damaged)? {
            Chunk::Head(head) => self.begin(head),
            Chunk::Pages(body) => {
                let Receiving::Pages(installer) = &mut self.state else {
                    return Err(damaged("its pages come before its head or after its end"));
                };
                for page in chunk::pages_of(body, self.store.page_size()).map_err(damaged)? {
                    let (number, image) = page.map_err(damaged)?;
                    installer.write(number, image)?;
                }
                Ok(())
            }
        }
    }
}

fn damaged(what: impl Into<String>) -> ReplicaError {
    ReplicaError::Snapshot { what: what.into() }
}

impl SnapshotSink for Sink {
    fn end(&self) -> EntryEnd {
        self.end.clone()
    }

    fn write(&mut self, chunk: &[u8]) -> Result<(), MachineError> {
        Ok(self.take(chunk)?)
    }

    fn complete(&mut self) -> Result<(), MachineError> {
        match std::mem::replace(&mut self.state, Receiving::Nothing) {
            Receiving::Pages(mut installer) => {
                installer.complete().map_err(ReplicaError::from)?;
                self.state = Receiving::Complete(installer);
                Ok(())
            }
            Receiving::Nothing | Receiving::Complete(_) => {
                Err(damaged("it ended before its head").into())
            }
        }
    }
}
