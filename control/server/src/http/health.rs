//! Whether the server lives and whether it can serve: `/livez`, `/readyz` and `/healthz`, each with its checks by name, in
//! Kubernetes' words (`?verbose`, `?exclude=NAME`, `/readyz/NAME`).

use std::fmt::Write as _;
use std::time::Duration;

use http::header::{HeaderValue, X_CONTENT_TYPE_OPTIONS};
use http::{Response, StatusCode};
use weft_api::status::Status;

use super::answer::{self, Body};
use super::{Api, Call};
use crate::objects::Objects;

/// How far the watch cache may be behind the store, in time.
const CATCH_UP_MAX: Duration = Duration::from_secs(2);

/// What is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Check {
    /// The server answers.
    Ping,
    /// The store takes writes.
    Store,
    /// The watch cache has what the store has.
    WatchCache,
    /// The server is not told to stop.
    Shutdown,
}

impl Check {
    const fn name(self) -> &'static str {
        match self {
            Self::Ping => "ping",
            Self::Store => "store",
            Self::WatchCache => "watch-cache",
            Self::Shutdown => "shutdown",
        }
    }

    /// Why it does not pass.
    pub(super) async fn trouble(self, objects: &Objects, leaving: bool) -> Option<String> {
        match self {
            Self::Ping => None,
            Self::Store => objects.store.trouble().map(|why| why.to_string()),
            Self::WatchCache => {
                let newest = objects.store.revisions().into_inner().1;
                let there = objects.cache.wait_for(newest.0, CATCH_UP_MAX).await;
                (!there).then(|| format!("it is at revision {} of {newest}", objects.cache.revision()))
            }
            Self::Shutdown => leaving.then(|| "the server is stopping".to_owned()),
        }
    }
}

/// The checks below a path, and which one of them is asked for. A server whose disk has failed lives: to start it anew would
/// mend nothing, and end what it still serves.
fn checks(path: &str) -> Option<(&'static str, &'static [Check], Option<&str>)> {
    const ALL: [(&str, &[Check]); 3] = [
        ("livez", &[Check::Ping]),
        ("readyz", &[Check::Ping, Check::Store, Check::WatchCache, Check::Shutdown]),
        ("healthz", &[Check::Ping, Check::Store]),
    ];
    ALL.iter().find_map(|(name, checks)| {
        let rest = path.strip_prefix('/')?.strip_prefix(name)?;
        match rest.strip_prefix('/') {
            None if rest.is_empty() => Some((*name, *checks, None)),
            None => None,
            Some("") => Some((*name, *checks, None)),
            Some(one) => Some((*name, *checks, Some(one))),
        }
    })
}

/// Whether a path is one of these.
pub(super) fn is_at(path: &str) -> bool {
    checks(path).is_some()
}

/// Answers 200, or 500 with the checks that do not pass and why.
///
/// # Errors
/// 404 for a check that there is none of.
pub(super) async fn serve(api: &Api, call: &Call) -> Result<Response<Body>, Status> {
    let (query, objects) = (&call.query, &api.objects);
    let leaving = *api.leaving.borrow();
    let (name, checks, one) = checks(call.request.uri().path()).ok_or_else(Status::path_not_found)?;
    // Whoever is not known is told what fails, and not what the disk says.
    let told = |why: String| {
        let known = call.user.groups.iter().any(|group| group == "system:authenticated");
        if known { why } else { "reason withheld".to_owned() }
    };
    if let Some(one) = one {
        let check = checks.iter().find(|check| check.name() == one).ok_or_else(Status::path_not_found)?;
        return Ok(match check.trouble(objects, leaving).await {
            None => text(StatusCode::OK, "ok".to_owned()),
            Some(why) => {
                text(StatusCode::INTERNAL_SERVER_ERROR, format!("internal server error: {}\n", told(why)))
            }
        });
    }
    let excluded: Vec<&str> = query.all("exclude").collect();
    let (mut lines, mut passed) = (String::new(), true);
    for check in checks {
        let name = check.name();
        let _ = if excluded.contains(&name) {
            writeln!(lines, "[+]{name} excluded: ok")
        } else if let Some(why) = check.trouble(objects, leaving).await {
            passed = false;
            writeln!(lines, "[-]{name} failed: {}", told(why))
        } else {
            writeln!(lines, "[+]{name} ok")
        };
    }
    for unknown in excluded.iter().filter(|name| !checks.iter().any(|check| check.name() == **name)) {
        let _ = writeln!(lines, "warn: some health checks cannot be excluded: no matches for {unknown:?}");
    }
    Ok(match (passed, query.flag("verbose")) {
        (true, false) => text(StatusCode::OK, "ok".to_owned()),
        (true, true) => text(StatusCode::OK, format!("{lines}{name} check passed\n")),
        (false, _) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{lines}{name} check failed\n")),
    })
}

fn text(code: StatusCode, text: String) -> Response<Body> {
    let mut response = answer::text(code, text);
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use weft_controllers::settings::Settings;
    use weft_store::Embedded;
    use weft_store::store::{Store as _, Transaction, Write};

    use super::*;
    use crate::cache::Cache;

    /// The words of a real server's checks are looked at over HTTP; a cache that stands still no server has.
    #[tokio::test]
    async fn a_cache_that_is_behind_its_store_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(Embedded::open(dir.path().join("store")).unwrap());
        let cache = Cache::fill(store.clone(), 16).await.unwrap();
        let objects = Objects::new(store.clone(), cache.clone(), Arc::new(Settings::default()));
        assert_eq!(Check::WatchCache.trouble(&objects, false).await, None);
        let writes = vec![Write::Put("k".into(), "v".into())];
        store.commit(Transaction { checks: Vec::new(), writes }).await.unwrap();
        let told = Check::WatchCache.trouble(&objects, false).await;
        assert_eq!(told.as_deref(), Some("it is at revision 0 of 1"));
        let follows = tokio::spawn(async move { cache.follow().await });
        objects.cache.wait_for(1, Duration::from_secs(60)).await;
        assert_eq!(Check::WatchCache.trouble(&objects, false).await, None);
        follows.abort();
    }

    #[test]
    fn paths_of_health() {
        let at = |path| checks(path).map(|(name, checks, one)| (name, checks.len(), one));
        assert_eq!(at("/livez"), Some(("livez", 1, None)));
        assert_eq!(at("/readyz/"), Some(("readyz", 4, None)));
        assert_eq!(at("/healthz/store"), Some(("healthz", 2, Some("store"))));
        assert!(!is_at("/readyzz") && !is_at("/") && !is_at("/metrics"));
    }
}
