//! The authorizer: what SQLite is about to do, before it does it (safety rules 35 and 40).
//!
//! SQLite asks while it compiles a statement, and again for the statements that virtual tables and VACUUM run for
//! themselves. So it sees through comments, views and triggers. Refusing records a text that says what to do.
//!
//! It doesn't do: keeping a reader from writing. Its connection can't, and SQLite tells which statements would.

use crate::SqlSettings;
use crate::pragma::{self, Role};
use rusqlite::hooks::{AuthAction, AuthContext, Authorization, TransactionOperation};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// On whose behalf SQLite acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Our own statements.
    Own,
    /// A client's statement is compiled.
    Compile,
    /// A client's statement runs; what is compiled now belongs to a virtual table or to VACUUM.
    Run,
}

/// What a SAVEPOINT statement does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SavepointStep {
    Begin(String),
    Release(String),
    RollBackTo(String),
}

/// What was seen while a statement was compiled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Anything at all.
    pub(crate) any: bool,
    /// Rows are changed by the statement itself.
    pub(crate) changes_rows: bool,
    /// The schema, or what the planner knows, is changed.
    pub(crate) changes_schema: bool,
    /// A SELECT, also an inner one.
    pub(crate) selects: bool,
    /// The verdict hangs on the request, or on more than the text.
    pub(crate) special: bool,
    pub(crate) created_table: Option<String>,
    pub(crate) savepoint: Option<SavepointStep>,
}

struct State {
    phase: Phase,
    /// The request is one transaction.
    transaction: bool,
    /// VACUUM may attach its own file.
    vacuum: bool,
    facts: Facts,
    denial: Option<String>,
}

/// Shared between a connection's owner and its authorizer.
#[derive(Clone)]
pub(crate) struct Guard {
    state: Arc<Mutex<State>>,
    role: Role,
    settings: Arc<SqlSettings>,
}

/// Names that belong to this server.
pub(crate) const RESERVED: &str = "sqlrep_";

const MODULES: [&str; 8] = [
    "fts5",
    "fts5vocab",
    "fts4",
    "fts4aux",
    "fts3",
    "rtree",
    "rtree_i32",
    "geopoly",
];

/// What differs from build to build.
pub(crate) const VERSION_FUNCTIONS: [(&str, i32); 5] = [
    ("sqlite_version", 0),
    ("sqlite_source_id", 0),
    ("sqlite_compileoption_get", 1),
    ("sqlite_compileoption_used", 1),
    ("fts5_source_id", 0),
];

pub(crate) const OUTSIDE_FUNCTIONS: [&str; 6] = [
    "load_extension",
    "fts3_tokenizer",
    "readfile",
    "writefile",
    "edit",
    "sqlite_log",
];

impl Guard {
    pub(crate) fn new(role: Role, settings: &SqlSettings) -> Self {
        let state = State {
            phase: Phase::Own,
            transaction: false,
            vacuum: false,
            facts: Facts::default(),
            denial: None,
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            role,
            settings: Arc::new(settings.clone()),
        }
    }

