//! The API over HTTP: one handler for all kinds; what differs between them stands in the kinds table.

pub(crate) mod answer;
pub(crate) mod connect;
mod dialect;
pub(crate) mod discovery;
mod health;
pub(crate) mod listen;
mod options;
mod patience;
pub(crate) mod query;
pub(crate) mod read;
mod requester;
pub(crate) mod review;
pub(crate) mod route;
pub(crate) mod select;
pub(crate) mod subresource;
pub(crate) mod table;
pub(crate) mod watch;
pub(crate) mod websocket;
pub(crate) mod write;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::sync::{Semaphore, SemaphorePermit};
use weft_api::kind::Subresource;
use weft_api::status::Status;

use crate::authn::{self, User, account::Accounts, impersonate};
use crate::authz::{Attributes, Authorizer};
use crate::nodes::Nodes;
use crate::objects::Objects;
use answer::Body;
use query::Query;
use route::{ResourceRoute, Route};

/// What every request is served from.
pub(crate) struct Api {
    pub(crate) objects: Arc<Objects>,
    pub(crate) accounts: Arc<Accounts>,
    pub(crate) authorizer: Authorizer,
    pub(crate) nodes: Arc<Nodes>,
    pub(crate) counters: Counters,
    /// Places for requests that are not watches or streams.
    pub(crate) places: Semaphore,
    /// Turns to `true` when the server is to stop.
    pub(crate) stopping: tokio::sync::watch::Receiver<bool>,
}

/// What `/metrics` tells of the API.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) requests: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) watches: AtomicU64,
    pub(crate) connections: AtomicU64,
    pub(crate) connections_refused: AtomicU64,
    pub(crate) requests_refused: AtomicU64,
}

/// One request on its way through.
pub(crate) struct Call {
    pub(crate) user: User,
    pub(crate) query: Query,
    pub(crate) request: Request<Incoming>,
}

impl Call {
    /// A header as text.
    pub(crate) fn header(&self, name: http::header::HeaderName) -> Option<&str> {
        self.request.headers().get(name).and_then(|v| v.to_str().ok())
    }
}

impl Api {
    /// Answers one request; `certificate` is the user of the connection's client certificate.
    pub(crate) async fn serve(
        self: Arc<Self>,
        request: Request<Incoming>,
        certificate: Option<Arc<User>>,
    ) -> Response<Body> {
        self.counters.requests.fetch_add(1, Ordering::Relaxed);
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        match self.clone().try_serve(request, certificate).await {
            Ok(response) => response,
            Err(status) => {
                self.counters.refused.fetch_add(1, Ordering::Relaxed);
                if status.code >= 500 {
                    tracing::warn!(%method, path, code = status.code, message = status.message, "a request failed");
                }
                answer::status(&status)
            }
        }
    }

    async fn try_serve(
        self: Arc<Self>,
        request: Request<Incoming>,
        certificate: Option<Arc<User>>,
    ) -> Result<Response<Body>, Status> {
        let user = self.authenticate(&request, certificate)?;
        let user = impersonate::asked(user, request.headers(), &self.authorizer)?;
        let query = Query::parse(request.uri().query().unwrap_or(""));
        let route = route::parse(request.uri().path())?;
        let call = Call { user, query, request };
        match route {
            Route::Resource(route) => self.serve_resource(call, route).await,
            Route::Review(route) => review::serve(&self, call, &route).await,
            Route::Other => self.serve_other(&call).await,
        }
    }

    fn authenticate(
        &self,
        request: &Request<Incoming>,
        certificate: Option<Arc<User>>,
    ) -> Result<User, Status> {
        let bearer = request
            .headers()
            .get(http::header::AUTHORIZATION)
            .and_then(|v| v.to_str().ok())
            .and_then(|v| v.strip_prefix("Bearer ").or_else(|| v.strip_prefix("bearer ")));
        match (certificate, bearer) {
            (Some(user), _) => Ok((*user).clone()),
            (None, Some(token)) => {
                self.accounts.check(token.trim(), &self.objects.cache).ok_or_else(Status::unauthorized)
            }
            (None, None) => Ok(authn::User::anonymous()),
        }
    }

