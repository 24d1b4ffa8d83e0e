//! Page sets there and back, and whatever else comes instead of one.

use super::*;
use proptest::prelude::*;
use sqlrep_store::{StoreError, page_hash};

const SIZES: [u32; 8] = [512, 1024, 2048, 4096, 8192, 16384, 32768, 65536];

/// A database in memory: pages that aren't here are zeros. Its checksum is kept by difference, as a store does.
#[derive(Clone, Debug)]
struct Database {
    page_size: PageSize,
    count: PageCount,
    checksum: Checksum,
    pages: BTreeMap<PageNumber, Image>,
}

impl Database {
    fn new(page_bytes: u32, count: u32) -> Self {
        Self {
            page_size: PageSize::new(page_bytes).unwrap(),
            count: PageCount(count),
            checksum: Checksum(0x5eed),
            pages: BTreeMap::new(),
        }
    }

    fn page(&self, page: PageNumber) -> Image {
        let zeros = || vec![0; page_bytes(self.page_size)].into();
        self.pages.get(&page).cloned().unwrap_or_else(zeros)
    }

    /// The database with other pages and another size. Pages that are new and not given are zeros.
    fn changed(&self, pages: &BTreeMap<PageNumber, Image>, count: PageCount) -> Self {
        let mut next = self.clone();
        next.count = count;
        next.pages.extend(pages.clone());
        next.pages.retain(|page, _| count.contains(*page));
        let grown = self.count.0 + 1..=count.0;
        let dropped = count.0 + 1..=self.count.0;
        let moved: std::collections::BTreeSet<PageNumber> = grown
            .chain(dropped)
            .filter_map(PageNumber::new)
            .chain(pages.keys().copied())
            .filter(|page| *page != self.page_size.lock_page())
            .collect();
        for page in moved {
            if self.count.contains(page) {
                next.checksum.0 ^= page_hash(page, &self.page(page));
            }
            if count.contains(page) {
                next.checksum.0 ^= page_hash(page, &next.page(page));
            }
        }
        next
    }
}

impl PageSource for Database {
    fn page_size(&self) -> PageSize {
        self.page_size
    }

    fn count(&self) -> PageCount {
        self.count
    }

    fn checksum(&self) -> Checksum {
        self.checksum
    }

    fn image(&self, page: PageNumber) -> Result<Image, StoreError> {
        Ok(self.page(page))
    }

    fn hash(&self, page: PageNumber) -> Result<u64, StoreError> {
        Ok(page_hash(page, &self.page(page)))
    }
}

fn number(page: u32) -> PageNumber {
    PageNumber::new(page).unwrap()
}

fn tail(sequence: u64) -> Tail {
    Tail {
        term: Term(3),
        node: NodeId::new(200).unwrap(),
        epoch: 1,
        sequence,
    }
}

fn head(before: &Database, after: &Database) -> Head {
    Head {
        predecessor: Some(tail(299)),
        tail: tail(300),
        page_size: before.page_size,
        base: before.checksum,
        post: after.checksum,
        count: after.count,
    }
}

fn new_page(old: Old, new: impl Into<Image>) -> NewPage {
    NewPage {
        old,
        new: new.into(),
    }
}

/// A set, and what it is about.
#[derive(Clone, Debug)]
struct Case {
    before: Database,
    after: Database,
    pages: BTreeMap<PageNumber, NewPage>,
}

impl Case {
    fn new(before: Database, pages: BTreeMap<PageNumber, NewPage>, count: u32) -> Self {
        let images = pages.iter().map(|(page, new)| (*page, new.new.clone()));
        let after = before.changed(&images.collect(), PageCount(count));
        Self {
            before,
            after,
            pages,
        }
    }

    /// A database of 4 pages of 512 bytes; page 2 changes, 5 and 6 are new.
    fn small() -> Self {
        let before = Database::new(512, 4);
        let old: Image = (0..512u32).map(|at| at.to_le_bytes()[0]).collect();
        let before = before.changed(&[(number(2), old.clone())].into(), before.count);
        let mut new = old.to_vec();
        new[10] = 0xff;
        new[300..304].copy_from_slice(b"rows");
        let pages = [
            (number(2), new_page(Old::Image(old), new)),
            (number(5), new_page(Old::Zeros, vec![0; 512])),
            (number(6), new_page(Old::Unknown, vec![7; 512])),
        ];
        Self::new(before, pages.into(), 6)
    }

