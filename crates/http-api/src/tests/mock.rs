//! A database and an administration that answer what a test gave them and keep what they were asked.

use crate::front::Front;
use crate::{Api, Options};
use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{HeaderMap, Request as HttpRequest};
use sqlrep_core::{
    ClusterId, ComparedMember, Comparison, DirectoryId, EntryId, LogIndex, NodeId, ReadError, Term,
    WriteError,
};
use sqlrep_service::{
    Admin, AdminError, Answer, Committed, Database, Health, Histogram, LogStatus, NodeStatus,
    QueryOptions, Role, Session, SessionError, SessionId, SessionOptions, Sessions, SqliteStatus,
    Status, WriteOptions,
};
use sqlrep_sql::{Outcome, Reply, Request, Rows, SqlError, Value, Written};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Semaphore;

/// What was asked.
#[derive(Clone, Debug)]
pub(super) enum Asked {
    Write(Request, WriteOptions),
    Read(Request, QueryOptions),
    StepDown(Option<NodeId>),
    Remove(NodeId),
    Nodes(Duration),
    Health(bool),
    Compare(Duration),
    Open(SessionOptions),
    Run(SessionId, Request),
    Commit(SessionId),
    Rollback(SessionId),
}

pub(super) struct Mock {
    pub(super) write: Result<Answer, WriteError>,
    pub(super) read: Result<Answer, ReadError>,
    /// What every call of a session gives.
    pub(super) session: Result<Reply, SessionError>,
    pub(super) read_only: bool,
    pub(super) status: Status,
    pub(super) leader: Option<NodeStatus>,
    pub(super) health: Health,
    pub(super) admin: Result<(), AdminError>,
    pub(super) options: Options,
    /// Calls of the database wait here, if a test wants them to.
    pub(super) gate: Option<Arc<Semaphore>>,
    pub(super) asked: Mutex<Vec<Asked>>,
    /// Calls of the database that haven't ended; dropped ones have.
    pub(super) inside: AtomicUsize,
}

/// One call of the database.
struct Inside<'a>(&'a AtomicUsize);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

pub(super) fn node(id: u64, leader: bool) -> NodeStatus {
    NodeStatus {
        id: NodeId::new(id).unwrap(),
        raft_address: format!("n{id}:4002"),
        http_address: Some(format!("n{id}:4001")),
        version: Some("v10.2.7".into()),
        voter: true,
        reachable: true,
        leader,
        took: Some(Duration::from_micros(1500)),
        error: None,
    }
}

pub(super) fn entry(index: u64) -> Option<EntryId> {
    Some(EntryId {
        term: Term(2),
        index: LogIndex(index),
    })
}

pub(super) fn answer(outcomes: Vec<Outcome>) -> Answer {
    Answer {
        reply: Reply { outcomes },
        entry: None,
        served_by: None,
        replayed: false,
    }
}

pub(super) fn written(last_insert_id: i64, rows_affected: u64) -> Outcome {
    Outcome::Written(Written {
        last_insert_id,
        rows_affected,
        took: Duration::from_millis(3),
    })
}

pub(super) fn failed(message: &str) -> Outcome {
    Outcome::Failed(SqlError {
        code: 1555,
        message: message.into(),
    })
}

/// Columns as `name:declared type`, the type empty for an expression.
pub(super) fn rows(columns: &[&str], values: Vec<Vec<Value>>) -> Outcome {
    let split = |column: &&str| {
        let (name, declared) = column.split_once(':').unwrap();
        (
            name.to_owned(),
            Some(declared.to_owned()).filter(|text| !text.is_empty()),
        )
    };
    let (columns, types) = columns.iter().map(split).unzip();
    Outcome::Rows(Rows {
        columns,
        types,
        tables: None,
        values,
        took: Duration::from_millis(2),
    })
}

pub(super) fn text(text: &str) -> Value {
    Value::Text(text.into())
}