    async fn serve_resource(
        self: Arc<Self>,
        call: Call,
        route: ResourceRoute,
    ) -> Result<Response<Body>, Status> {
        let verb = route.verb(call.request.method(), &call.query).ok_or_else(Status::method_not_allowed)?;
        let subresource = route.subresource.map_or("", Subresource::as_str);
        self.authorizer.authorize(
            &call.user,
            &Attributes::Resource {
                verb,
                group: route.served.group,
                resource: route.served.plural,
                subresource,
                namespace: &route.key.namespace,
                name: &route.key.name,
            },
        )?;
        // Watches and streams last, and hold next to nothing; everything else holds a body or a list.
        let lasts = verb == "watch" || route.subresource.is_some_and(subresource::is_stream);
        let api = self.clone();
        let _place = if lasts { None } else { Some(api.place()?) };
        if route.subresource.is_some() {
            return subresource::serve(self, call, route).await;
        }
        match verb {
            "get" => read::get(&self, &call, &route).await,
            "list" => read::list(&self, &call, &route).await,
            "watch" => watch::serve(self, &call, &route).await,
            "create" => write::create(&self, call, &route).await,
            "update" => write::update(&self, call, &route).await,
            "patch" => write::patch(&self, call, &route).await,
            "delete" => write::delete(&self, call, &route).await,
            "deletecollection" => write::delete_collection(&self, call, &route).await,
            _ => Err(Status::method_not_allowed()),
        }
    }

    /// A place among the requests that are worked on.
    ///
    /// # Errors
    /// 429: there are too many.
    fn place(&self) -> Result<SemaphorePermit<'_>, Status> {
        self.places.try_acquire().map_err(|_| {
            self.counters.requests_refused.fetch_add(1, Ordering::Relaxed);
            Status::too_many_requests("too many requests at once (--requests-max), please try again later", 1)
        })
    }

    async fn serve_other(&self, call: &Call) -> Result<Response<Body>, Status> {
        let path = call.request.uri().path();
        let verb = match *call.request.method() {
            Method::GET | Method::HEAD => "get",
            Method::POST => "create",
            Method::PUT => "update",
            Method::PATCH => "patch",
            Method::DELETE => "delete",
            _ => return Err(Status::method_not_allowed()),
        };
        self.authorizer.authorize(&call.user, &Attributes::Path { verb, path })?;
        if verb != "get" {
            return Err(Status::path_not_found());
        }
        match path {
            "/version" | "/version/" => Ok(answer::json(StatusCode::OK, &discovery::version())),
            "/metrics" => Ok(answer::text(StatusCode::OK, self.metrics())),
            _ if health::is_at(path) => health::serve(self, call).await,
            _ => discovery::serve(call, path),
        }
    }

    fn metrics(&self) -> String {
        use std::fmt::Write as _;
        let mut out = String::new();
        let mut counter = |name: &str, type_: &str, help: &str, value: u64| {
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {type_}\n{name} {value}");
        };
        let read = |c: &AtomicU64| c.load(Ordering::Relaxed);
        counter("weft_api_requests_total", "counter", "Requests answered.", read(&self.counters.requests));
        counter("weft_api_refused_total", "counter", "Requests refused.", read(&self.counters.refused));
        counter("weft_api_watches", "gauge", "Watches that are open.", read(&self.counters.watches));
        counter(
            "weft_api_connections",
            "gauge",
            "Connections that are open.",
            read(&self.counters.connections),
        );
        counter(
            "weft_api_connections_refused_total",
            "counter",
            "Connections closed because there were too many.",
            read(&self.counters.connections_refused),
        );
        counter(
            "weft_api_requests_refused_total",
            "counter",
            "Requests refused because there were too many at once.",
            read(&self.counters.requests_refused),
        );
        counter(
            "weft_store_revision",
            "gauge",
            "Newest revision that is served.",
            self.objects.cache.revision(),
        );
        let takes_writes = self.objects.store.trouble().is_none();
        counter("weft_store_takes_writes", "gauge", "1 while the store takes writes.", takes_writes.into());
        counter("weft_nodes_connected", "gauge", "Nodes with a session.", self.nodes.connected() as u64);
        let _ = writeln!(out, "# HELP weft_objects Live objects by resource.\n# TYPE weft_objects gauge");
        for kind in weft_api::kind::KINDS {
            let count = self.objects.cache.count(kind);
            let _ = writeln!(out, "weft_objects{{resource=\"{}\"}} {count}", kind.resource());
        }
        out
    }
}
