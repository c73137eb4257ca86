//! A stored object: its JSON bytes as clients see them, and its metadata taken out once.

use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::key::ObjectKey;
use crate::kind::Kind;
use crate::meta::ObjectMeta;

/// One object of one kind. Cloning is cheap: the bytes are shared.
#[derive(Clone, Debug)]
pub struct Object {
    /// The row of the kinds table.
    pub kind: &'static Kind,
    /// Extracted `metadata`.
    pub meta: ObjectMeta,
    /// The whole object, JSON, UTF-8, with `apiVersion`, `kind` and `metadata.resourceVersion`.
    pub json: Bytes,
}

/// Why bytes are no object.
#[derive(Debug, thiserror::Error)]
#[error("object of kind {kind} is not readable")]
pub struct ReadError {
    kind: &'static str,
    #[source]
    source: serde_json::Error,
}

impl Object {
    /// Reads the metadata out of an object's JSON.
    ///
    /// # Errors
    /// The bytes are not a JSON object with readable `metadata`.
    pub fn read(kind: &'static Kind, json: Bytes) -> Result<Self, ReadError> {
        #[derive(Deserialize)]
        struct Envelope {
            #[serde(default)]
            metadata: ObjectMeta,
        }
        let envelope: Envelope =
            serde_json::from_slice(&json).map_err(|source| ReadError { kind: kind.kind, source })?;
        Ok(Self { kind, meta: envelope.metadata, json })
    }

    /// Namespace and name.
    pub fn key(&self) -> ObjectKey {
        ObjectKey { namespace: self.meta.namespace.clone(), name: self.meta.name.clone() }
    }

    /// The fields a view asks for; everything else in the object is passed over.
    ///
    /// # Errors
    /// A field that the view names has another type. Cannot happen for an object that passed validation.
    pub fn view<V: DeserializeOwned>(&self) -> Result<V, ReadError> {
        serde_json::from_slice(&self.json).map_err(|source| ReadError { kind: self.kind.kind, source })
    }
}
