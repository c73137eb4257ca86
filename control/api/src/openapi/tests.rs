//! What clients read in the documents of both versions.

use serde_json::json;

use super::*;

fn read(group: &str, version: &str) -> Value {
    serde_json::from_slice(&document(group, version).unwrap()).unwrap()
}

#[test]
fn index_points_at_documents_by_hash() {
    let index = index();
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().unwrap();
    assert_eq!(url, format!("/openapi/v3/apis/apps/v1?hash={}", hash("apps", "v1").unwrap()));
    assert_eq!(index["paths"].as_object().unwrap().len(), group_versions().len());
    assert!(document("apps", "v9").is_none());
}

#[test]
fn patch_of_each_kind_knows_field_validation() {
    for kind in served().filter(|kind| kind.verbs.contains(&"patch")) {
        let document = read(kind.group, kind.version);
        let found = document["paths"].as_object().unwrap().values().any(|path| {
            let patch = &path["patch"];
            patch["x-kubernetes-group-version-kind"]["kind"] == kind.kind
                && patch["parameters"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .any(|p| p["name"] == "fieldValidation" && p["in"] == "query")
        });
        assert!(found, "{kind}");
    }
}

fn references<'a>(value: &'a Value, out: &mut Vec<&'a str>) {
    match value {
        Value::Object(object) => {
            out.extend(object.get("$ref").and_then(Value::as_str));
            object.values().for_each(|v| references(v, out));
        }
        Value::Array(items) => items.iter().for_each(|v| references(v, out)),
        _ => {}
    }
}

/// Of every type of the table, so also of those whose kinds have no row yet.
#[test]
fn every_type_can_be_published() {
    let words = Words::unpack();
    for definition in schema::definitions() {
        let schema = super::shape::definition(definition, &words);
        let published: Vec<&str> = definition
            .fields
            .iter()
            .filter_map(|f| published(leaf(&f.type_), &words))
            .map(|(name, _)| name)
            .collect();
        let mut found = Vec::new();
        references(&schema, &mut found);
        for reference in found {
            let name = reference.strip_prefix("#/components/schemas/").unwrap();
            assert!(schema::definition(name).is_some() || published.contains(&name), "{name}");
        }
        for field in &definition.fields {
            let property = &schema["properties"][field.name];
            let says = ["type", "allOf"].iter().any(|key| property.get(key).is_some());
            assert!(says, "{}.{}", definition.name, field.name);
        }
    }
    let properties =
        &super::shape::definition(schema::definition(schema::JSON_SCHEMA).unwrap(), &words)["properties"];
    let package = "#/components/schemas/io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1";
    for (field, name) in
        [("default", "JSON"), ("additionalProperties", "JSONSchemaPropsOrBool"), ("not", "JSONSchemaProps")]
    {
        assert_eq!(properties[field]["allOf"][0]["$ref"], format!("{package}.{name}"));
    }
    assert_eq!(properties["enum"]["items"]["allOf"][0]["$ref"], format!("{package}.JSON"));
    assert_eq!(properties["x-kubernetes-list-type"]["type"], "string");
}

#[test]
fn every_reference_leads_somewhere() {
    for (group, version) in group_versions() {
        let document = read(group, version);
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > 10);
        for reference in found {
            let name = reference.strip_prefix("#/components/schemas/").unwrap();
            assert!(document["components"]["schemas"].get(name).is_some(), "{name}");
        }
    }
}

