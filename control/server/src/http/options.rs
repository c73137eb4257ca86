//! Which state of a collection a request is about: the combinations of `resourceVersion`, `resourceVersionMatch`, `limit`,
//! `continue` and `sendInitialEvents` that there are, and those that are refused. The rules are those of the Kubernetes
//! documentation of API concepts.

use weft_api::status::{FieldError, Status};

use super::query::Query;

const MATCH: &str = "resourceVersionMatch";

/// The state that a list shows.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ListState<'a> {
    /// The newest there is, which is no older than this revision; 0 for any.
    NotOlderThan(u64),
    /// That of this revision.
    Exact(u64),
    /// What this token goes on with.
    Next(&'a str),
}

/// What a watch begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Initial {
    /// The changes behind a revision.
    None,
    /// All objects, without a word about where they end.
    Plain,
    /// All objects and a bookmark behind them.
    Told,
}

fn refused(errors: &[FieldError]) -> Status {
    Status::invalid_type("meta.k8s.io", "ListOptions", "", errors)
}

/// The revision that a request names; 0 if it names none.
///
/// # Errors
/// 400 for what is no number.
pub(crate) fn revision(query: &Query) -> Result<u64, Status> {
    Ok(query.number("resourceVersion")?.unwrap_or(0))
}

/// The state that a list is to show.
///
/// # Errors
/// 400 for what is no number and for a version beside a token; 422 for combinations that mean nothing.
pub(crate) fn list(query: &Query) -> Result<ListState<'_>, Status> {
    let (version, token) = (query.get("resourceVersion"), query.get("continue"));
    let mut errors = Vec::new();
    if let Some(by) = query.get(MATCH) {
        if version.is_none() {
            let why = "resourceVersionMatch is forbidden unless resourceVersion is provided";
            errors.push(FieldError::forbidden(MATCH, why));
        }
        if token.is_some() {
            let why = "resourceVersionMatch is forbidden when continue is provided";
            errors.push(FieldError::forbidden(MATCH, why));
        }
        if !matches!(by, "Exact" | "NotOlderThan") {
            errors.push(FieldError::not_supported(MATCH, by, &["Exact", "NotOlderThan"]));
        }
        if by == "Exact" && version == Some("0") {
            let why = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
            errors.push(FieldError::forbidden(MATCH, why));
        }
    }
    if query.get("sendInitialEvents").is_some() {
        let why = "sendInitialEvents is forbidden for list";
        errors.push(FieldError::forbidden("sendInitialEvents", why));
    }
    if !errors.is_empty() {
        return Err(refused(&errors));
    }
    let revision = revision(query)?;
    if let Some(token) = token {
        if revision > 0 {
            return Err(Status::bad_request(
                "specifying resource version is not allowed when using continue",
            ));
        }
        return Ok(ListState::Next(token));
    }
    let in_pages = query.number::<u64>("limit")?.is_some_and(|limit| limit > 0);
    Ok(match query.get(MATCH) {
        Some("Exact") => ListState::Exact(revision),
        // So it was before there was a word for it: pages are of the state that was named.
        None if in_pages && revision > 0 => ListState::Exact(revision),
        _ => ListState::NotOlderThan(revision),
    })
}

/// What a watch from this revision begins with.
///
/// # Errors
/// 422 for combinations that mean nothing.
pub(crate) fn watch(query: &Query, revision: u64) -> Result<Initial, Status> {
    let refuse = |why: &str| Err(refused(&[FieldError::forbidden(MATCH, why)]));
    let plain = if revision == 0 { Initial::Plain } else { Initial::None };
    match (query.get("sendInitialEvents"), query.get(MATCH)) {
        (None, None) => Ok(plain),
        (None, Some(_)) => {
            refuse("resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided")
        }
        (Some("true"), Some("NotOlderThan")) => Ok(Initial::Told),
        (Some(_), Some("NotOlderThan")) => Ok(plain),
        (Some(_), _) => refuse("sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"),
    }
}

#[cfg(test)]
mod tests {
    use super::ListState::{Exact, Next, NotOlderThan};
    use super::*;

    #[test]
    fn every_combination_of_a_list_has_its_meaning() {
        for (text, wanted) in [
            ("", NotOlderThan(0)),
            ("limit=5", NotOlderThan(0)),
            ("resourceVersion=0", NotOlderThan(0)),
            ("resourceVersion=0&limit=5", NotOlderThan(0)),
            ("resourceVersion=7", NotOlderThan(7)),
            ("resourceVersion=7&limit=0", NotOlderThan(7)),
            ("resourceVersion=7&limit=5", Exact(7)),
            ("resourceVersion=7&resourceVersionMatch=NotOlderThan", NotOlderThan(7)),
            ("resourceVersion=7&resourceVersionMatch=NotOlderThan&limit=5", NotOlderThan(7)),
            ("resourceVersion=0&resourceVersionMatch=NotOlderThan", NotOlderThan(0)),
            ("resourceVersion=7&resourceVersionMatch=Exact", Exact(7)),
            ("resourceVersion=7&resourceVersionMatch=Exact&limit=5", Exact(7)),
            ("continue=abc&limit=5", Next("abc")),
            ("continue=abc&resourceVersion=0", Next("abc")),
        ] {
            assert_eq!(list(&Query::parse(text)).unwrap(), wanted, "{text}");
        }
    }

    #[test]
    fn what_means_nothing_is_refused_in_kubernetes_words() {
        let unset = "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided";
        let beside =
            "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden when continue is provided";
        for (text, code, wanted) in [
            ("resourceVersionMatch=Exact", 422, unset),
            ("resourceVersionMatch=NotOlderThan&limit=5", 422, unset),
            ("resourceVersion=7&resourceVersionMatch=Exact&continue=abc", 422, beside),
            (
                "resourceVersion=7&resourceVersionMatch=Newest",
                422,
                "resourceVersionMatch: Unsupported value: \"Newest\": supported values: \"Exact\", \"NotOlderThan\"",
            ),
            (
                "resourceVersion=0&resourceVersionMatch=Exact",
                422,
                "resourceVersionMatch: Forbidden: resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
            ),
            (
                "sendInitialEvents=false",
                422,
                "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list",
            ),
            ("resourceVersion=seven", 400, "\"seven\""),
            (
                "resourceVersion=7&continue=abc",
                400,
                "specifying resource version is not allowed when using continue",
            ),
        ] {
            let status = list(&Query::parse(text)).unwrap_err();
            assert!(status.code == code && status.message.contains(wanted), "{text}: {}", status.message);
        }
    }

    #[test]
    fn a_watch_begins_with_what_it_asks_for() {
        let told = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan";
        for (text, revision, wanted) in [
            ("", 0, Initial::Plain),
            ("", 7, Initial::None),
            (told, 0, Initial::Told),
            (told, 7, Initial::Told),
            ("sendInitialEvents=false&resourceVersionMatch=NotOlderThan", 7, Initial::None),
        ] {
            assert_eq!(watch(&Query::parse(text), revision).unwrap(), wanted, "{text} {revision}");
        }
        for text in [
            "resourceVersionMatch=NotOlderThan",
            "sendInitialEvents=true",
            "sendInitialEvents=true&resourceVersionMatch=Exact",
        ] {
            assert_eq!(watch(&Query::parse(text), 0).unwrap_err().code, 422, "{text}");
        }
    }
}
