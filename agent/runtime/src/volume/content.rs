//! What the files of a volume say that is made from objects.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use weft_api::view::pod::{DownwardFile, DownwardVolume, KeyToPath, TokenSource, Volume};

use super::atomic::{Files, relative};
use super::{Tokens, VolumeError, Volumes, decode_base64};
use crate::outside::TokenRequest;
use crate::spec::environment::{EnvironmentError, config_map, secret};
use crate::spec::fields::field;
use crate::spec::resources;

/// The ConfigMap with the cluster's CA that every namespace has; answered without looking it up.
pub(super) const ROOT_CA: &str = "kube-root-ca.crt";
/// Mode of files that name none.
const MODE: u32 = 0o644;
/// Token lifetime when none is asked for, seconds.
const TOKEN_LIFETIME_S: u64 = 3600;
/// Shortest token lifetime, seconds (the API's own bound).
const TOKEN_LIFETIME_MIN_S: u64 = 600;

/// The files of `volume`.
pub(super) async fn of(at: &Volumes<'_>, volume: &Volume, tokens: &mut Tokens) -> Result<Files, VolumeError> {
    let gathering = |mode: Option<u32>| Gathering {
        at,
        volume: &volume.name,
        mode: mode.unwrap_or(MODE),
        files: Files::new(),
    };
    let mut all;
    if let Some(map) = &volume.config_map {
        all = gathering(map.default_mode);
        all.config_map(&map.name, map.optional, &map.items)?;
    } else if let Some(secret) = &volume.secret {
        all = gathering(secret.default_mode);
        all.secret(&secret.name, secret.optional, &secret.items)?;
    } else if let Some(fields) = &volume.downward_api {
        all = gathering(fields.default_mode);
        all.fields(fields)?;
    } else if let Some(projected) = &volume.projected {
        all = gathering(projected.default_mode);
        for source in &projected.sources {
            if let Some(token) = &source.service_account_token {
                all.token(token, tokens).await?;
            }
            if let Some(map) = &source.config_map {
                all.config_map(&map.name, map.optional, &map.items)?;
            }
            if let Some(from) = &source.secret {
                all.secret(&from.name, from.optional, &from.items)?;
            }
            if let Some(fields) = &source.downward_api {
                all.fields(fields)?;
            }
        }
    } else {
        return Err(VolumeError::Unsupported(volume.name.clone()));
    }
    Ok(all.files)
}

/// The files of one volume as they come together.
struct Gathering<'a> {
    at: &'a Volumes<'a>,
    volume: &'a str,
    /// Of files that name none.
    mode: u32,
    files: Files,
}

