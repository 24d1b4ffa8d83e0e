//! Sending and receiving a whole state, page by page.
//!
//! A source reads a pinned entry end, so nobody waits for it and nothing is held in memory; a page that
//! reads back wrong ends it (safety rule 7). A sink fills a generation directory of its own; dropping it
//! removes that, and only [`Replica::install`](crate::Replica::install) makes it the live one (safety rule 3).
//!
//! A sink offers what it has at hand, and a source leaves out of its chunks what is equal; which pages a chunk is about stays
//! the same (safety rule 11). A source that was offered nothing sends everything.

use crate::at_hand::AtHand;
use crate::chunk::{self, Chunk, Head, Run};
use crate::offer::Offered;
use crate::{ReplicaError, entry_end, position, table};
use bytes::{BufMut, Bytes, BytesMut};
use sqlrep_core::{EntryEnd, KeyTable, MachineError, SnapshotSink, SnapshotSource};
use sqlrep_store::{
    InstallEnd, Installer, PageNumber, Pin, PinKind, Side, Store, Table, TableChunks,
};
use std::sync::{Arc, Mutex, PoisonError};

/// A pinned entry end on its way out.
pub struct Source {
    end: EntryEnd,
    pages: Option<Pages>,
}

/// Where sending stands.
struct Pages {
    pin: Pin,
    store: Arc<Store>,
    /// Pieces of the key table that didn't go out yet; behind a lock only because a source is shared between threads.
    table: Mutex<TableChunks>,
    /// What of the last piece didn't fit.
    left: Bytes,
    /// None until the head went out; then the next page.
    next: Option<u32>,
    /// What the receiver has.
    offered: Offered,
    /// Whether it will offer more.
    more: bool,
    /// Pages left out since the beginning.
    spared: u64,
}

impl Source {
    /// Sends what `pin` holds.
    pub(crate) fn of(store: Arc<Store>, pin: Pin) -> Self {
        let end = entry_end(pin.end());
        Self {
            end,
            pages: Some(Pages {
                table: Mutex::new(pin.end().side.table.chunks()),
                left: Bytes::new(),
                pin,
                store,
                next: None,
                offered: Offered::default(),
                more: false,
                spared: 0,
            }),
        }
    }

    /// Describes an end whose pages are no longer at hand.
    pub(crate) fn description(end: EntryEnd) -> Self {
        Self { end, pages: None }
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

    fn seek(&mut self, chunks: u64) -> Result<(), MachineError> {
        let pages = self.pages.as_mut().ok_or(ReplicaError::NotHeld)?;
        pages.seek(chunks);
        Ok(())
    }

    fn offered(&mut self, offer: &[u8]) -> Result<(), MachineError> {
        let pages = self.pages.as_mut().ok_or(ReplicaError::NotHeld)?;
        Ok(pages.offered(offer)?)
    }

    fn awaits_offer(&self) -> bool {
        self.pages.as_ref().is_some_and(Pages::awaits_offer)
    }

    fn spared_pages(&self) -> u64 {
        self.pages.as_ref().map_or(0, |pages| pages.spared)
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
                table_bytes: table_bytes(&end.side.table),
                mode: end.side.mode.clone(),
            })));
        };
        if let Some(part) = self.table_part() {
            return Ok(Some(chunk::encode_table(&part)));
        }
        let pages: Vec<PageNumber> = self.pages_from(first).collect();
        let Some(last) = pages.last() else {
            return Ok(None);
        };
        let left_out = self.left_out(&pages)?;
        let chunk = if left_out.contains(&true) {
            self.runs(pages.iter().copied().zip(left_out))?
        } else {
            self.images(&pages)?
        };
        self.next = Some(last.get() + 1);
        Ok(Some(chunk))
    }

    /// Which of `pages` the receiver has: equal hashes, equal pages.
    fn left_out(&self, pages: &[PageNumber]) -> Result<Vec<bool>, ReplicaError> {
        let is_left_out = |page: &PageNumber| {
            let Some(offered) = self.offered.hash(*page) else {
                return Ok(false);
            };
            Ok(offered == self.pin.hash(*page)?)
        };
        pages.iter().map(is_left_out).collect()
    }

    fn images(&self, pages: &[PageNumber]) -> Result<Bytes, ReplicaError> {
        let mut out = chunk::begin_pages();
        let mut image = self.blank();
        for page in pages {
            self.pin.read(*page, 0, &mut image)?;
            out.put_u32_le(page.get());
            out.put_slice(&image);
        }
        Ok(chunk::seal(out))
    }

    fn runs(
        &mut self,
        pages: impl Iterator<Item = (PageNumber, bool)>,
    ) -> Result<Bytes, ReplicaError> {
        let (mut out, mut image) = (chunk::begin_runs(), self.blank());
        for run in chunk::runs(pages) {
            chunk::put_run(&mut out, &run);
            for page in run.sent() {
                self.pin.read(page, 0, &mut image)?;
                out.put_slice(&image);
            }
            self.spared += run.at_hand().count() as u64;
        }
        Ok(chunk::seal(out))
    }

    fn blank(&self) -> Vec<u8> {
        vec![0; self.store.page_size().bytes() as usize]
    }

    fn offered(&mut self, offer: &[u8]) -> Result<(), ReplicaError> {
        self.more = !offer.is_empty();
        if self.more {
            let more = Offered::decode(offer);
            let next = self.next.unwrap_or(1);
            let taken = more.and_then(|more| self.offered.extend(more, next));
            taken.map_err(|what| damaged(format!("an offer of pages: {what}")))?;
        }
        Ok(())
    }

    fn awaits_offer(&self) -> bool {
        let Some(first) = self.next.filter(|_| self.more) else {
            return false;
        };
        let last = self.pages_from(first).last();
        last.is_some_and(|last| last.get() >= self.offered.end())
    }

    /// The pages of the chunk that begins at `first`: it holds the same ones whenever it is asked for.
    fn pages_from(&self, first: u32) -> impl Iterator<Item = PageNumber> + use<> {
        let size = self.store.page_size();
        let numbers = first..=self.pin.end().pages.0;
        let pages = numbers.map(|number| PageNumber::new(number).expect("counted from 1"));
        let sent = pages.filter(move |page| *page != size.lock_page());
        sent.take(chunk::pages_max(size))
    }

    /// Goes on behind the first `chunks` chunks, without reading their pages. What was offered is forgotten.
    fn seek(&mut self, chunks: u64) {
        (self.offered, self.more) = (Offered::default(), false);
        self.table = Mutex::new(self.pin.end().side.table.chunks());
        (self.left, self.next) = (Bytes::new(), None);
        for _ in 0..chunks {
            let Some(first) = self.next else {
                self.next = Some(1);
                continue;
            };
            if self.table_part().is_none() {
                let last = self.pages_from(first).last();
                self.next = Some(last.map_or(first, |last| last.get() + 1));
            }
        }
    }
}

