//! What every request goes through, in rqlite's order: headers, OPTIONS, parameters, route, method, then the endpoint.

use crate::options::{API_VERSION, RELEASE};
use crate::outcome::{Refusal, Response, empty, refused};
use crate::params::Params;
use crate::room::Room;
use crate::{Api, body, check, data, members, metrics, sessions, status};
use bytes::Bytes;
use hyper::body::Body;
use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    CONTENT_TYPE, HeaderName, HeaderValue,
};
use hyper::{HeaderMap, Method, Request, StatusCode};
use sqlrep_service::Role;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

const VERSION: HeaderName = HeaderName::from_static("x-rqlite-version");
const OWN_VERSION: HeaderName = HeaderName::from_static("x-sqlrep-version");
const SERVED_BY: HeaderName = HeaderName::from_static("x-rqlite-served-by");
const INDEX: HeaderName = HeaderName::from_static("x-sqlrep-index");
const CLUSTER: HeaderName = HeaderName::from_static("x-sqlrep-cluster");

/// What pages of another origin may send.
const ALLOWED_HEADERS: &str = "Content-Type, Idempotency-Key, Idempotency-Index";

/// An endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    Execute,
    Query,
    Request,
    Sessions,
    Status,
    Nodes,
    Leader,
    Remove,
    Ready,
    Metrics,
    Check,
    /// One of rqlite's that this release hasn't.
    NotBuilt(&'static str),
}

/// Paths that match by their begin.
const PREFIXES: [(&str, Route); 12] = [
    ("/db/execute", Route::Execute),
    ("/db/query", Route::Query),
    ("/db/request", Route::Request),
    ("/db/backup", Route::NotBuilt("/db/backup")),
    ("/db/load", Route::NotBuilt("/db/load")),
    ("/db/sql", Route::NotBuilt("/db/sql")),
    (sessions::PATH, Route::Sessions),
    ("/remove", Route::Remove),
    ("/status", Route::Status),
    ("/nodes", Route::Nodes),
    ("/readyz", Route::Ready),
    ("/debug/pprof", Route::NotBuilt("/debug/pprof")),
];

/// Paths that match as a whole.
const EXACT: [(&str, Route); 9] = [
    ("/leader", Route::Leader),
    ("/metrics", Route::Metrics),
    ("/v1/check", Route::Check),
    ("/boot", Route::NotBuilt("/boot")),
    ("/snapshot", Route::NotBuilt("/snapshot")),
    ("/reap", Route::NotBuilt("/reap")),
    ("/licenses", Route::NotBuilt("/licenses")),
    ("/debug/vars", Route::NotBuilt("/debug/vars")),
    ("/console/", Route::NotBuilt("the console")),
];

impl Route {
    fn of(path: &str) -> Option<Self> {
        let begins = PREFIXES.iter().find(|(begin, _)| path.starts_with(begin));
        let equals = || EXACT.iter().find(|(whole, _)| path == *whole);
        begins.or_else(equals).map(|(_, route)| *route)
    }

    fn allows(self, method: &Method) -> bool {
        match self {
            Self::Execute | Self::Request => method == Method::POST,
            Self::Sessions => method == Method::POST || method == Method::DELETE,
            Self::Query | Self::Leader => method == Method::GET || method == Method::POST,
            Self::Remove => method == Method::DELETE,
            Self::Status | Self::Nodes | Self::Ready | Self::Metrics | Self::Check => {
                method == Method::GET
            }
            Self::NotBuilt(_) => true,
        }
    }
}

/// A request but for its body.
pub(crate) struct Call<'a> {
    pub(crate) method: &'a Method,
    pub(crate) path: &'a str,
    pub(crate) raw_query: Option<&'a str>,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) params: Params<'a>,
}

impl Call<'_> {
    pub(crate) fn pretty(&self) -> bool {
        self.params.has("pretty")
    }

    pub(crate) fn content_type(&self) -> &[u8] {
        self.headers
            .get(CONTENT_TYPE)
            .map_or(b"", HeaderValue::as_bytes)
    }
}

/// One node's front.
pub(crate) struct Front {
    pub(crate) api: Api,
    pub(crate) local_addr: SocketAddr,
    /// Of bodies on their way in.
    bodies: Arc<Room>,
    /// Of large answers on their way out.
    pub(crate) answers: Arc<Room>,
    /// This node's address for clients, as it advertises it.
    served_by: Option<HeaderValue>,
    allow_origin: Option<HeaderValue>,
}

impl Front {
    pub(crate) fn new(api: Api, local_addr: SocketAddr) -> Self {
        let header = |text: &str| HeaderValue::from_str(text).ok();
        Self {
            served_by: header(&api.admin.status().http_address),
            allow_origin: api.options.allow_origin.as_deref().and_then(header),
            bodies: Room::new(api.options.bodies_bytes_max),
            answers: Room::new(api.options.answers_bytes_max),
            api,
            local_addr,
        }
    }

