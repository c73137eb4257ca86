//! Paths of OpenAPI v3: what may be asked of a kind, of its subresources and of a review.

use serde_json::{Map, Value, json};

use super::shape::reference;
use crate::discovery::subresource;
use crate::kind::{Kind, Subresource};
use crate::review::Review;
use crate::schema;

/// Methods, and the verbs by which discovery lists them.
const METHODS: [(&str, &str); 5] =
    [("get", "get"), ("put", "update"), ("post", "create"), ("patch", "patch"), ("delete", "delete")];

/// The media type of an apply configuration.
const APPLY: &str = "application/apply-patch+yaml";

/// The path of a group and version without the leading slash: `api/v1`, `apis/apps/v1`.
pub(super) fn root(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

/// What an operation is about.
struct Named {
    /// Where its path is.
    group: &'static str,
    version: &'static str,
    namespaced: bool,
    /// Whether a list of it can be a watch.
    watched: bool,
    /// What it is called: `DeploymentScale`.
    noun: String,
    /// Group, version and kind of what it takes and gives.
    speaks: (String, String, String),
    /// The type of that, if it has one.
    schema: Option<&'static str>,
}

impl From<&Kind> for Named {
    fn from(kind: &Kind) -> Self {
        let &Kind { group, version, kind, namespaced, schema, verbs, .. } = kind;
        let speaks = (group.to_owned(), version.to_owned(), kind.to_owned());
        let watched = verbs.contains(&"watch");
        Self { group, version, namespaced, watched, noun: kind.to_owned(), speaks, schema: Some(schema) }
    }
}

impl From<&Review> for Named {
    fn from(review: &Review) -> Self {
        let &Review { group, version, kind, namespaced, schema, .. } = review;
        let speaks = (group.to_owned(), version.to_owned(), kind.to_owned());
        Self {
            group,
            version,
            namespaced,
            watched: false,
            noun: kind.to_owned(),
            speaks,
            schema: Some(schema),
        }
    }
}

impl Named {
    fn part(kind: &Kind, part: Subresource) -> Self {
        let (_, speaks) = subresource(kind, part);
        let schema = if is_connected(part) { None } else { schema_of(&speaks) };
        Self { noun: format!("{}{}", kind.kind, capital(part.as_str())), speaks, schema, ..Self::from(kind) }
    }
}

fn schema_of((group, version, kind): &(String, String, String)) -> Option<&'static str> {
    let api_version = if group.is_empty() { version.clone() } else { format!("{group}/{version}") };
    schema::by_api_version(&api_version, kind).map(|definition| definition.name)
}

/// Whether what goes through a subresource is no object of the API.
fn is_connected(part: Subresource) -> bool {
    matches!(part, Subresource::Exec | Subresource::Attach | Subresource::PortForward | Subresource::Proxy)
}

/// The types beside its own that a kind's paths speak of.
pub(super) fn schemas(kind: &Kind) -> impl Iterator<Item = &'static str> {
    kind.subresources.iter().filter_map(|part| Named::part(kind, *part).schema)
}

/// The paths of one kind.
pub(super) fn of_kind(kind: &Kind, paths: &mut Map<String, Value>) {
    let named = Named::from(kind);
    let root = format!("/{}", root(kind.group, kind.version));
    let within = if kind.namespaced { format!("{root}/namespaces/{{namespace}}") } else { root.clone() };
    let mut parameters = Vec::new();
    if kind.namespaced {
        parameters.push(path_parameter("namespace", "The namespace."));
        let mut all = json!({"parameters": []});
        all["get"] = operation(&named, "list", "ForAllNamespaces");
        paths.insert(format!("{root}/{}", kind.plural), all);
    }
    let mut collection = json!({"parameters": parameters});
    collection["get"] = operation(&named, "list", "");
    for (method, action, verb) in
        [("post", "post", "create"), ("delete", "deletecollection", "deletecollection")]
    {
        if kind.verbs.contains(&verb) {
            collection[method] = operation(&named, action, "");
        }
    }
    paths.insert(format!("{within}/{}", kind.plural), collection);
    parameters.push(path_parameter("name", "The object's name."));
    let mut item = json!({"parameters": parameters});
    for (method, _) in METHODS.iter().filter(|(method, verb)| *method != "post" && kind.verbs.contains(verb))
    {
        item[*method] = operation(&named, method, "");
    }
    let path = format!("{within}/{}/{{name}}", kind.plural);
    for part in kind.subresources {
        of_part(kind, *part, &format!("{path}/{}", part.as_str()), &parameters, paths);
    }
    paths.insert(path, item);
}

