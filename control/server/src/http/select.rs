//! Which objects a list, watch or collection delete is about.

use weft_api::kind::Kind;
use weft_api::selector::{FieldSelector, Selector};
use weft_api::status::Status;

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
