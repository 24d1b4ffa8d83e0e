//! `Idempotency-Key` and `Idempotency-Index`: a write that is sent again under its key is done once. Our own.

use crate::front::Call;
use crate::outcome::Refusal;
use hyper::header::{HeaderName, HeaderValue};
use sqlrep_core::{IdempotencyKey, LogIndex};

const KEY: HeaderName = HeaderName::from_static("idempotency-key");
const INDEX: HeaderName = HeaderName::from_static("idempotency-index");

/// The key of a write; none if it has none.
///
/// # Errors
///
/// Headers that make no sense: a write whose key can't be used isn't done without it.
pub(crate) fn of(call: &Call<'_>) -> Result<Option<IdempotencyKey>, Refusal> {
    let (key, index) = (one(call, &KEY)?, one(call, &INDEX)?);
    let Some(key) = key else {
        return match index {
            Some(_) => Err(bad(
                "Idempotency-Index belongs to an Idempotency-Key, which is missing",
            )),
            None => Ok(None),
        };
    };
    let text = key.to_str().unwrap_or_default();
    let no_key = |error| bad(&format!("Idempotency-Key can't be used: {error}"));
    let key = IdempotencyKey::new(text).map_err(no_key)?;
    match index {
        Some(index) => Ok(Some(key.known_at(log_index(index)?))),
        None => Ok(Some(key)),
    }
}

fn one<'a>(call: &'a Call<'_>, name: &HeaderName) -> Result<Option<&'a HeaderValue>, Refusal> {
    let mut values = call.headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (_, Some(_)) => Err(bad(&format!("{name} is given twice; give it once"))),
        (value, None) => Ok(value),
    }
}

fn log_index(value: &HeaderValue) -> Result<LogIndex, Refusal> {
    let number = value.to_str().ok().and_then(|text| text.parse().ok());
    let in_range = number.filter(|number: &u64| *number <= i64::MAX.cast_unsigned());
    in_range.map(LogIndex).ok_or_else(|| {
        bad("Idempotency-Index is not a log index; give what X-Sqlrep-Index of an earlier answer told")
    })
}

fn bad(text: &str) -> Refusal {
    Refusal::BadRequest(text.to_owned())
}
