//! The store against a map: what every version, pin and restart has to show.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each test takes the part it needs"
)]

use sqlrep_disk::{Disk, SimulatedDisk};
use sqlrep_store::{
    Change, Checksum, EntryEnd, Finish, Image, InstallEnd, Options, PageCount, PageNumber,
    PageSize, Pin, PinKind, Position, Progress, Side, Store, StoreError, Table, Version, page_hash,
};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A database as a map.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pages {
    pub(crate) count: u32,
    pub(crate) images: BTreeMap<u32, u8>,
}

/// Small pages make many of them.
pub(crate) const SIZE: u32 = 512;

/// Slices of three or four pages, so that checkpoints take several of each kind.
pub(crate) const SLICE_BYTES: usize = 4 * SIZE as usize;

pub(crate) fn page(number: u32) -> PageNumber {
    PageNumber::new(number).expect("tests count from 1")
}

/// Random numbers from a seed (SplitMix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

pub(crate) fn options(disk: &SimulatedDisk, memory: u64, spill: u64) -> Options {
    Options {
        page_size: PageSize::new(SIZE),
        version_bytes_max: memory,
        spill_bytes_max: spill,
        checkpoint_slice_bytes: SLICE_BYTES,
        ..Options::new(Arc::new(disk.clone()) as Arc<dyn Disk>)
    }
}

/// What the side state of an entry says; recognisable when it comes back.
pub(crate) fn side(index: u64) -> Side {
    Side {
        core: format!("core {index}").into(),
        mode: format!("mode {index}").into(),
        table: table(index),
    }
}

/// Twelve entries in a row share one, as entries without keys do; the very first have none.
fn table(index: u64) -> Table {
    thread_local! {
        static SHARED: RefCell<BTreeMap<u64, Table>> = const { RefCell::new(BTreeMap::new()) };
    }
    let content = |shared: u64| match shared {
        0 => Table::default(),
        _ => Table::of(format!("table {shared} ").repeat(40).into()),
    };
    let shared = (index + 8) / 12;
    SHARED.with_borrow_mut(|tables| {
        let table = tables.entry(shared).or_insert_with(|| content(shared));
        table.clone()
    })
}

pub(crate) fn checksum(pages: &Pages) -> Checksum {
    let sum = pages.images.iter().fold(0, |sum, (number, byte)| {
        sum ^ page_hash(page(*number), &vec![*byte; SIZE as usize])
    });
    Checksum(sum)
}

/// Everything that was said to the store, as maps.
pub(crate) struct Model {
    pub(crate) store: Arc<Store>,
    /// Newest version, its pages.
    pub(crate) newest: Pages,
    /// Every entry end: position index, its pages and whether it is an anchor.
    pub(crate) ends: BTreeMap<u64, (Pages, bool)>,
    pub(crate) index: u64,
    pub(crate) version: Version,
    pub(crate) pins: Vec<(Pin, Pages)>,
}

impl Model {
    pub(crate) fn new(store: Arc<Store>) -> Self {
        let ends = BTreeMap::from([(0, (Pages::default(), true))]);
        Self {
            store,
            newest: Pages::default(),
            ends,
            index: 0,
            version: Version(0),
            pins: Vec::new(),
        }
    }

    pub(crate) fn committed(&self) -> &Pages {
        &self.ends[&self.index].0
    }

    /// A random transaction.
    pub(crate) fn publish(&mut self, random: &mut Random) -> Result<(), StoreError> {
        let mut next = self.newest.clone();
        let mut change = Change::default();
        if random.below(5) == 0 {
            next.count = u32::try_from(random.below(40)).expect("small");
        } else if random.below(2) == 0 {
            next.count = (next.count + u32::try_from(random.below(4)).expect("small")).min(60);
        }
        for _ in 0..random.below(8) {
            let number = u32::try_from(random.below(u64::from(next.count) + 2)).expect("small") + 1;
            let byte = u8::try_from(random.below(255)).expect("a byte") + 1;
            change
                .pages
                .insert(page(number), Image::from(vec![byte; SIZE as usize]));
        }
        for number in self.newest.count + 1..=next.count {
            next.images.insert(number, 0);
        }
        for (number, image) in &change.pages {
            next.images.insert(number.get(), image[0]);
        }
        let count = next.count;
        next.images.retain(|number, _| *number <= count);
        change.count = PageCount(count);
        if random.below(4) == 0 {
            self.fail_to_publish(&change);
        }
        self.version = self.store.publish(change)?;
        self.newest = next;
        Ok(())
    }

