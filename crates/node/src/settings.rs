//! Cluster settings: what has to be equal on every node, because replicas would differ otherwise.
//!
//! They are fixed when a cluster is formed, kept in its log and in each node's file `identity`, and shown by
//! `/status`. A node that is started with another value is refused by the setting's name. As bytes they are a JSON
//! object, so that an operator can read them and a newer release can name what an older one doesn't know.
//!
//! It doesn't hold what may differ between nodes: addresses, timeouts, sizes of queues.

use crate::NodeError;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sqlrep_core::KeyLimits;
use sqlrep_sql::SqlSettings;
use std::collections::BTreeMap;

/// Everything that is equal on every node of a cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClusterSettings {
    /// Bytes of a database page: a power of two, 512 to 65536. Larger pages suit larger rows.
    pub page_bytes: u32,
    /// The largest request in bytes: text and values.
    pub request_bytes_max: u64,
    /// So many entries at least an idempotency key is kept; more lets clients retry later.
    #[serde(default = "key_retention_entries")]
    pub key_retention_entries: u64,
    /// And longer, as long as all keys with their replies take no more than so many bytes. Where the entries of the
    /// retention have keys for four times as many, further ones are refused for the time being.
    #[serde(default = "key_table_bytes")]
    pub key_table_bytes: u64,
    /// What SQL may do.
    #[serde(flatten)]
    pub sql: SqlSettings,
}

/// Of a cluster that was formed before there were keys, too.
fn key_retention_entries() -> u64 {
    KeyLimits::default().retention_entries
}

fn key_table_bytes() -> u64 {
    KeyLimits::default().table_bytes
}

impl Default for ClusterSettings {
    fn default() -> Self {
        Self {
            page_bytes: 4096,
            request_bytes_max: 8 << 20,
            key_retention_entries: key_retention_entries(),
            key_table_bytes: key_table_bytes(),
            sql: SqlSettings::default(),
        }
    }
}

/// A setting whose values differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Which.
    pub name: String,
    /// The value asked for.
    pub asked: String,
    /// The value that stands.
    pub stands: String,
}

impl ClusterSettings {
    fn object(&self) -> Map<String, Value> {
        match serde_json::to_value(self) {
            Ok(Value::Object(object)) => object,
            _ => unreachable!("a struct of numbers and switches is a JSON object"),
        }
    }

    /// Names and values, for operators.
    #[must_use]
    pub fn describe(&self) -> BTreeMap<String, String> {
        let shown = |(name, value): (String, Value)| (name, value.to_string());
        self.object().into_iter().map(shown).collect()
    }

    /// The same with some values replaced, by name.
    ///
    /// # Errors
    ///
    /// A name that is no setting, or a value that it can't have.
    pub fn with(&self, values: &BTreeMap<String, String>) -> Result<Self, NodeError> {
        let mut object = self.object();
        for (name, text) in values {
            let known: Vec<&String> = object.keys().collect();
            let names = || format!("{name} is no cluster setting; they are {known:?}");
            if !object.contains_key(name) {
                return Err(NodeError::refused(names()));
            }
            let value: Value = serde_json::from_str(text).map_err(|_| {
                NodeError::refused(format!(
                    "{name} can't be {text:?}: give a number, true or false"
                ))
            })?;
            object.insert(name.clone(), value);
        }
        let settings = Self::from_object(object)?;
        settings.check()?;
        Ok(settings)
    }

    fn from_object(object: Map<String, Value>) -> Result<Self, NodeError> {
        serde_json::from_value(Value::Object(object))
            .map_err(|error| NodeError::refused(format!("cluster settings: {error}")))
    }

    fn check(&self) -> Result<(), NodeError> {
        if sqlrep_store::PageSize::new(self.page_bytes).is_none() {
            let what = format!(
                "page_bytes can't be {}: it is a power of two, 512 to 65536",
                self.page_bytes
            );
            return Err(NodeError::refused(what));
        }
        let bytes = self.request_bytes_max;
        if !(1024..=16 << 20).contains(&bytes) {
            let what =
                format!("request_bytes_max can't be {bytes}: it lies between 1024 and 16777216");
            return Err(NodeError::refused(what));
        }
        let bytes = self.key_table_bytes;
        if !(64 << 10..=256 << 20).contains(&bytes) {
            let what =
                format!("key_table_bytes can't be {bytes}: it lies between 65536 and 268435456");
            return Err(NodeError::refused(what));
        }
        self.sql
            .check()
            .map_err(|error| NodeError::refused(error.to_string()))
    }

