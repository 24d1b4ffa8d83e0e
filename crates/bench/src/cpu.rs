//! CPU time of this process.

use std::time::Duration;

/// User and system time of all threads so far; none where the machine doesn't tell.
#[cfg(unix)]
pub(crate) fn used() -> Option<Duration> {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let nanos = u32::try_from(time.tv_nsec).ok()?;
    Some(Duration::new(u64::try_from(time.tv_sec).ok()?, nanos))
}

/// None: this machine isn't asked.
#[cfg(not(unix))]
pub(crate) fn used() -> Option<Duration> {
    None
}