impl Mock {
    pub(super) fn new() -> Self {
        Self {
            write: Ok(answer(vec![written(1, 1)])),
            read: Ok(answer(vec![])),
            session: Ok(Reply::default()),
            read_only: false,
            status: status(),
            leader: Some(node(1, true)),
            health: Health {
                leader: true,
                leader_contact: Ok(()),
                store: true,
                sync: None,
                database: Ok(()),
            },
            admin: Ok(()),
            options: Options::default(),
            gate: None,
            asked: Mutex::default(),
            inside: AtomicUsize::new(0),
        }
    }

    pub(super) fn writing(outcomes: Vec<Outcome>) -> Self {
        Self {
            write: Ok(answer(outcomes)),
            ..Self::new()
        }
    }

    pub(super) fn reading(outcomes: Vec<Outcome>) -> Self {
        Self {
            read: Ok(answer(outcomes)),
            read_only: true,
            ..Self::new()
        }
    }

    pub(super) fn api(self) -> (Arc<Self>, Api) {
        let options = self.options.clone();
        let mock = Arc::new(self);
        let api = Api {
            database: mock.clone(),
            admin: mock.clone(),
            options,
        };
        (mock, api)
    }

    pub(super) fn served(self) -> Served {
        let (mock, api) = self.api();
        let front = Front::new(api, "127.0.0.1:4001".parse().unwrap());
        Served { mock, front }
    }

    fn ask(&self, asked: Asked) {
        self.asked.lock().unwrap().push(asked);
    }

    async fn wait(&self) {
        self.inside.fetch_add(1, Ordering::AcqRel);
        let _inside = Inside(&self.inside);
        if let Some(gate) = &self.gate {
            gate.acquire().await.unwrap().forget();
        }
    }
}

fn status() -> Status {
    Status {
        node: NodeId::new(1).unwrap(),
        directory: DirectoryId(0xd1),
        cluster: ClusterId(0xc1),
        mode: "statement".into(),
        raft_address: "n1:4002".into(),
        http_address: "n1:4001".into(),
        role: Role::Leader,
        voter: true,
        term: Term(2),
        leader: Some(node(1, true)),
        last_contact: Some(Duration::ZERO),
        members: vec![node(1, true), node(2, false)],
        log: LogStatus {
            last: entry(12),
            committed: Some(LogIndex(11)),
            applied: entry(11),
            durable: entry(7),
            purged: None,
            unapplied: 3,
            bytes: 4096,
        },
        sqlite: SqliteStatus {
            version: "3.54.1".into(),
            page_bytes: 4096,
            pages: 3,
            path: "/data/db/1/main.db".into(),
            file_bytes: 8192,
            log_bytes_behind: 700,
            readers: (4, 1),
            reading_pragmas: BTreeMap::from([("journal_mode".into(), "delete".into())]),
            writing_pragmas: BTreeMap::from([("journal_mode".into(), "memory".into())]),
            ..SqliteStatus::default()
        },
        settings: BTreeMap::from([("foreign_keys".into(), "false".into())]),
        histograms: BTreeMap::from([(
            "sync_seconds".into(),
            Histogram {
                bounds_seconds: vec![0.0025, 10.0],
                counts: vec![3, 4, 5],
                sum_seconds: 12.5,
            },
        )]),
        metrics: BTreeMap::from([
            ("proposals_total".into(), 5.0),
            ("queue.length".into(), 0.5),
        ]),
        started_unix_ms: 1_092_941_466_000,
        out_of_service: None,
        in_doubt: None,
        uptime: Duration::from_millis(61_500),
        directory_path: "/data".into(),
    }
}

#[async_trait]
impl Database for Mock {
    async fn execute(&self, request: Request, options: WriteOptions) -> Result<Answer, WriteError> {
        self.ask(Asked::Write(request, options));
        self.wait().await;
        self.write.clone()
    }

    async fn query(&self, request: Request, options: QueryOptions) -> Result<Answer, ReadError> {
        self.ask(Asked::Read(request, options));
        self.wait().await;
        self.read.clone()
    }

