//! The part of the side state that may grow large: shared by all entry ends that have it, encoded only where it is
//! written or sent (safety rules 5 and 29).
//!
//! `main.keys.<index>`, named after the entry whose state it is:
//!
//! | offset | size | field |
//! | ---: | ---: | --- |
//! | 0 | 8 | magic `SRKEYSTB` |
//! | 8 | 1 | format version, 1 |
//! | 9 | 7 | zero |
//! | 16 | n | the table, opaque here |
//!
//! The position record holds the index, the file's length and xxh3 over all of it; without a table it names no file.
//!
//! The crash argument. A file is whole, synced, and so is its name, before the journal that names it is begun; the
//! one that the position names is removed only when the position names another. So whichever of the two positions a
//! restart comes to, its file is there. Every other `main.keys.*` is a leftover, removed by the next checkpoint and the next open.

use crate::StoreError;
use crate::checkpoint::SLICE_BYTES_MAX;
use crate::hashed::HashedFile;
use bytes::{Bytes, BytesMut};
use sqlrep_disk::{Disk, OpenMode};
use std::fmt;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

const MAGIC: [u8; 8] = *b"SRKEYSTB";
const FORMAT: u8 = 1;
const HEAD_BYTES: usize = 16;
/// A step gathers pieces until it has so much: with the last piece it stays within a slice.
const STEP_BYTES: usize = SLICE_BYTES_MAX / 2;
/// What the names of all such files begin with.
const PREFIX: &str = "main.keys.";

/// Pieces of an encoded table, in order.
pub type TableChunks = Box<dyn Iterator<Item = Bytes> + Send>;

/// Encodes a table, the same bytes each time.
pub type EncodeTable = Arc<dyn Fn() -> TableChunks + Send + Sync>;

/// A table that is encoded when somebody asks for its chunks. The default is empty.
#[derive(Clone, Default)]
pub struct Table(Option<EncodeTable>);

impl Table {
    /// A table that `encode` gives; none is the empty one.
    #[must_use]
    pub fn new(encode: Option<EncodeTable>) -> Self {
        Self(encode)
    }

    /// Encoded already.
    #[must_use]
    pub fn of(bytes: Bytes) -> Self {
        if bytes.is_empty() {
            return Self::default();
        }
        Self(Some(Arc::new(move || {
            Box::new(std::iter::once(bytes.clone()))
        })))
    }

    /// What encodes it; none if it is empty.
    #[must_use]
    pub fn encoder(&self) -> Option<&EncodeTable> {
        self.0.as_ref()
    }

    /// Its bytes, piece by piece.
    #[must_use]
    pub fn chunks(&self) -> TableChunks {
        match &self.0 {
            Some(encode) => encode(),
            None => Box::new(std::iter::empty()),
        }
    }

    /// All its bytes.
    #[must_use]
    pub fn bytes(&self) -> Bytes {
        let mut all = BytesMut::new();
        self.chunks().for_each(|chunk| all.extend(chunk));
        all.freeze()
    }

    /// Whether both are known to be equal without encoding them.
    pub(crate) fn is(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Some(one), Some(two)) => Arc::ptr_eq(one, two),
            (None, None) => true,
            _ => false,
        }
    }
}

impl PartialEq for Table {
    fn eq(&self, other: &Self) -> bool {
        self.is(other) || self.bytes() == other.bytes()
    }
}

impl Eq for Table {}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let chunks = if self.0.is_some() { "…" } else { "" };
        write!(f, "Table({chunks})")
    }
}

/// The file of a table, as the position names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TableFile {
    /// Of the entry.
    pub(crate) index: u64,
    pub(crate) bytes: u64,
    /// xxh3 over all of them.
    pub(crate) hash: u64,
}

fn path(folder: &str, index: u64) -> String {
    format!("{folder}/{PREFIX}{index}")
}

/// Writes a table's file from front to back.
pub(crate) struct TableWriter {
    file: HashedFile,
    chunks: TableChunks,
    index: u64,
}

impl TableWriter {
    /// Begins the file of the entry `index`.
    pub(crate) fn begin(
        disk: &dyn Disk,
        folder: &str,
        index: u64,
        table: &Table,
    ) -> Result<Self, StoreError> {
        let file = disk.open(&path(folder, index), OpenMode::New)?;
        let mut writer = Self {
            file: HashedFile::begin(file),
            chunks: table.chunks(),
            index,
        };
        let mut head = [0; HEAD_BYTES];
        head[..8].copy_from_slice(&MAGIC);
        head[8] = FORMAT;
        writer.file.write(&head)?;
        Ok(writer)
    }

    /// Writes a slice and syncs it; answers the file once it is whole. Its name isn't durable yet.
    pub(crate) fn step(&mut self) -> Result<Option<TableFile>, StoreError> {
        let mut slice = Vec::new();
        while slice.len() < STEP_BYTES
            && let Some(chunk) = self.chunks.next()
        {
            slice.extend(chunk);
        }
        self.file.write(&slice)?;
        self.file.sync()?;
        Ok((slice.len() < STEP_BYTES).then(|| TableFile {
            index: self.index,
            bytes: self.file.bytes(),
            hash: self.file.hash(),
        }))
    }
}

