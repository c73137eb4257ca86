//! The first words of a session: which version both speak, and whether the node is who its certificate says.

use crate::message::{Hello, PROTOCOL, PROTOCOL_OLDEST};

/// Why a control plane does not begin a session. The text reaches the agent's log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HelloError {
    /// No version both speak.
    #[error(
        "the agent speaks protocol {oldest} to {newest}, this control plane {PROTOCOL_OLDEST} to {PROTOCOL}: \
         upgrade the older one"
    )]
    NoCommonVersion {
        /// The agent's oldest.
        oldest: u32,
        /// The agent's newest.
        newest: u32,
    },
    /// It says another name than its certificate.
    #[error("the agent calls itself {said:?}, its certificate says {certified:?}")]
    OtherName {
        /// In the hello.
        said: String,
        /// In the certificate.
        certified: String,
    },
}

/// The version to speak with an agent whose certificate is for the node `certified`.
pub fn negotiate(hello: &Hello, certified: &str) -> Result<u32, HelloError> {
    if hello.node != certified {
        return Err(HelloError::OtherName { said: hello.node.clone(), certified: certified.to_owned() });
    }
    let newest = hello.protocol.min(PROTOCOL);
    if newest < PROTOCOL_OLDEST.max(hello.protocol_oldest) {
        return Err(HelloError::NoCommonVersion { oldest: hello.protocol_oldest, newest: hello.protocol });
    }
    Ok(newest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(oldest: u32, newest: u32) -> Hello {
        Hello { protocol: newest, protocol_oldest: oldest, node: "a".into(), ..Hello::default() }
    }

    #[test]
    fn the_newest_common_version_is_spoken() {
        assert_eq!(negotiate(&hello(1, 1), "a"), Ok(1));
        assert_eq!(negotiate(&hello(1, 9), "a"), Ok(PROTOCOL));
        assert!(matches!(negotiate(&hello(8, 9), "a"), Err(HelloError::NoCommonVersion { .. })));
        assert!(matches!(negotiate(&hello(0, 0), "a"), Err(HelloError::NoCommonVersion { .. })));
        assert!(matches!(negotiate(&hello(1, 1), "b"), Err(HelloError::OtherName { .. })));
    }
}