    fn head(&self) -> Head {
        head(&self.before, &self.after)
    }

    fn one(&self) -> Image {
        let parts = encode(&self.head(), &self.pages);
        assert_eq!(parts.len(), 1);
        parts[0].clone()
    }

    fn images(&self) -> BTreeMap<PageNumber, Image> {
        let image = |(page, new): (&PageNumber, &NewPage)| (*page, new.new.clone());
        self.pages.iter().map(image).collect()
    }

    fn assert_applies(&self, bytes: &Image) {
        let set = PageSet::decode(bytes).unwrap();
        assert_eq!(*set.head(), self.head());
        let change = apply(&set, &self.before).unwrap();
        assert_eq!(change.count, self.after.count);
        assert!(change.pages == self.images(), "the images differ");
    }

    /// The set in each encoding, whichever the leader would take; the last time with donors sought for every page.
    fn in_all_encodings(&self) -> [Image; 4] {
        let bytes = page_bytes(self.before.page_size);
        let pages: Vec<_> = self.pages.iter().map(|(page, new)| (*page, new)).collect();
        let runs = write::put_runs(bytes, &pages);
        let rewritten = runs.rewritten(bytes);
        let all: Vec<usize> = (0..pages.len()).collect();
        let packed = write::put_packed(&runs.bytes);
        let blocks = write::put_blocks(bytes, &pages, &runs, &rewritten);
        let given = write::put_blocks(bytes, &pages, &runs, &all);
        let all = [
            (Encoding::Runs, runs.bytes),
            (Encoding::PackedRuns, packed),
            (Encoding::Blocks, blocks),
            (Encoding::Blocks, given),
        ];
        all.map(|(encoding, changes)| self.written(encoding, &changes))
    }

    fn written(&self, encoding: Encoding, changes: &[u8]) -> Image {
        let mut out = Vec::new();
        put_head(&mut out, encoding, &self.head(), Part { number: 1, of: 1 });
        put_length(&mut out, self.pages.len());
        out.extend(changes);
        hashed(out)
    }
}

fn hashed(mut bytes: Vec<u8>) -> Image {
    bytes.extend(xxh3_64(&bytes).to_le_bytes());
    bytes.into()
}

/// How a page comes to be what it is; bytes are drawn from a small generator, so that cases shrink.
fn contents(kind: u8, seed: u64, old: &[u8]) -> Vec<u8> {
    let mut word = seed | 1;
    let mut draw = || {
        word = word.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        (word >> 32).to_le_bytes()
    };
    let mut new = old.to_vec();
    match kind {
        0 => new.fill(0),
        1 => new.iter_mut().for_each(|byte| *byte = draw()[0]),
        2 => new.rotate_right(2),
        3 => new.fill_with(|| draw()[0] & 1),
        _ => {
            for _ in 0..=seed % 9 {
                let at = usize::from(u16::from_le_bytes([draw()[0], draw()[1]])) % new.len();
                let end = new.len().min(at + 1 + usize::from(draw()[0] & 31));
                new[at..end].fill_with(|| draw()[0]);
            }
        }
    }
    new
}

