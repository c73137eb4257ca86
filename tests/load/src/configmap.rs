//! The objects of the load, as JSON text.

use anyhow::Result;
use bytes::Bytes;
use http::{Method, StatusCode};

use crate::connection::Lane;
use crate::random::Random;
use crate::stamp::Stamp;

/// The ConfigMaps of a namespace.
pub(crate) fn path(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/configmaps")
}

/// Name of an object that `fill` makes.
pub(crate) fn filled(number: u64) -> String {
    format!("filled-{number}")
}

/// Makes the namespace, unless it is there.
pub(crate) async fn ensure_namespace(lane: &mut Lane, name: &str) -> Result<()> {
    let body = format!(r#"{{"apiVersion":"v1","kind":"Namespace","metadata":{{"name":"{name}"}}}}"#);
    lane.ensure("/api/v1/namespaces", body.into()).await
}

/// ConfigMaps that differ in their names.
pub(crate) struct Template {
    head: String,
    tail: String,
}

impl Template {
    /// With so many bytes of data, letters that do not repeat.
    pub(crate) fn new(bytes: usize, random: &mut Random) -> Self {
        let data: String = (0..bytes).map(|_| char::from(b'a' + random.below(26) as u8)).collect();
        Self {
            head: r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":""#.to_owned(),
            tail: format!(r#""}},"data":{{"text":"{data}"}}}}"#),
        }
    }

    pub(crate) fn named(&self, name: &str) -> Bytes {
        [&self.head, name, &self.tail].concat().into()
    }

    /// Creates one.
    pub(crate) async fn create(&self, lane: &mut Lane, path: &str, name: &str) -> Result<()> {
        lane.ask(Method::POST, path, self.named(name), StatusCode::CREATED).await?;
        Ok(())
    }
}

/// A ConfigMap that says when it was sent.
pub(crate) fn stamped(name: &str, stamp: Stamp) -> Bytes {
    format!(
        r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"{name}"}},"data":{{"sent":"{stamp}"}}}}"#
    )
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_json_of_the_size_that_was_asked_for() {
        let text = Template::new(1000, &mut Random::new(1)).named("one");
        let object: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(object["metadata"]["name"], "one");
        assert_eq!(object["data"]["text"].as_str().unwrap().len(), 1000);
    }

    #[test]
    fn a_stamp_is_found_in_the_object_that_carries_it() {
        let stamp = Stamp { number: 7, sent_ns: 1 << 40 };
        let text = stamped("one", stamp);
        serde_json::from_slice::<serde_json::Value>(&text).unwrap();
        let mut found = Vec::new();
        crate::stamp::Scanner::default().scan(&text, |stamp| found.push(stamp));
        assert_eq!(found, [stamp]);
    }
}
