//! OpenAPI documents, made from the kinds table and the schema table: v3 one per group and version, v2 one of all.
//!
//! What clients read in them: which fields there are (`kubectl explain`), how lists merge (`kubectl apply`), and that
//! PATCH knows `fieldValidation` (without it they ask for OpenAPI v2 in protobuf, as those do that know no v3).

mod gnostic;
mod paths;
mod second;
mod shape;

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::sync::LazyLock;

use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use serde_json::{Map, Value, json};

use self::paths::root;
use self::shape::{leaf, list_schema, published};
use crate::discovery::group_versions;
use crate::kind::served;
use crate::review::REVIEWS;
use crate::schema::{self, Words};

/// One group and version.
struct Document {
    group: &'static str,
    version: &'static str,
    /// The document, packed by zlib: few clients ask for it, and it is long.
    packed: Vec<u8>,
    hash: String,
}

static DOCUMENTS: LazyLock<Vec<Document>> = LazyLock::new(|| {
    let words = Words::unpack();
    group_versions()
        .into_iter()
        .map(|(group, version)| {
            let json = make(group, version, &words).to_string();
            let hash = format!("{:016X}", fnv1a(json.as_bytes()));
            Document { group, version, packed: packed(json.as_bytes()), hash }
        })
        .collect()
});

fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut packed = ZlibEncoder::new(Vec::new(), Compression::fast());
    // Into memory: there is nothing that could fail.
    let _ = packed.write_all(bytes);
    packed.finish().unwrap_or_default()
}

/// FNV-1a, 64 bit: names a document's content, guards nothing.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The document of `/openapi/v3`: where the others are.
pub fn index() -> Value {
    let paths: Map<String, Value> = DOCUMENTS
        .iter()
        .map(|d| {
            let root = root(d.group, d.version);
            let url = format!("/openapi/v3/{root}?hash={}", d.hash);
            (root, json!({"serverRelativeURL": url}))
        })
        .collect();
    json!({"paths": paths})
}

/// The document of a group and version as JSON bytes, if it is served: unpacked for each who asks.
pub fn document(group: &str, version: &str) -> Option<Vec<u8>> {
    let mut json = Vec::new();
    ZlibDecoder::new(find(group, version)?.packed.as_slice()).read_to_end(&mut json).ok()?;
    json.shrink_to_fit();
    Some(json)
}

/// The hash of a document's content, as the index has it; an entity tag.
pub fn hash(group: &str, version: &str) -> Option<&'static str> {
    find(group, version).map(|d| d.hash.as_str())
}

fn find(group: &str, version: &str) -> Option<&'static Document> {
    DOCUMENTS.iter().find(|d| d.group == group && d.version == version)
}

/// The name and version of what the documents describe.
fn info() -> Value {
    json!({"title": "Kubernetes", "version": "v1.37.0"})
}

fn make(group: &str, version: &str, words: &Words) -> Value {
    let (paths, schemas) = parts(group, version, words);
    json!({"openapi": "3.0.0", "info": info(), "paths": paths, "components": {"schemas": schemas}})
}

/// Paths and types of a group and version.
fn parts(group: &str, version: &str, words: &Words) -> (Map<String, Value>, Map<String, Value>) {
    let mut paths = Map::new();
    let mut wanted = BTreeSet::from([schema::STATUS, schema::DELETE_OPTIONS, schema::LIST_META]);
    let mut schemas = Map::new();
    for kind in served().filter(|k| k.group == group && k.version == version) {
        paths::of_kind(kind, &mut paths);
        wanted.insert(kind.schema);
        wanted.extend(paths::schemas(kind));
        schemas.insert(format!("{}List", kind.schema), list_schema(kind));
    }
    for review in REVIEWS.iter().copied().filter(|r| r.group == group && r.version == version) {
        let (path, item) = paths::of_review(review);
        paths.insert(path, item);
        wanted.insert(review.schema);
    }
    let mut open: Vec<&'static str> = wanted.iter().copied().collect();
    while let Some(name) = open.pop() {
        let Some(definition) = schema::definition(name) else { continue };
        for field in &definition.fields {
            if let Some(inner) = field.type_.definition()
                && wanted.insert(inner.name)
            {
                open.push(inner.name);
            }
        }
    }
    for name in wanted {
        let Some(definition) = schema::definition(name) else { continue };
        schemas.insert(name.to_owned(), shape::definition(definition, words));
        for (name, schema) in definition.fields.iter().filter_map(|f| published(leaf(&f.type_), words)) {
            schemas.entry(name).or_insert(schema);
        }
    }
    (paths, schemas)
}

/// The document of `/openapi/v2`. It is made when it is asked for and not kept: few clients do, and it is long.
pub fn second() -> Value {
    let (mut paths, mut schemas) = (Map::new(), Map::new());
    let words = Words::unpack();
    for (group, version) in group_versions() {
        let (own_paths, own_schemas) = parts(group, version, &words);
        paths.extend(own_paths);
        schemas.extend(own_schemas);
    }
    second::document(&info(), paths, schemas)
}

/// The document of `/openapi/v2` in protobuf, by the messages of gnostic.
pub fn second_in_protobuf() -> Vec<u8> {
    gnostic::document(&second())
}

#[cfg(test)]
mod tests;
