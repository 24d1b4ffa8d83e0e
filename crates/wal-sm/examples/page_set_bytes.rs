//! What a transaction of one row takes in the log of page mode, and how fast one core applies it.
//!
//! ```text
//! cargo run --release -p sqlrep-wal-sm --example page_set_bytes
//! ```
//!
//! Plain SQLite runs the transactions on a temporary file, 64 to a set or one, as a leader coalesces them under load. Pages before and
//! behind each set are compared, the changes encoded, decoded and applied to a copy, which ends byte-identical. A row has a
//! payload of 100 bytes: half of them random, half the same in each row, or all random.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use rusqlite::Connection;
use sqlrep_core::{NodeId, Term};
use sqlrep_env::{Env, Moment};
use sqlrep_store::{
    Change, Checksum, Image, PageCount, PageNumber, PageSize, StoreError, page_hash,
};
use sqlrep_wal_sm::{Head, NewPage, Old, PageSet, PageSource, Tail, apply, encode};
use std::collections::BTreeMap;
use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

type Answer<T> = Result<T, Box<dyn Error>>;

/// What the transactions do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Load {
    /// INSERT at the end of a table.
    Insert,
    /// The same, with an index of 16 random bytes.
    InsertRandomIndex,
    /// UPDATE of the payload of a random row.
    Update,
}

/// How much of it there is.
#[derive(Clone, Copy)]
pub(crate) struct Scale {
    /// Rows in the table before.
    pub(crate) rows: u32,
    pub(crate) sets: u32,
    pub(crate) transactions_per_set: u32,
    /// Random bytes of the 100 of a payload.
    pub(crate) random_bytes: usize,
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    pub(crate) transactions: u32,
    pub(crate) pages: usize,
    pub(crate) set_bytes: usize,
    /// Sets in each encoding.
    pub(crate) encodings: [u32; 3],
    pub(crate) encode: Duration,
    pub(crate) apply: Duration,
}

impl Figures {
    pub(crate) fn bytes_per_transaction(&self) -> f64 {
        ratio(self.set_bytes, self.transactions)
    }

    fn applied_per_second(&self) -> f64 {
        f64::from(self.transactions) / self.apply.as_secs_f64()
    }

    fn encode_us_per_transaction(&self) -> f64 {
        self.encode.as_secs_f64() * 1e6 / f64::from(self.transactions)
    }
}

fn ratio(part: usize, of: u32) -> f64 {
    u32::try_from(part).map_or(f64::INFINITY, f64::from) / f64::from(of)
}

/// A follower's pages and their hashes, as its store has them.
#[derive(Clone, PartialEq)]
struct Follower {
    page_size: PageSize,
    checksum: Checksum,
    pages: Vec<(Image, u64)>,
}

impl Follower {
    fn new(page_size: PageSize) -> Self {
        Self {
            page_size,
            checksum: Checksum::default(),
            pages: Vec::new(),
        }
    }

    fn at(&self, page: PageNumber) -> &(Image, u64) {
        &self.pages[page.get() as usize - 1]
    }

    /// Takes over what a set gave.
    fn install(&mut self, change: Change, checksum: Checksum) {
        let zeros = (Image::new(), 0);
        self.pages.resize(change.count.0 as usize, zeros);
        for (page, image) in change.pages {
            let hash = page_hash(page, &image);
            self.pages[page.get() as usize - 1] = (image, hash);
        }
        self.checksum = checksum;
    }
}

impl PageSource for Follower {
    fn page_size(&self) -> PageSize {
        self.page_size
    }

    fn count(&self) -> PageCount {
        PageCount(u32::try_from(self.pages.len()).expect("SQLite counts pages in 32 bits"))
    }

    fn checksum(&self) -> Checksum {
        self.checksum
    }

    fn image(&self, page: PageNumber) -> Result<Image, StoreError> {
        Ok(self.at(page).0.clone())
    }

    fn hash(&self, page: PageNumber) -> Result<u64, StoreError> {
        Ok(self.at(page).1)
    }
}

/// Plain SQLite, and what its pages were when it was last looked at.
struct Leader {
    /// Removed when the leader is dropped.
    _file: tempfile::TempPath,
    connection: Connection,
    seen: Follower,
    sequence: u64,
}

impl Leader {
    fn new(scale: Scale, load: Load) -> Answer<Self> {
        let file = tempfile::NamedTempFile::new()?.into_temp_path();
        let connection = Connection::open(&file)?;
        connection.execute_batch(
            "PRAGMA page_size = 4096;
             PRAGMA journal_mode = MEMORY;
             PRAGMA synchronous = OFF;
             CREATE TABLE row(id INTEGER PRIMARY KEY, key BLOB, payload BLOB);",
        )?;
        if load == Load::InsertRandomIndex {
            connection.execute_batch("CREATE INDEX row_key ON row(key)")?;
        }
        let leader = Self {
            _file: file,
            connection,
            seen: Follower::new(PageSize::DEFAULT),
            sequence: 0,
        };
        leader.connection.execute_batch("BEGIN")?;
        for _ in 0..scale.rows {
            let load = if load == Load::Update {
                Load::Insert
            } else {
                load
            };
            leader.transaction(load, scale)?;
        }
        leader.connection.execute_batch("COMMIT")?;
        Ok(leader)
    }

