//! What a client takes: the form and the encoding of its answer, by its `Accept`.

use http::header::ACCEPT;
use weft_api::proto;
use weft_api::status::Status;

use super::Call;

/// What is served, as a refusal tells it.
const MEDIA_TYPES: &[&str] = &["application/json", proto::MEDIA_TYPE];
/// More ranges than any client has.
const RANGES_MAX: usize = 64;

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

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    Json,
    Protobuf,
}

/// An answer as a client wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) form: Form,
    pub(crate) encoding: Encoding,
}

impl Wanted {
    /// What a client takes that says nothing about it.
    const ANY: Self = Self { form: Form::Objects, encoding: Encoding::Json };

    /// What is served of what `Accept` names, by its order and weights.
    ///
    /// # Errors
    /// 406 when nothing is.
    pub(crate) fn of(call: &Call) -> Result<Self, Status> {
        Self::parse(call.header(ACCEPT)).ok_or_else(|| Status::not_acceptable(MEDIA_TYPES))
    }

    fn parse(accept: Option<&str>) -> Option<Self> {
        let Some(accept) = accept.filter(|a| !a.trim().is_empty()) else { return Some(Self::ANY) };
        let ranges = accept.split(',').take(RANGES_MAX).filter_map(Range::parse);
        let (mut ranges, refused): (Vec<_>, Vec<_>) = ranges.partition(|range| range.weight > 0.0);
        let is_refused = |media: &str| refused.iter().any(|range| range.media == media);
        // Of one weight, what is named stands before what is meant by a star, as Kubernetes has it.
        ranges.sort_by(|a, b| {
            b.weight.total_cmp(&a.weight).then(a.media.contains('*').cmp(&b.media.contains('*')))
        });
        ranges.iter().find_map(|range| match range.media {
            // What a star means is not what was refused by its name.
            "*/*" | "application/*" if is_refused("application/json") => {
                let named = Range { media: proto::MEDIA_TYPE, ..range.clone() };
                if is_refused(proto::MEDIA_TYPE) { None } else { named.served() }
            }
            _ => range.served(),
        })
    }
}

impl Encoding {
    /// The encoding of a refusal, which is sent whatever the client takes.
    pub(crate) fn of_refusal(accept: Option<&str>) -> Self {
        Wanted::parse(accept).unwrap_or(Wanted::ANY).encoding
    }
}

/// One of the things a client takes.
#[derive(Clone)]
struct Range<'a> {
    media: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
    /// 0 to 1.
    weight: f32,
}

impl<'a> Range<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let media = parts.next().filter(|m| !m.is_empty())?;
        let parameters: Vec<(&str, &str)> = parts.filter_map(|p| p.split_once('=')).collect();
        let mut range = Self { media, parameters, weight: 1.0 };
        let weight = range.parameter("q").and_then(|q| q.parse::<f32>().ok());
        range.weight = weight.filter(|q| (0.0..=1.0).contains(q)).unwrap_or(1.0);
        Some(range)
    }

    fn parameter(&self, name: &str) -> Option<&'a str> {
        self.parameters.iter().find(|(n, _)| *n == name).map(|(_, value)| *value)
    }

    fn served(&self) -> Option<Wanted> {
        let encoding = match self.media {
            "application/json" | "*/*" | "application/*" => Encoding::Json,
            proto::MEDIA_TYPE => Encoding::Protobuf,
            _ => return None,
        };
        // Streams are those of watches.
        if self.parameter("stream").is_some_and(|stream| stream != "watch") {
            return None;
        }
        let Some(as_) = self.parameter("as") else { return Some(Wanted { form: Form::Objects, encoding }) };
        if (self.parameter("g"), self.parameter("v")) != (Some("meta.k8s.io"), Some("v1")) {
            return None;
        }
        let form = match as_ {
            // Of tables there is no protobuf.
            "Table" if encoding == Encoding::Json => Form::Table,
            "PartialObjectMetadata" | "PartialObjectMetadataList" => Form::Metadata,
            _ => return None,
        };
        Some(Wanted { form, encoding })
    }
}

#[cfg(test)]
mod tests {
    use super::Encoding::{Json, Protobuf};
    use super::Form::{Metadata, Objects, Table};
    use super::*;

    fn parse(accept: &str) -> Option<(Form, Encoding)> {
        Wanted::parse(Some(accept)).map(|wanted| (wanted.form, wanted.encoding))
    }

    #[test]
    fn what_clients_of_kubernetes_ask_for() {
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,\
                       application/json";
        assert_eq!(parse(kubectl), Some((Table, Json)));
        assert_eq!(parse("application/json, */*"), Some((Objects, Json)));
        assert_eq!(parse("application/vnd.kubernetes.protobuf,application/json"), Some((Objects, Protobuf)));
        assert_eq!(parse("application/vnd.kubernetes.protobuf"), Some((Objects, Protobuf)));
        let stream = "application/vnd.kubernetes.protobuf;stream=watch";
        assert_eq!(parse(stream), Some((Objects, Protobuf)));
        let metadata = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,\
                        application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";
        assert_eq!(parse(metadata), Some((Metadata, Protobuf)));
        assert_eq!(Wanted::parse(None), Some(Wanted::ANY));
        assert_eq!(parse(""), Some((Objects, Json)));
    }

    #[test]
    fn weights_go_before_order_and_names_before_stars() {
        let protobuf = "application/vnd.kubernetes.protobuf";
        for (accept, wanted) in [
            (format!("application/json;q=0.5, {protobuf}"), Some(Protobuf)),
            (format!("application/json;q=0.5, {protobuf};q=0.4"), Some(Json)),
            (format!("application/json, {protobuf}"), Some(Json)),
            (format!("*/*, {protobuf}"), Some(Protobuf)),
            (format!("*/*, {protobuf};q=0.9"), Some(Json)),
            (format!("text/html, {protobuf};q=0.1"), Some(Protobuf)),
            (format!("{protobuf};q=0, application/*"), Some(Json)),
            (format!("{protobuf};q=0"), None),
            ("application/json;q=0, */*".to_owned(), Some(Protobuf)),
            (format!("application/json;q=0, {protobuf};q=0, application/*"), None),
            (format!("{protobuf};stream=other"), None),
            (format!("{protobuf};as=Table;v=v1;g=meta.k8s.io"), None),
            (format!("{protobuf};as=Table;v=v1;g=meta.k8s.io, application/json"), Some(Json)),
            ("application/json;as=Nothing;v=v1;g=meta.k8s.io".to_owned(), None),
            ("text/html".to_owned(), None),
        ] {
            assert_eq!(parse(&accept).map(|(_, encoding)| encoding), wanted, "{accept}");
        }
    }

    #[test]
    fn a_refusal_is_sent_in_any_case() {
        assert_eq!(Encoding::of_refusal(Some("text/html")), Json);
        assert_eq!(Encoding::of_refusal(Some("application/vnd.kubernetes.protobuf")), Protobuf);
    }
}
