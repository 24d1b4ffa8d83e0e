//! `/v1/sessions`: interactive transactions. A session's path is its name; any node takes it.
//!
//! | call | answer |
//! | --- | --- |
//! | `POST /v1/sessions` | 201 `{"session":"…"}` |
//! | `POST /v1/sessions/{s}/statements`, body as `/db/request` | as `/db/request` |
//! | `POST /v1/sessions/{s}/commit` | `{"raft_index":N}` |
//! | `POST /v1/sessions/{s}/rollback` | `{}` |
//! | `DELETE /v1/sessions/{s}` | 204, whatever has become of the session but a COMMIT |
//!
//! It keeps nothing between calls: sessions live in [`Sessions`](sqlrep_service::Sessions).

use crate::data;
use crate::front::{Call, Front, tell_index};
use crate::outcome::{OUTCOME, Refusal, Response, empty, json, of_reply};
use crate::{parse, render};
use hyper::header::HeaderValue;
use hyper::{Method, StatusCode};
use serde_json::{Map, Value};
use sqlrep_core::ReadLevel;
use sqlrep_service::{
    SESSION_IDLE, SESSION_MAX, SESSION_TOTAL, SessionError, SessionId, SessionOptions,
};
use sqlrep_sql::{Begin, Request, Shape};
use std::time::Duration;
use tokio::time::Instant;

/// Where they are.
pub(crate) const PATH: &str = "/v1/sessions";

/// What is asked of a session.
enum Asked {
    Open,
    Run(SessionId),
    Commit(SessionId),
    Rollback(SessionId),
    Delete(SessionId),
}

impl Asked {
    fn of(call: &Call<'_>) -> Result<Self, Refusal> {
        let post = call.method == Method::POST;
        let rest = call.path.strip_prefix(PATH).unwrap_or_default();
        if rest.is_empty() {
            return post.then_some(Self::Open).ok_or(Refusal::MethodNotAllowed);
        }
        let rest = rest.strip_prefix('/').ok_or(Refusal::NoSuchPath)?;
        let (name, what) = match rest.split_once('/') {
            Some((name, what)) => (name, Some(what)),
            None => (rest, None),
        };
        let session = || {
            let read = name.parse::<SessionId>();
            read.map_err(|_| Refusal::Session(SessionError::NotFound))
        };
        match what {
            None if post => Err(Refusal::MethodNotAllowed),
            None => session().map(Self::Delete),
            Some("statements" | "commit" | "rollback") if !post => Err(Refusal::MethodNotAllowed),
            Some("statements") => session().map(Self::Run),
            Some("commit") => session().map(Self::Commit),
            Some("rollback") => session().map(Self::Rollback),
            Some(_) => Err(Refusal::NoSuchPath),
        }
    }
}

/// Answers a call.
pub(crate) async fn answer(
    front: &Front,
    call: &Call<'_>,
    body: &[u8],
) -> Result<Response, Refusal> {
    let sessions = &front.api.database;
    match Asked::of(call)? {
        Asked::Open => open(front, call, body).await,
        Asked::Run(session) => run(front, call, body, session).await,
        Asked::Commit(session) => {
            let committed = sessions.commit(session).await?;
            let index = u64::from(committed.at);
            let body = format!("{{\"raft_index\":{index}}}");
            let mut response = json(body.into_bytes(), call.pretty());
            tell_index(&mut response, index);
            told(&mut response, "committed");
            Ok(response)
        }
        Asked::Rollback(session) => {
            sessions.rollback(session).await?;
            Ok(json(b"{}".to_vec(), call.pretty()))
        }
        Asked::Delete(session) => {
            sessions.rollback(session).await?;
            Ok(empty(StatusCode::NO_CONTENT))
        }
    }
}

fn told(response: &mut Response, outcome: &'static str) {
    let outcome = HeaderValue::from_static(outcome);
    response.headers_mut().insert(OUTCOME, outcome);
}

async fn open(front: &Front, call: &Call<'_>, body: &[u8]) -> Result<Response, Refusal> {
    let options = options(front, call, body)?;
    let session = front.api.database.open(options).await?;
    let body = format!("{{\"session\":\"{}\"}}", session.token());
    let mut response = json(body.into_bytes(), call.pretty());
    *response.status_mut() = StatusCode::CREATED;
    Ok(response)
}

