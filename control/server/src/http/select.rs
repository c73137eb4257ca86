//! Which objects a list, watch or collection delete is about, and in which form they are wanted.

use http::header::ACCEPT;
use weft_api::kind::Kind;
use weft_api::selector::{FieldSelector, Selector};
use weft_api::status::Status;

use super::Call;
use super::query::Query;
use crate::cache::Cached;

/// Label and field selector of a request.
#[derive(Clone, Debug)]
pub(crate) struct Selection {
    labels: Selector,
    fields: FieldSelector,
}

impl Selection {
    /// # Errors
    /// 400 for selectors that cannot be read.
    pub(crate) fn of(kind: &'static Kind, query: &Query) -> Result<Self, Status> {
        let bad = |e: weft_api::selector::SelectorError| Status::bad_request(e.to_string());
        Ok(Self {
            labels: Selector::parse(query.get("labelSelector").unwrap_or("")).map_err(bad)?,
            fields: FieldSelector::parse(kind, query.get("fieldSelector").unwrap_or("")).map_err(bad)?,
        })
    }

    /// Whether it leaves nothing out.
    pub(crate) fn is_everything(&self) -> bool {
        self.labels.is_everything() && self.fields.is_everything()
    }

    /// Whether an object is meant.
    pub(crate) fn matches(&self, cached: &Cached) -> bool {
        if !self.labels.matches(&cached.object.meta.labels) {
            return false;
        }
        if self.fields.is_everything() {
            return true;
        }
        // What the cache has taken out already decides most objects without a look into their bytes.
        let unequal = |path: &&str| {
            self.fields.exact(path).is_some_and(|wanted| {
                !wanted.is_empty()
                    && cached.field(path).is_some_and(|have| !have.is_empty() && have != wanted)
            })
        };
        if cached.object.kind.selectable_fields.iter().any(unequal) {
            return false;
        }
        self.fields.matches(&cached.object)
    }
}

/// The form a client wants objects in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// The objects.
    Objects,
    /// `meta.k8s.io/v1 Table`.
    Table,
    /// `meta.k8s.io/v1 PartialObjectMetadata`.
    Metadata,
}

impl Form {
    /// The first form of `Accept` that is served.
    ///
    /// # Errors
    /// 406 when there is none.
    pub(crate) fn of(call: &Call) -> Result<Self, Status> {
        match call.header(ACCEPT) {
            None | Some("") => Ok(Self::Objects),
            Some(accept) => Self::parse(accept).ok_or_else(|| {
                Status::not_acceptable(&["application/json", "application/json;as=Table;v=v1;g=meta.k8s.io"])
            }),
        }
    }

    fn parse(accept: &str) -> Option<Self> {
        accept.split(',').find_map(|range| {
            let mut parts = range.split(';').map(str::trim);
            let media = parts.next()?;
            let parameters: Vec<(&str, &str)> = parts.filter_map(|p| p.split_once('=')).collect();
            let parameter = |name: &str| parameters.iter().find(|(n, _)| *n == name).map(|(_, v)| *v);
            if !matches!(media, "application/json" | "*/*" | "application/*") {
                return None;
            }
            match parameter("as") {
                None => Some(Self::Objects),
                Some("Table") if parameter("g") == Some("meta.k8s.io") && parameter("v") == Some("v1") => {
                    Some(Self::Table)
                }
                Some("PartialObjectMetadata" | "PartialObjectMetadataList")
                    if parameter("g") == Some("meta.k8s.io") && parameter("v") == Some("v1") =>
                {
                    Some(Self::Metadata)
                }
                Some(_) => None,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,\
                       application/json";
        assert_eq!(Form::parse(kubectl), Some(Form::Table));
        assert_eq!(Form::parse("application/vnd.kubernetes.protobuf, application/json"), Some(Form::Objects));
        assert_eq!(Form::parse("application/json, */*"), Some(Form::Objects));
        assert_eq!(Form::parse("application/vnd.kubernetes.protobuf"), None);
        let metadata = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,\
                        application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";
        assert_eq!(Form::parse(metadata), Some(Form::Metadata));
    }
}
