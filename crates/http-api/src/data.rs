//! `/db/execute`, `/db/query` and `/db/request`: a body becomes a request, its reply becomes JSON.

use crate::front::{Call, Front, tell_index};
use crate::key;
use crate::outcome::{OUTCOME, Refusal, Response, json_as_is, laid_out, of_reply};
use crate::parse;
use crate::render::{self, Envelope, Format};
use hyper::Method;
use sqlrep_core::{ReadBound, ReadError, ReadLevel, WriteError};
use sqlrep_service::{Answer, QueryOptions, WriteOptions};
use sqlrep_sql::{Request, Shape, Statement};
use tokio::time::Instant;

/// Always through the log.
pub(crate) async fn execute(
    front: &Front,
    call: &Call<'_>,
    body: &[u8],
) -> Result<Response, Refusal> {
    let started = Instant::now();
    let statements = text_or_json(front, call, body)?;
    write(
        front,
        call,
        request_of(call, statements, Shape::Execute),
        started,
    )
    .await
}

/// Never writes.
pub(crate) async fn query(
    front: &Front,
    call: &Call<'_>,
    body: &[u8],
) -> Result<Response, Refusal> {
    let started = Instant::now();
    let statements = if call.method == Method::GET {
        vec![Statement::text(call.params.get("q").unwrap_or_default())]
    } else {
        text_or_json(front, call, body)?
    };
    read(
        front,
        call,
        request_of(call, statements, Shape::Query),
        started,
    )
    .await
}

/// Through the log if anything writes, or there is a key: a statement that was done under it may not even prepare any more.
pub(crate) async fn request(
    front: &Front,
    call: &Call<'_>,
    body: &[u8],
) -> Result<Response, Refusal> {
    let started = Instant::now();
    let statements = parse::statements(body, front.api.options.items_max)?;
    let request = request_of(call, statements, Shape::Request);
    if key::of(call)?.is_some() {
        return write(front, call, request, started).await;
    }
    if front.api.database.is_read_only(&request).await {
        read(front, call, request, started).await
    } else {
        write(front, call, request, started).await
    }
}

fn text_or_json(front: &Front, call: &Call<'_>, body: &[u8]) -> Result<Vec<Statement>, Refusal> {
    if call.content_type().starts_with(b"text/plain") {
        return Ok(vec![Statement::text(String::from_utf8_lossy(body))]);
    }
    parse::statements(body, front.api.options.items_max)
}

fn request_of(call: &Call<'_>, statements: Vec<Statement>, shape: Shape) -> Request {
    Request {
        statements,
        transaction: call.params.has("transaction"),
        shape,
        qualify_columns: shape != Shape::Execute && call.params.has("qualify_columns"),
        replay: None,
    }
}

async fn write(
    front: &Front,
    call: &Call<'_>,
    request: Request,
    started: Instant,
) -> Result<Response, Refusal> {
    front.redirect(call).await?;
    let transaction = request.transaction;
    let options = WriteOptions {
        wait_max: call.params.duration("timeout"),
        key: key::of(call)?,
    };
    let answer = match front.api.database.execute(request, options).await {
        Ok(answer) => answer,
        Err(error) => return Err(refused_write(front, call, error).await),
    };
    let answered = answered(front, call, &answer, started, false);
    let mut response = answered.ok_or_else(untold)?;
    response
        .headers_mut()
        .insert(OUTCOME, of_reply(&answer.reply, transaction));
    Ok(response)
}

/// It is done, and there is no room to say what it gave.
fn untold() -> Refusal {
    let cause = "it was done, but too many bytes of answers are under way to tell its rows";
    Refusal::Write(WriteError::Unknown {
        cause: cause.to_owned(),
    })
}

/// Leadership may have moved on since the redirect was decided.
async fn refused_write(front: &Front, call: &Call<'_>, error: WriteError) -> Refusal {
    let moved = matches!(error, WriteError::NotLeader { .. });
    moved_or(front, call, moved, error.into()).await
}

async fn moved_or(front: &Front, call: &Call<'_>, moved: bool, refusal: Refusal) -> Refusal {
    match moved {
        true => front.redirect(call).await.err().unwrap_or(refusal),
        false => refusal,
    }
}

async fn read(
    front: &Front,
    call: &Call<'_>,
    request: Request,
    started: Instant,
) -> Result<Response, Refusal> {
    let options = query_options(front, call);
    if options.level != ReadLevel::None {
        front.redirect(call).await?;
    }
    match front.api.database.query(request, options).await {
        Ok(answer) => answered(front, call, &answer, started, true).ok_or(Refusal::AnswersFull),
        Err(error) => Err(refused_read(front, call, error).await),
    }
}

async fn refused_read(front: &Front, call: &Call<'_>, error: ReadError) -> Refusal {
    let moved = matches!(error, ReadError::NotLeader { .. });
    moved_or(front, call, moved, error.into()).await
}

pub(crate) fn query_options(front: &Front, call: &Call<'_>) -> QueryOptions {
    let params = &call.params;
    let level = params.level();
    let cluster = || {
        params
            .cluster()
            .unwrap_or_else(|| front.api.admin.cluster())
    };
    let own = match level {
        ReadLevel::Linearizable => params.duration("linearizable_timeout"),
        _ => None,
    };
    QueryOptions {
        level,
        bound: ReadBound {
            freshness: params.duration("freshness"),
            freshness_strict: params.has("freshness_strict"),
            at_least: params.min_index().map(|index| (cluster(), index)),
            wait_max: own.or_else(|| params.duration("timeout")),
        },
        run_max: params.duration("db_timeout"),
    }
}

/// How results look.
pub(crate) fn format(call: &Call<'_>, read: bool) -> Format {
    let params = &call.params;
    Format {
        associative: params.has("associative"),
        blob_array: params.has("blob_array"),
        timings: params.has("timings"),
        codes: params.has("codes"),
        read,
    }
}

/// None if there is no room for it.
pub(crate) fn held(front: &Front, call: &Call<'_>, body: Vec<u8>) -> Option<Response> {
    let body = front.answers.hold(laid_out(body, call.pretty()))?;
    Some(json_as_is(body))
}

/// None if there is no room for it.
fn answered(
    front: &Front,
    call: &Call<'_>,
    answer: &Answer,
    started: Instant,
    read: bool,
) -> Option<Response> {
    let params = &call.params;
    let format = format(call, read);
    let index = answer.entry.map(|entry| u64::from(entry.index));
    let envelope = Envelope {
        took: format.timings.then(|| started.elapsed()),
        raft_index: index.filter(|_| params.has("raft_index")),
        replayed: answer.replayed,
    };
    let body = render::reply(&answer.reply, format, envelope);
    let mut response = held(front, call, body)?;
    front.served_by(&mut response, answer.served_by.as_deref());
    if let Some(index) = index {
        tell_index(&mut response, index);
    }
    Some(response)
}
