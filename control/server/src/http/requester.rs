//! Who asks, written into what is asked for: the spec of a CertificateSigningRequest names its user, whatever the
//! body says.

use serde_json::{Map, Value, json};
use weft_api::kind::{self, Kind};

use super::review::user_info;
use crate::authn::User;

/// What the server says of the user.
const FIELDS: [&str; 4] = ["username", "uid", "groups", "extra"];

/// Writes the user into a new object whose kind wants it.
pub(super) fn write(kind: &Kind, user: &User, object: &mut Map<String, Value>) {
    if *kind != kind::CERTIFICATE_SIGNING_REQUEST {
        return;
    }
    let Some(spec) = object.entry("spec").or_insert_with(|| json!({})).as_object_mut() else { return };
    for field in FIELDS {
        spec.remove(field);
    }
    if let Value::Object(info) = user_info(user) {
        spec.extend(info);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_its_users() {
        let user = User {
            name: "u".into(),
            groups: vec!["g".into()],
            extra: vec![("k".into(), "v".into())],
            ..User::default()
        };
        let sent = json!({ "spec": { "username": "other", "uid": "1", "usages": ["any"] } });
        let mut object = sent.as_object().unwrap().clone();
        write(&kind::POD, &user, &mut object);
        assert_eq!(Value::Object(object.clone()), sent);
        write(&kind::CERTIFICATE_SIGNING_REQUEST, &user, &mut object);
        let spec = json!({ "username": "u", "groups": ["g"], "extra": { "k": ["v"] }, "usages": ["any"] });
        assert_eq!(object["spec"], spec);
    }
}