/// Writes a table's file as a whole; none for an empty one. Its name isn't durable yet.
pub(crate) fn write(
    disk: &dyn Disk,
    folder: &str,
    index: u64,
    table: &Table,
) -> Result<Option<TableFile>, StoreError> {
    if table.encoder().is_none() {
        return Ok(None);
    }
    let mut writer = TableWriter::begin(disk, folder, index, table)?;
    loop {
        if let Some(file) = writer.step()? {
            return Ok(Some(file));
        }
    }
}

/// Reads the table that a position names.
pub(crate) fn read(
    disk: &dyn Disk,
    folder: &str,
    named: Option<TableFile>,
) -> Result<Table, StoreError> {
    let Some(named) = named else {
        return Ok(Table::default());
    };
    let path = path(folder, named.index);
    let corrupt = |offset: u64, what: String| StoreError::Corrupt {
        file: path.clone(),
        offset,
        what,
    };
    let file = disk.open(&path, OpenMode::Existing)?;
    let found = file.size()?;
    if found != named.bytes {
        let what = format!("it ends there, {} bytes belong to it", named.bytes);
        return Err(corrupt(found, what));
    }
    let length = usize::try_from(found).map_err(|_| corrupt(0, "it is too long".to_owned()))?;
    let mut bytes = vec![0; length];
    file.read_exact_at(0, &mut bytes)?;
    if xxh3_64(&bytes) != named.hash {
        return Err(corrupt(
            0,
            "its hash differs from the position's".to_owned(),
        ));
    }
    let (head, _) = bytes
        .split_first_chunk::<HEAD_BYTES>()
        .filter(|(head, _)| head[..8] == MAGIC)
        .ok_or_else(|| corrupt(0, "it doesn't begin as one".to_owned()))?;
    if head[8] != FORMAT {
        return Err(StoreError::Format {
            file: path.clone(),
            found: head[8],
            known: FORMAT,
        });
    }
    Ok(Table::of(Bytes::from(bytes).slice(HEAD_BYTES..)))
}

/// Removes every such file but the one that the position names.
pub(crate) fn remove_others(
    disk: &dyn Disk,
    folder: &str,
    named: Option<TableFile>,
) -> Result<(), StoreError> {
    let named = named.map(|file| file.index.to_string());
    for name in disk.list(folder)? {
        if let Some(index) = name.strip_prefix(PREFIX)
            && named.as_deref() != Some(index)
        {
            disk.remove(&format!("{folder}/{name}"))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sqlrep_disk::SimulatedDisk;

    fn table(chunks: Vec<Bytes>) -> Table {
        Table::new(Some(Arc::new(move || Box::new(chunks.clone().into_iter()))))
    }

    fn disk() -> SimulatedDisk {
        let disk = SimulatedDisk::new(1);
        disk.create_dir("db").unwrap();
        disk
    }

    #[test]
    fn equal_is_what_encodes_alike() {
        let one = table(vec![Bytes::from_static(b"ab"), Bytes::from_static(b"c")]);
        let two = Table::of(Bytes::from_static(b"abc"));
        assert!(one == two && !one.is(&two) && one.is(&one.clone()));
        assert_eq!(Table::default(), Table::of(Bytes::new()));
        assert_ne!(one, Table::default());
    }

    #[test]
    fn only_the_named_file_stays() {
        let disk = disk();
        let one = Table::of(Bytes::from_static(b"one"));
        let first = write(&disk, "db", 7, &one).unwrap();
        write(&disk, "db", 77, &one).unwrap();
        remove_others(&disk, "db", first).unwrap();
        assert_eq!(disk.list("db").unwrap(), ["main.keys.7"]);
        assert_eq!(read(&disk, "db", first).unwrap(), one);
        remove_others(&disk, "db", None).unwrap();
        assert!(disk.list("db").unwrap().is_empty());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Rule 29: the table is a file of its own, and any change of it is found by the hash in the position.
        #[test]
        fn a_file_comes_back_and_a_flip_is_named(
            sizes in proptest::collection::vec(0usize..700_000, 1..5), at: u64, bits in 1u8..,
        ) {
            let chunks = sizes.iter().map(|size| vec![7; *size].into()).collect();
            let (disk, table) = (disk(), table(chunks));
            let named = write(&disk, "db", 9, &table).unwrap();
            prop_assert_eq!(read(&disk, "db", named).unwrap(), table);
            let size = named.unwrap().bytes;
            disk.flip("db/main.keys.9", at % size, bits);
            let error = read(&disk, "db", named).unwrap_err().to_string();
            prop_assert!(error.contains("main.keys.9"), "{}", error);
        }
    }
}
