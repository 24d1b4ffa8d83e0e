//! Segment files: their names, their header, and how one comes into being.
//!
//! `log/NNNNNNNNNNNNNNNN.seg`, numbered from 1 in hexadecimal without a hole. A file gets that name only when it is
//! whole: zeros written, header written, synced (fsync rules 2 and 3).
//!
//! | offset | size | field, little-endian |
//! | ---: | ---: | --- |
//! | 0 | 8 | `sqlrplog` |
//! | 8 | 1 | format version, 1 |
//! | 9 | 7 | zero |
//! | 16 | 8 | node id |
//! | 24 | 8 | directory id |
//! | 32 | 8 | number of the segment |
//! | 40 | 8 | bytes that the file was made with; it may grow and never gets shorter |
//! | 48 | 460 | zero |
//! | 508 | 4 | crc32 over everything before |
//! | 512 | | frames, then zeros |

use crate::{LogError, LogIdentity};
use sqlrep_disk::{Disk, DiskError, File, OpenMode};
use std::sync::Arc;

/// The folder of the log.
pub(crate) const FOLDER: &str = "log";
/// Where the first frame stands: no sector holds frames and header.
pub(crate) const HEADER_BYTES: u64 = 512;
const MAGIC: [u8; 8] = *b"sqlrplog";
const FORMAT: u8 = 1;
/// Zeros are written and synced in pieces, so that the log's own syncs get between them.
const PIECE_BYTES: u64 = 1 << 20;

/// Path of a segment.
pub(crate) fn path(number: u64) -> String {
    format!("{FOLDER}/{number:016x}.seg")
}

fn unfinished_path(number: u64) -> String {
    format!("{FOLDER}/{number:016x}.tmp")
}

/// What a name in the log's folder stands for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Name {
    Segment(u64),
    Unfinished,
    Other,
}

pub(crate) fn name(name: &str) -> Name {
    if name.ends_with(".tmp") {
        return Name::Unfinished;
    }
    let number = name.strip_suffix(".seg").filter(|hex| hex.len() == 16);
    match number.and_then(|hex| u64::from_str_radix(hex, 16).ok()) {
        Some(number) if path(number).ends_with(name) => Name::Segment(number),
        _ => Name::Other,
    }
}

fn header(identity: LogIdentity, number: u64, bytes: u64) -> Vec<u8> {
    let mut out = Vec::from(MAGIC);
    out.extend([FORMAT, 0, 0, 0, 0, 0, 0, 0]);
    out.extend(identity.node.get().to_le_bytes());
    out.extend(identity.directory.0.to_le_bytes());
    out.extend(number.to_le_bytes());
    out.extend(bytes.to_le_bytes());
    out.resize(508, 0);
    let crc = crc32fast::hash(&out);
    out.extend(crc.to_le_bytes());
    out
}

/// Refuses a segment whose first bytes aren't its header, or that ends before what it was made with: a file that was cut
/// would look like one whose end was never written.
pub(crate) fn check_header(
    bytes: &[u8],
    identity: LogIdentity,
    number: u64,
) -> Result<(), LogError> {
    let file = path(number);
    let corrupt = |what: &str| LogError::Corrupt {
        file: path(number),
        offset: 0,
        what: what.to_owned(),
    };
    let size = bytes.len() as u64;
    let head: &[u8; 512] = bytes
        .first_chunk()
        .ok_or_else(|| corrupt("the header is cut short"))?;
    let long = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().expect("8 bytes"));
    let made = long(40);
    if head[..] == header(identity, number, made) {
        if made <= size {
            return Ok(());
        }
        let (offset, what) = (size, format!("it ends there, {made} bytes belong to it"));
        return Err(LogError::Corrupt { file, offset, what });
    }
    if head[508..] != crc32fast::hash(&head[..508]).to_le_bytes() || head[..8] != MAGIC {
        return Err(corrupt("the header's checksum differs"));
    }
    if head[8] != FORMAT {
        let (found, known) = (head[8], FORMAT);
        return Err(LogError::Format { file, found, known });
    }
    let is = |node: u64, directory: u64, number: u64| {
        format!("node {node}, directory {directory:016x}, segment {number}")
    };
    Err(LogError::Foreign {
        file,
        found: is(long(16), long(24), long(32)),
        expected: is(identity.node.get(), identity.directory.0, number),
    })
}