    /// The transaction's pages end in an error: as if it had never been.
    fn fail_to_publish(&self, change: &Change) {
        let before = self.store.newest();
        let pages = change.pages.clone().into_iter().map(Ok);
        let pages = pages.chain([Err(StoreError::PinEnded)]);
        let failed = self.store.publish_pages(change.count, pages);
        assert!(failed.is_err());
        assert_eq!(self.store.newest(), before);
        self.check_newest();
    }

    /// Transactions go into one version until the next end or abort.
    pub(crate) fn open(&self) {
        self.store.open_version();
    }

    pub(crate) fn finish(&mut self, anchor: bool) {
        self.store.close_version();
        self.index += 1;
        let position = Position {
            term: 1,
            index: self.index,
        };
        let (version, side) = (self.version, side(self.index));
        let end = self
            .store
            .finish(Finish {
                position,
                version,
                side,
                anchor,
            })
            .unwrap();
        assert_eq!(end.checksum, checksum(&self.newest));
        self.ends.insert(self.index, (self.newest.clone(), anchor));
    }

    pub(crate) fn abort(&mut self) {
        self.store.abort();
        self.newest = self.committed().clone();
        self.version = self.store.committed().version;
    }

    pub(crate) fn pin(&mut self, kind: PinKind) {
        let pin = self.store.pin(kind);
        let pages = self.committed().clone();
        self.pins.push((pin, pages));
    }

    /// Every pin sees what it saw when it was taken, or was ended.
    pub(crate) fn check_pins(&self) {
        for (pin, pages) in &self.pins {
            check_pin(pin, pages);
        }
    }

    /// The newest version as the writer sees it.
    pub(crate) fn check_newest(&self) {
        assert_eq!(
            self.store.newest(),
            (self.version, PageCount(self.newest.count))
        );
        for (number, byte) in &self.newest.images {
            let mut image = vec![1; SIZE as usize];
            self.store
                .read_newest(page(*number), 0, &mut image)
                .unwrap();
            assert!(image.iter().all(|found| found == byte), "page {number}");
        }
    }
}

/// A pin shows `pages`, or was ended.
pub(crate) fn check_pin(pin: &Pin, pages: &Pages) {
    assert_eq!(pin.end().pages, PageCount(pages.count));
    for (number, byte) in &pages.images {
        let mut part = [1; 16];
        match pin.read(page(*number), 24, &mut part) {
            Ok(()) => assert_eq!(
                part,
                [*byte; 16],
                "page {number} at {:?}",
                pin.end().position
            ),
            Err(StoreError::PinEnded) => assert!(pin.ended()),
            Err(error) => panic!("page {number}: {error}"),
        }
    }
}

/// Steps a checkpoint to its end; none if there was nothing to do.
pub(crate) fn checkpoint(store: &Store) -> Result<Option<Arc<EntryEnd>>, StoreError> {
    let Some(mut checkpoint) = store.begin_checkpoint(None) else {
        return Ok(None);
    };
    loop {
        if let Progress::Done(end) = checkpoint.step()? {
            return Ok(Some(end));
        }
    }
}

/// A reopened store shows exactly one of the recorded entry ends, at or above `at_least`, with its side state.
pub(crate) fn check_reopened(
    store: &Store,
    ends: &BTreeMap<u64, (Pages, bool)>,
    at_least: u64,
) -> u64 {
    let end = store.committed();
    let index = end.position.map_or(0, |position| position.index);
    assert!(
        index >= at_least,
        "the store came back at {index}, {at_least} was durable"
    );
    let (pages, anchor) = ends
        .get(&index)
        .unwrap_or_else(|| panic!("{index} never was an end"));
    assert!(anchor, "{index} is no anchor");
    assert_eq!(end.checksum, checksum(pages));
    assert_eq!(
        end.side,
        if index == 0 {
            Side::default()
        } else {
            side(index)
        }
    );
    assert_eq!(end, store.durable());
    check_pin(&store.pin(PinKind::Sql), pages);
    assert_eq!(store.verify_pages().unwrap(), []);
    index
}

/// Installs `pages` as entry `index` of another leader's database.
pub(crate) fn install(store: &Store, pages: &Pages, index: u64) -> Result<(), StoreError> {
    let position = Position { term: 1, index };
    let end = InstallEnd {
        position,
        pages: PageCount(pages.count),
        checksum: checksum(pages),
        side: side(index),
    };
    let mut installer = store.begin_install(end)?;
    for (number, byte) in &pages.images {
        installer.write(page(*number), &vec![*byte; SIZE as usize])?;
    }
    installer.complete()?;
    store.install(installer)
}
