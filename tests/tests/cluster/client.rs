//! The smallest HTTP and JSON client: what the tests know of the API, written apart from the product's own client.

use crate::waiting::LIMIT;
use serde_json::{Value, json};
use std::time::Duration;
use ureq::Agent;
use ureq::http::{HeaderMap, Response};

/// How long a question about a node's state may take.
const LOOK_MAX: Duration = Duration::from_secs(10);

/// What a client knows of its write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Acknowledged.
    Done,
    /// It certainly didn't happen.
    Refused(String),
    /// It may have happened.
    Unknown(String),
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    /// As JSON, or the text as a JSON string.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| Value::String(self.text.clone()))
    }

    /// A header; empty if it isn't there.
    pub(crate) fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value.map_or("", |value| value.to_str().unwrap())
    }
}

/// A client of one node.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    /// `host:port`.
    pub(crate) http: String,
    /// How long a request may take.
    limit: Duration,
}

impl Client {
    pub(crate) fn new(http: &str) -> Self {
        Self {
            http: http.to_owned(),
            limit: LIMIT,
        }
    }

    /// One that calls a write unknown after `limit`.
    pub(crate) fn within(&self, limit: Duration) -> Self {
        Self {
            http: self.http.clone(),
            limit,
        }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.http)
    }

    pub(crate) fn get(&self, path: &str) -> Option<(u16, String)> {
        let sent = agent(LOOK_MAX).get(self.url(path)).call();
        let answer = answer(sent).ok()?;
        Some((answer.status, answer.text))
    }

    /// Sends JSON, or what claims to be it.
    pub(crate) fn send(&self, path: &str, body: &str) -> Result<Answer, String> {
        let request = agent(self.limit).post(self.url(path));
        answer(
            request
                .header("content-type", "application/json")
                .send(body),
        )
    }

    /// Sends statements that are to be done once under `key`.
    pub(crate) fn once(&self, key: &str, body: &str) -> Result<Answer, String> {
        let request = agent(self.limit).post(self.url("/db/execute"));
        let request = request.header("content-type", "application/json");
        answer(request.header("idempotency-key", key).send(body))
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Result<(u16, Value), String> {
        let answer = self.send(path, &body.to_string())?;
        Ok((answer.status, answer.json()))
    }

    pub(crate) fn delete(&self, path: &str, body: &Value) -> Result<Answer, String> {
        let request = agent(self.limit).delete(self.url(path)).force_send_body();
        answer(request.send(body.to_string()))
    }

    /// Whether it serves, and has applied what the leader had committed.
    pub(crate) fn is_ready(&self) -> bool {
        matches!(self.get("/readyz?sync&timeout=2s"), Some((200, _)))
    }

    pub(crate) fn status(&self) -> Value {
        let (code, text) = self.get("/status").expect("it answers");
        assert_eq!(code, 200);
        serde_json::from_str(&text).unwrap()
    }

    /// One write; every answer is sorted into what the client may believe.
    pub(crate) fn execute(&self, sql: &str) -> Outcome {
        self.write("/db/execute", &json!([sql]))
    }

    pub(crate) fn write(&self, path: &str, body: &Value) -> Outcome {
        match self.post(path, body) {
            Err(error) if error.contains("refused") => Outcome::Refused(error),
            Err(error) => Outcome::Unknown(error),
            Ok((200, answer)) if !answer["error"].is_null() => {
                Outcome::Unknown(answer["error"].to_string())
            }
            Ok((200, answer)) if !answer["results"][0]["error"].is_null() => {
                Outcome::Refused(answer["results"][0]["error"].to_string())
            }
            Ok((200, _)) => Outcome::Done,
            Ok((_, answer)) => Outcome::Refused(answer.to_string()),
        }
    }

    /// A write that has to succeed.
    pub(crate) fn must(&self, sql: &str) {
        let outcome = self.execute(sql);
        assert_eq!(outcome, Outcome::Done, "{sql} at {}", self.http);
    }

    /// The rows of a query, or why there are none.
    pub(crate) fn rows(&self, sql: &str, level: &str) -> Result<Value, String> {
        let path = format!("/db/query?level={level}");
        let (status, answer) = self.post(&path, &json!([sql]))?;
        let result = &answer["results"][0];
        if status != 200 || !answer["error"].is_null() || !result["error"].is_null() {
            return Err(format!("{status} {answer}"));
        }
        Ok(result["values"].clone())
    }
}

fn agent(limit: Duration) -> Agent {
    let config = Agent::config_builder()
        .proxy(None)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .http_status_as_error(false)
        .timeout_global(Some(limit));
    config.build().new_agent()
}

fn answer(sent: Result<Response<ureq::Body>, ureq::Error>) -> Result<Answer, String> {
    let mut response = sent.map_err(|error| error.to_string())?;
    let text = response.body_mut().read_to_string();
    Ok(Answer {
        status: response.status().as_u16(),
        headers: response.headers().clone(),
        text: text.map_err(|error| error.to_string())?,
    })
}
