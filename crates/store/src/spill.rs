//! Page images that memory has no room for: a scratch file in `tmp/`, never synced, emptied at start.
//!
//! An image is read back by its offset and checked against the hash that stayed in memory. Space is not
//! reused one by one: when the last image is gone the file begins anew, and a checkpoint gives its space back.

use crate::{Image, PageNumber, PageSize, StoreError, page_hash};
use sqlrep_disk::{Disk, DiskError, File, OpenMode};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Where an image lies in the spill file, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SpillOffset(u64);

/// Invariant: images lie below `end`; at `live == 0` nothing below `end` is needed.
struct State {
    end: u64,
    live: u64,
}

/// A spill file.
pub(crate) struct Spill {
    file: Arc<dyn File>,
    path: String,
    page_size: PageSize,
    bytes_max: u64,
    state: Mutex<State>,
}

impl Spill {
    pub(crate) fn create(
        disk: &dyn Disk,
        path: String,
        page_size: PageSize,
        bytes_max: u64,
    ) -> Result<Self, StoreError> {
        let file = disk.open(&path, OpenMode::Create)?;
        file.set_len(0)?;
        let state = Mutex::new(State { end: 0, live: 0 });
        Ok(Self {
            file,
            path,
            page_size,
            bytes_max,
            state,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps an image; none if the limit is reached or the disk is full.
    pub(crate) fn keep(&self, image: &[u8]) -> Result<Option<SpillOffset>, StoreError> {
        let mut state = self.state();
        let offset = if state.live == 0 { 0 } else { state.end };
        let end = offset + u64::from(self.page_size.bytes());
        if end > self.bytes_max {
            return Ok(None);
        }
        match self.file.write_at(offset, image) {
            Ok(()) => {}
            Err(DiskError::Full { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        *state = State {
            end,
            live: state.live + 1,
        };
        Ok(Some(SpillOffset(offset)))
    }

    /// Reads an image back.
    pub(crate) fn read(
        &self,
        at: SpillOffset,
        page: PageNumber,
        hash: u64,
    ) -> Result<Image, StoreError> {
        let mut image = vec![0; self.page_size.bytes() as usize];
        self.file.read_exact_at(at.0, &mut image)?;
        if page_hash(page, &image) == hash {
            Ok(image.into())
        } else {
            let what = format!("the image of page {page} has another hash");
            Err(StoreError::Corrupt {
                file: self.path.clone(),
                offset: at.0,
                what,
            })
        }
    }

    /// An image isn't needed any more.
    pub(crate) fn release(&self, _at: SpillOffset) {
        let mut state = self.state();
        assert!(state.live > 0, "an image was released twice");
        state.live -= 1;
    }

    /// Gives the file's space back if no image is left in it.
    pub(crate) fn give_back(&self) -> Result<(), StoreError> {
        let mut state = self.state();
        if state.live == 0 && state.end > 0 {
            self.file.set_len(0)?;
            state.end = 0;
        }
        Ok(())
    }

    /// Bytes in use.
    pub(crate) fn bytes(&self) -> u64 {
        let state = self.state();
        if state.live == 0 { 0 } else { state.end }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sqlrep_disk::SimulatedDisk;

    #[test]
    fn images_come_back_room_ends_and_begins_anew() {
        let disk = SimulatedDisk::new(1);
        let size = PageSize::new(512).unwrap();
        let spill = Spill::create(&disk, "spill".to_owned(), size, 1024).unwrap();
        let page = PageNumber::new(9).unwrap();
        let image = |byte: u8| vec![byte; 512];
        let first = spill.keep(&image(1)).unwrap().unwrap();
        let second = spill.keep(&image(2)).unwrap().unwrap();
        assert_eq!(spill.keep(&image(3)).unwrap(), None);
        let hash = page_hash(page, &image(2));
        assert_eq!(spill.read(second, page, hash).unwrap(), image(2));
        disk.flip("spill", 600, 1);
        assert!(matches!(
            spill.read(second, page, hash),
            Err(StoreError::Corrupt { .. })
        ));
        spill.release(first);
        spill.give_back().unwrap();
        assert_eq!(spill.file.size().unwrap(), 1024, "an image is left");
        spill.release(second);
        assert_eq!(spill.bytes(), 0);
        spill.give_back().unwrap();
        assert_eq!(spill.file.size().unwrap(), 0);
        assert_eq!(spill.keep(&image(4)).unwrap(), Some(SpillOffset(0)));
    }
}