async fn run(
    front: &Front,
    call: &Call<'_>,
    body: &[u8],
    session: SessionId,
) -> Result<Response, Refusal> {
    let started = Instant::now();
    if call.params.has("transaction") {
        let text = "a session's statements are one transaction already; leave out transaction, use SAVEPOINT";
        return Err(Refusal::BadRequest(text.to_owned()));
    }
    let request = Request {
        statements: parse::statements(body, front.api.options.items_max)?,
        shape: Shape::Request,
        qualify_columns: call.params.has("qualify_columns"),
        ..Request::default()
    };
    let reply = front.api.database.run(session, request).await?;
    let (format, took) = (data::format(call, true), started.elapsed());
    let envelope = render::Envelope {
        took: format.timings.then_some(took),
        raft_index: None,
        replayed: false,
    };
    let body = render::reply(&reply, format, envelope);
    // What was run stays run: the client has to end the transaction, as it doesn't know what it saw.
    let mut response = data::held(front, call, body).ok_or(Refusal::AnswersFull)?;
    let outcome = of_reply(&reply, false);
    if outcome == "failed" {
        response.headers_mut().insert(OUTCOME, outcome);
    }
    Ok(response)
}

fn options(front: &Front, call: &Call<'_>, body: &[u8]) -> Result<SessionOptions, Refusal> {
    let fields = fields(body)?;
    let named = |name: &str| fields.get(name).filter(|value| !value.is_null());
    let read = data::query_options(front, call);
    Ok(SessionOptions {
        begin: named("begin").map_or(Ok(Begin::Deferred), begin)?,
        level: named("level").map_or(Ok(read.level), level)?,
        bound: read.bound,
        idle_max: named("idle_ms").map_or(Ok(SESSION_IDLE), |it| millis("idle_ms", it))?,
        total_max: named("total_ms").map_or(Ok(SESSION_TOTAL), |it| millis("total_ms", it))?,
    })
}

fn bad(text: impl Into<String>) -> Refusal {
    Refusal::BadRequest(text.into())
}

/// The body's object; an empty body is one without fields.
fn fields(body: &[u8]) -> Result<Map<String, Value>, Refusal> {
    const NAMES: [&str; 4] = ["begin", "level", "idle_ms", "total_ms"];
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(Map::new());
    }
    let read = serde_json::from_slice::<Value>(body);
    let Value::Object(fields) = read.map_err(|error| bad(format!("invalid JSON body: {error}")))?
    else {
        return Err(bad(
            "the body has to be an object, as {\"begin\":\"deferred\"}",
        ));
    };
    match fields.keys().find(|name| !NAMES.contains(&name.as_str())) {
        None => Ok(fields),
        Some(_) => Err(bad(format!(
            "the body has a field that isn't known; known are {}",
            NAMES.join(", ")
        ))),
    }
}

fn begin(value: &Value) -> Result<Begin, Refusal> {
    match value.as_str() {
        Some("deferred") => Ok(Begin::Deferred),
        Some("immediate") => Ok(Begin::Immediate),
        Some("read") => Ok(Begin::Read),
        _ => Err(bad(
            "begin has to be \"deferred\", \"immediate\" or \"read\"",
        )),
    }
}

fn level(value: &Value) -> Result<ReadLevel, Refusal> {
    match value.as_str() {
        Some("none") => Ok(ReadLevel::None),
        Some("weak") => Ok(ReadLevel::Weak),
        Some("linearizable") => Ok(ReadLevel::Linearizable),
        Some("strong") => Ok(ReadLevel::Strong),
        Some("auto") => Ok(ReadLevel::Auto),
        _ => Err(bad(
            "level has to be \"none\", \"weak\", \"linearizable\", \"strong\" or \"auto\"",
        )),
    }
}

fn millis(name: &str, value: &Value) -> Result<Duration, Refusal> {
    let max = u64::try_from(SESSION_MAX.as_millis()).expect("an hour fits 64 bits");
    match value.as_u64() {
        Some(millis) if (1..=max).contains(&millis) => Ok(Duration::from_millis(millis)),
        _ => Err(bad(format!(
            "{name} has to be a whole number of milliseconds, 1 to {max}"
        ))),
    }
}
