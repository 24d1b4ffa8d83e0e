//! Images of changed pages on their way to a commit: in memory while the connection has room, else in a scratch file.
//!
//! An image stays where it was put first; one in the file is checked against its hash when it comes back. A failure of
//! the file is this node's, never an answer (safety rule 36).

use crate::room::Room;
use sqlrep_store::{Image, PageNumber, ScratchFile, Store, StoreError, page_hash};
use std::sync::Arc;

/// An image that [`Images`] keeps; given back by [`Images::release`].
#[derive(Debug)]
pub(crate) enum Kept {
    Memory(Image),
    File { slot: u32, hash: u64 },
}

/// The images of one writer's layers.
///
/// Invariants: 1. Each slot below `slots` is in `free` or belongs to one [`Kept`]. 2. Without such a one there is no file.
pub(crate) struct Images {
    store: Arc<Store>,
    room: Arc<Room>,
    file: Option<ScratchFile>,
    slots: u32,
    free: Vec<u32>,
}

impl Images {
    pub(crate) fn new(store: Arc<Store>, room: Arc<Room>) -> Self {
        Self {
            store,
            room,
            file: None,
            slots: 0,
            free: Vec::new(),
        }
    }

    fn page_bytes(&self) -> u64 {
        u64::from(self.store.page_size().bytes())
    }

    /// Keeps one more.
    pub(crate) fn keep(&mut self, page: PageNumber, image: Image) -> Result<Kept, StoreError> {
        if self.room.take(self.page_bytes()) {
            return Ok(Kept::Memory(image));
        }
        if self.file.is_none() {
            self.file = Some(self.store.scratch_file()?);
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots += 1;
            self.slots - 1
        });
        let hash = page_hash(page, &image);
        let kept = Kept::File { slot, hash };
        match self.write(slot, &image) {
            Ok(()) => Ok(kept),
            Err(error) => {
                self.release(kept);
                Err(error)
            }
        }
    }

    /// Puts a newer image of the page in its place.
    pub(crate) fn replace(
        &self,
        page: PageNumber,
        kept: &mut Kept,
        image: Image,
    ) -> Result<(), StoreError> {
        match kept {
            Kept::Memory(old) => *old = image,
            Kept::File { slot, hash } => {
                self.write(*slot, &image)?;
                *hash = page_hash(page, &image);
            }
        }
        Ok(())
    }

    fn file(&self) -> &ScratchFile {
        self.file.as_ref().expect("a slot is in a file")
    }

    fn write(&self, slot: u32, image: &Image) -> Result<(), StoreError> {
        self.file()
            .write(u64::from(slot) * self.page_bytes(), image)?;
        self.room.note_scratch(image.len());
        Ok(())
    }

    pub(crate) fn image(&self, page: PageNumber, kept: &Kept) -> Result<Image, StoreError> {
        match kept {
            Kept::Memory(image) => Ok(image.clone()),
            Kept::File { slot, hash } => self.read(page, *slot, *hash),
        }
    }

    fn read(&self, page: PageNumber, slot: u32, hash: u64) -> Result<Image, StoreError> {
        let (offset, file) = (u64::from(slot) * self.page_bytes(), self.file());
        let mut image = vec![0; self.store.page_size().bytes() as usize];
        file.read(offset, &mut image)?;
        if page_hash(page, &image) == hash {
            return Ok(image.into());
        }
        Err(StoreError::Corrupt {
            file: file.path().to_owned(),
            offset,
            what: format!("the image of page {page} has another hash"),
        })
    }

    pub(crate) fn release(&mut self, kept: Kept) {
        match kept {
            Kept::Memory(_) => self.room.give_back(self.page_bytes()),
            Kept::File { slot, .. } => self.free.push(slot),
        }
        if self.free.len() == self.slots as usize {
            (self.file, self.slots) = (None, 0);
            self.free = Vec::new();
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use sqlrep_disk::{Fault, Operation, SimulatedDisk};
    use sqlrep_store::{Options, PageSize};

    /// Images of 512 bytes on `disk`, with room for `memory` of them.
    pub(crate) fn images(disk: &SimulatedDisk, memory: u64) -> (Images, Arc<Room>) {
        let store = Store::open(Options {
            page_size: PageSize::new(512),
            ..Options::new(Arc::new(disk.clone()))
        });
        let room = Arc::new(Room::new(memory * 512));
        (Images::new(store.unwrap(), room.clone()), room)
    }

    fn page(number: u32) -> PageNumber {
        PageNumber::new(number).unwrap()
    }

    fn image(byte: u8) -> Image {
        Image::from(vec![byte; 512])
    }

    #[test]
    fn images_come_back_from_where_they_are_and_room_is_given_back() {
        let disk = SimulatedDisk::new(1);
        let (mut images, room) = images(&disk, 1);
        let kept = [1, 2, 3].map(|number: u32| {
            let byte = u8::try_from(number).unwrap();
            images.keep(page(number), image(byte)).unwrap()
        });
        let [first, mut second, third] = kept;
        assert!(matches!(
            (&first, &second),
            (Kept::Memory(_), Kept::File { slot: 0, .. })
        ));
        images.replace(page(2), &mut second, image(9)).unwrap();
        assert_eq!(images.image(page(1), &first).unwrap(), image(1));
        assert_eq!(images.image(page(2), &second).unwrap(), image(9));
        assert_eq!(images.image(page(3), &third).unwrap(), image(3));
        assert_eq!(room.bytes().memory, 512);

        images.release(second);
        let again = images.keep(page(4), image(4)).unwrap();
        assert!(matches!(again, Kept::File { slot: 0, .. }));
        for kept in [first, third, again] {
            images.release(kept);
        }
        assert_eq!(room.bytes().memory, 0);
        let left = disk.list_all();
        assert!(
            !left.iter().any(|path| path.contains("scratch")),
            "{left:?}"
        );
    }

    /// Rule 36: what the scratch file lost or refused is an error, not an image.
    #[test]
    fn a_file_that_fails_is_an_error_and_keeps_nothing() {
        let disk = SimulatedDisk::new(2);
        let (mut images, _) = images(&disk, 0);
        disk.inject(Fault::full(1).only(Operation::Write).under("tmp"));
        assert!(images.keep(page(1), image(1)).is_err());
        let kept = images.keep(page(1), image(1)).unwrap();
        let path = images.file().path().to_owned();
        disk.flip(&path, 77, 1);
        let rotten = images.image(page(1), &kept);
        assert!(
            matches!(rotten, Err(StoreError::Corrupt { .. })),
            "{rotten:?}"
        );
        images.release(kept);
        assert_eq!(disk.read_file(&path), None);
    }
}
