//! The mistake that the simulated disk is there to find: a file is replaced, but its folder isn't synced.
//!
//! `cargo run -p sqlrep-disk --example power_loss`

use sqlrep_disk::{Disk, DiskError, Loss, OpenMode, SimulatedDisk};

/// Replaces `config` by a synced file; whoever wants to rely on it has to sync the folder too.
fn replace_config(disk: &dyn Disk, bytes: &[u8]) -> Result<(), DiskError> {
    let file = disk.open("config.new", OpenMode::New)?;
    file.write_at(0, bytes)?;
    file.sync()?;
    disk.rename("config.new", "config")
}

/// Loses power 20 times after the rename and returns what `config` held each time.
///
/// # Errors
///
/// None without faults; a real disk would have some.
pub fn power_losses(sync_the_folder: bool) -> Result<Vec<String>, DiskError> {
    let disk = SimulatedDisk::new(1);
    disk.write_file("config", b"old");
    replace_config(&disk, b"new")?;
    if sync_the_folder {
        disk.sync_dir("")?;
    }
    let found = (0..20).map(|seed| {
        let after = disk.crash(Loss::Random { seed });
        let bytes = after.read_file("config").unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    });
    Ok(found.collect())
}

#[allow(clippy::print_stdout, reason = "an example shows its result")]
fn main() -> Result<(), DiskError> {
    println!("without a sync of the folder: {:?}", power_losses(false)?);
    println!("with one:                     {:?}", power_losses(true)?);
    Ok(())
}
