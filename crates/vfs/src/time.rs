//! Time as SQLite counts it.

use sqlrep_env::UnixMillis;

/// 1970-01-01 00:00 UTC in milliseconds since the Julian day 0.
const UNIX_EPOCH_JULIAN_MS: u64 = 210_866_760_000_000;

/// The last instant that SQLite's date functions print: 9999-12-31 23:59:59.999.
const JULIAN_MS_MAX: u64 = 464_269_060_799_999;

/// `at` in milliseconds since the Julian day 0, which is what `xCurrentTimeInt64` answers. What lies behind the year 9999
/// reads as its end.
pub(crate) fn julian_ms(at: UnixMillis) -> i64 {
    let ms = at.0.saturating_add(UNIX_EPOCH_JULIAN_MS).min(JULIAN_MS_MAX);
    i64::try_from(ms).expect("bounded by the year 9999")
}

/// The same in days, for `xCurrentTime`.
pub(crate) fn julian_days(at: UnixMillis) -> f64 {
    #[allow(
        clippy::cast_precision_loss,
        reason = "47 bits of milliseconds fit a double"
    )]
    let ms = julian_ms(at) as f64;
    ms / 86_400_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_epoch_and_the_end_are_those_that_sqlite_prints() {
        let sqlite = rusqlite::Connection::open_in_memory().unwrap();
        let print = |ms: u64| -> String {
            let days = julian_days(UnixMillis(ms));
            let sql = "SELECT strftime('%Y-%m-%d %H:%M:%f', ?1)";
            sqlite.query_row(sql, [days], |row| row.get(0)).unwrap()
        };
        assert_eq!(print(0), "1970-01-01 00:00:00.000");
        assert_eq!(print(1_767_225_600_123), "2026-01-01 00:00:00.123");
        assert_eq!(print(u64::MAX), "9999-12-31 23:59:59.999");
    }
}
