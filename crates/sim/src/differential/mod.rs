//! Generated statements through a cluster of one node, in either mode, and through plain SQLite: the same rows, counts, errors,
//! content.
//!
//! The node is whole: its service, Raft, log, page store and SQLite on a simulated disk. Some way through, it is killed and
//! started again, so that what it answers later is computed on a replayed state.

mod generate;
mod plain;

use crate::draw::Draw;
use generate::Generator;
use plain::{Answer, Plain};
use sqlrep_core::NodeId;
use sqlrep_core::memory::{RuntimeTimer, Switchboard};
use sqlrep_disk::{Disk, Loss, SimulatedDisk};
use sqlrep_env::Env;
use sqlrep_node::{CheckpointPolicy, Mode, Net, Node, NodeOptions, Surroundings};
use sqlrep_service::QueryOptions;
use sqlrep_sql::{Outcome, Reply, Request, Shape, Statement};
use std::sync::Arc;
use std::time::Duration;

/// Requests of one seed.
const REQUESTS: u64 = 60;

const READY_MAX: Duration = Duration::from_secs(10);

/// What one seed compared.
#[derive(Debug, Default)]
pub struct Compared {
    /// Statements run on both sides.
    pub statements: u64,
    /// Of them, those that gave an error.
    pub errors: u64,
    /// The first difference, for people.
    pub difference: Option<String>,
    /// The requests up to there.
    pub past: Vec<Exchange>,
}

/// One request.
#[derive(Debug)]
pub struct Exchange {
    /// Its statements.
    pub sql: Vec<String>,
    /// Whether they were one transaction.
    pub transaction: bool,
    /// What SQLite answered.
    pub answers: String,
}

/// Compares the statements of `seed`.
///
/// # Panics
///
/// If a node doesn't start or serve: then there is nothing to compare.
#[must_use]
pub fn differential(seed: u64) -> Compared {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without input and output needs nothing of the machine");
    let mut both = Compared::default();
    for mode in [Mode::Statement, Mode::Page] {
        let one = runtime.block_on(Box::pin(compare(seed, mode)));
        both.statements += one.statements;
        both.errors += one.errors;
        if one.difference.is_some() {
            both.difference = one.difference.map(|what| format!("in {mode} mode: {what}"));
            both.past = one.past;
            return both;
        }
    }
    both
}

async fn compare(seed: u64, mode: Mode) -> Compared {
    let generator = Generator::new(seed);
    let foreign_keys = generator.draw().chance(30);
    let plain = Plain::open(foreign_keys).expect("memory suffices");
    let mut cluster = Cluster::start(seed, mode, foreign_keys).await;
    let (mut compared, restart) = (Compared::default(), generator.draw().below(REQUESTS));
    let mut past = Vec::new();
    for number in 0..REQUESTS {
        if number == restart {
            cluster.restart().await;
        }
        let (sql, transaction) = request(&generator, number);
        let (theirs, ours) = (
            plain.request(&sql, transaction),
            cluster.request(&sql, transaction).await,
        );
        compared.statements += theirs.len() as u64;
        compared.errors += theirs
            .iter()
            .filter(|one| matches!(one, Answer::Error(_)))
            .count() as u64;
        past.push(Exchange {
            sql: sql.clone(),
            transaction,
            answers: format!("{theirs:?}\n-- sqlrep: {ours:?}"),
        });
        let drawn = mode == Mode::Page && plain.may_draw_rowids();
        if drawn || refused_by_rule(&ours) {
            return compared;
        }
        if !same(&sql, &theirs, &ours) {
            let what = format!("{sql:?}\nSQLite: {theirs:?}\nsqlrep: {ours:?}");
            compared.difference = Some(what);
            compared.past = past;
            return compared;
        }
    }
    compared.difference = content(&plain, &cluster).await;
    compared.past = past;
    compared
}

fn request(generator: &Generator, number: u64) -> (Vec<String>, bool) {
    if number == 0 {
        return (vec![generator.first()], false);
    }
    let count = if generator.draw().chance(70) {
        1
    } else {
        1 + generator.draw().below(4)
    };
    let sql = (0..count).map(|_| generator.statement()).collect();
    (sql, generator.draw().chance(50))
}

/// SQLite would draw rowids at random from here on (safety rule 34); the two go different ways. Page mode refuses nothing, and
/// draws.
fn refused_by_rule(ours: &[Answer]) -> bool {
    let rule = |answer: &Answer| match answer {
        Answer::Error(message) => message.starts_with("rowid 9223372036854775807 isn't allowed"),
        _ => false,
    };
    ours.iter().any(rule)
}

