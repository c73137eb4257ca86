//! A container's environment, and `$(NAME)` in it.

use weft_api::view::config::{ConfigMap, Secret};
use weft_api::view::pod::{Container, EnvSource, Pod};

use super::fields::{Here, field};
use super::resources;
use crate::image::RunConfig;
use crate::outside::{Inputs, Lookup};
use crate::volume::decode_base64;

/// Why the environment is not there (yet).
#[derive(Debug, thiserror::Error)]
pub(crate) enum EnvironmentError {
    #[error("{kind} \"{name}\" not found")]
    Missing { kind: &'static str, name: String },
    #[error("couldn't find key {key} in {kind} {name}")]
    MissingKey { kind: &'static str, name: String, key: String },
    #[error("{kind} \"{name}\" is not readable")]
    Unreadable { kind: &'static str, name: String },
    #[error("the node's view of the cluster is not complete yet")]
    NotYet,
    #[error("field {0} is not supported")]
    Field(String),
    #[error(transparent)]
    Resource(#[from] resources::ResourceError),
}

/// All variables in order: image, Services, `envFrom`, `env`; a later one replaces an earlier.
pub(crate) fn environment(
    pod: &Pod,
    container: &Container,
    image: &RunConfig,
    inputs: &dyn Inputs,
    here: Here<'_>,
) -> Result<Vec<(String, String)>, EnvironmentError> {
    let namespace = &pod.metadata.namespace;
    let mut all: Vec<(String, String)> = Vec::new();
    let set = |all: &mut Vec<(String, String)>, name: String, value: String| match all
        .iter_mut()
        .find(|(n, _)| *n == name)
    {
        Some(found) => found.1 = value,
        None => all.push((name, value)),
    };
    let image_env = image.env.clone().unwrap_or_default();
    for (name, value) in image_env.iter().filter_map(|e| e.split_once('=')) {
        set(&mut all, name.to_owned(), value.to_owned());
    }
    if !all.iter().any(|(n, _)| n == "PATH") {
        let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        set(&mut all, "PATH".to_owned(), path.to_owned());
    }
    let hostname = if pod.spec.hostname.is_empty() { &pod.metadata.name } else { &pod.spec.hostname };
    set(&mut all, "HOSTNAME".to_owned(), hostname.clone());
    if container.tty {
        set(&mut all, "TERM".to_owned(), "xterm".to_owned());
    }
    let links = pod.spec.enable_service_links.unwrap_or(true);
    for (name, value) in inputs.service_env(namespace, links).ok_or(EnvironmentError::NotYet)? {
        set(&mut all, name, value);
    }
    for from in &container.env_from {
        let mut pairs = Vec::new();
        if let Some(map) = &from.config_map_ref {
            pairs.extend(config_map(inputs, namespace, &map.name, map.optional)?.unwrap_or_default().data);
        }
        if let Some(secret) = &from.secret_ref {
            let data =
                self::secret(inputs, namespace, &secret.name, secret.optional)?.unwrap_or_default().data;
            pairs.extend(data.into_iter().map(|(k, v)| (k, text(&v))));
        }
        for (name, value) in pairs {
            set(&mut all, format!("{}{name}", from.prefix), value);
        }
    }
    for variable in &container.env {
        let value = match &variable.value_from {
            Some(source) => match sourced(pod, container, source, inputs, here)? {
                Some(value) => value,
                None => continue,
            },
            None => expand(&variable.value, &all),
        };
        set(&mut all, variable.name.clone(), value);
    }
    Ok(all)
}

fn sourced(
    pod: &Pod,
    container: &Container,
    source: &EnvSource,
    inputs: &dyn Inputs,
    here: Here<'_>,
) -> Result<Option<String>, EnvironmentError> {
    let namespace = &pod.metadata.namespace;
    if let Some(from) = &source.field_ref {
        let value = field(pod, here, &from.field_path);
        return value.map(Some).ok_or_else(|| EnvironmentError::Field(from.field_path.clone()));
    }
    if let Some(from) = &source.resource_field_ref {
        let of = pod.spec.containers.iter().find(|c| c.name == from.container_name).unwrap_or(container);
        let value = resources::field(of, &from.resource, &from.divisor)?;
        return Ok(Some(value.unwrap_or(0).to_string()));
    }
    if let Some(key) = &source.config_map_key_ref {
        let map = config_map(inputs, namespace, &key.name, key.optional)?;
        let value = map.as_ref().and_then(|m| m.data.get(&key.key)).cloned();
        return needed("configmap", key, value);
    }
    if let Some(key) = &source.secret_key_ref {
        let found = secret(inputs, namespace, &key.name, key.optional)?;
        let value = found.as_ref().and_then(|s| s.data.get(&key.key)).map(|v| text(v));
        return needed("secret", key, value);
    }
    Ok(Some(String::new()))
}

fn needed(
    kind: &'static str,
    key: &weft_api::view::pod::KeyRef,
    value: Option<String>,
) -> Result<Option<String>, EnvironmentError> {
    if value.is_none() && !key.optional {
        return Err(EnvironmentError::MissingKey { kind, name: key.name.clone(), key: key.key.clone() });
    }
    Ok(value)
}

fn text(base64: &str) -> String {
    String::from_utf8_lossy(&decode_base64(base64).unwrap_or_default()).into_owned()
}

/// A ConfigMap; `None` if it is missing and may be.
pub(crate) fn config_map(
    inputs: &dyn Inputs,
    namespace: &str,
    name: &str,
    optional: bool,
) -> Result<Option<ConfigMap>, EnvironmentError> {
    read(inputs.config_map(namespace, name), "configmap", name, optional)
}

/// A Secret; `None` if it is missing and may be.
pub(crate) fn secret(
    inputs: &dyn Inputs,
    namespace: &str,
    name: &str,
    optional: bool,
) -> Result<Option<Secret>, EnvironmentError> {
    read(inputs.secret(namespace, name), "secret", name, optional)
}

fn read<T: serde::de::DeserializeOwned>(
    lookup: Lookup,
    kind: &'static str,
    name: &str,
    optional: bool,
) -> Result<Option<T>, EnvironmentError> {
    match lookup {
        Lookup::Found(json) => {
            let unreadable = |_| EnvironmentError::Unreadable { kind, name: name.to_owned() };
            serde_json::from_slice(&json).map(Some).map_err(unreadable)
        }
        Lookup::Missing if optional => Ok(None),
        Lookup::Missing => Err(EnvironmentError::Missing { kind, name: name.to_owned() }),
        Lookup::NotYet => Err(EnvironmentError::NotYet),
    }
}

/// Replaces `$(NAME)`; `$$` is a dollar sign, and a name that is not known stays as it is.
pub(crate) fn expand(text: &str, variables: &[(String, String)]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|r| r.split_once(')')) {
            match variables.iter().find(|(n, _)| n == name) {
                Some((_, value)) => out.push_str(value),
                None => {
                    out.push_str("$(");
                    out.push_str(name);
                    out.push(')');
                }
            }
            rest = after;
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_expanded_once() {
        let variables = [("A".to_owned(), "1".to_owned()), ("B".to_owned(), "$(A)".to_owned())];
        assert_eq!(expand("x$(A)y $(B) $(C) $$(A) $ $(", &variables), "x1y $(A) $(C) $(A) $ $(");
    }
}
