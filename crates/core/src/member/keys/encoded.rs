//! Both tables as bytes: a format byte, a head, then the records of the clients' and of the gateways', oldest first.
//!
//! It is encoded piece by piece from a shared clone, so that neither a checkpoint nor a snapshot holds the whole.

use super::{Keys, Record, Table};
use crate::codec::{self, CodecError, FORMAT};
use crate::{EntryId, LogIndex};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// About how long a piece is.
const PIECE_BYTES: usize = 64 << 10;

/// Of both tables, clients' first.
#[derive(Serialize, Deserialize)]
struct Head {
    horizons: [LogIndex; 2],
    records: [u64; 2],
}

#[derive(Serialize, Deserialize)]
struct Row {
    name: Bytes,
    digest: u64,
    at: EntryId,
    reply: Option<Bytes>,
}

/// The pieces of [`Keys`].
struct Pieces {
    keys: Keys,
    /// Whether the head is out.
    begun: bool,
    /// Where the next piece begins: the table, and the age in it.
    next: (usize, u64),
}

impl Keys {
    fn tables(&self) -> [&Table; 2] {
        [&self.clients, &self.gateways]
    }

    /// Whether nothing was ever recorded.
    pub(crate) fn is_empty(&self) -> bool {
        let untouched = |table: &Table| table.len() == 0 && table.horizon() == LogIndex(0);
        self.tables().into_iter().all(untouched)
    }

    /// Its bytes, piece by piece.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = Bytes> + Send + 'static {
        Pieces {
            keys: self.clone(),
            begun: false,
            next: (0, 0),
        }
    }

    /// Reads them back; no bytes are those of empty tables.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        let (head, mut at) = codec::decode_prefix::<Head>(bytes)?;
        let mut tables = head.horizons.map(Table::beyond);
        for (table, records) in tables.iter_mut().zip(head.records) {
            for _ in 0..records {
                at += read_row(table, &bytes[at..])?;
            }
        }
        let [clients, gateways] = tables;
        match bytes.len() - at {
            0 => Ok(Self { clients, gateways }),
            left => Err(CodecError::Trailing(left)),
        }
    }
}

/// Adds the next record to `table`; answers its length.
fn read_row(table: &mut Table, bytes: &[u8]) -> Result<usize, CodecError> {
    let (row, read) = codec::read::<Row>(bytes)?;
    if table.get(&row.name).is_some() {
        let what = "an idempotency key is recorded twice";
        return Err(CodecError::Meaning(what.to_owned()));
    }
    let record = Record {
        digest: row.digest,
        at: row.at,
        reply: row.reply,
    };
    table.insert(row.name, record);
    Ok(read)
}

impl Iterator for Pieces {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let mut piece = Vec::with_capacity(PIECE_BYTES + (2 << 10));
        let tables = self.keys.tables();
        if !std::mem::replace(&mut self.begun, true) {
            piece.push(FORMAT);
            let head = Head {
                horizons: tables.map(Table::horizon),
                records: tables.map(|table| table.len() as u64),
            };
            codec::append(&mut piece, &head);
        }
        while piece.len() < PIECE_BYTES
            && let Some(table) = tables.get(self.next.0)
        {
            match table.oldest_from(self.next.1) {
                None => self.next = (self.next.0 + 1, 0),
                Some((behind, name, record)) => {
                    self.next.1 = behind;
                    let row = Row {
                        name: name.clone(),
                        digest: record.digest,
                        at: record.at,
                        reply: record.reply.clone(),
                    };
                    codec::append(&mut piece, &row);
                }
            }
        }
        (!piece.is_empty()).then(|| piece.into())
    }
}