    fn transaction(&self, load: Load, scale: Scale) -> Answer<()> {
        let (random, same) = (scale.random_bytes, 100 - scale.random_bytes);
        let payload = format!("CAST(randomblob({random}) || zeroblob({same}) AS BLOB)");
        let sql = match load {
            Load::Insert => format!("INSERT INTO row(payload) VALUES({payload})"),
            Load::InsertRandomIndex => {
                format!("INSERT INTO row(key, payload) VALUES(randomblob(16), {payload})")
            }
            Load::Update => format!(
                "UPDATE row SET payload = {payload} WHERE id = 1 + abs(random() % {})",
                scale.rows
            ),
        };
        self.connection.prepare_cached(&sql)?.execute([])?;
        Ok(())
    }

    /// The pages that changed since the last look, and the head of a set that says so.
    fn look(&mut self) -> Answer<(Head, BTreeMap<PageNumber, NewPage>)> {
        let bytes = self.connection.serialize("main")?;
        let size = self.seen.page_size.bytes() as usize;
        let mut change = Change {
            pages: BTreeMap::new(),
            count: PageCount(u32::try_from(bytes.len() / size)?),
        };
        let mut pages = BTreeMap::new();
        let mut post = self.seen.checksum;
        for (number, new) in (1..).filter_map(PageNumber::new).zip(bytes.chunks(size)) {
            let known = self.seen.count().contains(number);
            let old = known.then(|| self.seen.at(number).clone());
            if old.as_ref().is_some_and(|(image, _)| *image == new) {
                continue;
            }
            let new = Image::copy_from_slice(new);
            post.0 ^= page_hash(number, &new) ^ old.as_ref().map_or(0, |(_, hash)| *hash);
            let old = old.map_or(Old::Zeros, |(image, _)| Old::Image(image));
            change.pages.insert(number, new.clone());
            pages.insert(number, NewPage { old, new });
        }
        let head = self.head(post, change.count);
        self.seen.install(change, post);
        Ok((head, pages))
    }

    fn head(&mut self, post: Checksum, count: PageCount) -> Head {
        let tail = |sequence| Tail {
            term: Term(7),
            node: NodeId::new(1).expect("a small id"),
            epoch: 1,
            sequence,
        };
        self.sequence += 1;
        Head {
            predecessor: Some(tail(self.sequence)),
            tail: tail(self.sequence + 1),
            page_size: self.seen.page_size,
            base: self.seen.checksum,
            post,
            count,
        }
    }
}

/// Runs a load, and applies its sets to a copy of the database that ends as equal as it began.
pub(crate) fn run(load: Load, scale: Scale, env: &Env) -> Answer<Figures> {
    let mut leader = Leader::new(scale, load)?;
    leader.look()?;
    let mut follower = leader.seen.clone();
    let mut figures = Figures::default();
    let mut entries = Vec::new();
    for _ in 0..scale.sets {
        for _ in 0..scale.transactions_per_set {
            leader.transaction(load, scale)?;
        }
        let (head, pages) = leader.look()?;
        let began = env.clock.now();
        let parts = encode(&head, &pages);
        figures.encode += since(env, began);
        figures.pages += pages.len();
        figures.transactions += scale.transactions_per_set;
        for part in &parts {
            figures.encodings[usize::from(part[1])] += 1;
            figures.set_bytes += part.len();
        }
        entries.extend(parts);
    }
    let began = env.clock.now();
    for entry in &entries {
        let set = PageSet::decode(entry)?;
        let change = apply(&set, &follower)?;
        follower.install(change, set.head().post);
    }
    figures.apply = since(env, began);
    if follower == leader.seen {
        Ok(figures)
    } else {
        Err("the copy differs from the leader's database".into())
    }
}

fn since(env: &Env, began: Moment) -> Duration {
    env.clock.now().since(began)
}

fn print_all() -> Answer<()> {
    println!(
        "{:<18} {:>7} {:>7} {:>9} {:>10} {:>22} {:>11} {:>11}",
        "load",
        "random",
        "per set",
        "bytes/tx",
        "pages/set",
        "runs/packed/blocks",
        "encode us",
        "applied/s"
    );
    for load in [Load::Insert, Load::InsertRandomIndex, Load::Update] {
        for (random_bytes, transactions_per_set) in [(50, 64), (100, 64), (50, 1)] {
            let scale = Scale {
                rows: 100_000,
                sets: 200,
                transactions_per_set,
                random_bytes,
            };
            let figures = run(load, scale, &Env::real())?;
            let sets = figures.encodings.map(|sets| sets.to_string()).join("/");
            println!(
                "{:<18} {:>7} {:>7} {:>9.1} {:>10.1} {:>22} {:>11.2} {:>11.0}",
                format!("{load:?}"),
                random_bytes,
                transactions_per_set,
                figures.bytes_per_transaction(),
                ratio(figures.pages, scale.sets),
                sets,
                figures.encode_us_per_transaction(),
                figures.applied_per_second(),
            );
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    match print_all() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{error}");
            ExitCode::FAILURE
        }
    }
}
