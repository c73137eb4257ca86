//! The grammar, and what selectors match.

use super::*;
use crate::kind;

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

#[test]
fn grammar() {
    let set = labels(&[("app", "web"), ("tier", "front"), ("example.com/size", "3")]);
    for (text, expected) in [
        ("", true),
        ("app=web", true),
        ("app==web", true),
        ("app = web , tier!=back", true),
        ("app!=web", false),
        ("missing!=x", true),
        ("app in (web, api)", true),
        ("app notin (web)", false),
        ("app", true),
        ("!app", false),
        ("!missing", true),
        ("example.com/size>2", true),
        ("example.com/size<2", false),
        ("app=", false),
        ("app in (web),tier in (front,back),!x", true),
    ] {
        assert_eq!(Selector::parse(text).unwrap().matches(&set), expected, "{text}");
    }
    for wrong in
        ["=x", "app in", "app in web", "a b", "app=(", "app=web,", "-bad-=x", "app in (a", "a=b c", "a=%"]
    {
        assert!(Selector::parse(wrong).is_err(), "{wrong}");
    }
    assert!(!Selector::nothing().matches(&set));
}

#[test]
fn spelling_round_trips() {
    for text in ["app=web,tier!=back", "a in (x,y),!b,c"] {
        assert_eq!(Selector::parse(text).unwrap().to_string(), text);
    }
}

#[test]
fn from_structure() {
    let selector: LabelSelector = serde_json::from_value(serde_json::json!({
        "matchLabels": {"app": "web"}, "matchExpressions": [{"key": "tier", "operator": "In", "values": ["front"]}]
    }))
    .unwrap();
    let selector = Selector::from_label_selector(&selector).unwrap();
    assert!(selector.matches(&labels(&[("app", "web"), ("tier", "front")])));
    assert!(!selector.matches(&labels(&[("app", "web")])));
    let wrong: LabelSelector = serde_json::from_value(serde_json::json!({
        "matchExpressions": [{"key": "tier", "operator": "Like"}]
    }))
    .unwrap();
    assert_eq!(
        Selector::from_label_selector(&wrong).unwrap_err().to_string(),
        "\"Like\" is not a valid label selector operator"
    );
}

#[test]
fn fields() {
    let pod = serde_json::json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n1"}, "status": {"phase": "Running"}});
    let parse = |text| FieldSelector::parse(&kind::POD, text);
    assert!(parse("spec.nodeName=n1,status.phase!=Failed").unwrap().matches_value(&pod));
    assert!(!parse("spec.nodeName=n2").unwrap().matches_value(&pod));
    assert!(parse("metadata.name=p").unwrap().matches_value(&pod));
    assert_eq!(parse("metadata.name=p").unwrap().exact_name(), Some("p"));
    assert_eq!(parse("spec.foo=x").unwrap_err().to_string(), "field label not supported: spec.foo");
    assert!(parse("nonsense").is_err());
    let node = serde_json::json!({"metadata": {"name": "n"}});
    let schedulable = FieldSelector::parse(&kind::NODE, "spec.unschedulable=false").unwrap();
    assert!(schedulable.matches_value(&node));
    let event = serde_json::json!({"involvedObject": {"name": "a,b"}, "source": {"component": "x"}});
    let escaped = FieldSelector::parse(&kind::EVENT, "involvedObject.name=a\\,b,source=x").unwrap();
    assert!(escaped.matches_value(&event));
}
