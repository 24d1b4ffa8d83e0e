//! `random()` and `randomblob()` of one connection.
//!
//! SQLite's own draw from one generator of the whole process, so two replicas would never agree (safety rule 34).
//! Ours draw from a seed, or from the machine's entropy. The sequence of a seed is part of the format of replicated
//! databases: replicas draw it on different builds.

use crate::context::Context;
use rusqlite::functions::{self, FunctionFlags};
use rusqlite::limits::Limit;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Error, Result, ffi};
use sqlrep_env::Entropy;
use std::sync::{Arc, Mutex, PoisonError};

/// Where a connection's random bits come from.
pub(crate) struct Random {
    entropy: Arc<dyn Entropy>,
    /// State of the seeded sequence; none draws from `entropy`.
    seeded: Mutex<Option<u64>>,
}

impl Random {
    pub(crate) fn new(entropy: Arc<dyn Entropy>) -> Self {
        Self {
            entropy,
            seeded: Mutex::new(None),
        }
    }

    pub(crate) fn set_seed(&self, seed: Option<u64>) {
        *self.seeded.lock().unwrap_or_else(PoisonError::into_inner) = seed;
    }

    fn next(&self) -> u64 {
        let mut seeded = self.seeded.lock().unwrap_or_else(PoisonError::into_inner);
        match seeded.as_mut() {
            Some(state) => split_mix(state),
            None => self.entropy.next(),
        }
    }

    pub(crate) fn fill(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let word = self.next().to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
    }
}

/// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut word = *state;
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// Puts our two functions over SQLite's.
pub(crate) fn install(sqlite: &Connection, context: &Arc<Context>) -> Result<()> {
    // Column defaults and triggers may use them, though the schema isn't trusted.
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_INNOCUOUS;
    let own = context.clone();
    sqlite.create_scalar_function("random", 0, flags, move |_| {
        Ok(integer(own.random().next()))
    })?;
    let own = context.clone();
    sqlite.create_scalar_function("randomblob", 1, flags, move |call| {
        let bytes = blob_bytes(integer_of(call.get_raw(0)));
        if bytes > value_bytes_max(call)? {
            let code = ffi::Error::new(ffi::SQLITE_TOOBIG);
            let text = "string or blob too big".to_owned();
            return Err(Error::SqliteFailure(code, Some(text)));
        }
        let mut blob = vec![0; bytes];
        own.random().fill(&mut blob);
        Ok(blob)
    })
}

/// As SQLite does it: `abs()` of the result never overflows.
fn integer(word: u64) -> i64 {
    let word = word.cast_signed();
    if word < 0 { -(word & i64::MAX) } else { word }
}

/// A blob has at least one byte.
fn blob_bytes(asked: i64) -> usize {
    usize::try_from(asked.max(1)).unwrap_or(usize::MAX)
}

fn value_bytes_max(call: &functions::Context<'_>) -> Result<usize> {
    // SAFETY: the connection is asked for a number while it runs this very function, and not kept.
    let sqlite = unsafe { call.get_connection() }?;
    let max = sqlite.limit(Limit::SQLITE_LIMIT_LENGTH)?;
    Ok(usize::try_from(max).unwrap_or(0))
}

/// A value as SQLite turns it into an integer (`sqlite3_value_int64`).
fn integer_of(value: ValueRef<'_>) -> i64 {
    match value {
        ValueRef::Null => 0,
        ValueRef::Integer(integer) => integer,
        #[allow(
            clippy::cast_possible_truncation,
            reason = "SQLite, too, cuts the fraction off and stops at the largest integer"
        )]
        ValueRef::Real(real) => real as i64,
        ValueRef::Text(text) | ValueRef::Blob(text) => leading_integer(text),
    }
}

/// The integer that `text` begins with, behind white space; 0 if there is none.
fn leading_integer(text: &[u8]) -> i64 {
    let text = text.trim_ascii_start();
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    let digits = digits.iter().take_while(|byte| byte.is_ascii_digit());
    let size = digits.fold(0_i64, |sum, byte| {
        sum.saturating_mul(10)
            .saturating_add(i64::from(byte - b'0'))
    });
    if negative { -size } else { size }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sqlrep_env::SimulatedEntropy;

    #[test]
    fn the_sequence_of_a_seed_is_fixed_for_ever() {
        let random = Random::new(Arc::new(SimulatedEntropy::new(1)));
        random.set_seed(Some(1_234_567));
        // The reference implementation's first outputs.
        assert_eq!(random.next(), 6_457_827_717_110_365_317);
        assert_eq!(random.next(), 3_203_168_211_198_807_973);
        random.set_seed(Some(1_234_567));
        let mut bytes = [0; 11];
        random.fill(&mut bytes);
        assert_eq!(bytes[..8], 6_457_827_717_110_365_317_u64.to_le_bytes());
        assert_eq!(bytes[8..], 3_203_168_211_198_807_973_u64.to_le_bytes()[..3]);
    }

    #[test]
    fn arguments_are_read_as_sqlite_reads_them() {
        let sqlite = Connection::open_in_memory().unwrap();
        for literal in [
            "NULL", "7", "-3", "2.9", "-2.9", "1e30", "'12abc'", "' 4'", "'x'", "x'3132'", "'-5'",
            "'1e3'", "'+8'",
        ] {
            let ours = sqlite
                .query_row(&format!("SELECT {literal}"), [], |row| {
                    Ok(blob_bytes(integer_of(row.get_ref(0)?)))
                })
                .unwrap();
            if ours < 1_000 {
                let sql = format!("SELECT length(randomblob({literal}))");
                let theirs: u32 = sqlite.query_row(&sql, [], |row| row.get(0)).unwrap();
                assert_eq!(ours, theirs as usize, "{literal}");
            }
        }
    }
}
