//! CPU time of processes, as the machine accounts for it.

use std::time::Duration;

/// User and system time of all threads of this process so far; none where the machine doesn't tell.
#[cfg(unix)]
pub(crate) fn used() -> Option<Duration> {
    clock(rustix::time::ClockId::ProcessCPUTime)
}

/// That of the thread that asks.
#[cfg(unix)]
pub(crate) fn used_by_thread() -> Option<Duration> {
    clock(rustix::time::ClockId::ThreadCPUTime)
}

#[cfg(unix)]
fn clock(which: rustix::time::ClockId) -> Option<Duration> {
    let time = rustix::time::clock_gettime(which);
    let nanos = u32::try_from(time.tv_nsec).ok()?;
    Some(Duration::new(u64::try_from(time.tv_sec).ok()?, nanos))
}

/// None: this machine isn't asked.
#[cfg(not(unix))]
pub(crate) fn used() -> Option<Duration> {
    None
}

/// None: this machine isn't asked.
#[cfg(not(unix))]
pub(crate) fn used_by_thread() -> Option<Duration> {
    None
}

/// The same of another process, in steps of 10 ms; none where the machine doesn't tell or the process is gone.
#[cfg(target_os = "linux")]
pub(crate) fn used_by(process: u32) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let ticks = ticks(&stat)?;
    let per_second = rustix::param::clock_ticks_per_second();
    Some(Duration::from_nanos(
        ticks.checked_mul(1_000_000_000 / per_second)?,
    ))
}

/// None: this machine isn't asked.
#[cfg(not(target_os = "linux"))]
pub(crate) fn used_by(_process: u32) -> Option<Duration> {
    None
}

/// utime and stime of a `stat` line. The name in front may hold anything, so fields count from its last bracket.
#[cfg(target_os = "linux")]
fn ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_ascii_whitespace().skip(11);
    let mut next = || times.next()?.parse::<u64>().ok();
    next()?.checked_add(next()?)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn both_times_count_and_a_name_may_have_brackets() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 0 0 0 150 25 0 0 20 0 9 0 1 1 1";
        assert_eq!(ticks(stat), Some(175));
        assert_eq!(ticks("7 (a"), None);
        assert_eq!(ticks("7 (a) S 1"), None);
    }

    #[test]
    fn this_process_is_seen_alike_from_both_sides() {
        let before = used().unwrap();
        while used().unwrap() - before < Duration::from_millis(50) {}
        let (outside, inside) = (used_by(std::process::id()).unwrap(), used().unwrap());
        assert!(outside <= inside + Duration::from_millis(20));
        assert!(outside + Duration::from_millis(40) >= before);
        assert_eq!(used_by(u32::MAX), None);
    }
}
