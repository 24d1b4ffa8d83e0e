//! A blocking HTTP client for one node.
//!
//! Times and sizes are bounded: nobody's node can hang the shell or fill its memory. A redirect is an error with its
//! address, never followed, since it may lead to a machine that the user didn't name. Proxies from the environment
//! aren't used: nodes are near. It knows the API's JSON, and not what SQL means.

use serde::Deserialize;
use serde_json::Value;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;
use ureq::Agent;
use ureq::http::{Response, StatusCode};

/// How long a connection may take.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// How long a request may take; servers give up after 30 s by themselves.
const REQUEST_MAX: Duration = Duration::from_secs(60);

/// The largest answer that is taken in.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// How long a person may think within a transaction.
const SESSION_IDLE_MS: u64 = 60_000;

/// How long a transaction of a person may last.
const SESSION_TOTAL_MS: u64 = 600_000;

/// How the API begins to say that a COMMIT was refused by SQLite and nothing is over.
const STILL_OPEN: &str = "not committed, the transaction is still open";

/// How much of an error page is shown.
const ERROR_CHARS_MAX: usize = 500;

/// A node's client address: `http://host:port`, without a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target(String);

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.starts_with("https://") {
            return Err("this release has no TLS; give http://HOST:PORT".to_owned());
        }
        let bare = text.strip_prefix("http://").unwrap_or(text);
        let address: crate::address::Address = bare.trim_end_matches('/').parse()?;
        Ok(Self(format!("http://{address}")))
    }
}

/// Why there is no answer to show.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// The request didn't get through, or its answer didn't.
    #[error("{target} doesn't answer: {source}; check --addr and that the node runs")]
    Unreachable {
        target: String,
        source: Box<ureq::Error>,
    },
    /// The write may have happened.
    #[error("it isn't known whether the request was done: {0}; look before you repeat it")]
    Unknown(String),
    /// The node refused.
    #[error("the node refuses: {0}")]
    Refused(String),
    /// SQLite refused a COMMIT.
    #[error("{0}")]
    StillOpen(String),
    /// The node names another place.
    #[error("the node redirects to {0}; give that as --addr if you trust it")]
    Redirected(String),
    /// The answer is none of this API.
    #[error("the answer is no sqlrep answer: {0}")]
    Malformed(String),
}

/// What one statement gave.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Outcome {
    /// Column names, if it gave rows.
    pub(crate) columns: Option<Vec<String>>,
    /// Row by row.
    pub(crate) values: Vec<Vec<Value>>,
    /// Rows that it changed.
    pub(crate) rows_affected: Option<u64>,
    /// Why SQLite refused it.
    pub(crate) error: Option<String>,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    results: Vec<Outcome>,
    error: Option<String>,
}

/// What came back.
struct Posted {
    status: StatusCode,
    text: String,
    /// Whether the answer says that its outcome isn't known, if it has one that says anything.
    unknown: bool,
}

/// A client of one node.
pub(crate) struct Client {
    agent: Agent,
    target: Target,
}

impl Client {
    pub(crate) fn new(target: Target) -> Self {
        Self::with_limit(target, REQUEST_MAX)
    }

