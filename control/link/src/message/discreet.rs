//! Messages that hold secrets, as they may be seen in a log line: by their names and sizes.

use std::fmt;

use super::{ApiObject, JoinRequest, Response};

impl fmt::Debug for ApiObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiObject")
            .field("kind", &self.kind)
            .field("namespace", &self.namespace)
            .field("name", &self.name)
            .field("json_bytes", &self.json.len())
            .finish()
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("id", &self.id)
            .field("refused", &self.refused)
            .field("text_bytes", &self.text.len())
            .field("expires_unix_seconds", &self.expires_unix_seconds)
            .finish()
    }
}

impl fmt::Debug for JoinRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinRequest").field("node", &self.node).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Resource, StateFrame, resource::Body, state_frame::Frame};

    #[test]
    fn no_secret_is_seen_wherever_a_message_is_shown() {
        let secret = || "hush".to_owned();
        let object = ApiObject { kind: "Secret".into(), json: secret().into(), ..ApiObject::default() };
        let resource = Resource { name: "object/Secret/a/b".into(), body: Some(Body::Object(object)) };
        let frame = StateFrame { frame: Some(Frame::Put(resource)) };
        let response = Response { text: secret(), ..Response::default() };
        let join = JoinRequest { token: secret(), node: "node-1".into(), ..JoinRequest::default() };
        let shown = format!("{frame:?} {response:?} {join:?}");
        assert!(shown.contains("object/Secret/a/b") && shown.contains("node-1"));
        assert!(!shown.contains("hush"), "{shown}");
    }
}