#[test]
fn merge_keys_are_published() {
    let document = read("apps", "v1");
    let containers =
        &document["components"]["schemas"]["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
    assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
    assert_eq!(containers["items"]["allOf"][0]["$ref"], "#/components/schemas/io.k8s.api.core.v1.Container");
}

#[test]
fn every_subresource_has_its_paths() {
    let core = read("", "v1");
    let pod = "/api/v1/namespaces/{namespace}/pods/{name}";
    let operation = |path: &str, method: &str| core["paths"][format!("{pod}{path}")][method].clone();
    for (path, method, id, kind) in [
        ("/status", "patch", "patchCoreV1NamespacedPodStatus", "Pod"),
        ("/ephemeralcontainers", "put", "replaceCoreV1NamespacedPodEphemeralcontainers", "Pod"),
        ("/binding", "post", "createCoreV1NamespacedPodBinding", "Binding"),
        ("/eviction", "post", "createCoreV1NamespacedPodEviction", "Eviction"),
        ("/log", "get", "readCoreV1NamespacedPodLog", "Pod"),
        ("/exec", "get", "connectCoreV1GetNamespacedPodExec", "PodExecOptions"),
        ("/attach", "post", "connectCoreV1PostNamespacedPodAttach", "PodAttachOptions"),
    ] {
        let found = operation(path, method);
        let speaks = &found["x-kubernetes-group-version-kind"]["kind"];
        assert_eq!((&found["operationId"], speaks), (&json!(id), &json!(kind)), "{path}");
    }
    assert_eq!(operation("/eviction", "post")["x-kubernetes-group-version-kind"]["group"], "policy");
    let log = &operation("/log", "get")["responses"]["200"]["content"]["text/plain"]["schema"];
    assert_eq!(log, &json!({"type": "string"}));
    assert_eq!(operation("/exec", "get")["x-kubernetes-action"], "connect");
    assert!(operation("/binding", "get").is_null() && operation("/exec", "put").is_null());
    let proxy = &core["paths"]["/api/v1/nodes/{name}/proxy/{path}"];
    assert_eq!(proxy["put"]["operationId"], "connectCoreV1PutNodeProxyWithPath");
    assert_eq!(
        core["paths"]["/api/v1/namespaces/{name}/finalize"]["put"]["operationId"],
        "replaceCoreV1NamespaceFinalize"
    );
    let token = &core["paths"]["/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"]["post"];
    let body = &token["requestBody"]["content"]["application/json"]["schema"]["$ref"];
    assert_eq!(body, "#/components/schemas/io.k8s.api.authentication.v1.TokenRequest");
    let scale = &read("apps", "v1")["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}/scale"];
    let speaks = json!({"group": "autoscaling", "version": "v1", "kind": "Scale"});
    let types = |operation: &Value| operation["requestBody"]["content"].as_object().unwrap().len();
    assert_eq!((types(&scale["patch"]), types(&operation("", "patch"))), (3, 4));
    assert_eq!(scale["patch"]["operationId"], "patchAppsV1NamespacedDeploymentScale");
    assert_eq!(scale["patch"]["x-kubernetes-group-version-kind"], speaks);
    // And all of them.
    for kind in served() {
        let document = read(kind.group, kind.version);
        for part in kind.subresources {
            let suffix = format!("/{}/{{name}}/{}", kind.plural, part.as_str());
            let paths = document["paths"].as_object().unwrap();
            let item = paths.iter().find(|(path, _)| path.ends_with(&suffix)).unwrap().1;
            assert!(item.as_object().unwrap().len() > 1, "{kind}{suffix}");
        }
    }
}

#[test]
fn a_kind_that_is_only_read_has_no_other_operation() {
    let document = read("metrics.k8s.io", "v1beta1");
    let paths = document["paths"].as_object().unwrap();
    let operations: Vec<(&str, &str)> = paths
        .iter()
        .flat_map(|(path, item)| {
            item.as_object().unwrap().keys().map(move |key| (path.as_str(), key.as_str()))
        })
        .filter(|(_, key)| *key != "parameters")
        .collect();
    let root = "/apis/metrics.k8s.io/v1beta1";
    let all = [
        "namespaces/{namespace}/pods",
        "namespaces/{namespace}/pods/{name}",
        "nodes",
        "nodes/{name}",
        "pods",
    ];
    let all: Vec<String> = all.iter().map(|path| format!("{root}/{path}")).collect();
    assert_eq!(operations, all.iter().map(|path| (path.as_str(), "get")).collect::<Vec<_>>());
    let parameters = &paths[&all[2]]["get"]["parameters"];
    assert!(
        parameters.as_array().unwrap().iter().all(|parameter| parameter["name"] != "watch"),
        "{parameters}"
    );
    let produces = &second()["paths"][&all[2]]["get"]["produces"];
    assert_eq!(*produces, json!(["application/json", "application/vnd.kubernetes.protobuf"]));
}

/// An operation's name is the name of a function in the clients that are made from the document.
#[test]
fn every_operation_has_a_name_of_its_own() {
    let second = second();
    let items = second["paths"].as_object().unwrap().values();
    let mut seen = std::collections::HashSet::new();
    for operation in items.flat_map(|item| item.as_object().unwrap().values()).filter(|o| o.is_object()) {
        let id = operation["operationId"].as_str().unwrap();
        assert!(seen.insert(id.to_owned()), "{id}");
    }
    assert!(seen.contains("listRbacAuthorizationV1ClusterRole") && seen.len() > 400, "{}", seen.len());
}

#[test]
fn defaults_are_those_that_the_server_puts_in() {
    let core = read("", "v1");
    let protocol =
        |name: &str| core["components"]["schemas"][name]["properties"]["protocol"]["default"].clone();
    let mut pod = json!({"spec": {"containers": [{"ports": [{}]}]}});
    crate::default::apply(&crate::kind::POD, &mut pod);
    assert_eq!(
        pod["spec"]["containers"][0]["ports"][0]["protocol"],
        protocol("io.k8s.api.core.v1.ContainerPort")
    );
    let mut service = json!({"spec": {"ports": [{}]}});
    crate::default::apply(&crate::kind::SERVICE, &mut service);
    assert_eq!(service["spec"]["ports"][0]["protocol"], protocol("io.k8s.api.core.v1.ServicePort"));
}

#[test]
fn zeros_are_published_where_kubernetes_has_them() {
    let schemas = read("", "v1")["components"]["schemas"].clone();
    let default = |type_: &str, field: &str| {
        schemas[format!("io.k8s.api.core.v1.{type_}")]["properties"][field].clone()
    };
    assert_eq!(default("Pod", "metadata")["default"], json!({}));
    assert_eq!(default("Pod", "spec")["default"], json!({}));
    assert_eq!(default("Container", "name")["default"], "");
    assert_eq!(default("ContainerPort", "containerPort")["default"], 0);
    assert_eq!(default("PodSpec", "containers")["items"]["default"], json!({}));
    assert_eq!(default("Container", "args")["items"]["default"], "");
    assert_eq!(default("PodSpec", "nodeSelector")["additionalProperties"]["default"], "");
    // A pointer, a text that may be left out, and lists have none.
    for (type_, field) in [("PodSpec", "securityContext"), ("Container", "image"), ("PodSpec", "containers")]
    {
        assert!(default(type_, field).get("default").is_none(), "{type_}.{field}");
    }
    let second = second();
    let pod = &second["definitions"]["io.k8s.api.core.v1.Pod"]["properties"]["metadata"];
    assert!(pod.get("default").is_none(), "the second version has none of zeros");
}

#[test]
fn descriptions_are_whole() {
    let core = read("", "v1");
    let said = &core["components"]["schemas"]["io.k8s.api.core.v1.PodSpec"]["properties"]["dnsPolicy"]["description"];
    assert!(said.as_str().unwrap().ends_with("explicitly to 'ClusterFirstWithHostNet'."), "{said}");
    for (name, said) in
        [("api.resource.Quantity", "An amount such as"), ("apis.meta.v1.Time", "Time is a wrapper")]
    {
        let description =
            &core["components"]["schemas"][format!("io.k8s.apimachinery.pkg.{name}")]["description"];
        assert!(description.as_str().unwrap().starts_with(said), "{description}");
    }
}

/// Every key of a document.
fn keys<'a>(value: &'a Value, out: &mut std::collections::HashSet<&'a str>) {
    match value {
        Value::Object(object) => object.iter().for_each(|(key, value)| {
            out.insert(key);
            keys(value, out);
        }),
        Value::Array(items) => items.iter().for_each(|item| keys(item, out)),
        _ => {}
    }
}