/// Growth, shrinking and neither; page 1 or not; databases around the lock page where that is near.
fn cases() -> impl Strategy<Value = Case> {
    let page = (0..6u8, 0..3u8, any::<u64>(), 0..10u32);
    let pages = proptest::collection::vec(page, 0..10);
    let shape = (0..8usize, any::<bool>(), 0..7u32, 0..9u32);
    (shape, pages).prop_map(|((size, at_lock, before, after), drawn)| {
        let lock = (1 << 30) / SIZES[size] + 1;
        let floor = if at_lock { lock - 4 } else { 0 };
        let mut database = Database::new(SIZES[size], floor + before);
        let (mut old_images, mut pages) = (BTreeMap::new(), BTreeMap::new());
        let writable = |page: u32, count: u32| page > 0 && page <= count && page != lock;
        for (kind, old, seed, place) in drawn {
            let page = if place == 9 { 1 } else { floor + place };
            if writable(page, floor + before) {
                let image = contents(kind, seed ^ 77, &database.page(number(page)));
                old_images.insert(number(page), Image::from(image));
            }
            if writable(page, floor + after) {
                pages.insert(number(page), (kind, old, seed));
            }
        }
        database = database.changed(&old_images, database.count);
        for new in floor + before + 1..=floor + after {
            if writable(new, floor + after) {
                pages.entry(number(new)).or_insert((0, 1, 0));
            }
        }
        let pages = pages.into_iter().map(|(page, (kind, old, seed))| {
            let image = database.page(page);
            let new = contents(kind, seed, &image);
            let old = match old {
                0 if database.count.contains(page) => Old::Image(image),
                2 => Old::Unknown,
                _ => Old::Zeros,
            };
            (page, new_page(old, new))
        });
        let pages = pages.collect();
        Case::new(database, pages, floor + after)
    })
}

proptest! {
    #[test]
    fn a_set_comes_back_in_every_encoding(case in cases()) {
        let chosen = case.one();
        case.assert_applies(&chosen);
        for other in case.in_all_encodings() {
            case.assert_applies(&other);
        }
        prop_assert!(case.in_all_encodings().contains(&chosen));
        prop_assert!(chosen.len() <= case.in_all_encodings()[0].len());
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..300), encoding in 0..4u8, size in 8..18u8,
    ) {
        let case = Case::small();
        let parts = [vec![FORMAT, encoding, size, 1, 1, 0, 1, 1, 1, 1], bytes.clone()];
        for bytes in [hashed(bytes), hashed(parts.concat())] {
            if let Ok(set) = PageSet::decode(&bytes) {
                prop_assert!(set.changes().len() <= bytes.len());
                prop_assert!(apply(&set, &case.before).is_err());
            }
        }
    }

    /// The changes alone are what a fuzzer of whole sets seldom reaches.
    #[test]
    fn any_changes_are_read_without_a_panic(
        changes in proptest::collection::vec(any::<u8>(), 0..600), encoding in 0..3u8,
    ) {
        let case = Case::small();
        let written = case.written(Encoding::of(encoding).unwrap(), &changes);
        if let Ok(set) = PageSet::decode(&written) {
            prop_assert!(apply(&set, &case.before).is_err());
        }
    }

    /// Whatever became of its bytes under a right hash, a set gives the leader's database or an error: it may name
    /// another page that stays as it is.
    #[test]
    fn a_mutated_set_gives_an_error_or_the_same_database(
        case in cases(), which in 0..4usize, at in any::<prop::sample::Index>(), with: u8, cut in 0..4usize,
    ) {
        let set = &case.in_all_encodings()[which];
        let mut bytes = set[..set.len() - HASH_BYTES].to_vec();
        let place = at.index(bytes.len());
        match cut {
            0 => bytes.truncate(place),
            1 => bytes.insert(place, with),
            _ => bytes[place] = with,
        }
        let applied = PageSet::decode(&hashed(bytes)).and_then(|set| apply(&set, &case.before));
        if let Ok(change) = applied {
            let became = case.before.changed(&change.pages, change.count);
            prop_assert_eq!(became.count, case.after.count);
            for page in change.pages.keys().chain(case.pages.keys()) {
                prop_assert!(became.page(*page) == case.after.page(*page), "page {}", page);
            }
        }
    }

    #[test]
    fn one_flipped_bit_is_noticed(at in any::<prop::sample::Index>(), bit in 0..8u8) {
        let mut bytes = Case::small().one().to_vec();
        let place = at.index(bytes.len());
        bytes[place] ^= 1 << bit;
        prop_assert!(PageSet::decode(&bytes.into()).is_err());
    }
}

