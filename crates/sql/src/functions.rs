//! Functions that a program adds to SQL, on every connection of its node.
//!
//! Where only one node executes and its pages travel ([`Writer::lead`](crate::Writer::lead)) they may do what they like: count,
//! draw, ask a clock. SQLite takes none of them for deterministic, so that no index and no generated column can hang on one;
//! statements, triggers, views, defaults and checks may call them, whoever made those.
//!
//! Promise: an error and a panic of a function are errors of the statement that called it, and nothing else.
//!
//! It doesn't do: aggregates, collations, virtual tables; stopping a function that runs.

use crate::guard::{OUTSIDE_FUNCTIONS, RESERVED};
use crate::{SqlFailure, Value, verdict};
use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::{Connection, ffi};
use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Arguments of a function at most, as SQLite is compiled.
const ARGUMENTS_MAX: u8 = 127;

/// Bytes of a function's name at most (<https://sqlite.org/c3ref/create_function.html>).
const NAME_BYTES_MAX: usize = 255;

type Call = dyn Fn(&[Value]) -> Result<Value, String> + Send + Sync;

#[derive(Clone)]
struct Function {
    name: String,
    /// None: any number.
    arguments: Option<u8>,
    call: Arc<Call>,
}

/// Functions by name and number of arguments, which are told apart as in SQLite. The default has none.
#[derive(Clone, Default)]
pub struct Functions(Vec<Function>);

impl Functions {
    /// Adds a scalar function: `call` is given the arguments, from any thread, several at once. Its error is the text that the
    /// statement fails with.
    pub fn add(
        &mut self,
        name: impl Into<String>,
        arguments: Option<u8>,
        call: impl Fn(&[Value]) -> Result<Value, String> + Send + Sync + 'static,
    ) {
        self.0.push(Function {
            name: name.into(),
            arguments,
            call: Arc::new(call),
        });
    }

    /// The first one's name; none if there is none.
    #[must_use]
    pub fn first(&self) -> Option<&str> {
        self.0.first().map(|one| one.name.as_str())
    }

    /// Refuses what SQLite wouldn't take, what the server or SQLite itself has, and what stands here twice.
    ///
    /// # Errors
    ///
    /// [`SqlFailure::Function`] names the first bad one.
    pub fn check(&self) -> Result<(), SqlFailure> {
        let own = built_in().map_err(|error| {
            let (code, message) = verdict::parts(error);
            SqlFailure::Sqlite { code, message }
        })?;
        for (place, one) in self.0.iter().enumerate() {
            let twice = self.0[..place].iter().any(|other| other.is(one));
            if let Some(reason) = one.fault(&own, twice) {
                let name = one.name.clone();
                return Err(SqlFailure::Function { name, reason });
            }
        }
        Ok(())
    }

    /// Adds all of them to a connection.
    pub(crate) fn install(&self, sqlite: &Connection) -> Result<(), SqlFailure> {
        for one in &self.0 {
            one.install(sqlite).map_err(|error| {
                let (code, message) = verdict::parts(error);
                SqlFailure::Sqlite { code, message }
            })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Functions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = self.0.iter().map(|one| (&one.name, one.arguments));
        f.debug_list().entries(named).finish()
    }
}

impl Function {
    fn is(&self, other: &Self) -> bool {
        self.name.eq_ignore_ascii_case(&other.name) && self.arguments == other.arguments
    }

    fn fault(&self, built_in: &[String], twice: bool) -> Option<String> {
        let lower = self.name.to_ascii_lowercase();
        if lower.is_empty() || lower.len() > NAME_BYTES_MAX || lower.contains('\0') {
            return Some(format!(
                "a name has 1 to {NAME_BYTES_MAX} bytes, none of them zero"
            ));
        }
        if self.arguments.is_some_and(|count| count > ARGUMENTS_MAX) {
            return Some(format!("a function has at most {ARGUMENTS_MAX} arguments"));
        }
        if lower.starts_with(RESERVED) {
            return Some(format!("names that begin with {RESERVED} are the server's"));
        }
        let taken = OUTSIDE_FUNCTIONS.contains(&lower.as_str()) || built_in.contains(&lower);
        if taken {
            return Some("SQLite has a function of this name; choose another one".to_owned());
        }
        twice.then(|| "it stands there twice with as many arguments".to_owned())
    }

    fn install(&self, sqlite: &Connection) -> rusqlite::Result<()> {
        // Triggers and views may call it, though the schema isn't trusted.
        let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_INNOCUOUS;
        let own = self.clone();
        let arguments = self.arguments.map_or(-1, i32::from);
        sqlite.create_scalar_function(self.name.as_str(), arguments, flags, move |context| {
            own.called(context)
        })
    }

    fn called(&self, context: &Context<'_>) -> rusqlite::Result<Value> {
        let arguments = (0..context.len()).map(|place| context.get_raw(place).into());
        let arguments: Vec<Value> = arguments.collect();
        // Whatever the function left half done is its own.
        let called = catch_unwind(AssertUnwindSafe(|| (self.call)(&arguments)));
        called
            .unwrap_or_else(|panic| Err(format!("the function {} {}", self.name, told(&*panic))))
            .map_err(|text| {
                rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_ERROR), Some(text))
            })
    }
}

fn told(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.map_or_else(|| "panicked".to_owned(), |text| format!("panicked: {text}"))
}

/// Names of SQLite's own functions, in lower case.
fn built_in() -> rusqlite::Result<Vec<String>> {
    let sqlite = Connection::open_in_memory()?;
    let mut names = sqlite.prepare("SELECT DISTINCT lower(name) FROM pragma_function_list")?;
    let names = names.query_map([], |row| row.get(0))?;
    names.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str, arguments: Option<u8>) -> Functions {
        let mut functions = Functions::default();
        functions.add(name, arguments, |_| Ok(Value::Null));
        functions
    }

    #[test]
    fn what_cannot_be_registered_is_refused_by_name() {
        named("mine", Some(127)).check().unwrap();
        let mut both = named("mine", None);
        both.add("mine", Some(2), |_| Ok(Value::Null));
        both.check().unwrap();
        both.add("MINE", Some(2), |_| Ok(Value::Null));
        assert!(both.check().unwrap_err().to_string().contains("twice"));
        for (name, arguments, text) in [
            ("", None, "1 to 255 bytes"),
            ("a\0b", None, "1 to 255 bytes"),
            ("mine", Some(128), "at most 127"),
            ("Sqlrep_mine", None, "server"),
            ("Lower", Some(9), "SQLite has"),
            ("random", Some(0), "SQLite has"),
            ("readfile", Some(1), "SQLite has"),
        ] {
            let error = named(name, arguments).check().unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
            assert!(error.contains(&format!("{name:?}")), "{error}");
        }
        assert_eq!(named("mine", None).first(), Some("mine"));
        assert_eq!(Functions::default().first(), None);
    }
}