    /// A client whose requests end within `request_max`.
    pub(crate) fn with_limit(target: Target, request_max: Duration) -> Self {
        let config = Agent::config_builder()
            .proxy(None)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT_MAX))
            .timeout_global(Some(request_max));
        Self {
            agent: config.build().new_agent(),
            target,
        }
    }

    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    fn unreachable(&self, source: ureq::Error) -> ClientError {
        ClientError::Unreachable {
            target: self.target.to_string(),
            source: Box::new(source),
        }
    }

    /// Runs statements, each text or text with parameters, at a read level.
    pub(crate) fn request(
        &self,
        statements: &Value,
        level: &str,
    ) -> Result<Vec<Outcome>, ClientError> {
        let path = format!("/db/request?level={level}");
        let posted = self.post(&path, statements)?;
        succeeded(posted.status, &posted.text)?;
        outcomes(&posted.text, posted.unknown)
    }

    /// Opens a session; its name.
    pub(crate) fn begin(&self, begin: &str, level: &str) -> Result<String, ClientError> {
        let body = serde_json::json!({
            "begin": begin,
            "level": level,
            "idle_ms": SESSION_IDLE_MS,
            "total_ms": SESSION_TOTAL_MS,
        });
        let posted = self.post("/v1/sessions", &body)?;
        succeeded(posted.status, &posted.text)?;
        let answer: Value = serde_json::from_str(&posted.text)
            .map_err(|error| ClientError::Malformed(error.to_string()))?;
        let name = answer["session"].as_str().map(str::to_owned);
        name.ok_or_else(|| ClientError::Malformed("it names no session".to_owned()))
    }

    /// Runs statements in a session.
    pub(crate) fn statements(
        &self,
        session: &str,
        statements: &Value,
    ) -> Result<Vec<Outcome>, ClientError> {
        let posted = self.post(&format!("/v1/sessions/{session}/statements"), statements)?;
        succeeded(posted.status, &posted.text)?;
        outcomes(&posted.text, posted.unknown)
    }

    /// Commits a session, or takes it back.
    pub(crate) fn end(&self, session: &str, commit: bool) -> Result<(), ClientError> {
        let how = if commit { "commit" } else { "rollback" };
        let posted = self.post(&format!("/v1/sessions/{session}/{how}"), &Value::Null)?;
        if posted.status == StatusCode::CONFLICT && posted.text.starts_with(STILL_OPEN) {
            return Err(ClientError::StillOpen(posted.text.trim().to_owned()));
        }
        succeeded(posted.status, &posted.text)?;
        if posted.unknown {
            outcomes(&posted.text, true)?;
        }
        Ok(())
    }

    fn post(&self, path: &str, body: &Value) -> Result<Posted, ClientError> {
        let body = match body {
            Value::Null => String::new(),
            body => body.to_string(),
        };
        let sent = self
            .agent
            .post(format!("{}{path}", self.target))
            .header("content-type", "application/json")
            .send(body.as_bytes());
        let response = match sent {
            Ok(response) => response,
            Err(error) if certainly_unsent(&error) => return Err(self.unreachable(error)),
            Err(error) => return Err(ClientError::Unknown(error.to_string())),
        };
        let unknown = response.headers().contains_key("x-sqlrep-outcome");
        let (status, text) = read(response).map_err(ClientError::Unknown)?;
        Ok(Posted {
            status,
            text,
            unknown,
        })
    }

    /// Gets JSON.
    pub(crate) fn json(&self, path: &str) -> Result<Value, ClientError> {
        let (status, text) = self.get(path)?;
        succeeded(status, &text)?;
        serde_json::from_str(&text).map_err(|error| ClientError::Malformed(error.to_string()))
    }

    /// Whether the node is ready to serve.
    pub(crate) fn is_ready(&self) -> bool {
        self.get("/readyz")
            .is_ok_and(|(status, _)| status == StatusCode::OK)
    }

    fn get(&self, path: &str) -> Result<(StatusCode, String), ClientError> {
        let sent = self.agent.get(format!("{}{path}", self.target)).call();
        let response = sent.map_err(|error| self.unreachable(error))?;
        read(response).map_err(ClientError::Malformed)
    }
}

/// Whether no byte of the request can have reached a node.
fn certainly_unsent(error: &ureq::Error) -> bool {
    match error {
        ureq::Error::HostNotFound | ureq::Error::ConnectionFailed | ureq::Error::BadUri(_) => true,
        ureq::Error::Timeout(step) => {
            matches!(step, ureq::Timeout::Resolve | ureq::Timeout::Connect)
        }
        ureq::Error::Io(error) => error.kind() == std::io::ErrorKind::ConnectionRefused,
        _ => false,
    }
}

