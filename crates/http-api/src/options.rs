//! What the server is given: the database, its administration, and limits by name.

use sqlrep_service::{Admin, Database};
use std::sync::Arc;
use std::time::Duration;

/// The release of rqlite whose API this is, as `X-Rqlite-Version` tells; clients choose by it what they send.
pub(crate) const API_VERSION: &str = "v10.2.7";

/// Our own release.
pub(crate) const RELEASE: &str = env!("CARGO_PKG_VERSION");

/// Limits and headers.
#[derive(Clone, Debug)]
pub struct Options {
    /// `Access-Control-Allow-Origin`. Default none: browsers of other origins are kept out.
    pub allow_origin: Option<String>,
    /// Bytes of a body. Default 8 MiB, the largest request the log takes; more buys nothing.
    pub body_bytes_max: usize,
    /// Bytes of the bodies of all requests that are under way; more are answered 429. Default 128 MiB, sixteen of the largest;
    /// more lets more bulk loads run side by side.
    pub bodies_bytes_max: usize,
    /// Bytes of all answers above 64 KiB that clients haven't taken yet; a query's answer that doesn't fit is 429. Default 256 MiB,
    /// a few of the largest.
    pub answers_bytes_max: usize,
    /// Statements and parameters of one request together, since each takes more memory than it takes in a body.
    /// Default 1,048,576; less bounds memory tighter and refuses bulk loads earlier.
    pub items_max: usize,
    /// Connections at once; the next one is answered 503. Default 4096; more takes file descriptors.
    pub connections_max: usize,
    /// How long a request's head may take, and how long a connection may idle before it. Default 120 s, longer than
    /// clients keep idle connections, so that they close first and never find one closed under a request.
    pub header_timeout: Duration,
    /// How long a request's body may take. Default 30 s.
    pub body_timeout: Duration,
    /// How long an answer may stand still because its client doesn't read: it takes 256 KiB in this time, or is cut. Default 30 s.
    pub write_timeout: Duration,
    /// How long members are waited for where the client names no `timeout`. Default 30 s.
    pub members_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            allow_origin: None,
            body_bytes_max: 8 << 20,
            bodies_bytes_max: 128 << 20,
            answers_bytes_max: 256 << 20,
            items_max: 1 << 20,
            connections_max: 4096,
            header_timeout: Duration::from_secs(120),
            body_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            members_timeout: Duration::from_secs(30),
        }
    }
}

/// What is served.
#[derive(Clone)]
pub struct Api {
    /// Reads and writes.
    pub database: Arc<dyn Database>,
    /// Members and status.
    pub admin: Arc<dyn Admin>,
    /// Limits.
    pub options: Options,
}
