//! What the files of a volume say that is made from objects.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use weft_api::view::pod::{DownwardVolume, KeyToPath, TokenSource, Volume};

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
    let mut files = Files::new();
    let name = &volume.name;
    if let Some(map) = &volume.config_map {
        let mode = map.default_mode.unwrap_or(MODE);
        add_config_map(at, name, &map.name, map.optional, &map.items, mode, &mut files)?;
    } else if let Some(secret) = &volume.secret {
        let mode = secret.default_mode.unwrap_or(MODE);
        add_secret(at, name, &secret.name, secret.optional, &secret.items, mode, &mut files)?;
    } else if let Some(fields) = &volume.downward_api {
        add_fields(at, name, fields, fields.default_mode.unwrap_or(MODE), &mut files)?;
    } else if let Some(projected) = &volume.projected {
        let mode = projected.default_mode.unwrap_or(MODE);
        for source in &projected.sources {
            if let Some(token) = &source.service_account_token {
                add_token(at, name, token, mode, tokens, &mut files).await?;
            }
            if let Some(map) = &source.config_map {
                add_config_map(at, name, &map.name, map.optional, &map.items, mode, &mut files)?;
            }
            if let Some(from) = &source.secret {
                add_secret(at, name, &from.name, from.optional, &from.items, mode, &mut files)?;
            }
            if let Some(fields) = &source.downward_api {
                add_fields(at, name, fields, mode, &mut files)?;
            }
        }
    } else {
        return Err(VolumeError::Unsupported(name.clone()));
    }
    Ok(files)
}

fn put(volume: &str, files: &mut Files, path: &str, content: Vec<u8>, mode: u32) -> Result<(), VolumeError> {
    let clean = relative(path)
        .ok_or_else(|| VolumeError::Path { volume: volume.to_owned(), path: path.to_owned() })?;
    files.insert(clean, (content, mode));
    Ok(())
}

fn object(volume: &str) -> impl Fn(EnvironmentError) -> VolumeError {
    let volume = volume.to_owned();
    move |source| VolumeError::Object { volume: volume.clone(), source }
}

fn add_config_map(
    at: &Volumes<'_>,
    volume: &str,
    name: &str,
    optional: bool,
    items: &[KeyToPath],
    mode: u32,
    files: &mut Files,
) -> Result<(), VolumeError> {
    let mut data = BTreeMap::new();
    let ca = if name == ROOT_CA { at.inputs.ca_pem() } else { String::new() };
    if ca.is_empty() {
        let map = config_map(at.inputs, &at.pod_ref.namespace, name, optional).map_err(object(volume))?;
        let map = map.unwrap_or_default();
        data.extend(map.data.into_iter().map(|(k, v)| (k, v.into_bytes())));
        data.extend(map.binary_data.into_iter().map(|(k, v)| (k, decode_base64(&v).unwrap_or_default())));
    } else {
        data.insert("ca.crt".to_owned(), ca.into_bytes());
    }
    add_keys(volume, "configmap", name, optional, &data, items, mode, files)
}

fn add_secret(
    at: &Volumes<'_>,
    volume: &str,
    name: &str,
    optional: bool,
    items: &[KeyToPath],
    mode: u32,
    files: &mut Files,
) -> Result<(), VolumeError> {
    let found =
        secret(at.inputs, &at.pod_ref.namespace, name, optional).map_err(object(volume))?.unwrap_or_default();
    let data = found.data.into_iter().map(|(k, v)| (k, decode_base64(&v).unwrap_or_default())).collect();
    add_keys(volume, "secret", name, optional, &data, items, mode, files)
}

#[allow(clippy::too_many_arguments)]
fn add_keys(
    volume: &str,
    kind: &'static str,
    name: &str,
    optional: bool,
    data: &BTreeMap<String, Vec<u8>>,
    items: &[KeyToPath],
    mode: u32,
    files: &mut Files,
) -> Result<(), VolumeError> {
    if items.is_empty() {
        return data.iter().try_for_each(|(key, value)| put(volume, files, key, value.clone(), mode));
    }
    for item in items {
        match data.get(&item.key) {
            Some(value) => put(volume, files, &item.path, value.clone(), item.mode.unwrap_or(mode))?,
            None if optional => {}
            None => {
                let (volume, name, key) = (volume.to_owned(), name.to_owned(), item.key.clone());
                return Err(VolumeError::MissingKey { volume, kind, name, key });
            }
        }
    }
    Ok(())
}

fn add_fields(
    at: &Volumes<'_>,
    volume: &str,
    fields: &DownwardVolume,
    mode: u32,
    files: &mut Files,
) -> Result<(), VolumeError> {
    for item in &fields.items {
        let text = if let Some(from) = &item.field_ref {
            let value = field(at.pod, at.here, &from.field_path);
            value.ok_or_else(|| object(volume)(EnvironmentError::Field(from.field_path.clone())))?
        } else if let Some(from) = &item.resource_field_ref {
            let container = at.pod.spec.containers.iter().find(|c| c.name == from.container_name);
            let value = match container {
                Some(c) => resources::field(c, &from.resource, &from.divisor)
                    .map_err(|e| object(volume)(e.into()))?,
                None => None,
            };
            value.unwrap_or(0).to_string()
        } else {
            String::new()
        };
        put(volume, files, &item.path, text.into_bytes(), item.mode.unwrap_or(mode))?;
    }
    Ok(())
}

/// A token, asked for anew once four fifths of its life are over.
async fn add_token(
    at: &Volumes<'_>,
    volume: &str,
    source: &TokenSource,
    mode: u32,
    tokens: &mut Tokens,
    files: &mut Files,
) -> Result<(), VolumeError> {
    let key = (volume.to_owned(), source.path.clone());
    let now = Timestamp::now();
    let fresh = tokens
        .get(&key)
        .is_some_and(|(_, asked, ends)| now.duration_since(*asked) < ends.duration_since(*asked) * 4 / 5);
    if !fresh {
        let lifetime_seconds =
            source.expiration_seconds.unwrap_or(TOKEN_LIFETIME_S).max(TOKEN_LIFETIME_MIN_S);
        let request = TokenRequest {
            pod: at.pod_ref,
            service_account: at.service_account(),
            audience: &source.audience,
            lifetime_seconds,
        };
        match at.inputs.token(request).await {
            Ok(token) => {
                let ends = i64::try_from(token.expires_unix_seconds)
                    .ok()
                    .and_then(|s| Timestamp::from_second(s).ok());
                let ends = ends.unwrap_or(now + SignedDuration::from_secs(600));
                tokens.insert(key.clone(), (token.text, now, ends));
            }
            // An old one that is still good is better than none.
            Err(error) if tokens.contains_key(&key) => {
                tracing::warn!(pod = %at.pod_ref, %error, "token is not renewed");
            }
            Err(source) => return Err(VolumeError::Token { volume: volume.to_owned(), source }),
        }
    }
    let text = tokens.get(&key).map(|(text, ..)| text.clone()).unwrap_or_default();
    // Whoever the container runs as must read it; the directory is the Pod's alone.
    put(volume, files, &source.path, text.into_bytes(), mode)
}
