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
