//! What a session's transaction was shown, so that every node can find out whether it is still true (safety rule 41).
//!
//! A session runs its statements on a private writer, over a version that may be old when it commits. Its COMMIT is a
//! request that holds all statements, what each saw as now and as random, and a digest of what they answered. Whoever
//! replays it and gets the same digest has proved that the transaction could have run right here in the log.
//!
//! It doesn't do: running anything.

use crate::{Outcome, Rows, Scene, SqlError, Value, Written};
use serde::{Deserialize, Serialize};
use sqlrep_env::UnixMillis;
use std::fmt;
use xxhash_rust::xxh3::Xxh3;

/// How the statements of a request ran when their session was open.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replay {
    /// One per statement of the request.
    pub scenes: Vec<ReplayScene>,
    /// [`Digest::finish`] over their outcomes.
    pub digest: [u8; 16],
}

/// What a statement saw as now and as random.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayScene {
    /// Milliseconds since the Unix epoch.
    pub stamp_unix_ms: u64,
    /// Where `random()` and `randomblob()` began.
    pub seed: u64,
}

impl From<Scene> for ReplayScene {
    fn from(scene: Scene) -> Self {
        Self {
            stamp_unix_ms: scene.now.0,
            seed: scene.seed,
        }
    }
}

impl From<ReplayScene> for Scene {
    fn from(scene: ReplayScene) -> Self {
        Self {
            now: UnixMillis(scene.stamp_unix_ms),
            seed: scene.seed,
        }
    }
}

/// Gathers what statements answered: XXH3-128 over an encoding in which each answer has one form, and no two have the
/// same. How long they took and the tables of columns aren't in it.
#[derive(Clone, Default)]
pub struct Digest(Xxh3);

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({:032x})", self.0.digest128())
    }
}

impl Digest {
    /// Adds what the next text answered; none: there was no statement in it.
    pub fn add(&mut self, outcome: Option<&Outcome>) {
        match outcome {
            None => self.byte(0),
            Some(Outcome::Written(written)) => self.written(written),
            Some(Outcome::Rows(rows)) => self.rows(rows),
            Some(Outcome::Failed(error)) => self.failed(error),
        }
    }

    /// Of all that was added, in little-endian.
    #[must_use]
    pub fn finish(&self) -> [u8; 16] {
        self.0.digest128().to_le_bytes()
    }

    fn byte(&mut self, byte: u8) {
        self.0.update(&[byte]);
    }

    fn number(&mut self, number: u64) {
        self.0.update(&number.to_le_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(u64::try_from(bytes.len()).expect("a length fits 64 bits"));
        self.0.update(bytes);
    }

    fn written(&mut self, written: &Written) {
        self.byte(1);
        self.number(written.last_insert_id.cast_unsigned());
        self.number(written.rows_affected);
    }

    fn rows(&mut self, rows: &Rows) {
        self.byte(2);
        self.number(rows.columns.len() as u64);
        for column in &rows.columns {
            self.bytes(column.as_bytes());
        }
        for declared in &rows.types {
            self.byte(u8::from(declared.is_some()));
            if let Some(declared) = declared {
                self.bytes(declared.as_bytes());
            }
        }
        self.number(rows.values.len() as u64);
        for value in rows.values.iter().flatten() {
            self.value(value);
        }
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Null => self.byte(0),
            Value::Integer(integer) => {
                self.byte(1);
                self.number(integer.cast_unsigned());
            }
            Value::Real(real) => {
                self.byte(2);
                self.number(real.to_bits());
            }
            Value::Text(text) => {
                self.byte(3);
                self.bytes(text.as_bytes());
            }
            Value::Blob(bytes) => {
                self.byte(4);
                self.bytes(bytes);
            }
        }
    }