    /// How long idempotency keys are kept.
    #[must_use]
    pub fn keys(&self) -> KeyLimits {
        KeyLimits {
            retention_entries: self.key_retention_entries,
            table_bytes: self.key_table_bytes,
        }
    }

    /// As bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("numbers and switches have a JSON form")
    }

    /// Reads them back.
    ///
    /// # Errors
    ///
    /// Bytes that are no settings of this release.
    pub fn decode(bytes: &[u8]) -> Result<Self, NodeError> {
        let settings: Self = serde_json::from_slice(bytes)
            .map_err(|error| NodeError::refused(format!("cluster settings: {error}")))?;
        settings.check()?;
        Ok(settings)
    }

    /// What an operator is told where `theirs`, of `whom`, aren't this node's; none if they are.
    pub(crate) fn disagreement(&self, whom: &str, theirs: &[u8]) -> Option<String> {
        match Self::decode(theirs) {
            Ok(stands) => self.differences(&stands).first().map(|first| {
                format!(
                    "the cluster setting {} of {whom} is {}, this node runs with {}: settings are fixed when a \
                     cluster is formed, start this node with the same",
                    first.name, first.stands, first.asked
                )
            }),
            Err(error) => Some(format!(
                "the settings of {whom} can't be read, is it of a newer release? {error}"
            )),
        }
    }

    /// What differs where `stands` is what the cluster has.
    #[must_use]
    pub fn differences(&self, stands: &Self) -> Vec<Difference> {
        let theirs = stands.describe();
        let differs = |(name, asked): (String, String)| {
            let stands = theirs.get(&name).cloned().unwrap_or_default();
            (asked != stands).then_some(Difference {
                name,
                asked,
                stands,
            })
        };
        self.describe().into_iter().filter_map(differs).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn values(name: &str, value: &str) -> BTreeMap<String, String> {
        BTreeMap::from([(name.to_owned(), value.to_owned())])
    }

    #[test]
    fn values_are_replaced_by_name_and_come_back_from_bytes() {
        let standard = ClusterSettings::default();
        let changed = standard.with(&values("page_bytes", "8192")).unwrap();
        assert_eq!(changed.page_bytes, 8192);
        let changed = changed.with(&values("foreign_keys", "true")).unwrap();
        assert!(changed.sql.foreign_keys);
        assert_eq!(ClusterSettings::decode(&changed.encode()).unwrap(), changed);
        let names: Vec<String> = changed
            .differences(&standard)
            .into_iter()
            .map(|difference| difference.name)
            .collect();
        assert_eq!(names, ["foreign_keys", "page_bytes"]);
    }

    #[test]
    fn a_disagreement_names_the_setting_and_both_values() {
        let own = ClusterSettings::default();
        let told = |theirs: &[u8]| own.disagreement("the node at a:1", theirs);
        assert_eq!(told(&own.encode()), None);
        let theirs = own.with(&values("page_bytes", "8192")).unwrap();
        let what = told(&theirs.encode()).unwrap();
        assert!(
            what.contains("page_bytes of the node at a:1 is 8192"),
            "{what}"
        );
        assert!(what.contains("runs with 4096"), "{what}");
        assert!(told(b"{}").unwrap().contains("can't be read"));
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        for (name, value) in [
            ("page_bytes", "4097"),
            ("page_size", "4096"),
            ("foreign_keys", "3"),
            ("foreign_keys", "yes"),
            ("request_bytes_max", "0"),
            ("key_table_bytes", "1"),
            ("key_table_bytes", "268435457"),
            ("key_retention_entries", "-1"),
            ("steps_max", "-1"),
        ] {
            let error = ClusterSettings::default().with(&values(name, value));
            let text = error.unwrap_err().to_string();
            assert!(text.contains(name) || text.contains("invalid"), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(ClusterSettings::decode(&bytes).is_err());
        }
    }
}