/// The bytes of `docs/formats.md`, "Page sets": what any release reads. What lz4 makes of the same pages may
/// change with its library, so the packed forms are read here and only the runs are also written.
#[test]
fn the_bytes_stay_what_they_are() {
    let case = Case::small();
    let start = |encoding: u8| {
        let tails = b"\x01\x03\xc8\x01\x01\xab\x02\x03\xc8\x01\x01\xac\x02";
        let base = b"\xaf\x78\x1c\xcf\x7b\x82\x51\x43";
        let post = b"\xa6\xc1\xb7\x59\x4f\x6c\x7b\x14";
        [&[1, encoding, 9, 1, 1], &tails[..], base, post, b"\x06\x03"].concat()
    };
    let runs = [
        &b"\x04\x01\x0a\xff\x04\xa1\x02rows\0"[..],
        b"\x09\0",
        b"\x02",
        &[7; 512],
    ]
    .concat();
    let plain = hashed([start(0), runs.clone()].concat());
    assert_eq!(case.in_all_encodings()[0], plain);
    assert_eq!(
        plain[plain.len() - HASH_BYTES..],
        *b"\x7f\xd0\x8c\x3b\x91\xcc\x11\xb1"
    );
    case.assert_applies(&plain);

    let literals = &runs[..16];
    let sevens = b"\x01\0\xff\xe8\x50\x07\x07\x07\x07\x07";
    let packed = [&b"\x8f\x04\xff\x01"[..], literals, sevens].concat();
    case.assert_applies(&hashed([start(1), packed].concat()));

    let moved = b"\x06\0\x02\x1f\xff\0\x02\xff\x0f\x4frows\0\x02\xb8\x50\xfb\xfc\xfd\xfe\xff";
    let blocks = [&b"\x04\x5c"[..], moved, b"\x09\0\0\x02\x30\x1f\x07", sevens].concat();
    case.assert_applies(&hashed([start(2), blocks].concat()));
}

/// The same for a page whose bytes stood in another one.
#[test]
fn the_bytes_of_a_donor_stay_what_they_are() {
    let before = Case::small().before;
    let donor = before.page(number(2));
    let pages = [(number(5), new_page(Old::Zeros, donor))].into();
    let case = Case::new(before, pages, 5);
    let with = |donor: u8| {
        let block = b"\x0f\0\x02\xff\xe9\x50\xfb\xfc\xfd\xfe\xff";
        case.written(
            Encoding::Blocks,
            &[b"\x11\x2d", &[donor][..], block].concat(),
        )
    };
    case.assert_applies(&with(2));
    assert!(PageSet::decode(&with(0)).is_err());
    let set = PageSet::decode(&with(5)).unwrap();
    let error = apply(&set, &case.before).unwrap_err();
    assert!(matches!(error, PageModeError::NoPrevious { page } if page == number(5)));
}

/// A set that no node can read would put every node out of service: the longest is within the bound of readers.
#[test]
fn pages_that_do_not_get_smaller_fill_a_part_and_no_more() {
    for size in [512, 65536] {
        let pages = u32::try_from(PART_IMAGE_BYTES_MAX).unwrap() / size;
        let before = Database::new(size, 2 * pages + 2);
        let noise = |at: u32| {
            contents(
                1,
                u64::from(at) << 20,
                &vec![0; page_bytes(before.page_size)],
            )
        };
        let page = |at: u32| (number(2 * at), new_page(Old::Unknown, noise(at)));
        let case = Case::new(
            before.clone(),
            (1..=pages).map(page).collect(),
            before.count.0,
        );
        let set = case.one();
        assert!(set.len() > PART_IMAGE_BYTES_MAX && set.len() <= PART_BYTES_MAX);
        case.assert_applies(&set);
        let case = Case::new(
            before.clone(),
            (1..=pages + 1).map(page).collect(),
            before.count.0,
        );
        assert_eq!(encode(&case.head(), &case.pages).len(), 2);
    }
}

/// Three parts, the second of which is not first.
fn split() -> (Case, Vec<PageSet>) {
    let before = Database::new(65536, 100);
    let page = |at: u32| {
        let kind = u8::from(at.is_multiple_of(3));
        (
            number(at),
            new_page(Old::Zeros, contents(kind, at.into(), &[0; 65536])),
        )
    };
    let case = Case::new(before, (50..=350).map(page).collect(), 350);
    let parts = encode(&case.head(), &case.pages);
    let parts = parts.iter().map(|part| PageSet::decode(part).unwrap());
    (case.clone(), parts.collect())
}

