//! Pages that a receiver has already, so that only those that differ are sent (safety rule 11).
//!
//! They come from two places: what an abandoned transfer brought, and this node's own database, whether it is trusted or
//! not: a page is worth its hash. Promise: a page is taken from here only if it reads back, at that moment, with the hash that
//! was told of it. What can't be read, or not rightly, isn't offered.
//!
//! It doesn't decide what is sent, nor whether the whole is right: the checksum of the whole does.

use crate::offer::{self, Offered};
use bytes::Bytes;
use sqlrep_store::{Installer, PageNumber, PageSize, Pin, page_hash};

pub(crate) struct AtHand {
    page_size: PageSize,
    /// What an abandoned transfer brought; it goes before the own.
    half: Option<Installer>,
    /// This node's database, as it was when the first offer was made.
    own: Pin,
    offered: Offered,
    /// All of it was offered.
    is_done: bool,
    /// The page read last.
    image: Vec<u8>,
}

impl AtHand {
    pub(crate) fn new(page_size: PageSize, half: Option<Installer>, own: Pin) -> Self {
        Self {
            page_size,
            half,
            own,
            offered: Offered::default(),
            is_done: false,
            image: vec![0; page_size.bytes() as usize],
        }
    }

    /// The hashes that are to be told now, while page `next` is the next to come; none if it isn't time, no bytes if that
    /// was all.
    pub(crate) fn offer(&mut self, next: u32) -> Option<Bytes> {
        let most = offer::pages_max(self.page_size);
        if self.is_done || self.offered.left(next) > most / 2 {
            return None;
        }
        let first = self.offered.end().max(next);
        let last = first.saturating_add(most - 1).min(self.pages());
        if first > last {
            self.is_done = true;
            return Some(Bytes::new());
        }
        let hash = |number| {
            let page = PageNumber::new(number).expect("counted from 1");
            self.read(page).unwrap_or(0)
        };
        let hashes: Vec<u64> = (first..=last).map(hash).collect();
        let more = Offered::of(first, hashes);
        let offer = more.encode();
        let extended = self.offered.extend(more, next);
        extended.expect("it goes on where the last one ended, with less than half of that left");
        Some(offer)
    }

    fn pages(&self) -> u32 {
        let half = self.half.as_ref().map_or(0, |half| half.came().0);
        half.max(self.own.end().pages.0)
    }

    /// A page that was offered; none if it wasn't, or reads back otherwise now.
    pub(crate) fn take(&mut self, page: PageNumber) -> Option<&[u8]> {
        let told = self.offered.hash(page)?;
        (self.read(page) == Some(told)).then_some(&self.image)
    }

    /// Reads a page and answers its hash; none if it isn't here, or can't be read.
    fn read(&mut self, page: PageNumber) -> Option<u64> {
        let image = &mut self.image;
        let half = |half: &mut Installer| matches!(half.read_back(page, image), Ok(true));
        let is_read = self.half.as_mut().is_some_and(half) || {
            let is_own = self.own.end().pages.contains(page) && page != self.page_size.lock_page();
            is_own && self.own.read(page, 0, image).is_ok()
        };
        is_read.then(|| page_hash(page, &self.image))
    }

    /// What the abandoned transfer brought.
    pub(crate) fn into_half(self) -> Option<Installer> {
        self.half
    }

    /// Begins to offer anew, to another sender.
    pub(crate) fn begin_anew(&mut self) {
        self.offered = Offered::default();
        self.is_done = false;
    }
}
