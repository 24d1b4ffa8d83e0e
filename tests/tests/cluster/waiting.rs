//! Waiting with a condition and a deadline; nothing sleeps for a fixed time and hopes.

use sqlrep_env::{Clock, Moment, SystemClock};
use std::sync::OnceLock;
use std::time::Duration;

/// How long anything that should happen may take on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// How long to pause between two looks at a condition.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

fn now() -> Moment {
    static CLOCK: OnceLock<SystemClock> = OnceLock::new();
    CLOCK.get_or_init(SystemClock::start).now()
}

/// Looks at a condition until it gives a value, and panics with what it was about at the deadline.
pub(crate) fn until<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    until_within(LIMIT, what, look)
}

/// The same for what takes its time on any machine.
pub(crate) fn until_within<T>(
    limit: Duration,
    what: &str,
    mut look: impl FnMut() -> Option<T>,
) -> T {
    let deadline = now().after(limit);
    loop {
        if let Some(value) = look() {
            return value;
        }
        assert!(now() < deadline, "after {limit:?} still not: {what}");
        pause();
    }
}

/// Leaves the processor to what is waited for.
pub(crate) fn pause() {
    std::thread::park_timeout(LOOK_AGAIN);
}