#[test]
fn a_split_set_is_applied_part_by_part() {
    let (case, parts) = split();
    let numbers: Vec<u32> = parts.iter().map(|set| set.part().number).collect();
    assert_eq!(numbers, [1, 2, 3]);
    let mut applying = Applying::begin(&parts[0], &case.before).unwrap();
    let mut images = BTreeMap::new();
    for part in &parts {
        images.extend(applying.part(part, &case.before).unwrap());
    }
    assert!(images == case.images());
    let ended = applying.end(&case.before).unwrap();
    assert_eq!(ended.count, PageCount(350));
    assert!(ended.differs.is_none());
}

#[test]
fn parts_out_of_order_or_missing_are_an_error() {
    let (case, parts) = split();
    let begin = || Applying::begin(&parts[0], &case.before).unwrap();
    let is_parts = |error: PageModeError| matches!(error, PageModeError::Parts { .. });
    assert!(is_parts(begin().part(&parts[1], &case.before).unwrap_err()));
    assert!(is_parts(begin().end(&case.before).unwrap_err()));
    let mut twice = begin();
    twice.part(&parts[0], &case.before).unwrap();
    assert!(is_parts(twice.part(&parts[0], &case.before).unwrap_err()));
    let mut other = begin();
    other.part(&parts[0], &case.before).unwrap();
    let mut foreign = parts[1].clone();
    foreign.head.tail.epoch += 1;
    assert!(is_parts(other.part(&foreign, &case.before).unwrap_err()));
    assert!(is_parts(apply(&parts[0], &case.before).unwrap_err()));
}

/// Rule 31: a database that isn't the leader's is told as a difference, by both checksums.
#[test]
fn another_database_is_an_error() {
    let case = Case::small();
    let set = PageSet::decode(&case.one()).unwrap();
    let other = case
        .before
        .changed(&[(number(3), vec![1; 512].into())].into(), PageCount(4));
    let error = apply(&set, &other).unwrap_err();
    assert!(matches!(error, PageModeError::Base { ours, .. } if ours == other.checksum));

    let mut wrong = case.clone();
    wrong.after.checksum.0 ^= 1;
    let set = PageSet::decode(&wrong.one()).unwrap();
    let error = apply(&set, &case.before).unwrap_err();
    assert!(matches!(error, PageModeError::Post { ours, .. } if ours == case.after.checksum));

    let larger = Database::new(1024, 4);
    assert!(matches!(
        apply(&set, &larger),
        Err(PageModeError::PageSize { .. })
    ));
}

/// A database whose pages changed beneath their recorded hashes.
struct Rotten(Database);

impl PageSource for Rotten {
    fn page_size(&self) -> PageSize {
        self.0.page_size
    }

    fn count(&self) -> PageCount {
        self.0.count
    }

    fn checksum(&self) -> Checksum {
        self.0.checksum
    }

    fn image(&self, page: PageNumber) -> Result<Image, StoreError> {
        let mut image = self.0.page(page).to_vec();
        image[100] ^= 1;
        Ok(image.into())
    }

    fn hash(&self, page: PageNumber) -> Result<u64, StoreError> {
        self.0.hash(page)
    }
}

#[test]
fn a_base_that_is_not_what_the_set_says_is_an_error() {
    let case = Case::small();
    let set = PageSet::decode(&case.one()).unwrap();
    let rotten = apply(&set, &Rotten(case.before.clone())).unwrap_err();
    assert!(matches!(rotten, PageModeError::DamagedPrevious { page } if page == number(2)));

    let mut case = Case::small();
    let image = case.before.page(number(5));
    case.pages.get_mut(&number(5)).unwrap().old = Old::Image(image);
    let set = PageSet::decode(&case.one()).unwrap();
    let missing = apply(&set, &case.before).unwrap_err();
    assert!(matches!(missing, PageModeError::NoPrevious { page } if page == number(5)));
}