fn of_part(kind: &Kind, part: Subresource, path: &str, parameters: &[Value], paths: &mut Map<String, Value>) {
    let named = Named::part(kind, part);
    let (verbs, _) = subresource(kind, part);
    let mut own = parameters.to_vec();
    own.extend(part_parameters(part));
    let item = |suffix: &str, parameters: Vec<Value>| {
        let mut item = json!({"parameters": parameters});
        for (method, _) in METHODS.iter().filter(|(_, verb)| verbs.contains(verb)) {
            item[*method] = if is_connected(part) {
                connect(&named, method, suffix)
            } else {
                operation(&named, method, "")
            };
        }
        if part == Subresource::Log {
            item["get"]["responses"]["200"]["content"] =
                json!({"text/plain": {"schema": {"type": "string"}}});
        }
        item
    };
    paths.insert(path.to_owned(), item("", own.clone()));
    if part == Subresource::Proxy {
        own.push(path_parameter("path", "The path behind the proxy."));
        paths.insert(format!("{path}/{{path}}"), item("WithPath", own));
    }
}

/// What the URL of a stream says.
fn part_parameters(part: Subresource) -> Vec<Value> {
    let container = ("container", "string", "The container; the only one if it is left out.");
    let streams = [
        ("stdin", "boolean", "Whether input is sent."),
        ("stdout", "boolean", "Whether output is wanted."),
        ("stderr", "boolean", "Whether the output of errors is wanted."),
        ("tty", "boolean", "Whether there is a terminal."),
    ];
    let told: Vec<(&str, &str, &str)> = match part {
        Subresource::Log => vec![
            container,
            ("follow", "boolean", "Whether what is written later is sent too."),
            ("previous", "boolean", "Of the container that ran before."),
            ("timestamps", "boolean", "Whether each line has its time before it."),
            ("sinceSeconds", "integer", "Only what was written in the last seconds."),
            ("sinceTime", "string", "Only what was written since."),
            ("tailLines", "integer", "Only the last lines."),
            ("limitBytes", "integer", "Bytes after which it ends."),
        ],
        Subresource::Exec => {
            [vec![container, ("command", "string", "The command and its arguments.")], streams.to_vec()]
                .concat()
        }
        Subresource::Attach => [vec![container], streams.to_vec()].concat(),
        Subresource::PortForward => vec![("ports", "integer", "The ports.")],
        Subresource::Proxy => vec![("path", "string", "The path behind the proxy.")],
        _ => Vec::new(),
    };
    told.into_iter().map(|(name, type_, description)| query_parameter(name, type_, description)).collect()
}

/// A review is asked, and that is all.
pub(super) fn of_review(review: &Review) -> (String, Value) {
    let within = if review.namespaced { "/namespaces/{namespace}" } else { "" };
    let mut parameters = Vec::new();
    if review.namespaced {
        parameters.push(path_parameter("namespace", "The namespace."));
    }
    let item = json!({"parameters": parameters, "post": operation(&review.into(), "post", "")});
    (format!("/{}{within}/{}", root(review.group, review.version), review.plural), item)
}

fn path_parameter(name: &str, description: &str) -> Value {
    json!({"name": name, "in": "path", "required": true, "description": description, "schema": {"type": "string", "uniqueItems": true}})
}

fn query_parameter(name: &str, type_: &str, description: &str) -> Value {
    json!({"name": name, "in": "query", "description": description, "schema": {"type": type_, "uniqueItems": true}})
}

/// The name of a group in those of operations: `Core`, `Apps`, `RbacAuthorization`.
fn group_name(group: &str) -> String {
    let group = group.strip_suffix(".k8s.io").unwrap_or(group);
    if group.is_empty() { "Core".to_owned() } else { group.split('.').map(capital).collect() }
}

/// What all operations have.
fn bare(named: &Named, id: &str, action: &str) -> Value {
    let (group, version, kind) = &named.speaks;
    let tag = format!("{}_{}", lower_first(&group_name(named.group)), named.version);
    json!({
        "operationId": id,
        "tags": [tag],
        "responses": {"200": {"description": "OK"}, "401": {"description": "Unauthorized"}},
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": {"group": group, "version": version, "kind": kind},
    })
}