/// Equal answers. A statement that changes no rows repeats the counts of an earlier one: only its kind is compared.
fn same(sql: &[String], theirs: &[Answer], ours: &[Answer]) -> bool {
    let counts = |sql: &str| {
        let verbs = ["INSERT", "REPLACE", "UPDATE", "DELETE"];
        verbs.iter().any(|verb| sql.starts_with(verb))
    };
    let equal = |((sql, one), other): ((&String, &Answer), &Answer)| match (one, other) {
        (Answer::Counts(..), Answer::Counts(..)) if !counts(sql) => true,
        (one, other) => one == other,
    };
    theirs.len() == ours.len() && sql.iter().zip(theirs).zip(ours).all(equal)
}

/// Every table, and the schema.
async fn content(plain: &Plain, cluster: &Cluster) -> Option<String> {
    let schema = "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name";
    let mut queries = vec![schema.to_owned(), "PRAGMA integrity_check".to_owned()];
    if let Answer::Rows(_, rows) =
        plain.statement("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")
    {
        let name = |row: &Vec<sqlrep_sql::Value>| match &row[0] {
            sqlrep_sql::Value::Text(name) => format!("SELECT * FROM \"{name}\" ORDER BY 1, 2"),
            other => panic!("a name is text: {other:?}"),
        };
        queries.extend(rows.iter().map(name));
    }
    for sql in queries {
        let (theirs, ours) = (plain.statement(&sql), cluster.query(&sql).await);
        if theirs != ours {
            return Some(format!("{sql}\nSQLite: {theirs:?}\nsqlrep: {ours:?}"));
        }
    }
    None
}

/// A cluster of one.
struct Cluster {
    seed: u64,
    mode: Mode,
    foreign_keys: bool,
    disk: SimulatedDisk,
    node: Option<Node>,
}

impl Cluster {
    async fn start(seed: u64, mode: Mode, foreign_keys: bool) -> Self {
        let mut cluster = Self {
            seed,
            mode,
            foreign_keys,
            disk: SimulatedDisk::new(seed),
            node: None,
        };
        cluster.boot().await;
        cluster
    }

    fn node(&self) -> &Node {
        self.node.as_ref().expect("it runs between its restarts")
    }

    async fn boot(&mut self) {
        let id = NodeId::new(1).expect("1 is an id");
        let draw = Draw::new(self.seed, "cluster");
        let mut options = NodeOptions::new("node");
        options.mode = Some(self.mode);
        options.node_id = Some(id);
        options.raft_address = Switchboard::peer(id).raft;
        options.log_segment_bytes = 1 << 20;
        options.checkpoint = CheckpointPolicy {
            entries_max: *draw.pick(&[3, 20, 1_000]),
            ..CheckpointPolicy::default()
        };
        options.cluster_settings = [
            (
                "page_bytes",
                draw.pick(&["512", "1024", "4096"]).to_string(),
            ),
            ("foreign_keys", self.foreign_keys.to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        options.surroundings = Some(Surroundings {
            disk: Arc::new(self.disk.clone()) as Arc<dyn Disk>,
            network: Net::Links(Arc::new(Switchboard::default().plug(id))),
            env: Env::simulated(draw.any(), RuntimeTimer::begin(), |_| {
                Duration::from_micros(50)
            }),
        });
        let node = Box::pin(Node::start(options))
            .await
            .expect("a whole disk starts");
        Box::pin(node.ready(READY_MAX))
            .await
            .expect("a node alone serves");
        self.node = Some(node);
    }

    /// Power loss: everything acknowledged is in the log.
    async fn restart(&mut self) {
        self.disk = self.disk.crash(Loss::Random { seed: self.seed });
        self.node = None;
        self.boot().await;
    }

    async fn request(&self, sql: &[String], transaction: bool) -> Vec<Answer> {
        let request = Request {
            statements: sql.iter().map(Statement::text).collect(),
            transaction,
            shape: Shape::Request,
            qualify_columns: false,
            replay: None,
        };
        let answer = Box::pin(self.node().execute(request)).await;
        answers(answer.expect("a node alone serves").reply)
    }

    async fn query(&self, sql: &str) -> Answer {
        let asked = self
            .node()
            .query(Request::query(sql), QueryOptions::linearizable());
        let answer = Box::pin(asked).await.expect("a node alone serves");
        answers(answer.reply).remove(0)
    }
}

fn answers(reply: Reply) -> Vec<Answer> {
    let answer = |outcome| match outcome {
        Outcome::Written(written) => Answer::Counts(written.last_insert_id, written.rows_affected),
        Outcome::Rows(rows) => Answer::Rows(rows.columns, rows.values),
        Outcome::Failed(error) => Answer::Error(error.message),
    };
    reply.outcomes.into_iter().map(answer).collect()
}