impl Pages {
    /// The next part of the key table; none behind its end.
    fn table_part(&mut self) -> Option<Bytes> {
        let table = self.table.get_mut().unwrap_or_else(PoisonError::into_inner);
        while self.left.is_empty() {
            self.left = table.next()?;
        }
        let most = self.left.len().min(chunk::TABLE_PART_BYTES_MAX);
        Some(self.left.split_to(most))
    }
}

fn table_bytes(table: &Table) -> u64 {
    table.chunks().map(|piece| piece.len() as u64).sum()
}

/// A state on its way in.
pub struct Sink {
    end: EntryEnd,
    /// Empty until the head came.
    mode: Bytes,
    store: Arc<Store>,
    state: Receiving,
    /// None until something was offered or inherited, and once it is complete. Behind a lock as above.
    at_hand: Mutex<Option<AtHand>>,
}

/// Invariant: pages are taken only behind the head and the whole table, and before `complete`.
enum Receiving {
    Nothing,
    Table(Box<Head>, BytesMut),
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
            at_hand: Mutex::default(),
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
            Receiving::Nothing | Receiving::Table(..) | Receiving::Pages(_) => {
                Err(damaged("it isn't complete"))
            }
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
        if head.table_bytes > chunk::TABLE_BYTES_MAX {
            let bytes = head.table_bytes;
            return Err(damaged(format!("a table of {bytes} bytes")));
        }
        self.state = Receiving::Table(Box::new(head), BytesMut::new());
        self.end_table()
    }

    /// Takes a part of the key table.
    fn table(&mut self, part: &[u8]) -> Result<(), ReplicaError> {
        match &mut self.state {
            Receiving::Table(head, table)
                if (table.len() + part.len()) as u64 <= head.table_bytes =>
            {
                table.extend_from_slice(part);
                self.end_table()
            }
            _ => Err(damaged("a part of its table comes where none belongs")),
        }
    }

    /// Behind the whole table come the pages.
    fn end_table(&mut self) -> Result<(), ReplicaError> {
        let (head, bytes) = match std::mem::replace(&mut self.state, Receiving::Nothing) {
            Receiving::Table(head, table) if table.len() as u64 == head.table_bytes => {
                (*head, table.freeze())
            }
            under_way => {
                self.state = under_way;
                return Ok(());
            }
        };
        self.end.keys = KeyTable::new(Table::of(bytes).encoder().cloned());
        let id = self.end.id.ok_or_else(|| damaged("it shows no entry"))?;
        let side = Side {
            core: self.end.side.clone(),
            mode: head.mode.clone(),
            table: table(&self.end.keys),
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
            Chunk::Table(part) => self.table(part),
            Chunk::Pages(body) => {
                let installer = under_way(&mut self.state)?;
                for page in chunk::pages_of(body, self.store.page_size()).map_err(damaged)? {
                    let (number, image) = page.map_err(damaged)?;
                    installer.write(number, image)?;
                }
                Ok(())
            }
            Chunk::Runs(body) => {
                let page_size = self.store.page_size();
                let runs = chunk::runs_of(body, page_size).map_err(damaged)?;
                runs.into_iter()
                    .try_for_each(|(run, images)| self.take_run(run, images))
            }
        }
    }

    fn take_run(&mut self, run: Run, images: &[u8]) -> Result<(), ReplicaError> {
        let installer = under_way(&mut self.state)?;
        let mut at_hand = at_hand(&mut self.at_hand).as_mut();
        for page in run.at_hand() {
            let image = at_hand.as_mut().and_then(|at_hand| at_hand.take(page));
            let gone = || damaged(format!("page {page} isn't here as it was offered"));
            installer.write(page, image.ok_or_else(gone)?)?;
        }
        let page_bytes = self.store.page_size().bytes() as usize;
        for (page, image) in run.sent().zip(images.chunks_exact(page_bytes)) {
            installer.write(page, image)?;
        }
        Ok(())
    }

    /// What is worth the most to the next transfer: what came, or what this one had inherited.
    fn farthest(self) -> Option<Installer> {
        let came = match self.state {
            Receiving::Pages(installer) => Some(installer),
            Receiving::Nothing | Receiving::Table(..) | Receiving::Complete(_) => None,
        };
        let at_hand = self.at_hand.into_inner();
        let at_hand = at_hand.unwrap_or_else(PoisonError::into_inner);
        let inherited = at_hand.and_then(AtHand::into_half);
        came.into_iter()
            .chain(inherited)
            .max_by_key(|installer| installer.came().0)
    }

    /// The page that comes next; none if no more come.
    fn next_page(&self) -> Option<u32> {
        match &self.state {
            Receiving::Nothing | Receiving::Table(..) => Some(1),
            Receiving::Pages(installer) => Some(installer.came().0 + 1),
            Receiving::Complete(_) => None,
        }
    }

    fn begin_at_hand(&self, half: Option<Installer>) -> AtHand {
        let own = self.store.pin(PinKind::Snapshot);
        AtHand::new(self.store.page_size(), half, own)
    }
}

