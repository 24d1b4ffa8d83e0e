//! One slice of time under load.

use crate::{BenchError, cpu};
use sqlrep_env::Clock;
use std::time::Duration;

/// What a slice gave.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slice {
    pub(crate) operations: f64,
    pub(crate) took: Duration,
    /// How long an operation took.
    pub(crate) times: Times,
    /// CPU time of this process.
    pub(crate) cpu: Option<Duration>,
}

impl Slice {
    pub(crate) fn per_second(&self) -> f64 {
        self.operations / self.took.as_secs_f64()
    }

    pub(crate) fn p50_us(&self) -> f64 {
        micros(self.times.p50)
    }

    /// CPU microseconds of this process for each operation.
    pub(crate) fn cpu_us(&self) -> Option<f64> {
        self.cpu.map(|cpu| micros(cpu) / self.operations)
    }
}

pub(crate) fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// How long operations took; zeros without any.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Times {
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    pub(crate) max: Duration,
}

impl Times {
    pub(crate) fn of(times: &mut [Duration]) -> Self {
        times.sort_unstable();
        let at = |per_cent: usize| times.get(times.len() * per_cent / 100);
        Self {
            p50: at(50).copied().unwrap_or_default(),
            p99: at(99).copied().unwrap_or_default(),
            max: times.last().copied().unwrap_or_default(),
        }
    }
}

/// Runs `operations`, which tells how many it did, until the slice is over.
pub(crate) fn measure(
    clock: &dyn Clock,
    slice: Duration,
    mut operations: impl FnMut() -> Result<u32, BenchError>,
) -> Result<Slice, BenchError> {
    let (began, cpu_before) = (clock.now(), cpu::used());
    let (mut count, mut times, mut before) = (0.0, Vec::new(), began);
    let took = loop {
        let done = operations()?;
        let now = clock.now();
        count += f64::from(done);
        times.push(now.since(before) / done);
        before = now;
        let took = now.since(began);
        if took >= slice {
            break took;
        }
    };
    let cpu = cpu::used().zip(cpu_before);
    Ok(Slice {
        operations: count,
        took,
        times: Times::of(&mut times),
        cpu: cpu.map(|(after, before)| after.saturating_sub(before)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use sqlrep_env::SystemClock;

    #[test]
    fn a_slice_counts_what_was_done_and_how_long_one_took() {
        let clock = SystemClock::start();
        let mut calls = 0.0;
        let slice = measure(&clock, Duration::from_millis(5), || {
            calls += 1.0;
            let until = clock.now().after(Duration::from_micros(100));
            while clock.now() < until {}
            Ok(2)
        });
        let slice = slice.unwrap();
        assert_eq!(slice.operations, 2.0 * calls);
        assert!(slice.took >= Duration::from_millis(5));
        assert!(slice.times.p50 >= Duration::from_micros(50), "{slice:?}");
    }

    #[test]
    fn the_middle_is_the_middle_and_one_of_a_hundred_is_above_p99() {
        let mut times: Vec<Duration> = (1..=200).rev().map(Duration::from_millis).collect();
        let of = Times::of(&mut times);
        assert_eq!(of.p50, Duration::from_millis(101));
        assert_eq!(of.p99, Duration::from_millis(199));
        assert_eq!(of.max, Duration::from_millis(200));
        let mut odd = [5, 1, 3].map(Duration::from_millis);
        assert_eq!(Times::of(&mut odd).p50, Duration::from_millis(3));
        assert_eq!(Times::of(&mut []).max, Duration::ZERO);
    }
}