    /// Puts the authorizer into a connection.
    pub(crate) fn install(&self, sqlite: &mut rusqlite::Connection) -> rusqlite::Result<()> {
        let own = self.clone();
        sqlite.authorizer(Some(move |asked: AuthContext<'_>| own.answer(&asked)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change under this lock is one assignment.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request begins.
    pub(crate) fn begin(&self, transaction: bool) {
        self.state().transaction = transaction;
    }

    /// A client's statement is compiled from here on.
    pub(crate) fn compile(&self) {
        let mut state = self.state();
        state.phase = Phase::Compile;
        state.facts = Facts::default();
        state.denial = None;
    }

    /// It runs from here on.
    pub(crate) fn run(&self, vacuum: bool) {
        let mut state = self.state();
        state.phase = Phase::Run;
        state.vacuum = vacuum;
    }

    /// Our own statements again.
    pub(crate) fn own(&self) {
        let mut state = self.state();
        state.phase = Phase::Own;
        state.vacuum = false;
    }

    pub(crate) fn facts(&self) -> Facts {
        self.state().facts.clone()
    }

    /// Why something was refused since the statement began to be compiled.
    pub(crate) fn take_denial(&self) -> Option<String> {
        self.state().denial.take()
    }

    fn answer(&self, asked: &AuthContext<'_>) -> Authorization {
        let mut state = self.state();
        if state.phase == Phase::Own {
            return Authorization::Allow;
        }
        if state.phase == Phase::Compile {
            state.facts.note(asked);
        }
        let verdict = temporary(asked).and_then(|()| self.judge(&state, &asked.action));
        match verdict {
            Ok(()) => Authorization::Allow,
            Err(reason) => {
                state.denial.get_or_insert(reason);
                Authorization::Deny
            }
        }
    }

    fn judge(&self, state: &State, action: &AuthAction<'_>) -> Result<(), String> {
        use AuthAction as A;
        match *action {
            A::Pragma { pragma_name, .. }
                if state.phase == Phase::Run && pragma::internal(pragma_name) =>
            {
                Ok(())
            }
            A::Pragma {
                pragma_name,
                pragma_value,
            } => pragma::judge(pragma_name, pragma_value, self.role, &self.settings),
            A::Function { function_name } => self.function(function_name),
            A::Read { table_name, .. } => self.read(table_name),
            A::CreateTable { table_name }
            | A::CreateView {
                view_name: table_name,
            }
            | A::Insert { table_name }
            | A::Update { table_name, .. }
            | A::Delete { table_name }
            | A::DropTable { table_name } => unreserved(table_name),
            A::CreateVtable {
                table_name,
                module_name,
            } => unreserved(table_name).and_then(|()| module(module_name)),
            A::Attach { filename } => attach(state, filename),
            A::Detach { .. } if state.phase == Phase::Run && state.vacuum => Ok(()),
            A::Detach { .. } => Err(attached()),
            A::Transaction { .. } if state.phase == Phase::Run && state.vacuum => Ok(()),
            A::Transaction { .. } => Err(transaction_control()),
            A::Savepoint { .. } if state.transaction => Ok(()),
            A::Savepoint { .. } => Err(transaction_control()),
            _ => Ok(()),
        }
    }

    fn function(&self, name: &str) -> Result<(), String> {
        let lower = name.to_ascii_lowercase();
        if OUTSIDE_FUNCTIONS.contains(&lower.as_str()) {
            return Err(format!(
                "the function {lower} isn't allowed: SQL can't reach outside the database"
            ));
        }
        if lower == "optimize" {
            return Err(
                "the function optimize isn't allowed; use INSERT INTO t(t) VALUES('optimize')"
                    .to_owned(),
            );
        }
        let differs = VERSION_FUNCTIONS.iter().any(|(own, _)| *own == lower);
        if differs && self.role == Role::Writer {
            return Err(version_function(&lower));
        }
        Ok(())
    }

    fn read(&self, table: &str) -> Result<(), String> {
        let lower = table.to_ascii_lowercase();
        if let Some(name) = lower.strip_prefix("pragma_") {
            return pragma::judge(name, None, self.role, &self.settings);
        }
        if lower == "sqlite_dbpage" && self.role != Role::Reader {
            return Err(
                "sqlite_dbpage can't be read in a request that writes; send it as a query"
                    .to_owned(),
            );
        }
        unreserved(table)
    }
}

impl Facts {
    fn note(&mut self, asked: &AuthContext<'_>) {
        use AuthAction as A;
        self.any = true;
        match asked.action {
            A::Select => self.selects = true,
            A::Insert { table_name } | A::Delete { table_name } | A::Update { table_name, .. } => {
                if is_schema(table_name) {
                    self.changes_schema = true;
                } else if asked.accessor.is_none() {
                    self.changes_rows = true;
                }
            }
            A::CreateTable { table_name } => {
                self.changes_schema = true;
                self.created_table = Some(table_name.to_owned());
            }
            A::Savepoint {
                operation,
                savepoint_name,
            } => {
                self.special = true;
                let name = savepoint_name.to_owned();
                self.savepoint = match operation {
                    TransactionOperation::Begin => Some(SavepointStep::Begin(name)),
                    TransactionOperation::Release => Some(SavepointStep::Release(name)),
                    TransactionOperation::Rollback => Some(SavepointStep::RollBackTo(name)),
                    _ => None,
                };
            }
            A::Pragma { .. } | A::Transaction { .. } => self.special = true,
            A::Read { .. } | A::Function { .. } | A::Recursive => {}
            // All others are DDL, ANALYZE, REINDEX or ATTACH.
            _ => self.changes_schema = true,
        }
    }

    /// Whether it makes a table from a SELECT.
    pub(crate) fn table_from_select(&self) -> Option<&str> {
        self.created_table.as_deref().filter(|_| self.selects)
    }

    /// Whether the compiled statement may be kept.
    pub(crate) fn cacheable(&self) -> bool {
        self.any && !self.changes_schema && !self.special
    }
}

fn is_schema(table: &str) -> bool {
    [
        "sqlite_master",
        "sqlite_schema",
        "sqlite_temp_master",
        "sqlite_temp_schema",
    ]
    .iter()
    .any(|name| name.eq_ignore_ascii_case(table))
}

fn unreserved(table: &str) -> Result<(), String> {
    let start = table.get(..RESERVED.len());
    if start.is_some_and(|start| start.eq_ignore_ascii_case(RESERVED)) {
        return Err(format!(
            "{table}: names that begin with {RESERVED} are reserved for the server"
        ));
    }
    Ok(())
}

fn module(name: &str) -> Result<(), String> {
    if MODULES.iter().any(|own| own.eq_ignore_ascii_case(name)) {
        return Ok(());
    }
    Err(format!(
        "virtual tables of module {name} aren't allowed; these are: {}",
        MODULES.join(", ")
    ))
}

/// `temp.t` names a TEMP object too; creating it inserts into the schema table of TEMP.
fn temporary(asked: &AuthContext<'_>) -> Result<(), String> {
    use AuthAction as A;
    let in_temp = asked.database_name == Some("temp");
    match asked.action {
        A::CreateTempIndex { .. }
        | A::CreateTempTable { .. }
        | A::CreateTempTrigger { .. }
        | A::CreateTempView { .. }
        | A::DropTempIndex { .. }
        | A::DropTempTable { .. }
        | A::DropTempTrigger { .. }
        | A::DropTempView { .. } => {}
        A::Insert { .. } | A::CreateTable { .. } | A::CreateVtable { .. } if in_temp => {}
        _ => return Ok(()),
    }
    Err(
        "TEMP objects aren't allowed: they would live on one connection of one node; use WITH, or a table"
            .to_owned(),
    )
}

fn attach(state: &State, file: &str) -> Result<(), String> {
    if state.phase == Phase::Compile {
        return Err(attached());
    }
    if !file.is_empty() {
        return Err(
            "VACUUM INTO isn't allowed: SQL can't write files; ask the server for a backup"
                .to_owned(),
        );
    }
    if state.vacuum {
        return Ok(());
    }
    Err(vacuum_alone())
}

fn attached() -> String {
    "ATTACH and DETACH aren't allowed: a node has one database".to_owned()
}

fn transaction_control() -> String {
    "transactions can't be begun or ended by a statement: send all statements in one request with transaction=true, \
     or use a session"
        .to_owned()
}

pub(crate) fn vacuum_alone() -> String {
    "VACUUM has to be a request of its own: one statement, without transaction".to_owned()
}

pub(crate) fn version_function(name: &str) -> String {
    format!(
        "the function {name} isn't allowed in a request that writes: its result differs between nodes"
    )
}