    fn failed(&mut self, error: &SqlError) {
        self.byte(3);
        self.0.update(&error.code.to_le_bytes());
        self.bytes(error.message.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn digest(outcomes: &[Option<Outcome>]) -> [u8; 16] {
        let mut digest = Digest::default();
        for outcome in outcomes {
            digest.add(outcome.as_ref());
        }
        digest.finish()
    }

    fn rows(columns: &[&str], values: Vec<Vec<Value>>) -> Outcome {
        Outcome::Rows(Rows {
            columns: columns.iter().map(|&name| name.to_owned()).collect(),
            types: vec![None; columns.len()],
            values,
            ..Rows::default()
        })
    }

    fn written(last_insert_id: i64, rows_affected: u64) -> Outcome {
        Outcome::Written(Written {
            last_insert_id,
            rows_affected,
            took: Duration::from_millis(rows_affected),
        })
    }

    /// The bytes of `docs/formats.md`, "The digest of a session": hashed here from the bytes that stand there.
    #[test]
    fn the_bytes_stay_what_they_are() {
        let mut table = rows(
            &["a"],
            vec![
                vec![Value::Null],
                vec![Value::Integer(-1)],
                vec![Value::Real(1.0)],
                vec![Value::Text("t".to_owned())],
                vec![Value::Blob(vec![9])],
            ],
        );
        if let Outcome::Rows(rows) = &mut table {
            rows.types = vec![Some("x".to_owned())];
        }
        let failed = Outcome::Failed(SqlError {
            code: 19,
            message: "no".to_owned(),
        });
        let bytes = b"\x00\
            \x01\xff\xff\xff\xff\xff\xff\xff\xff\x02\0\0\0\0\0\0\0\
            \x02\x01\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0a\x01\x01\0\0\0\0\0\0\0x\x05\0\0\0\0\0\0\0\
            \0\
            \x01\xff\xff\xff\xff\xff\xff\xff\xff\
            \x02\0\0\0\0\0\0\xf0\x3f\
            \x03\x01\0\0\0\0\0\0\0t\
            \x04\x01\0\0\0\0\0\0\0\x09\
            \x03\x13\0\0\0\x02\0\0\0\0\0\0\0no";
        let found = digest(&[None, Some(written(-1, 2)), Some(table), Some(failed)]);
        assert_eq!(found, xxhash_rust::xxh3::xxh3_128(bytes).to_le_bytes());
    }

    #[test]
    fn time_isnt_part_of_an_answer() {
        let slow = |took| {
            let mut outcome = written(1, 1);
            if let Outcome::Written(written) = &mut outcome {
                written.took = Duration::from_secs(took);
            }
            digest(&[Some(outcome)])
        };
        assert_eq!(slow(1), slow(2));
    }

    /// What differs for a client differs here: moved borders, other classes, an answer more.
    #[test]
    fn different_answers_have_different_digests() {
        let text = |text: &str| Value::Text(text.to_owned());
        let answers = [
            vec![],
            vec![None],
            vec![None, None],
            vec![Some(written(1, 2))],
            vec![Some(written(2, 1))],
            vec![Some(rows(&["a"], vec![]))],
            vec![Some(rows(&["a"], vec![vec![Value::Null]]))],
            vec![Some(rows(&["a"], vec![vec![Value::Integer(0)]]))],
            vec![Some(rows(&["a"], vec![vec![Value::Real(0.0)]]))],
            vec![Some(rows(&["a"], vec![vec![Value::Real(-0.0)]]))],
            vec![Some(rows(&["a"], vec![vec![Value::Blob(vec![b'x'])]]))],
            vec![Some(rows(&["a"], vec![vec![text("x")]]))],
            vec![Some(rows(&["a", "b"], vec![vec![text("x"), text("yz")]]))],
            vec![Some(rows(&["a", "b"], vec![vec![text("xy"), text("z")]]))],
            vec![Some(rows(&["ab", ""], vec![vec![text("xy"), text("z")]]))],
        ];
        let digests: std::collections::BTreeSet<_> =
            answers.iter().map(|answer| digest(answer)).collect();
        assert_eq!(digests.len(), answers.len());
    }

    proptest! {
        #[test]
        fn a_scene_comes_back(stamp_unix_ms: u64, seed: u64) {
            let scene = ReplayScene { stamp_unix_ms, seed };
            prop_assert_eq!(ReplayScene::from(Scene::from(scene)), scene);
        }
    }
}