#[test]
fn the_second_version_has_all_and_nothing_of_the_third() {
    let second = second();
    assert_eq!(second["swagger"], "2.0");
    let mut found = Vec::new();
    references(&second, &mut found);
    for reference in found {
        let name = reference.strip_prefix("#/definitions/").unwrap();
        assert!(second["definitions"].get(name).is_some(), "{name}");
    }
    let mut seen = std::collections::HashSet::new();
    keys(&second["paths"], &mut seen);
    for key in ["requestBody", "content", "allOf", "components"] {
        assert!(!seen.contains(key), "{key}");
    }
    let definitions = &second["definitions"];
    let pod = &definitions["io.k8s.api.core.v1.PodSpec"]["properties"];
    assert_eq!(pod["containers"]["x-kubernetes-patch-merge-key"], "name");
    assert_eq!(pod["containers"]["items"], json!({"$ref": "#/definitions/io.k8s.api.core.v1.Container"}));
    assert_eq!(pod["affinity"]["$ref"], "#/definitions/io.k8s.api.core.v1.Affinity");
    assert!(pod["affinity"]["description"].is_string());
    let number_or_text = &definitions["io.k8s.apimachinery.pkg.util.intstr.IntOrString"];
    assert_eq!(
        (&number_or_text["type"], &number_or_text["format"]),
        (&json!("string"), &json!("int-or-string"))
    );
    assert_eq!(definitions["io.k8s.apimachinery.pkg.api.resource.Quantity"]["type"], "string");
    for kind in served() {
        assert!(
            definitions.get(kind.schema).is_some()
                && definitions.get(format!("{}List", kind.schema)).is_some(),
            "{kind}"
        );
    }
    let item = &second["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"];
    assert_eq!(
        item["parameters"][1],
        json!({"name": "name", "in": "path", "required": true, "description": "The object's name.",
        "type": "string", "uniqueItems": true})
    );
    let put = &item["put"];
    let body = json!({"name": "body", "in": "body", "required": true, "schema": {"$ref": "#/definitions/io.k8s.api.apps.v1.Deployment"}});
    assert_eq!(put["parameters"][0], body);
    assert_eq!(put["responses"]["200"]["schema"]["$ref"], "#/definitions/io.k8s.api.apps.v1.Deployment");
    assert_eq!(put["produces"], json!(["application/json", "application/vnd.kubernetes.protobuf"]));
    assert!(item["patch"]["consumes"].as_array().unwrap().contains(&json!("application/apply-patch+yaml")));
}

