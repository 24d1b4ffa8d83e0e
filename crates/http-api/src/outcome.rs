//! Which status code, header and text an outcome has. Nowhere else is one chosen.
//!
//! | outcome | status | `X-Sqlrep-Outcome` |
//! | --- | --- | --- |
//! | a write's reply; in it, SQL errors by statement | 200 | `committed`; `failed` if nothing of it was done |
//! | a request under a known key was done before; what it answered wasn't kept | 200 with a top-level `error` | `committed` |
//! | it isn't known whether a write was done | 200 with a top-level `error` | `unknown` |
//! | certainly not done, may be sent again | 503, 429 or 408; 200 for a stale read | `refused` |
//! | what a transaction was shown has changed: certainly not done, may be run again as a whole | 409 | `refused` |
//! | certainly not done, would be refused again | 400, 409, 413, or 422 for a key of another request | `refused` |
//! | no session of that name; one whose transaction is over, with the reason | 404; 410 | `refused`; `committed` or `unknown` as its COMMIT was |
//! | done elsewhere | 301 | `refused` |
//!
//! Invariant: what is ambiguous by its `retry` is never a 5xx for a statement, since clients send again on 5xx. Calls
//! of `Admin` may be repeated without harm, so theirs are 500 as in rqlite.

use crate::front::tell_index;
use crate::{json, render};
use bytes::Bytes;
use http_body_util::Full;
use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue, LOCATION, RETRY_AFTER};
use sqlrep_core::{ReadError, Retry, WriteError};
use sqlrep_service::{AdminError, End, SessionError};
use sqlrep_sql::{Outcome, Reply};

/// What goes back.
pub(crate) type Response = hyper::Response<Full<Bytes>>;

/// Tells what became of a request.
pub(crate) const OUTCOME: HeaderName = HeaderName::from_static("x-sqlrep-outcome");

const NOSNIFF: HeaderName = HeaderName::from_static("x-content-type-options");

/// Why a request has no reply.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum Refusal {
    /// Parameters or body make no sense.
    #[error("{0}")]
    BadRequest(String),
    /// As before, where rqlite says nothing.
    #[error("")]
    BadRequestSilent,
    /// No such path.
    #[error("")]
    NoSuchPath,
    /// An endpoint of rqlite that this release hasn't.
    #[error("{0} is not available in this release of sqlrep")]
    NotBuilt(&'static str),
    /// Not for this path.
    #[error("")]
    MethodNotAllowed,
    /// Too many bytes.
    #[error("the body is longer than {limit} bytes")]
    BodyTooLarge {
        /// The limit.
        limit: usize,
    },
    /// The bodies of all clients together.
    #[error("too many bytes of requests are under way; try again later")]
    BodiesFull,
    /// The answers of all clients together, for a query.
    #[error("too many bytes of answers are under way; try again later, or ask for less at a time")]
    AnswersFull,
    /// Too many statements and parameters.
    #[error("more than {limit} statements and parameters")]
    TooManyItems {
        /// The limit.
        limit: usize,
    },
    /// The body took too long.
    #[error("the body didn't arrive in time")]
    BodyTimeout,
    /// The body ended before its end.
    #[error("the body is broken: {0}")]
    BodyBroken(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The client wants to talk to the leader, which is there.
    #[error("the leader is at {0}")]
    Elsewhere(String),
    /// Nobody leads.
    #[error("leader not found")]
    NoLeader,
    /// Somebody leads, and nobody knows where its clients go.
    #[error("leader not found")]
    LeaderUnreachable,
    /// A write's.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// A read's.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A session's.
    #[error(transparent)]
    Session(SessionError),
    /// A call of `Admin`, named for the text.
    #[error("{call}: {source}")]
    Admin {
        /// What was called.
        call: &'static str,
        /// Why it failed.
        source: AdminError,
    },
}

impl From<SessionError> for Refusal {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::Write(error) => Self::Write(error),
            SessionError::Read(error) => Self::Read(error),
            error => Self::Session(error),
        }
    }
}

