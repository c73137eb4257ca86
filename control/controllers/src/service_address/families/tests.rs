//! The table of Kubernetes' dual stack: what is asked for, in which cluster, and what becomes of it.

use super::super::{Taken, complete};
use super::*;

const V4: &str = "10.96.0.0/16";
const V6: &str = "fd00:96::/112";

fn settings(ranges: &[&str]) -> Settings {
    Settings {
        service_cidrs: ranges.iter().map(|range| range.parse().unwrap()).collect(),
        ..Settings::default()
    }
}

fn service(spec: &Value) -> Value {
    let mut service = json!({ "metadata": { "name": "s", "namespace": "default" },
        "spec": { "selector": { "app": "web" }, "ports": [{ "port": 80 }] } });
    crate::testing::merge(&mut service["spec"], spec);
    service
}

fn said(errors: &[FieldError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn create(ranges: &[&str], spec: &Value) -> Result<Value, String> {
    let mut value = service(spec);
    let done = complete(&mut value, None, &Taken::default(), &settings(ranges), 77);
    done.map(|()| value["spec"].clone()).map_err(|errors| said(&errors))
}

/// A whole update: what is not in `spec` is left out by the client.
fn update(ranges: &[&str], old: &Value, spec: &Value) -> Result<Value, String> {
    let old: Service = serde_json::from_value(json!({ "metadata": {}, "spec": old })).unwrap();
    let mut value = service(spec);
    let done = complete(&mut value, Some(&old), &Taken::default(), &settings(ranges), 78);
    done.map(|()| value["spec"].clone()).map_err(|errors| said(&errors))
}

fn facts(spec: &Value) -> (Vec<String>, &str) {
    for (address, family) in texts(&spec["clusterIPs"]).iter().zip(texts(&spec["ipFamilies"])) {
        let is =
            address.parse().map_or(family.as_str(), |a: IpAddr| if a.is_ipv4() { "IPv4" } else { "IPv6" });
        assert_eq!(is, family, "{spec}");
    }
    assert_eq!(spec["clusterIP"], spec["clusterIPs"][0], "{spec}");
    (texts(&spec["ipFamilies"]), text(&spec["ipFamilyPolicy"]))
}

#[test]
fn a_new_service_has_the_families_of_its_policy() {
    let (four, six, both, turned) =
        (&["IPv4"][..], &["IPv6"][..], &["IPv4", "IPv6"][..], &["IPv6", "IPv4"][..]);
    let policy = |policy: &str| json!({ "ipFamilyPolicy": policy });
    let with = |families: &[&str], policy: &str| json!({ "ipFamilies": families, "ipFamilyPolicy": policy });
    for (ranges, spec, families, decided) in [
        (&[V4][..], json!({}), four, "SingleStack"),
        (&[V6], json!({}), six, "SingleStack"),
        (&[V4, V6], json!({}), four, "SingleStack"),
        (&[V6, V4], json!({}), six, "SingleStack"),
        (&[V4, V6], json!({ "ipFamilies": ["IPv6"] }), six, "SingleStack"),
        (&[V4, V6], json!({ "clusterIP": "fd00:96::9" }), six, "SingleStack"),
        (&[V4], policy("PreferDualStack"), four, "PreferDualStack"),
        (&[V4, V6], policy("PreferDualStack"), both, "PreferDualStack"),
        (&[V6, V4], policy("RequireDualStack"), turned, "RequireDualStack"),
        (&[V4, V6], with(&["IPv6"], "RequireDualStack"), turned, "RequireDualStack"),
        (&[V4, V6], with(&["IPv6", "IPv4"], "PreferDualStack"), turned, "PreferDualStack"),
        (
            &[V4, V6],
            json!({ "clusterIP": "fd00:96::9", "ipFamilyPolicy": "PreferDualStack" }),
            turned,
            "PreferDualStack",
        ),
        (&[V4, V6], json!({ "clusterIP": "None" }), four, "SingleStack"),
        (
            &[V4, V6],
            json!({ "clusterIP": "None", "ipFamilyPolicy": "PreferDualStack" }),
            both,
            "PreferDualStack",
        ),
        (&[V4], json!({ "clusterIP": "None", "selector": null }), both, "RequireDualStack"),
        (&[V6], json!({ "clusterIP": "None", "selector": null }), turned, "RequireDualStack"),
        (
            &[V4],
            json!({ "clusterIP": "None", "selector": null, "ipFamilyPolicy": "SingleStack" }),
            four,
            "SingleStack",
        ),
    ] {
        let made = create(ranges, &spec).unwrap();
        assert_eq!(facts(&made), (families.iter().map(ToString::to_string).collect(), decided), "{spec}");
        let count = if spec["clusterIP"] == "None" { 1 } else { families.len() };
        assert_eq!(texts(&made["clusterIPs"]).len(), count, "{spec}");
    }
    let asked = json!({ "clusterIP": "FD00:96:0::9", "clusterIPs": ["FD00:96:0::9", "10.96.0.9"], "ipFamilyPolicy": "RequireDualStack" });
    assert_eq!(create(&[V4, V6], &asked).unwrap()["clusterIPs"], json!(["fd00:96::9", "10.96.0.9"]));
}

#[test]
fn what_the_cluster_has_not_is_refused_by_field() {
    let two = json!(["10.96.0.9", "fd00:96::9"]);
    for (ranges, spec, wanted) in [
        (
            &[V4][..],
            json!({ "ipFamilyPolicy": "RequireDualStack" }),
            "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": this cluster is not configured for dual-stack services",
        ),
        (
            &[V4],
            json!({ "ipFamilies": ["IPv6"] }),
            "spec.ipFamilies[0]: Invalid value: \"IPv6\": not configured on this cluster",
        ),
        (
            &[V4],
            json!({ "ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "PreferDualStack" }),
            "spec.ipFamilies[1]: Invalid value: \"IPv6\": not configured on this cluster",
        ),
        (
            &[V4],
            json!({ "clusterIP": "fd00:96::9" }),
            "spec.clusterIPs[0]: Invalid value: [\"fd00:96::9\"]: may not use IPv6 on a cluster which is not configured for it",
        ),
        (
            &[V4, V6],
            json!({ "ipFamilies": ["IPv4", "IPv6"] }),
            "spec.ipFamilyPolicy: Invalid value: \"SingleStack\": must be RequireDualStack or PreferDualStack when multiple ipFamilies are specified",
        ),
        (
            &[V4, V6],
            json!({ "clusterIP": two[0], "clusterIPs": two }),
            "spec.ipFamilyPolicy: Invalid value: \"SingleStack\": must be RequireDualStack or PreferDualStack when multiple clusterIPs are specified",
        ),
        (
            &[V4, V6],
            json!({ "ipFamilyPolicy": "RequireDualStack", "clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9", "fd00:97::9"] }),
            "spec.clusterIPs[1]: Invalid value: \"fd00:97::9\": failed to allocate IP fd00:97::9",
        ),
    ] {
        let said = create(ranges, &spec).unwrap_err();
        assert!(said.starts_with(wanted), "{spec}: {said}");
    }
}

#[test]
fn a_second_family_is_gained_and_given_back_by_the_policy_alone() {
    const BOTH: &[&str] = &[V4, V6];
    let one = create(BOTH, &json!({})).unwrap();
    for policy in ["PreferDualStack", "RequireDualStack"] {
        let two = update(BOTH, &one, &json!({ "ipFamilyPolicy": policy })).unwrap();
        assert_eq!(facts(&two), (vec!["IPv4".into(), "IPv6".into()], policy));
        assert_eq!(two["clusterIPs"][0], one["clusterIP"]);
        // As kubectl patches it: everything else as it was.
        let mut patched = two.clone();
        patched["ipFamilyPolicy"] = json!("SingleStack");
        let back = json!({ "ipFamilyPolicy": "SingleStack" });
        let named = json!({ "ipFamilyPolicy": "SingleStack", "clusterIP": two["clusterIP"], "clusterIPs": [two["clusterIP"]],
            "ipFamilies": ["IPv4"] });
        for spec in [patched, back, named] {
            assert_eq!(update(BOTH, &two, &spec).unwrap(), one);
        }
        // Silence keeps everything, the other policy too.
        assert_eq!(update(BOTH, &two, &json!({})).unwrap(), two);
        let other = json!({ "clusterIP": two["clusterIP"], "clusterIPs": [two["clusterIP"]] });
        let said = update(BOTH, &two, &other).unwrap_err();
        assert!(
            said.contains("must be set to 'SingleStack' when releasing the secondary clusterIP"),
            "{said}"
        );
        let turned = json!({ "ipFamilies": ["IPv6", "IPv4"] });
        let said = update(BOTH, &two, &turned).unwrap_err();
        assert!(said.starts_with("spec.clusterIPs[0]") || said.contains("spec.ipFamilies[0]"), "{said}");
    }
}

#[test]
fn a_service_does_not_follow_the_cluster_by_itself() {
    let one = create(&[V4], &json!({ "ipFamilyPolicy": "PreferDualStack" })).unwrap();
    assert_eq!(update(&[V4, V6], &one, &one).unwrap(), one, "the cluster has become dual stack");
    let mut single = one.clone();
    single["ipFamilyPolicy"] = json!("SingleStack");
    let single = update(&[V4, V6], &one, &single).unwrap();
    let two = update(&[V4, V6], &single, &json!({ "ipFamilyPolicy": "PreferDualStack" })).unwrap();
    assert_eq!(texts(&two["clusterIPs"]).len(), 2, "asked for anew");
    assert_eq!(update(&[V4], &two, &two).unwrap(), two, "the cluster has one family again");
    assert_eq!(update(&["10.97.0.0/16"], &two, &json!({})).unwrap(), two, "or another range");
    let back = update(&[V4], &two, &json!({ "ipFamilyPolicy": "SingleStack" })).unwrap();
    assert_eq!(facts(&back), (vec!["IPv4".into()], "SingleStack"));
}

#[test]
fn headless_services_keep_their_families_and_may_change_them() {
    let both = create(
        &[V4, V6],
        &json!({ "clusterIP": "None", "ipFamilies": ["IPv6", "IPv4"], "ipFamilyPolicy": "PreferDualStack" }),
    );
    let both = both.unwrap();
    assert_eq!(update(&[V4, V6], &both, &json!({})).unwrap(), both);
    let turned = update(&[V4, V6], &both, &json!({ "ipFamilies": ["IPv4", "IPv6"] })).unwrap();
    assert_eq!(turned["ipFamilies"], json!(["IPv4", "IPv6"]));
    let one = update(&[V4, V6], &both, &json!({ "ipFamilyPolicy": "SingleStack" })).unwrap();
    assert_eq!(facts(&one), (vec!["IPv6".into()], "SingleStack"));
}