/// A field of a message: its number and its bytes, or nothing for a number.
fn fields(mut bytes: &[u8]) -> Vec<(u64, &[u8])> {
    let varint = |bytes: &mut &[u8]| {
        let (mut value, mut shift) = (0_u64, 0);
        loop {
            let (first, rest) = bytes.split_first().unwrap();
            *bytes = rest;
            value |= u64::from(first & 0x7f) << shift;
            shift += 7;
            if first & 0x80 == 0 {
                return value;
            }
        }
    };
    let mut out = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let number = varint(&mut bytes);
        let field = if key & 7 == 2 {
            let (field, rest) = bytes.split_at(usize::try_from(number).unwrap());
            bytes = rest;
            field
        } else {
            assert_eq!((key & 7, number), (0, 1), "a flag that is set");
            &[]
        };
        out.push((key >> 3, field));
    }
    out
}

/// What stands at a path of field numbers; a name chooses among named entries, whose value it is.
fn at<'a>(bytes: &'a [u8], path: &[u64], names: &[&str]) -> Option<&'a [u8]> {
    let Some((number, path)) = path.split_first() else { return Some(bytes) };
    let mut of_number =
        fields(bytes).into_iter().filter(|(found, _)| found == number).map(|(_, field)| field);
    match names.split_first().filter(|(name, _)| !name.is_empty()) {
        Some((name, names)) => {
            let entry = of_number.find(|entry| fields(entry)[0] == (1, name.as_bytes()))?;
            at(fields(entry)[1].1, path, names)
        }
        None => at(of_number.next()?, path, names.get(1..).unwrap_or(&[])),
    }
}

