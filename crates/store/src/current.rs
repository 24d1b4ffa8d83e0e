//! Which generation is live: the file `db/current`, two slots (module `slots`) whose body is the generation's
//! number, 8 bytes little-endian. Recording it is the one atomic step of an install (safety rule 3).

use crate::StoreError;
use crate::slots::{SlotKind, Slots};
use sqlrep_disk::{Disk, OpenMode};

pub(crate) const SLOTS: SlotKind = SlotKind {
    magic: *b"SRCU",
    slot_bytes: 4096,
};
pub(crate) const PATH: &str = "db/current";

/// The file, open.
pub(crate) struct Current(Slots);

impl Current {
    /// Reads which generation is live; none if none ever was.
    pub(crate) fn open(disk: &dyn Disk) -> Result<(Self, Option<u64>), StoreError> {
        let file = disk.open(PATH, OpenMode::Create)?;
        disk.sync_dir("db")?;
        let (slots, body) = Slots::open(SLOTS, file, PATH.to_owned())?;
        let generation = body.map(|body| {
            let number = <[u8; 8]>::try_from(&body[..]).map(u64::from_le_bytes);
            number.map_err(|_| StoreError::Corrupt {
                file: PATH.to_owned(),
                offset: 0,
                what: format!("a generation of {} bytes", body.len()),
            })
        });
        Ok((Self(slots), generation.transpose()?))
    }

    /// Makes `generation` the live one, durably.
    pub(crate) fn switch(&mut self, generation: u64) -> Result<(), StoreError> {
        self.0.record(&generation.to_le_bytes())?;
        Ok(())
    }
}

/// The folder of a generation.
pub(crate) fn folder(generation: u64) -> String {
    format!("db/{generation}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use sqlrep_disk::SimulatedDisk;

    /// The bytes of `docs/formats.md`, "`db/current`".
    #[test]
    fn the_bytes_stay_what_they_are() {
        let disk = SimulatedDisk::new(1);
        disk.create_dir("db").unwrap();
        let (mut current, none) = Current::open(&disk).unwrap();
        assert_eq!(none, None);
        current.switch(3).unwrap();
        let mut expected =
            b"SRCU\x01\0\0\0\x01\0\0\0\0\0\0\0\x08\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0".to_vec();
        expected.extend(0x2423_24c0_7f1b_ed70u64.to_le_bytes());
        let file = disk.read_file("db/current").unwrap();
        assert_eq!(file[..40], expected);
        assert_eq!(file[4096..4096 + 40], expected);
        assert_eq!(Current::open(&disk).unwrap().1, Some(3));
    }
}
