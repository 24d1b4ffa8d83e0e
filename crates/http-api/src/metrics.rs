//! `/metrics`: Prometheus' text format (<https://prometheus.io/docs/instrumenting/exposition_formats/>).
//!
//! A name that ends in `_total` is a counter, any other a gauge. Names begin with `sqlrep_`; characters that
//! Prometheus doesn't allow become `_`.

use crate::outcome::{Response, plain};
use hyper::StatusCode;
use sqlrep_core::EntryId;
use sqlrep_service::{Histogram, Role, Status};
use std::fmt::Write;

const ROLES: [(Role, &str); 5] = [
    (Role::Leader, "leader"),
    (Role::Follower, "follower"),
    (Role::Candidate, "candidate"),
    (Role::Learner, "learner"),
    (Role::Shutdown, "shutdown"),
];

pub(crate) fn answer(status: &Status) -> Response {
    let mut out = Text(String::with_capacity(4096));
    out.kind("raft_state", "gauge");
    for (role, name) in ROLES {
        let label = format!("raft_state{{state=\"{name}\"}}");
        out.line(&label, u8::from(status.role == role));
    }
    out.gauge("raft_term", status.term);
    out.gauge("raft_voter", u8::from(status.voter));
    out.gauge("raft_members", status.members.len());
    out.index("raft_last_log_index", status.log.last);
    if let Some(committed) = status.log.committed {
        out.gauge("raft_commit_index", committed);
    }
    out.index("raft_applied_index", status.log.applied);
    out.index("raft_durable_index", status.log.durable);
    out.index("raft_purged_index", status.log.purged);
    out.gauge("raft_log_bytes", status.log.bytes);
    if let Some(contact) = status.last_contact {
        out.gauge("raft_last_contact_seconds", contact.as_secs_f64());
    }
    out.gauge("database_pages", status.sqlite.pages);
    out.gauge("database_page_bytes", status.sqlite.page_bytes);
    out.gauge("database_version_bytes", status.sqlite.version_bytes);
    out.gauge("uptime_seconds", status.uptime.as_secs_f64());
    for (name, value) in &status.metrics {
        out.measured(name, *value);
    }
    for (name, histogram) in &status.histograms {
        out.histogram(name, histogram);
    }
    let mut response = plain(StatusCode::OK, out.0);
    response.headers_mut().insert(
        hyper::header::CONTENT_TYPE,
        hyper::header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"),
    );
    response
}

struct Text(String);

impl Text {
    fn kind(&mut self, name: &str, kind: &str) {
        writeln!(self.0, "# TYPE sqlrep_{name} {kind}").expect("memory takes any text");
    }

    fn line(&mut self, name: &str, value: impl std::fmt::Display) {
        writeln!(self.0, "sqlrep_{name} {value}").expect("memory takes any text");
    }

    fn gauge(&mut self, name: &str, value: impl std::fmt::Display) {
        self.kind(name, "gauge");
        self.line(name, value);
    }

    fn index(&mut self, name: &str, entry: Option<EntryId>) {
        if let Some(entry) = entry {
            self.gauge(name, entry.index);
        }
    }

    fn histogram(&mut self, name: &str, histogram: &Histogram) {
        self.kind(name, "histogram");
        for (bound, count) in histogram.bounds_seconds.iter().zip(&histogram.counts) {
            self.line(&format!("{name}_bucket{{le=\"{bound}\"}}"), count);
        }
        let all = histogram.counts.last().copied().unwrap_or(0);
        self.line(&format!("{name}_bucket{{le=\"+Inf\"}}"), all);
        self.line(&format!("{name}_sum"), histogram.sum_seconds);
        self.line(&format!("{name}_count"), all);
    }

    fn measured(&mut self, name: &str, value: f64) {
        let name = name.strip_prefix("sqlrep_").unwrap_or(name);
        let allowed = |c: char| {
            if c.is_ascii_alphanumeric() || c == ':' {
                c
            } else {
                '_'
            }
        };
        let name: String = name.chars().map(allowed).collect();
        let counter = name.ends_with("_total");
        self.kind(&name, if counter { "counter" } else { "gauge" });
        match value {
            _ if value.is_nan() => self.line(&name, "NaN"),
            f64::INFINITY => self.line(&name, "+Inf"),
            f64::NEG_INFINITY => self.line(&name, "-Inf"),
            _ => self.line(&name, value),
        }
    }
}