/// As kubectl reads it: the numbers are those of gnostic's messages.
#[test]
fn the_second_version_is_gnostics_in_protobuf() {
    let bytes = second_in_protobuf();
    let second = second();
    let found = |path: &[u64], names: &[&str]| {
        at(&bytes, path, names).map(|field| String::from_utf8_lossy(field).into_owned()).unwrap_or_default()
    };
    assert_eq!((found(&[1], &[]), found(&[2, 1], &[])), ("2.0".to_owned(), "Kubernetes".to_owned()));
    // 9 definitions { 1 named { 25 properties { 1 named: a schema } } }
    let spec = "io.k8s.api.core.v1.PodSpec";
    let containers = |rest: &[u64], name: &str| {
        found(&[[9, 1, 25, 1].as_slice(), rest].concat(), &["", spec, "", "containers", name])
    };
    assert_eq!(containers(&[22, 1], ""), "array");
    assert_eq!(containers(&[23, 1, 1], ""), "#/definitions/io.k8s.api.core.v1.Container");
    assert_eq!(containers(&[31, 2], "x-kubernetes-patch-merge-key"), "\"name\"");
    assert_eq!(
        containers(&[4], ""),
        second["definitions"][spec]["properties"]["containers"]["description"].as_str().unwrap()
    );
    let labels = found(&[9, 1, 25, 1, 21, 1, 22, 1], &["", schema::OBJECT_META, "", "labels"]);
    assert_eq!(labels, "string");
    assert_eq!(
        found(&[9, 1, 25, 1, 5, 2], &["", "io.k8s.api.core.v1.ServicePort", "", "protocol"]),
        "\"TCP\""
    );
    assert_eq!(found(&[9, 1, 19], &["", spec]), "containers");
    let speaks =
        found(&[9, 1, 31, 2], &["", "io.k8s.api.apps.v1.Deployment", "x-kubernetes-group-version-kind"]);
    assert_eq!(
        serde_json::from_str::<Value>(&speaks).unwrap(),
        json!([{"group": "apps", "version": "v1", "kind": "Deployment"}])
    );
    // 8 paths { 2 named { 8 patch: an operation } }, and what clients ask about first: its parameters.
    let path = "/apis/apps/v1/namespaces/{namespace}/deployments/{name}";
    let patch =
        |rest: &[u64], name: &str| found(&[[8, 2, 8].as_slice(), rest].concat(), &["", path, "", name]);
    assert_eq!(patch(&[5], ""), "patchAppsV1NamespacedDeployment");
    assert_eq!(patch(&[13, 2], "x-kubernetes-action"), "\"patch\"");
    let operation = at(&bytes, &[8, 2, 8], &["", path]).unwrap();
    let parameters: Vec<String> = fields(operation)
        .into_iter()
        .filter(|(number, _)| *number == 8)
        .filter_map(|(_, parameter)| at(parameter, &[1, 2, 3, 4], &[]))
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .collect();
    assert_eq!(parameters, ["dryRun", "fieldManager", "fieldValidation", "force"]);
    let body = at(&bytes, &[8, 2, 3, 8, 1, 1, 5, 1], &["", path]).unwrap();
    assert_eq!(body, b"#/definitions/io.k8s.api.apps.v1.Deployment");
    let answer = found(&[8, 2, 3, 9, 1, 1, 2, 1, 1], &["", path, "", "", "200"]);
    assert_eq!(answer, "#/definitions/io.k8s.api.apps.v1.Deployment");
    assert_eq!(found(&[8, 2, 9, 1, 2, 4, 4], &["", path]), "namespace");
    let count = |number: u64, of: &str| {
        let inner = at(&bytes, &[number], &[]).unwrap();
        assert_eq!(fields(inner).len(), second[of].as_object().unwrap().len(), "{of}");
    };
    count(8, "paths");
    count(9, "definitions");
}