impl Gathering<'_> {
    fn put(&mut self, path: &str, content: Vec<u8>, mode: Option<u32>) -> Result<(), VolumeError> {
        let clean = relative(path)
            .ok_or_else(|| VolumeError::Path { volume: self.volume.to_owned(), path: path.to_owned() })?;
        self.files.insert(clean, (content, mode.unwrap_or(self.mode)));
        Ok(())
    }

    fn object(&self, source: EnvironmentError) -> VolumeError {
        VolumeError::Object { volume: self.volume.to_owned(), source }
    }

    fn config_map(&mut self, name: &str, optional: bool, items: &[KeyToPath]) -> Result<(), VolumeError> {
        let mut data = BTreeMap::new();
        let inputs = self.at.inputs;
        let ca = if name == ROOT_CA { inputs.ca_pem() } else { String::new() };
        if ca.is_empty() {
            let map = config_map(inputs, &self.at.pod_ref.namespace, name, optional);
            let map = map.map_err(|e| self.object(e))?.unwrap_or_default();
            data.extend(map.data.into_iter().map(|(k, v)| (k, v.into_bytes())));
            data.extend(map.binary_data.into_iter().map(|(k, v)| (k, decode_base64(&v).unwrap_or_default())));
        } else {
            data.insert("ca.crt".to_owned(), ca.into_bytes());
        }
        self.keys(("configmap", name), &data, optional, items)
    }

    fn secret(&mut self, name: &str, optional: bool, items: &[KeyToPath]) -> Result<(), VolumeError> {
        let found = secret(self.at.inputs, &self.at.pod_ref.namespace, name, optional);
        let data = found.map_err(|e| self.object(e))?.unwrap_or_default().data;
        let data = data.into_iter().map(|(k, v)| (k, decode_base64(&v).unwrap_or_default())).collect();
        self.keys(("secret", name), &data, optional, items)
    }

    /// The wanted keys of an object, or all of them.
    fn keys(
        &mut self,
        (kind, name): (&'static str, &str),
        data: &BTreeMap<String, Vec<u8>>,
        optional: bool,
        items: &[KeyToPath],
    ) -> Result<(), VolumeError> {
        if items.is_empty() {
            return data.iter().try_for_each(|(key, value)| self.put(key, value.clone(), None));
        }
        for item in items {
            match data.get(&item.key) {
                Some(value) => self.put(&item.path, value.clone(), item.mode)?,
                None if optional => {}
                None => {
                    let (volume, name, key) = (self.volume.to_owned(), name.to_owned(), item.key.clone());
                    return Err(VolumeError::MissingKey { volume, kind, name, key });
                }
            }
        }
        Ok(())
    }

    fn fields(&mut self, fields: &DownwardVolume) -> Result<(), VolumeError> {
        for item in &fields.items {
            let text = self.field(item).map_err(|e| self.object(e))?;
            self.put(&item.path, text.into_bytes(), item.mode)?;
        }
        Ok(())
    }

    fn field(&self, item: &DownwardFile) -> Result<String, EnvironmentError> {
        if let Some(from) = &item.field_ref {
            let value = field(self.at.pod, self.at.here, &from.field_path);
            return value.ok_or_else(|| EnvironmentError::Field(from.field_path.clone()));
        }
        let Some(from) = &item.resource_field_ref else { return Ok(String::new()) };
        let spec = &self.at.pod.spec;
        let mut all = spec.init_containers.iter().chain(&spec.containers);
        let value = match all.find(|c| c.name == from.container_name) {
            Some(container) => resources::field(container, &from.resource, &from.divisor)?,
            None => None,
        };
        Ok(value.unwrap_or(0).to_string())
    }

    /// A token, asked for anew once four fifths of its life are over.
    async fn token(&mut self, source: &TokenSource, tokens: &mut Tokens) -> Result<(), VolumeError> {
        let key = (self.volume.to_owned(), source.path.clone());
        let now = Timestamp::now();
        let fresh = tokens
            .get(&key)
            .is_some_and(|(_, asked, ends)| now.duration_since(*asked) < ends.duration_since(*asked) * 4 / 5);
        if !fresh {
            let lifetime_seconds =
                source.expiration_seconds.unwrap_or(TOKEN_LIFETIME_S).max(TOKEN_LIFETIME_MIN_S);
            let request = TokenRequest {
                pod: self.at.pod_ref,
                service_account: self.at.service_account(),
                audience: &source.audience,
                lifetime_seconds,
            };
            match self.at.inputs.token(request).await {
                Ok(token) => {
                    let ends = i64::try_from(token.expires_unix_seconds)
                        .ok()
                        .and_then(|s| Timestamp::from_second(s).ok());
                    let ends = ends.unwrap_or(now + SignedDuration::from_secs(600));
                    tokens.insert(key.clone(), (token.text, now, ends));
                }
                // An old one that is still good is better than none.
                Err(error) if tokens.contains_key(&key) => {
                    tracing::warn!(pod = %self.at.pod_ref, %error, "token is not renewed");
                }
                Err(source) => return Err(VolumeError::Token { volume: self.volume.to_owned(), source }),
            }
        }
        let text = tokens.get(&key).map(|(text, ..)| text.clone()).unwrap_or_default();
        // Whoever the container runs as must read it; the directory is the Pod's alone.
        self.put(&source.path, text.into_bytes(), None)
    }
}
