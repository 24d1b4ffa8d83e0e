//! Memory of processes, as the machine accounts for it.

/// Bytes of memory that a process has now (its resident set); none where the machine doesn't tell or the process is gone.
#[cfg(target_os = "linux")]
pub(crate) fn resident_of(process: u32) -> Option<u64> {
    line(
        &std::fs::read_to_string(format!("/proc/{process}/status")).ok()?,
        "VmRSS:",
    )
}

/// None: this machine isn't asked.
#[cfg(not(target_os = "linux"))]
pub(crate) fn resident_of(_process: u32) -> Option<u64> {
    None
}

/// The most that it ever had.
#[cfg(target_os = "linux")]
pub(crate) fn most_resident_of(process: u32) -> Option<u64> {
    line(
        &std::fs::read_to_string(format!("/proc/{process}/status")).ok()?,
        "VmHWM:",
    )
}

/// None: this machine isn't asked.
#[cfg(not(target_os = "linux"))]
pub(crate) fn most_resident_of(_process: u32) -> Option<u64> {
    None
}

/// A line such as `VmRSS:  1234 kB`.
#[cfg(target_os = "linux")]
fn line(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn memory_that_is_touched_is_seen() {
        let own = std::process::id();
        let before = resident_of(own).unwrap();
        let touched = vec![7_u8; 64 << 20];
        let after = resident_of(own).unwrap();
        assert!(
            after >= before + (32 << 20),
            "{before} {after} {}",
            touched[9]
        );
        assert!(most_resident_of(own).unwrap() >= after);
        assert_eq!(resident_of(u32::MAX), None);
        assert_eq!(line("VmRSS: x kB", "VmRSS:"), None);
    }
}