/// SQLite doesn't write every page that a growing file gets; the set has them all.
#[test]
fn a_new_page_that_the_set_lacks_is_an_error() {
    let mut case = Case::small();
    case.pages.remove(&number(5));
    let set = PageSet::decode(&case.one()).unwrap();
    let error = apply(&set, &case.before).unwrap_err();
    assert!(matches!(error, PageModeError::Growth { grown: 2, held: 1 }));
}

/// Dropped and made again between two entries: the database before has an image, and the set doesn't mean it.
#[test]
fn a_page_made_again_starts_from_zeros() {
    let before = Database::new(512, 3);
    let before = before.changed(&[(number(3), vec![9; 512].into())].into(), before.count);
    let mut new = vec![0; 512];
    new[5] = 1;
    let pages = [(number(3), new_page(Old::Zeros, new))].into();
    let case = Case::new(before, pages, 3);
    for set in case.in_all_encodings() {
        assert_eq!(
            PageSet::decode(&set).unwrap().changes()[0].base(),
            Base::Zeros
        );
        case.assert_applies(&set);
    }
}

/// An index that takes keys in the middle of its pages is written as blocks; a row at the end of a page as runs.
#[test]
fn the_shorter_encoding_is_taken() {
    let encoding = |case: &Case| case.one()[1];
    assert_eq!(encoding(&Case::small()), Encoding::PackedRuns.id());
    let before = Database::new(4096, 2);
    let old: Image = contents(1, 5, &[0; 4096]).into();
    let before = before.changed(&[(number(2), old.clone())].into(), before.count);
    let with = |new: Vec<u8>| {
        let pages = [(number(2), new_page(Old::Image(old.clone()), new))].into();
        encoding(&Case::new(before.clone(), pages, 2))
    };
    let mut moved = old.to_vec();
    moved.rotate_right(2);
    assert_eq!(with(moved), Encoding::Blocks.id());
    let mut appended = old.to_vec();
    appended[3000..3100].copy_from_slice(&contents(1, 6, &[0; 100]));
    assert_eq!(with(appended), Encoding::Runs.id());
}

/// What a set claims is compared with what it can hold before anything is made for it.
#[test]
fn claims_beyond_what_the_bytes_hold_are_refused() {
    let case = Case::small();
    let packed = |claim: usize, block: &[u8]| {
        let mut changes = Vec::new();
        put_length(&mut changes, claim);
        changes.extend(block);
        PageSet::decode(&case.written(Encoding::PackedRuns, &changes))
            .unwrap_err()
            .to_string()
    };
    assert!(packed(PART_BYTES_MAX + 1, &[0; 9]).contains("at most 8"));
    assert!(packed(PART_BYTES_MAX, &[0; 9]).contains("in a block of 9"));
    let many = Case::new(Database::new(65536, 1), BTreeMap::new(), 1);
    for (claim, refusal) in [(129, "at most 128 can be"), (128, "128 changes in 0 bytes")] {
        let mut out = Vec::new();
        put_head(
            &mut out,
            Encoding::Runs,
            &many.head(),
            Part { number: 1, of: 1 },
        );
        put_length(&mut out, claim);
        let error = PageSet::decode(&hashed(out)).unwrap_err().to_string();
        assert!(error.contains(refusal), "{error}");
    }
    let long = PageSet::decode(&vec![0; PART_BYTES_MAX + 1].into()).unwrap_err();
    assert!(long.to_string().contains("at most 8"));
}

#[test]
fn heads_that_cannot_be_are_refused() {
    let good = Case::small().one();
    let with = |at: usize, byte: u8| {
        let mut bytes = good[..good.len() - HASH_BYTES].to_vec();
        bytes[at] = byte;
        PageSet::decode(&hashed(bytes)).unwrap_err().to_string()
    };
    assert!(with(0, 2).contains("format 2; this release reads 1"));
    assert!(with(1, 3).contains("encoding 3"));
    assert!(with(2, 8).contains("2^8 bytes for a page"));
    assert!(with(2, 17).contains("2^17 bytes for a page"));
    assert!(with(2, 200).contains("2^200 bytes for a page"));
    assert!(with(3, 0).contains("part 0 of 1"));
    assert!(with(3, 2).contains("part 2 of 1"));
    assert!(with(5, 2).contains("2 predecessors"));
}