impl Refusal {
    /// Whether the same request may be sent again.
    pub(crate) fn retry(&self) -> Retry {
        match self {
            Self::Write(error) => error.retry(),
            Self::Read(error) => error.retry(),
            Self::Session(error) => error.retry(),
            Self::Admin { source, .. } => source.retry(),
            Self::BodyTimeout | Self::BodyBroken(_) | Self::BodiesFull | Self::AnswersFull => {
                Retry::Safe
            }
            Self::NoLeader | Self::LeaderUnreachable => Retry::Safe,
            _ => Retry::Useless,
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::NoSuchPath | Self::NotBuilt(_) => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::BodyTooLarge { .. } | Self::TooManyItems { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BodiesFull | Self::AnswersFull => StatusCode::TOO_MANY_REQUESTS,
            Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::Elsewhere(_) => StatusCode::MOVED_PERMANENTLY,
            Self::NoLeader => StatusCode::SERVICE_UNAVAILABLE,
            Self::LeaderUnreachable => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Write(error) => of_write(error),
            Self::Read(error) => of_read(error),
            Self::Session(error) => of_session(error),
            Self::Admin { source, .. } => of_admin(source),
            Self::BadRequest(_) | Self::BadRequestSilent | Self::BodyBroken(_) => {
                StatusCode::BAD_REQUEST
            }
        }
    }
}

fn of_write(error: &WriteError) -> StatusCode {
    match (error, error.retry()) {
        (WriteError::Overloaded, _) => StatusCode::TOO_MANY_REQUESTS,
        (WriteError::TooLarge { .. }, _) => StatusCode::PAYLOAD_TOO_LARGE,
        (WriteError::Conflict, _) => StatusCode::CONFLICT,
        (WriteError::KeyReused, _) => StatusCode::UNPROCESSABLE_ENTITY,
        (WriteError::ReplyNotKept { .. }, _) => StatusCode::OK,
        (_, Retry::Ambiguous) => StatusCode::OK,
        (_, Retry::Safe) => StatusCode::SERVICE_UNAVAILABLE,
        (_, Retry::Useless) => StatusCode::BAD_REQUEST,
    }
}

fn of_read(error: &ReadError) -> StatusCode {
    match error {
        ReadError::Stale => StatusCode::OK,
        ReadError::Overloaded => StatusCode::TOO_MANY_REQUESTS,
        ReadError::OtherCluster { .. } => StatusCode::CONFLICT,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    }
}

fn of_session(error: &SessionError) -> StatusCode {
    match error {
        SessionError::NotFound => StatusCode::NOT_FOUND,
        SessionError::Ended(_) => StatusCode::GONE,
        SessionError::ReadOnly | SessionError::Open(_) | SessionError::Outdated => {
            StatusCode::CONFLICT
        }
        SessionError::Full { .. } => StatusCode::TOO_MANY_REQUESTS,
        SessionError::TooLong { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        SessionError::Write(error) => of_write(error),
        SessionError::Read(error) => of_read(error),
        _ => StatusCode::SERVICE_UNAVAILABLE,
    }
}

fn of_admin(error: &AdminError) -> StatusCode {
    match error {
        AdminError::NoLeader => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The answer to a refused request.
pub(crate) fn refused(refusal: &Refusal, pretty: bool) -> Response {
    let status = refusal.status();
    let mut response = match refusal {
        Refusal::BadRequestSilent | Refusal::NoSuchPath | Refusal::MethodNotAllowed => {
            empty(status)
        }
        Refusal::Elsewhere(location) => redirect(status, location),
        Refusal::Admin {
            source: AdminError::NoLeader,
            ..
        } => text(status, "leader not found"),
        Refusal::Admin {
            call,
            source: AdminError::UnknownNode(_),
        } => text(status, &format!("{call}: node not found in cluster")),
        Refusal::Write(WriteError::ReplyNotKept { at }) => {
            let mut response = json(render::not_kept(&refusal.to_string()), pretty);
            tell_index(&mut response, at.index.into());
            response
        }
        _ if status == StatusCode::OK => json(render::error(&refusal.to_string()), pretty),
        _ => text(status, &refusal.to_string()),
    };
    let headers = response.headers_mut();
    let outcome = match refusal.retry() {
        _ if matches!(
            refusal,
            Refusal::Write(WriteError::ReplyNotKept { .. })
                | Refusal::Session(SessionError::Ended(End::Committed(_)))
        ) =>
        {
            "committed"
        }
        Retry::Ambiguous => "unknown",
        Retry::Safe | Retry::Useless => "refused",
    };
    headers.insert(OUTCOME, HeaderValue::from_static(outcome));
    if matches!(status.as_u16(), 429 | 503) {
        headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// What became of a write that has a reply.
pub(crate) fn of_reply(reply: &Reply, transaction: bool) -> HeaderValue {
    let mut failed = reply
        .outcomes
        .iter()
        .map(|outcome| matches!(outcome, Outcome::Failed(_)));
    let nothing_done = if transaction {
        failed.any(|failed| failed)
    } else {
        !reply.outcomes.is_empty() && failed.all(|failed| failed)
    };
    HeaderValue::from_static(if nothing_done { "failed" } else { "committed" })
}

fn with_body(status: StatusCode, body: Bytes, content_type: &'static str) -> Response {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Nothing but a status.
pub(crate) fn empty(status: StatusCode) -> Response {
    let mut response = Response::default();
    *response.status_mut() = status;
    response
}

/// A text as Go's `http.Error` sends it.
fn text(status: StatusCode, message: &str) -> Response {
    let mut response = plain(status, format!("{message}\n"));
    response
        .headers_mut()
        .insert(NOSNIFF, HeaderValue::from_static("nosniff"));
    response
}

/// A text as it is.
pub(crate) fn plain(status: StatusCode, text: String) -> Response {
    with_body(status, text.into(), "text/plain; charset=utf-8")
}

/// JSON; compact on the way in.
pub(crate) fn json(compact: Vec<u8>, pretty: bool) -> Response {
    json_as_is(laid_out(compact, pretty).into())
}

/// JSON as the client wants to see it.
pub(crate) fn laid_out(compact: Vec<u8>, pretty: bool) -> Vec<u8> {
    if pretty {
        json::indented(&compact)
    } else {
        compact
    }
}

/// JSON that is laid out.
pub(crate) fn json_as_is(body: Bytes) -> Response {
    with_body(StatusCode::OK, body, "application/json; charset=utf-8")
}

/// An address that isn't fit for a header can't be followed either.
fn redirect(status: StatusCode, location: &str) -> Response {
    let Ok(location) = HeaderValue::from_str(location) else {
        return refused(&Refusal::LeaderUnreachable, false);
    };
    let mut response = with_body(status, Bytes::new(), "application/json; charset=utf-8");
    response.headers_mut().insert(LOCATION, location);
    response
}