fn under_way(state: &mut Receiving) -> Result<&mut Installer, ReplicaError> {
    match state {
        Receiving::Pages(installer) => Ok(installer),
        _ => Err(damaged("its pages come before its head or after its end")),
    }
}

fn at_hand(at_hand: &mut Mutex<Option<AtHand>>) -> &mut Option<AtHand> {
    at_hand.get_mut().unwrap_or_else(PoisonError::into_inner)
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

    fn verify(&mut self) -> Result<(), MachineError> {
        if let Some(at_hand) = at_hand(&mut self.at_hand) {
            at_hand.begin_anew();
        }
        match &mut self.state {
            Receiving::Pages(installer) => Ok(installer.verify().map_err(ReplicaError::from)?),
            // In memory still.
            Receiving::Nothing | Receiving::Table(..) => Ok(()),
            Receiving::Complete(_) => Err(damaged("it is complete").into()),
        }
    }

    fn offer(&mut self) -> Option<Bytes> {
        let next = self.next_page()?;
        if at_hand(&mut self.at_hand).is_none() {
            *at_hand(&mut self.at_hand) = Some(self.begin_at_hand(None));
        }
        at_hand(&mut self.at_hand).as_mut()?.offer(next)
    }

    fn inherit(&mut self, abandoned: Self) {
        if let Some(half) = abandoned.farthest() {
            *at_hand(&mut self.at_hand) = Some(self.begin_at_hand(Some(half)));
        }
    }

    fn complete(&mut self) -> Result<(), MachineError> {
        *at_hand(&mut self.at_hand) = None;
        match std::mem::replace(&mut self.state, Receiving::Nothing) {
            Receiving::Pages(mut installer) => {
                installer.complete().map_err(ReplicaError::from)?;
                self.state = Receiving::Complete(installer);
                Ok(())
            }
            Receiving::Table(..) => Err(damaged("it ended before its pages").into()),
            Receiving::Nothing | Receiving::Complete(_) => {
                Err(damaged("it ended before its head").into())
            }
        }
    }
}
