//! Lists under apply: the order of items, and items whose key is there twice.

use super::*;

/// The finalizers that an apply of `config` makes of `live`, a letter each.
fn merged(live: &str, config: &str) -> String {
    let object = |letters: &str| {
        let finalizers: Vec<Value> = letters.chars().map(|c| c.to_string().into()).collect();
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "finalizers": finalizers}})
    };
    let out = apply(&kind::POD, Some(&object(live)), &object(config), manager("m"), true).unwrap();
    out["metadata"]["finalizers"].as_array().unwrap().iter().map(|f| f.as_str().unwrap()).collect()
}

#[test]
fn items_stand_as_the_configuration_orders_them() {
    // As the tests of Kubernetes' structured-merge-diff have them.
    for (live, config, expected) in [
        ("ab", "ba", "ba"),
        ("abcgf", "cdef", "abcgdef"),
        ("abb", "c", "abbc"),
        ("abcdec", "1b2ed", "a1bc2ecd"),
    ] {
        assert_eq!(merged(live, config), expected, "{config} applied to {live}");
    }
}

#[test]
fn items_of_structs_are_merged_where_they_come_to_stand() {
    let live = with_containers(&json!([{"name": "a", "image": "1", "tty": true}, {"name": "b"}]));
    let config = with_containers(&json!([{"name": "x"}, {"name": "b", "image": "2"}, {"name": "a"}]));
    let out = apply(&kind::DEPLOYMENT, Some(&deployment(&live)), &deployment(&config), manager("m"), true);
    assert_eq!(
        *containers(&out.unwrap()),
        json!([{"name": "x"}, {"name": "b", "image": "2"}, {"name": "a", "image": "1", "tty": true}])
    );
}

fn env(values: &[(&str, &str)]) -> Value {
    let items: Vec<Value> =
        values.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
    with_containers(&json!([{"name": "c", "env": items}]))
}

fn env_of(object: &Value) -> &Value {
    &containers(object)[0]["env"]
}

/// What `name` owns of the variables.
fn owned_env<'a>(object: &'a Value, name: &str) -> &'a Value {
    owned_by(object, name)
        .pointer("/f:spec/f:template/f:spec/f:containers/k:{\"name\":\"c\"}/f:env")
        .unwrap_or(&Value::Null)
}

#[test]
fn a_configuration_has_each_key_once() {
    let refused = applied(None, &env(&[("A", "1"), ("B", "1"), ("A", "2")]), "m").unwrap_err();
    assert_eq!(refused.code, 400);
    assert_eq!(
        refused.message,
        "failed to create typed patch object (/d; apps/v1, Kind=Deployment): .spec.template.spec\
         .containers[name=\"c\"].env: duplicate entries for key [name=\"A\"]"
    );
    let twice = json!({"metadata": {"name": "d", "finalizers": ["x/y", "x/y"]}});
    let refused = apply(&kind::DEPLOYMENT, None, &twice, manager("m"), false).unwrap_err();
    assert!(
        refused.message.ends_with(".metadata.finalizers: duplicate entries for key [=\"x/y\"]"),
        "{refused}"
    );
    let keyless = with_containers(&json!([{"image": "i"}]));
    let refused = applied(None, &keyless, "m").unwrap_err();
    assert_eq!(refused.code, 400, "{refused}");
    // A list that is one value may have what it likes.
    let args = with_containers(&json!([{"name": "c", "args": ["-v", "-v"]}]));
    assert!(applied(None, &args, "m").is_ok());
}

#[test]
fn a_long_key_that_is_there_twice_makes_no_long_message() {
    let long = "x".repeat(100_000);
    let refused = applied(None, &env(&[(&long, "1"), (&long, "2")]), "m").unwrap_err();
    assert!(refused.message.len() < 2_000, "{}", refused.message.len());
}

/// A Deployment that was created with A twice.
fn doubled() -> Value {
    let mut live = deployment(&env(&[("A", "1"), ("B", "1"), ("A", "2")]));
    track(&kind::DEPLOYMENT, None, &mut live, manager("kubectl-create")).unwrap();
    live
}

#[test]
fn what_is_there_twice_is_owned_as_one() {
    let live = doubled();
    let b = json!({".": {}, "f:name": {}, "f:value": {}});
    let both = json!({"k:{\"name\":\"A\"}": {}, "k:{\"name\":\"B\"}": b});
    assert_eq!(*owned_env(&live, "kubectl-create"), both);
    // An apply of something else leaves it, and who owns it, alone; again and again.
    let once = applied(Some(&live), &env(&[("C", "1")]), "m").unwrap();
    let again = applied(Some(&once), &env(&[("C", "1")]), "m").unwrap();
    assert_eq!(once, again);
    assert_eq!(env_of(&again).as_array().unwrap().len(), 4);
    assert_eq!(*owned_env(&again, "kubectl-create"), both);
    // As one it changes, and is taken.
    let mut changed = live.clone();
    changed["spec"]["template"]["spec"]["containers"][0]["env"][2]["value"] = "3".into();
    track(&kind::DEPLOYMENT, Some(&live), &mut changed, manager("x")).unwrap();
    assert_eq!(*owned_env(&changed, "x"), json!({"k:{\"name\":\"A\"}": {}}));
    assert_eq!(*owned_env(&changed, "kubectl-create"), json!({"k:{\"name\":\"B\"}": b}));
}

#[test]
fn to_state_what_is_there_twice_is_a_conflict_and_leaves_it_once() {
    let live = doubled();
    let config = env(&[("A", "2")]);
    let refused = applied(Some(&live), &config, "m").unwrap_err();
    assert!(refused.message.contains(".env[name=\"A\"]"), "{refused}");
    let forced = apply(&kind::DEPLOYMENT, Some(&live), &deployment(&config), manager("m"), true).unwrap();
    assert_eq!(*env_of(&forced), json!([{"name": "A", "value": "2"}, {"name": "B", "value": "1"}]));
    assert_eq!(
        *owned_env(&forced, "m"),
        json!({"k:{\"name\":\"A\"}": {".": {}, "f:name": {}, "f:value": {}}})
    );
    assert!(owned_env(&forced, "kubectl-create").get("k:{\"name\":\"A\"}").is_none(), "{forced}");
    // And back: what becomes two is one again for who owns it.
    let mut back = forced.clone();
    back["spec"]["template"]["spec"]["containers"][0]["env"] =
        json!([{"name": "A", "value": "2"}, {"name": "A", "value": "2"}]);
    track(&kind::DEPLOYMENT, Some(&forced), &mut back, manager("x")).unwrap();
    assert_eq!(*owned_env(&back, "x"), json!({"k:{\"name\":\"A\"}": {}}));
    assert_eq!(*owned_env(&back, "m"), Value::Null);
}