fn scope(named: &Named, suffix: &str) -> &'static str {
    if named.namespaced && suffix != "ForAllNamespaces" { "Namespaced" } else { "" }
}

/// An operation that carries a stream or somebody else's requests.
fn connect(named: &Named, method: &str, suffix: &str) -> Value {
    let (group, version) = (group_name(named.group), capital(named.version));
    let (verb, scope) = (capital(method), scope(named, suffix));
    let id = format!("connect{group}{version}{verb}{scope}{}{suffix}", named.noun);
    let mut out = bare(named, &id, "connect");
    out["responses"]["200"]["content"] = json!({"*/*": {"schema": {"type": "string"}}});
    out
}

fn operation(named: &Named, action: &str, suffix: &str) -> Value {
    let verb = match action {
        "get" => "read",
        "put" => "replace",
        "post" => "create",
        "deletecollection" => "deleteCollection",
        other => other,
    };
    let (group, version) = (group_name(named.group), capital(named.version));
    let id = format!("{verb}{group}{version}{}{}{suffix}", scope(named, suffix), named.noun);
    let media = |schema: Value| json!({"application/json": {"schema": schema}});
    let own = named.schema.unwrap_or(schema::STATUS);
    let answer = match action {
        "list" => reference(&format!("{own}List")),
        "delete" | "deletecollection" => reference(schema::STATUS),
        _ => reference(own),
    };
    let mut out = bare(named, &id, action);
    out["parameters"] = parameters(action, named.watched).into();
    out["responses"]["200"]["content"] = media(answer.clone());
    match action {
        "post" | "put" => {
            out["requestBody"] = json!({"required": true, "content": media(reference(own))});
            out["responses"]["201"] = json!({"description": "Created", "content": media(answer)});
        }
        "delete" | "deletecollection" => {
            out["requestBody"] = json!({"content": media(reference(schema::DELETE_OPTIONS))});
        }
        "patch" => {
            // A scale is not applied to.
            let apply = (named.speaks.2 != "Scale").then_some(&APPLY);
            let content: Map<String, Value> = crate::patch::MEDIA_TYPES
                .iter()
                .chain(apply)
                .map(|t| ((*t).to_owned(), json!({"schema": {"type": "object"}})))
                .collect();
            out["requestBody"] = json!({"required": true, "content": content});
            out["responses"]["201"] = json!({"description": "Created", "content": media(answer)});
        }
        _ => {}
    }
    out
}

fn parameters(action: &str, watched: bool) -> Vec<Value> {
    let mut out = Vec::new();
    if matches!(action, "post" | "put" | "patch" | "delete" | "deletecollection") {
        out.push(query_parameter("dryRun", "string", "With 'All', nothing is stored."));
    }
    match action {
        "post" | "put" | "patch" => {
            out.push(query_parameter("fieldManager", "string", "Who makes the change."));
            let about = "What happens to unknown and duplicate fields: Ignore, Warn or Strict.";
            out.push(query_parameter("fieldValidation", "string", about));
        }
        "list" | "deletecollection" => {
            for name in
                ["continue", "fieldSelector", "labelSelector", "resourceVersion", "resourceVersionMatch"]
            {
                out.push(query_parameter(name, "string", "Which objects."));
            }
            out.push(query_parameter("limit", "integer", "Most objects in one answer."));
            out.push(query_parameter("timeoutSeconds", "integer", "How long the call may take."));
        }
        "delete" => {
            out.push(query_parameter("gracePeriodSeconds", "integer", "Seconds until the object is gone."));
            out.push(query_parameter("propagationPolicy", "string", "Orphan, Background or Foreground."));
        }
        _ => {}
    }
    if action == "list" && watched {
        out.push(query_parameter("watch", "boolean", "Changes instead of a list."));
        out.push(query_parameter("allowWatchBookmarks", "boolean", "Whether a watch tells how far it is."));
        out.push(query_parameter(
            "sendInitialEvents",
            "boolean",
            "Whether a watch begins with what is there.",
        ));
    }
    if action == "patch" {
        out.push(query_parameter("force", "boolean", "Take fields from other managers when applying."));
    }
    out
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_ascii_uppercase().to_string() + chars.as_str()).unwrap_or_default()
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_ascii_lowercase().to_string() + chars.as_str()).unwrap_or_default()
}
