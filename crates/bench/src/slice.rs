//! One slice of time under load.

use crate::{BenchError, cpu};
use sqlrep_env::Clock;
use std::time::Duration;

/// One slice: operations per second, and CPU microseconds of the process for each.
#[derive(Clone, Copy)]
pub(crate) struct Slice {
    pub(crate) per_second: f64,
    pub(crate) cpu_us: Option<f64>,
}

/// Runs `operations`, which tells how many it did, until the slice is over.
pub(crate) fn measure(
    clock: &dyn Clock,
    slice: Duration,
    mut operations: impl FnMut() -> Result<u32, BenchError>,
) -> Result<Slice, BenchError> {
    let (began, cpu_before) = (clock.now(), cpu::used());
    let mut count = 0.0;
    let took = loop {
        count += f64::from(operations()?);
        let took = clock.now().since(began);
        if took >= slice {
            break took;
        }
    };
    let used = cpu::used().zip(cpu_before);
    Ok(Slice {
        per_second: count / took.as_secs_f64(),
        cpu_us: used.map(|(after, before)| (after - before).as_secs_f64() * 1e6 / count),
    })
}
