//! Loads and measures parts of sqlrep, each next to a raw probe of the same machine, since disks differ by a factor of
//! thousand and by the minute.
//!
//! It doesn't judge: it prints medians, ranges and what it left out.
#![forbid(unsafe_code)]

mod cpu;
mod error;
pub mod log;
mod report;

pub use error::BenchError;
pub use report::{Report, Row};