    async fn is_read_only(&self, _: &Request) -> bool {
        self.read_only
    }

    async fn begin(&self, _: SessionOptions) -> Result<Box<dyn Session>, SessionError> {
        Err(SessionError::NotFound)
    }
}

#[async_trait]
impl Sessions for Mock {
    async fn open(&self, options: SessionOptions) -> Result<SessionId, SessionError> {
        self.ask(Asked::Open(options));
        self.session.clone().map(|_| session())
    }

    async fn run(&self, session: SessionId, request: Request) -> Result<Reply, SessionError> {
        self.ask(Asked::Run(session, request));
        self.session.clone()
    }

    async fn commit(&self, session: SessionId) -> Result<Committed, SessionError> {
        self.ask(Asked::Commit(session));
        let at = LogIndex(9);
        self.session.clone().map(|_| Committed { at, wrote: true })
    }

    async fn rollback(&self, session: SessionId) -> Result<(), SessionError> {
        self.ask(Asked::Rollback(session));
        self.session.clone().map(drop)
    }
}

/// The one that a mock opens.
pub(super) fn session() -> SessionId {
    SessionId::new(NodeId::new(2).unwrap(), 0xab)
}

#[async_trait]
impl Admin for Mock {
    fn status(&self) -> Status {
        self.status.clone()
    }

    fn role(&self) -> Role {
        self.status.role
    }

    fn cluster(&self) -> ClusterId {
        self.status.cluster
    }

    async fn nodes(&self, wait_max: Duration) -> Vec<NodeStatus> {
        self.ask(Asked::Nodes(wait_max));
        self.status.members.clone()
    }

    async fn health(&self, sync: bool, _: Duration) -> Health {
        self.ask(Asked::Health(sync));
        self.health.clone()
    }

    async fn leader(&self, _: Duration) -> Option<NodeStatus> {
        self.leader.clone()
    }

    async fn compare(&self, wait_max: Duration) -> Comparison {
        self.ask(Asked::Compare(wait_max));
        let member = |id, checksum, in_service| ComparedMember {
            node: NodeId::new(id).unwrap(),
            checksum,
            in_service,
        };
        Comparison {
            index: Some(LogIndex(11)),
            members: vec![member(1, Some(0xc5), Some(true)), member(2, None, None)],
        }
    }

    async fn remove(&self, node: NodeId, _: Duration) -> Result<(), AdminError> {
        self.ask(Asked::Remove(node));
        self.admin.clone()
    }

    async fn step_down(&self, to: Option<NodeId>, _: Duration) -> Result<(), AdminError> {
        self.ask(Asked::StepDown(to));
        self.admin.clone()
    }
}

/// A front to talk to without a socket.
pub(super) struct Served {
    pub(super) mock: Arc<Mock>,
    front: Front,
}

/// What came back.
pub(super) struct Came {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: String,
}

impl Came {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

impl Served {
    pub(super) async fn send(&self, method: &str, target: &str, kind: &str, body: &str) -> Came {
        let headers = [("content-type", kind)];
        self.send_with(method, target, &headers, body).await
    }

    pub(super) async fn send_with(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Came {
        let mut builder = HttpRequest::builder().method(method).uri(target);
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        let body = Full::new(Bytes::from(body.to_owned()));
        let request = builder.body(body).unwrap();
        let (head, body) = self.front.answer(request).await.into_parts();
        let body = body.collect().await.unwrap().to_bytes().to_vec();
        Came {
            status: head.status.as_u16(),
            headers: head.headers,
            body: String::from_utf8(body).unwrap(),
        }
    }

    pub(super) async fn get(&self, target: &str) -> Came {
        self.send("GET", target, "", "").await
    }

    pub(super) async fn post(&self, target: &str, body: &str) -> Came {
        self.send("POST", target, "application/json", body).await
    }

    pub(super) fn asked(&self) -> Vec<Asked> {
        self.mock.asked.lock().unwrap().clone()
    }
}
