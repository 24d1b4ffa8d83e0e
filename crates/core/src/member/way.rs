//! A write on its way through the server: what one attempt leaves for the next.
//!
//! Invariant 1 (safety rule 30): all attempts of a write have the same key, and after one without a key whose outcome
//! isn't known there is none.
//! Invariant 2: once an attempt is unknown, no refusal of a later one is told as the outcome.

use super::keys::{IdempotencyKey, Key, KeyKind, Keyed};
use super::writes::is_not_proposed;
use super::{Inner, Written};
use crate::{StateMachine, WriteError};
use bytes::Bytes;

/// A write on its way.
pub(super) struct Way<M: StateMachine> {
    /// None once it was proposed here, unless it came back.
    pub(super) request: Option<M::Request>,
    encoded: Option<Bytes>,
    /// The client's, or this node's own from the first time on that it is forwarded; every attempt has the same.
    key: Option<Key>,
    /// Of an attempt that may have done it, or may still.
    unknown: Option<WriteError>,
}

impl<M: StateMachine> Way<M> {
    pub(super) fn new(inner: &Inner<M>, request: M::Request, key: Option<IdempotencyKey>) -> Self {
        let mut way = Self {
            request: Some(request),
            encoded: None,
            key: None,
            unknown: None,
        };
        if let Some(key) = key {
            let encoded = way.encoded(inner);
            way.key = Some(key.of_request(&encoded, inner.applied_index()));
        }
        way
    }

    fn encoded(&mut self, inner: &Inner<M>) -> Bytes {
        let request = self.request.as_ref();
        let encode = || {
            let request = request.expect("it is encoded before it is given away with a key");
            inner.shared.machine.encode_request(request)
        };
        self.encoded.get_or_insert_with(encode).clone()
    }

    /// The request as it is forwarded.
    pub(super) fn forwarded(&mut self, inner: &Inner<M>) -> (Bytes, Key) {
        let encoded = self.encoded(inner);
        let key = self.key.get_or_insert_with(|| inner.gateway_key(&encoded));
        (encoded, key.clone())
    }

    /// The request as it is proposed here.
    pub(super) fn proposed(&mut self, inner: &Inner<M>) -> Result<Keyed<M::Request>, WriteError> {
        let key = self.key.clone();
        let request = match (self.request.take(), &self.encoded) {
            (Some(request), _) => Ok(request),
            (None, Some(encoded)) => inner.shared.machine.decode_request(encoded),
            (None, None) => unreachable!("it isn't tried again when it isn't at hand"),
        };
        let unreadable = |error: crate::MachineError| WriteError::Unsupported {
            what: format!("the request can't be read back: {error}"),
        };
        let request = request.map_err(unreadable)?;
        Ok(Keyed { request, key })
    }

    /// Takes in why an attempt failed; whether there may be another. An unknown outcome is found out by another attempt
    /// under the same key.
    pub(super) fn failed(&mut self, error: &WriteError) -> bool {
        let is_unknown = matches!(error, WriteError::Unknown { .. });
        if is_unknown {
            self.unknown = Some(error.clone());
        }
        let is_at_hand = self.request.is_some() || self.encoded.is_some();
        is_at_hand && (is_not_proposed(error) || (is_unknown && self.key.is_some()))
    }

    /// What the client is told after the last attempt.
    pub(super) fn told(self, error: WriteError) -> WriteError {
        let of_gateway = self.key.is_some_and(|key| key.kind == KeyKind::Gateway);
        outcome(error, self.unknown, of_gateway)
    }

    /// A client that gave no key doesn't know of any.
    pub(super) fn done(&self, written: Written<M::Reply>) -> Written<M::Reply> {
        let of_client = |key: &Key| key.kind == KeyKind::Client;
        let replayed = written.replayed && self.key.as_ref().is_some_and(of_client);
        Written {
            replayed,
            ..written
        }
    }
}

/// What a failure of the last attempt means where an earlier one is `unknown` (invariant 2).
fn outcome(last: WriteError, unknown: Option<WriteError>, of_gateway: bool) -> WriteError {
    match (last, unknown) {
        // Facts about all attempts, since they have one key.
        (last @ (WriteError::KeyReused | WriteError::ReplyNotKept { .. }), _) => last,
        (_, Some(unknown)) => unknown,
        // This node drew the key, and knows of no attempt that could have done it.
        (WriteError::KeyExpired, None) if of_gateway => WriteError::NotDone,
        (last, None) => last,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Retry;

    /// Rule 30: after an attempt that may have done it, the refusal of another one isn't the outcome.
    #[test]
    fn an_unknown_attempt_stays_unknown_whatever_is_refused_later() {
        let cause = "the link ended".to_owned();
        let unknown = || WriteError::Unknown {
            cause: cause.clone(),
        };
        for last in [
            WriteError::NotLeader { leader: None },
            WriteError::NotDone,
            WriteError::Overloaded,
            WriteError::DiskFull,
            WriteError::Stopped,
            WriteError::KeyExpired,
        ] {
            for of_gateway in [false, true] {
                assert_eq!(
                    outcome(last.clone(), Some(unknown()), of_gateway),
                    unknown()
                );
            }
        }
        let reused = outcome(WriteError::KeyReused, Some(unknown()), false);
        assert_eq!(reused, WriteError::KeyReused);
    }

    /// Rule 28: an expired key of a client is unknown; that of a gateway, which has sent it once, certainly did nothing.
    #[test]
    fn whether_an_expired_key_is_unknown_depends_on_who_may_have_sent_it() {
        let of_client = outcome(WriteError::KeyExpired, None, false);
        assert_eq!(of_client.retry(), Retry::Ambiguous);
        let of_gateway = outcome(WriteError::KeyExpired, None, true);
        assert_eq!(of_gateway.retry(), Retry::Safe);
    }
}