    /// Answers any request.
    pub(crate) async fn answer<B>(&self, request: Request<B>) -> Response
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (head, body) = request.into_parts();
        let raw_query = head.uri.query();
        let mut response = if head.method == Method::OPTIONS {
            empty(StatusCode::OK)
        } else {
            match Params::parse(raw_query.unwrap_or_default()) {
                Err(text) => refused(&Refusal::BadRequest(text), false),
                Ok(params) => {
                    let call = Call {
                        method: &head.method,
                        path: head.uri.path(),
                        raw_query,
                        headers: &head.headers,
                        params,
                    };
                    match self.dispatch(&call, body).await {
                        Ok(response) => response,
                        Err(refusal) => refused(&refusal, call.pretty()),
                    }
                }
            }
        };
        self.add_headers(response.headers_mut());
        response
    }

    async fn dispatch<B>(&self, call: &Call<'_>, body: B) -> Result<Response, Refusal>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let route = Route::of(call.path).ok_or(Refusal::NoSuchPath)?;
        if !route.allows(call.method) {
            return Err(Refusal::MethodNotAllowed);
        }
        if let Route::NotBuilt(name) = route {
            return Err(Refusal::NotBuilt(name));
        }
        if route == Route::Execute && call.params.has("queue") {
            let text =
                "queue is not supported: queued writes can be lost without anybody being told";
            return Err(Refusal::BadRequest(text.to_owned()));
        }
        let mut share = self.bodies.share();
        let body = if call.method == Method::GET {
            Bytes::new()
        } else {
            body::read(body, &self.api.options, &mut share).await?
        };
        match route {
            Route::Execute => data::execute(self, call, &body).await,
            Route::Query => data::query(self, call, &body).await,
            Route::Request => data::request(self, call, &body).await,
            Route::Sessions => sessions::answer(self, call, &body).await,
            Route::Status => Ok(status::answer(self, call)),
            Route::Nodes => members::nodes(self, call).await,
            Route::Leader if call.method == Method::GET => members::leader(self, call).await,
            Route::Leader => members::step_down(self, call, &body).await,
            Route::Remove => members::remove(self, call, &body).await,
            Route::Ready => members::ready(self, call).await,
            Route::Check => check::answer(self, call).await,
            Route::Metrics => Ok(metrics::answer(&self.api.admin.status())),
            Route::NotBuilt(name) => Err(Refusal::NotBuilt(name)),
        }
    }

    fn add_headers(&self, headers: &mut HeaderMap) {
        let fixed = HeaderValue::from_static;
        headers.insert(VERSION, fixed(API_VERSION));
        headers.insert(OWN_VERSION, fixed(RELEASE));
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, fixed("OPTIONS, GET, POST"));
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, fixed(ALLOWED_HEADERS));
        if let Some(origin) = &self.allow_origin {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        }
    }

    /// Tells who answered: this node by its address for clients, or the leader by its address for members.
    pub(crate) fn served_by(&self, response: &mut Response, leader: Option<&str>) {
        let value = match leader {
            Some(address) => HeaderValue::from_str(address).ok(),
            None => self.served_by.clone(),
        };
        if let Some(value) = value {
            response.headers_mut().insert(SERVED_BY, value);
        }
    }

    /// How long members are waited for.
    pub(crate) fn members_timeout(&self, call: &Call<'_>) -> Duration {
        call.params
            .duration("timeout")
            .unwrap_or(self.api.options.members_timeout)
    }

    /// With `redirect`, refuses with the leader's address unless this node leads.
    pub(crate) async fn redirect(&self, call: &Call<'_>) -> Result<(), Refusal> {
        if !call.params.has("redirect") || self.api.admin.role() == Role::Leader {
            return Ok(());
        }
        let leader = self.api.admin.leader(self.members_timeout(call)).await;
        let address = leader.ok_or(Refusal::NoLeader)?.http_address;
        let address = address.ok_or(Refusal::LeaderUnreachable)?;
        let (mark, query) = call.raw_query.map_or(("", ""), |query| ("?", query));
        Err(Refusal::Elsewhere(format!(
            "http://{address}{}{mark}{query}",
            call.path
        )))
    }
}

/// Tells a log index that a later `min_index` may name.
pub(crate) fn tell_index(response: &mut Response, index: u64) {
    response
        .headers_mut()
        .insert(INDEX, HeaderValue::from(index));
}

/// Tells which cluster an index belongs to.
pub(crate) fn tell_cluster(response: &mut Response, cluster: sqlrep_core::ClusterId) {
    if let Ok(value) = HeaderValue::from_str(&cluster.to_string()) {
        response.headers_mut().insert(CLUSTER, value);
    }
}