/// Makes a segment of `bytes` bytes, durably, its name too.
pub(crate) fn create(
    disk: &dyn Disk,
    identity: LogIdentity,
    number: u64,
    bytes: u64,
) -> Result<Arc<dyn File>, DiskError> {
    let unfinished = unfinished_path(number);
    let file = disk.open(&unfinished, OpenMode::Create)?;
    let made = fill(&*file, 0, bytes).and_then(|()| {
        file.write_at(0, &header(identity, number, bytes))?;
        file.sync()
    });
    if let Err(error) = made {
        drop(file);
        if matches!(error, DiskError::Full { .. }) {
            disk.remove(&unfinished)?;
        }
        return Err(error);
    }
    disk.rename(&unfinished, &path(number))?;
    disk.sync_dir(FOLDER)?;
    Ok(file)
}

/// Writes zeros behind the end up to `bytes`, durably.
pub(crate) fn fill(file: &dyn File, from: u64, bytes: u64) -> Result<(), DiskError> {
    let mut end = from;
    while end < bytes {
        end = bytes.min(end + PIECE_BYTES);
        file.preallocate(end)?;
        file.sync()?;
    }
    Ok(())
}

/// Makes the name of an unused segment durable again: the process before may have died of a failed sync of the
/// folder, after which another sync promises nothing about that name.
pub(crate) fn rename_again(disk: &dyn Disk, number: u64) -> Result<(), DiskError> {
    disk.rename(&path(number), &unfinished_path(number))?;
    disk.rename(&unfinished_path(number), &path(number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sqlrep_core::{DirectoryId, NodeId};

    fn identity(node: u64) -> LogIdentity {
        LogIdentity {
            node: NodeId::new(node).unwrap(),
            directory: DirectoryId(7),
        }
    }

    /// The bytes of `docs/formats.md`, "Head of a segment".
    #[test]
    fn the_bytes_stay_what_they_are() {
        let bytes = header(identity(3), 4, 4096);
        let fields = b"sqlrplog\x01\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\x07\0\0\0\0\0\0\0\x04\0\0\0\0\0\0\0\0\x10\0\0\0\0\0\0";
        assert_eq!(bytes[..48], *fields);
        assert_eq!(bytes[48..508], [0; 460]);
        assert_eq!(bytes[508..], *b"\xd3\x70\xf1\x4b");
        assert_eq!(path(255), "log/00000000000000ff.seg");
    }

    #[test]
    fn names_are_recognized() {
        assert_eq!(name("0000000000000001.seg"), Name::Segment(1));
        assert_eq!(name("00000000000000ff.seg"), Name::Segment(255));
        assert_eq!(name("00000000000000FF.seg"), Name::Other);
        assert_eq!(name("1.seg"), Name::Other);
        assert_eq!(name("vote"), Name::Other);
        assert_eq!(name("0000000000000001.tmp"), Name::Unfinished);
    }

    /// Rule 13: what a power loss leaves behind is as long as it was made; a shorter file was cut, and is no torn tail.
    #[test]
    fn a_segment_that_was_cut_is_damaged() {
        let mut bytes = header(identity(1), 4, 2048);
        bytes.resize(2048, 0);
        assert!(check_header(&bytes, identity(1), 4).is_ok());
        bytes.resize(4096, 0);
        assert!(check_header(&bytes, identity(1), 4).is_ok(), "it grew");
        let error = check_header(&bytes[..2047], identity(1), 4).unwrap_err();
        let cut = matches!(error, LogError::Corrupt { offset: 2047, .. });
        assert!(cut, "{error}");
    }

    #[test]
    fn a_header_of_another_node_format_or_with_a_flip_is_told_apart() {
        let good = header(identity(1), 4, 512);
        assert!(check_header(&good, identity(1), 4).is_ok());
        let foreign = check_header(&good, identity(2), 4).unwrap_err();
        assert!(matches!(foreign, LogError::Foreign { .. }), "{foreign}");
        let mut other = good.clone();
        other[8] = 9;
        let crc = crc32fast::hash(&other[..508]);
        other[508..].copy_from_slice(&crc.to_le_bytes());
        let error = check_header(&other, identity(1), 4).unwrap_err();
        assert!(
            matches!(error, LogError::Format { found: 9, .. }),
            "{error}"
        );
        for at in 0..512 {
            let mut bad = good.clone();
            bad[at] ^= 4;
            let error = check_header(&bad, identity(1), 4).unwrap_err();
            assert!(matches!(error, LogError::Corrupt { .. }), "{at}: {error}");
        }
    }
}
