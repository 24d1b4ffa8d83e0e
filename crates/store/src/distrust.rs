//! A mark on a generation that mustn't be used: its pages are whole, and still not what the other replicas have.
//!
//! The file `db/<generation>/distrusted` holds the reason as text. Invariant 1: that the file is there counts, not
//! what it says; so a torn write of it is none. Invariant 2: it belongs to one generation, and the switch to another
//! one (safety rule 3) leaves it behind in the same atomic step.

use crate::StoreError;
use sqlrep_disk::{Disk, DiskError, OpenMode};

/// A longer reason is cut.
const REASON_BYTES_MAX: usize = 1024;

fn path(folder: &str) -> String {
    format!("{folder}/distrusted")
}

/// Marks the generation durably.
pub(crate) fn mark(disk: &dyn Disk, folder: &str, why: &str) -> Result<(), StoreError> {
    let file = disk.open(&path(folder), OpenMode::Create)?;
    let why = &why[..why.floor_char_boundary(REASON_BYTES_MAX)];
    file.set_len(0)?;
    file.write_at(0, why.as_bytes())?;
    file.sync()?;
    Ok(disk.sync_dir(folder)?)
}

/// Why the generation is marked; none if it isn't.
pub(crate) fn marked(disk: &dyn Disk, folder: &str) -> Result<Option<String>, StoreError> {
    let file = match disk.open(&path(folder), OpenMode::Existing) {
        Err(DiskError::NotFound { .. }) => return Ok(None),
        file => file?,
    };
    let mut bytes = vec![0; REASON_BYTES_MAX];
    let read = file.read_at(0, &mut bytes)?;
    bytes.truncate(read);
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sqlrep_disk::{Loss, SimulatedDisk};

    #[test]
    fn a_mark_that_was_made_survives_a_power_loss_and_one_that_was_not_is_none() {
        for seed in 0..50 {
            let disk = SimulatedDisk::new(seed);
            disk.create_dir("db").unwrap();
            disk.sync_dir("").unwrap();
            mark(&disk, "db", "page 7 differs").unwrap();
            let disk = disk.crash(Loss::Random { seed });
            assert_eq!(
                marked(&disk, "db").unwrap().as_deref(),
                Some("page 7 differs")
            );
        }
        let disk = SimulatedDisk::new(1);
        disk.create_dir("db").unwrap();
        assert_eq!(marked(&disk, "db").unwrap(), None);
    }

    #[test]
    fn a_long_reason_is_cut_between_letters_and_a_second_one_replaces_it() {
        let disk = SimulatedDisk::new(1);
        disk.create_dir("db").unwrap();
        mark(&disk, "db", &"ä".repeat(REASON_BYTES_MAX)).unwrap();
        let kept = marked(&disk, "db").unwrap().unwrap();
        assert_eq!(kept, "ä".repeat(REASON_BYTES_MAX / 2));
        mark(&disk, "db", "b").unwrap();
        assert_eq!(marked(&disk, "db").unwrap().as_deref(), Some("b"));
    }
}
