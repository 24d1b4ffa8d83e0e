//! Loads and measures parts of sqlrep, each next to a raw probe of the same machine, since disks differ by a factor of
//! thousand and by the minute.
//!
//! It doesn't judge: it prints medians, ranges and what it left out.
#![forbid(unsafe_code)]

mod cpu;
mod error;
pub mod log;
mod raw;
mod report;
mod slice;
pub mod store;

pub use error::BenchError;
pub use raw::RAW_FACTOR_MAX;
pub use report::{Report, Row};
