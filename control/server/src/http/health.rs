//! Whether the server lives and whether it can serve: `/livez`, `/readyz` and `/healthz`, each with its checks by name, in
//! Kubernetes' words (`?verbose`, `?exclude=NAME`, `/readyz/NAME`).

use std::fmt::Write as _;
use std::time::Duration;

use http::header::{HeaderValue, X_CONTENT_TYPE_OPTIONS};
use http::{Response, StatusCode};
use weft_api::status::Status;

use super::answer::{self, Body};
use super::{Api, Call};

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
    pub(super) async fn trouble(self, api: &Api) -> Option<String> {
        match self {
            Self::Ping => None,
            Self::Store => api.objects.store.trouble().map(|why| why.to_string()),
            Self::WatchCache => {
                let newest = api.objects.store.revisions().into_inner().1;
                let there = api.objects.cache.wait_for(newest.0, CATCH_UP_MAX).await;
                (!there).then(|| format!("it is at revision {} of {newest}", api.objects.cache.revision()))
            }
            Self::Shutdown => api.stopping.borrow().then(|| "the server is stopping".to_owned()),
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
    let query = &call.query;
    let (name, checks, one) = checks(call.request.uri().path()).ok_or_else(Status::path_not_found)?;
    // Whoever is not known is told what fails, and not what the disk says.
    let told = |why: String| {
        let known = call.user.groups.iter().any(|group| group == "system:authenticated");
        if known { why } else { "reason withheld".to_owned() }
    };
    if let Some(one) = one {
        let check = checks.iter().find(|check| check.name() == one).ok_or_else(Status::path_not_found)?;
        return Ok(match check.trouble(api).await {
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
        } else if let Some(why) = check.trouble(api).await {
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
    use super::*;

    #[test]
    fn paths_of_health() {
        let at = |path| checks(path).map(|(name, checks, one)| (name, checks.len(), one));
        assert_eq!(at("/livez"), Some(("livez", 1, None)));
        assert_eq!(at("/readyz/"), Some(("readyz", 4, None)));
        assert_eq!(at("/healthz/store"), Some(("healthz", 2, Some("store"))));
        assert!(!is_at("/readyzz") && !is_at("/") && !is_at("/metrics"));
    }
}
