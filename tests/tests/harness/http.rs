//! The smallest HTTP and JSON client: what the tests know of the API, written apart from the product's own client.

use serde_json::Value;
use std::time::Duration;
use ureq::Agent;

/// How long one request may take.
const REQUEST_MAX: Duration = Duration::from_secs(40);

/// An answer: status and text.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// A client of one node.
pub(crate) struct Http {
    agent: Agent,
    base: String,
}

impl Http {
    pub(crate) fn new(address: &str) -> Self {
        let config = Agent::config_builder()
            .proxy(None)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .timeout_global(Some(REQUEST_MAX));
        Self {
            agent: config.build().new_agent(),
            base: format!("http://{address}"),
        }
    }

    /// None: no answer came.
    pub(crate) fn get(&self, path: &str) -> Option<Answer> {
        answer(self.agent.get(format!("{}{path}", self.base)).call())
    }

    /// None: no answer came, and it isn't known what happened.
    pub(crate) fn post(&self, path: &str, body: &Value) -> Option<Answer> {
        let request = self.agent.post(format!("{}{path}", self.base));
        let request = request.header("content-type", "application/json");
        answer(request.send(body.to_string()))
    }

    /// Runs statements and gives their results; panics on anything but success of all.
    pub(crate) fn execute(&self, statements: &Value) -> Vec<Value> {
        self.results("/db/execute", statements)
    }

    /// As [`execute`](Self::execute), at a read level.
    pub(crate) fn query(&self, statements: &Value, level: &str) -> Vec<Value> {
        self.results(&format!("/db/query?level={level}"), statements)
    }

    fn results(&self, path: &str, statements: &Value) -> Vec<Value> {
        let answer = self.post(path, statements);
        let answer = answer.unwrap_or_else(|| panic!("{} gives no answer to {path}", self.base));
        let json = answer.json();
        assert_eq!(answer.status, 200, "{json}");
        assert_eq!(json.get("error"), None, "{json}");
        let results = json["results"].as_array().cloned().unwrap_or_default();
        let failed = results.iter().find(|one| one.get("error").is_some());
        assert_eq!(failed, None, "{statements}");
        results
    }
}

fn answer(sent: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Option<Answer> {
    let mut response = sent.ok()?;
    let status = response.status().as_u16();
    let text = response.body_mut().read_to_string().ok()?;
    Some(Answer { status, text })
}
