//! Key pairs for the nodes' encryption: random ones, put where the plan of [`weft_controllers::node_key`] wants them.

use std::fmt::Display;

use ring::rand::{SecureRandom as _, SystemRandom};
use weft_api::kind;
use weft_api::patch::{self, PatchType};
use weft_api::status::Status;
use weft_controllers::node_key::{self, Made};

use crate::clock;
use crate::objects::update::Target;
use crate::objects::{Objects, Preconditions, WriteOptions, into_map};

/// Makes a pair and writes it into the node's Secret, which is made or must be the one that is named.
pub(crate) async fn make(
    objects: &Objects,
    node: &str,
    generation: u64,
    secret: Option<&(String, String)>,
    drop: &[String],
) -> Result<(), Status> {
    let pair = pair().map_err(|_| failed("the system gives no random numbers"))?;
    let written = node_key::secret(node, generation, &pair, drop, clock::now());
    let key = node_key::secret_key(node);
    let options = WriteOptions::default();
    let Some((uid, resource_version)) = secret else {
        let done = objects.create(&kind::SECRET, &key.namespace, into_map(written)?, &options).await;
        return done.map(|_| ());
    };
    let preconditions =
        Preconditions { uid: Some(uid.clone()), resource_version: Some(resource_version.clone()) };
    let target = Target { kind: &kind::SECRET, key: &key, subresource: None, preconditions };
    let bytes = serde_json::to_vec(&written).map_err(Status::internal)?;
    let merge = |current: &serde_json::Map<String, serde_json::Value>| {
        let current = serde_json::Value::Object(current.clone());
        into_map(patch::apply(PatchType::Merge, &kind::SECRET, &current, &bytes)?)
    };
    objects.update(&target, &options, merge).await.map(|_| ())
}

fn failed(why: impl Display) -> Status {
    Status::internal(why)
}

fn pair() -> Result<Made, ring::error::Unspecified> {
    let mut private = [0; 32];
    SystemRandom::new().fill(&mut private)?;
    let secret = x25519_dalek::StaticSecret::from(private);
    let public = x25519_dalek::PublicKey::from(&secret).to_bytes();
    Ok(Made { private: secret.to_bytes(), public })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_pairs_and_each_is_another() {
        let (one, two) = (pair().unwrap(), pair().unwrap());
        assert_ne!(one.private, two.private);
        let secret = x25519_dalek::StaticSecret::from(one.private);
        assert_eq!(x25519_dalek::PublicKey::from(&secret).to_bytes(), one.public);
    }
}