/// The status and, for a redirect, where it leads; else the body.
fn read(response: Response<ureq::Body>) -> Result<(StatusCode, String), String> {
    let status = response.status();
    if status.is_redirection() {
        let location = response.headers().get("location");
        let location = location.map(|place| String::from_utf8_lossy(place.as_bytes()).into_owned());
        return Ok((status, location.unwrap_or_default()));
    }
    let mut body = response.into_body();
    let bytes = body.with_config().limit(ANSWER_BYTES_MAX).read_to_vec();
    let bytes = bytes.map_err(|error| error.to_string())?;
    Ok((status, String::from_utf8_lossy(&bytes).into_owned()))
}

fn succeeded(status: StatusCode, text: &str) -> Result<(), ClientError> {
    let shown: String = text.trim().chars().take(ERROR_CHARS_MAX).collect();
    if status.is_success() {
        Ok(())
    } else if status.is_redirection() {
        Err(ClientError::Redirected(shown))
    } else if shown.is_empty() {
        Err(ClientError::Refused(status.to_string()))
    } else {
        Err(ClientError::Refused(shown))
    }
}

fn outcomes(text: &str, unknown: bool) -> Result<Vec<Outcome>, ClientError> {
    let answer: Answer =
        serde_json::from_str(text).map_err(|error| ClientError::Malformed(error.to_string()))?;
    match answer.error {
        None => Ok(answer.results),
        Some(error) if unknown => Err(ClientError::Unknown(error)),
        Some(error) => Err(ClientError::Refused(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn targets_are_urls_without_a_path() {
        let target = |text: &str| text.parse::<Target>().map(|target| target.to_string());
        assert_eq!(target("localhost:4001").unwrap(), "http://localhost:4001");
        assert_eq!(target("http://[::1]:4001/").unwrap(), "http://[::1]:4001");
        assert!(target("https://a:1").unwrap_err().contains("no TLS"));
        assert!(target("http://a:1/db").unwrap_err().contains("1 to 65535"));
    }

    #[test]
    fn answers_are_told_apart() {
        let text = r#"{"results":[{"last_insert_id":1,"rows_affected":2},{"columns":["a"],"types":["text"]},
            {"error":"no such table: t"},{}]}"#;
        let all = outcomes(text, false).unwrap();
        assert_eq!(all[0].rows_affected, Some(2));
        assert_eq!(all[1].columns, Some(vec!["a".to_owned()]));
        assert!(all[1].values.is_empty());
        assert_eq!(all[2].error.as_deref(), Some("no such table: t"));
        assert_eq!(all[3], Outcome::default());
    }

    #[test]
    fn an_unknown_outcome_is_said_to_be_unknown() {
        let text = r#"{"results":[],"error":"leadership lost"}"#;
        assert!(matches!(outcomes(text, true), Err(ClientError::Unknown(_))));
        assert!(matches!(
            outcomes(text, false),
            Err(ClientError::Refused(_))
        ));
        assert!(matches!(
            outcomes("<html>", false),
            Err(ClientError::Malformed(_))
        ));
    }

    #[test]
    fn a_redirect_is_shown_not_followed() {
        let error = succeeded(StatusCode::MOVED_PERMANENTLY, "http://b:1/db/request").unwrap_err();
        assert!(error.to_string().contains("http://b:1/db/request"));
        let error = succeeded(StatusCode::SERVICE_UNAVAILABLE, "leader not found\n").unwrap_err();
        assert_eq!(error.to_string(), "the node refuses: leader not found");
    }

    #[test]
    fn nobody_listening_is_no_unknown_outcome() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let target: Target = listener.local_addr().unwrap().to_string().parse().unwrap();
        drop(listener);
        let error = Client::new(target).request(&serde_json::json!(["SELECT 1"]), "weak");
        assert!(
            matches!(error, Err(ClientError::Unreachable { .. })),
            "{error:?}"
        );
    }

    proptest! {
        #[test]
        fn any_body_is_read_without_a_panic(text in "\\PC{0,80}", unknown: bool) {
            outcomes(&text, unknown).ok();
        }
    }
}
