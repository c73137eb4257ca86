//! The API over HTTP: one handler for all kinds; what differs between them stands in the kinds table.

mod accept;
pub(crate) mod answer;
pub(crate) mod backup;
mod collection;
mod computed;
pub(crate) mod connect;
mod dialect;
pub(crate) mod discovery;
mod health;
pub(crate) mod listen;
pub(crate) mod metrics;
mod options;
mod patience;
pub(crate) mod query;
pub(crate) mod read;
mod requester;
pub(crate) mod review;
pub(crate) mod route;
pub(crate) mod select;
mod signers;
mod spdy;
pub(crate) mod subresource;
pub(crate) mod table;
pub(crate) mod unread;
pub(crate) mod upgrade;
pub(crate) mod watch;
pub(crate) mod websocket;
pub(crate) mod write;

use std::sync::Arc;
use std::time::Instant;

use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::sync::{Semaphore, SemaphorePermit};
use weft_api::kind::Subresource;
use weft_api::status::Status;

use crate::authn::{self, User, account::Accounts, impersonate};
use crate::authz::{Attributes, Authorizer};
use crate::nodes::Nodes;
use crate::objects::Objects;
use accept::Encoding;
use answer::Body;
use metrics::{About, Metrics};
use query::Query;
use route::{ResourceRoute, Route};
use unread::Answers;

/// What every request is served from.
pub(crate) struct Api {
    pub(crate) objects: Arc<Objects>,
    pub(crate) accounts: Arc<Accounts>,
    pub(crate) authorizer: Authorizer,
    pub(crate) nodes: Arc<Nodes>,
    pub(crate) metrics: Metrics,
    /// What watches share.
    pub(crate) feeds: watch::Feeds,
    /// Places for requests that are not watches or streams.
    pub(crate) places: Semaphore,
    /// Places for connections that were switched over to streams.
    pub(crate) switched: upgrade::Places,
    /// Turns to `true` when the server is to stop.
    pub(crate) stopping: tokio::sync::watch::Receiver<bool>,
    /// The same as soon as that is known, when it still serves for a while.
    pub(crate) leaving: tokio::sync::watch::Receiver<bool>,
}

/// What a request turns out to ask for.
struct Asked {
    about: About,
    /// Whether its answer goes on for as long as both sides like.
    lasts: bool,
}

impl Asked {
    /// Whoever reads a Pod's output may stop as long as they like: it waits where it is made. A watch is made here.
    fn may_stand_still(&self) -> bool {
        self.lasts && self.about.verb != "watch"
    }
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
    /// Answers one request; `certificate` is the user of the connection's client certificate, `answers` are the others of it.
    pub(crate) async fn serve(
        self: Arc<Self>,
        request: Request<Incoming>,
        certificate: Option<Arc<User>>,
        answers: &Answers,
    ) -> Response<Body> {
        let began = Instant::now();
        let mut asked = Asked { about: About::method(request.method()), lasts: false };
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let accept = request.headers().get(http::header::ACCEPT).cloned();
        let response = match self.clone().try_serve(request, certificate, &mut asked).await {
            Ok(response) => response,
            Err(status) => {
                if status.code >= 500 {
                    tracing::warn!(%method, path, code = status.code, message = status.message, "a request failed");
                }
                let accept = accept.as_ref().and_then(|value| value.to_str().ok());
                answer::status(&status, Encoding::of_refusal(accept))
            }
        };
        let took = (!asked.lasts).then(|| began.elapsed());
        self.metrics.answered(&asked.about, response.status().as_u16(), took);
        if asked.may_stand_still() {
            return response;
        }
        response.map(|body| answers.follow(body))
    }

    async fn try_serve(
        self: Arc<Self>,
        request: Request<Incoming>,
        certificate: Option<Arc<User>>,
        asked: &mut Asked,
    ) -> Result<Response<Body>, Status> {
        let user = self.authenticate(&request, certificate)?;
        let user = impersonate::asked(user, request.headers(), &self.authorizer)?;
        let query = Query::parse(request.uri().query().unwrap_or(""));
        let route = route::parse(request.uri().path())?;
        let call = Call { user, query, request };
        match route {
            Route::Resource(route) => self.serve_resource(call, route, asked).await,
            Route::Review(route) => {
                let _place = self.place()?;
                review::serve(&self, call, &route).await
            }
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
        asked: &mut Asked,
    ) -> Result<Response<Body>, Status> {
        let verb = route.verb(call.request.method(), &call.query).ok_or_else(Status::method_not_allowed)?;
        let subresource = route.subresource.map_or("", Subresource::as_str);
        // Watches and streams last, and hold next to nothing; everything else holds a body or a list.
        let lasts = verb == "watch" || route.subresource.is_some_and(subresource::is_stream);
        let about = About { verb, group: route.served.group, resource: route.served.plural, subresource };
        *asked = Asked { about, lasts };
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
        let api = self.clone();
        if route.subresource.is_none() && !route.served.verbs.contains(&verb) {
            return Err(Status::method_not_allowed());
        }
        let _place = if lasts { None } else { Some(api.place()?) };
        if route.served.is_computed() {
            return computed::serve(&self, &call, &route).await;
        }
        if route.subresource.is_some() {
            return subresource::serve(self, call, route).await;
        }
        match verb {
            "get" => read::get(&self, &call, &route).await,
            "list" => read::list(&self, &call, &route).await,
            "watch" => watch::serve(&self, &call, &route).await,
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
            self.metrics.requests_refused.inc();
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
            "/metrics" => self.metrics.serve(),
            backup::PATH => Ok(backup::serve(self, call)),
            _ if health::is_at(path) => health::serve(self, call).await,
            _ => discovery::serve(call, path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_stream_is_read_as_slowly_as_its_reader_likes() {
        let asked = |verb, subresource, lasts| {
            let about = About { verb, group: "", resource: "pods", subresource };
            Asked { about, lasts }.may_stand_still()
        };
        assert!(asked("get", "log", true));
        assert!(!asked("watch", "", true) && !asked("list", "", false));
    }
}
