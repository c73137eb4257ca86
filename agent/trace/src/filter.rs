//! Which flows somebody wants to see.

use crate::flow::{Flow, Verdict};

/// All that is set must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// `NS/NAME` of a Pod that is source, destination or backend.
    pub pod: Option<String>,
    /// `NS/NAME` of the Service.
    pub service: Option<String>,
    /// Only this verdict.
    pub verdict: Option<Verdict>,
}

/// Why a filter is not understood.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// A name without its namespace, or with too many parts.
    #[error("{what} {text:?} is not of the form NAMESPACE/NAME")]
    Name {
        /// `pod` or `service`.
        what: &'static str,
        /// As given.
        text: String,
    },
    /// A verdict of another name.
    #[error("verdict {0:?} is neither forwarded nor dropped")]
    Verdict(String),
    /// A parameter nobody knows.
    #[error("unknown trace parameter {0:?}")]
    Unknown(String),
}

impl Filter {
    /// Sets one parameter of a query.
    ///
    /// # Errors
    /// The parameter or its value is not known.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), FilterError> {
        match name {
            "pod" => self.pod = Some(full_name("pod", value)?),
            "service" => self.service = Some(full_name("service", value)?),
            "verdict" => {
                self.verdict = Some(match value {
                    "forwarded" => Verdict::Forwarded,
                    "dropped" => Verdict::Dropped,
                    other => return Err(FilterError::Verdict(other.to_owned())),
                });
            }
            other => return Err(FilterError::Unknown(other.to_owned())),
        }
        Ok(())
    }

    /// Whether a flow is wanted.
    pub fn matches(&self, flow: &Flow) -> bool {
        let pod_fits = |pod: &String| {
            [Some(&flow.source), Some(&flow.destination), flow.backend.as_ref()]
                .into_iter()
                .flatten()
                .any(|party| party.pod.as_ref() == Some(pod))
        };
        let service_fits = |service: &String| {
            flow.service.as_ref().is_some_and(|s| format!("{}/{}", s.namespace, s.name) == *service)
        };
        self.pod.as_ref().is_none_or(pod_fits)
            && self.service.as_ref().is_none_or(service_fits)
            && self.verdict.is_none_or(|verdict| verdict == flow.verdict)
    }
}

/// `NAMESPACE/NAME`, as it is given.
///
/// # Errors
/// It is not of that form.
pub fn full_name(what: &'static str, text: &str) -> Result<String, FilterError> {
    match text.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
            Ok(text.to_owned())
        }
        _ => Err(FilterError::Name { what, text: text.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_need_their_namespace() {
        let mut filter = Filter::default();
        assert_eq!(
            filter.set("pod", "web").unwrap_err().to_string(),
            "pod \"web\" is not of the form NAMESPACE/NAME"
        );
        assert!(filter.set("service", "default/web").is_ok());
        assert!(filter.set("colour", "red").is_err());
        assert!(filter.set("verdict", "lost").is_err());
    }
}
