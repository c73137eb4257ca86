//! What would become of a packet, station by station, as a person reads it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::flow::{Party, Service};

/// How a step, or all of it, ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It goes on.
    Forwarded,
    /// It ends, and nobody is told.
    Dropped,
    /// It ends, and the sender is told at once.
    Refused,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Forwarded => "forwarded",
            Self::Dropped => "DROPPED",
            Self::Refused => "REFUSED",
        })
    }
}

/// One station.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Program, as `agentctl trace` names it; `pod`, `node` or `wire` where it is none.
    pub hook: String,
    /// Station, as `agentctl trace` names it; empty where it is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub station: String,
    /// How it ends.
    pub outcome: Outcome,
    /// What happens, and why.
    pub text: String,
}

/// The whole answer. One JSON object in `agentctl probe -o json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Probe {
    /// The node that was asked.
    pub node: String,
    /// `TCP` or `UDP`.
    pub protocol: String,
    /// Length of the packet with its IP header, bytes.
    pub bytes: u32,
    /// The Pod.
    pub source: Party,
    /// Where it sends to.
    pub destination: Party,
    /// The Service that the destination names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<Service>,
    /// How it ends.
    pub outcome: Outcome,
    /// The program that it ends at.
    pub hook: String,
    /// The station that it ends at.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub station: String,
    /// Why it ends there, in the words of `agentctl trace`; for a packet that goes on, what is special about it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Its stations, in their order.
    pub steps: Vec<Step>,
    /// What the node cannot know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unknown: Vec<String>,
}

impl fmt::Display for Probe {
    /// Several lines, for a terminal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> ", self.source)?;
        match &self.service {
            Some(service) => write!(f, "service {service} ({})", self.destination.address)?,
            None => self.destination.fmt(f)?,
        }
        writeln!(f, ", {}, {} bytes, asked on {}", self.protocol, self.bytes, self.node)?;
        let width =
            |cell: fn(&Step) -> &str| self.steps.iter().map(|step| cell(step).len()).max().unwrap_or(0);
        let (hooks, stations) = (width(|step| &step.hook), width(|step| &step.station));
        for step in &self.steps {
            let mark = if step.outcome == Outcome::Forwarded { ' ' } else { 'X' };
            writeln!(f, "{mark} {:hooks$}  {:stations$}  {}", step.hook, step.station, step.text)?;
        }
        write!(f, "{}", self.outcome)?;
        if self.outcome != Outcome::Forwarded {
            let slash = if self.station.is_empty() { "" } else { "/" };
            write!(f, " at {}{slash}{}", self.hook, self.station)?;
        }
        if !self.reason.is_empty() {
            write!(f, ": {}", self.reason)?;
        }
        for unknown in &self.unknown {
            write!(f, "\nnot known here: {unknown}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_reads_downward_and_ends_with_its_reason() {
        let party = |address: &str, pod: Option<&str>| Party {
            address: address.parse().unwrap(),
            pod: pod.map(str::to_owned),
            node: Some("node-1".into()),
        };
        let step = |hook: &str, station: &str, outcome, text: &str| Step {
            hook: hook.into(),
            station: station.into(),
            outcome,
            text: text.into(),
        };
        let probe = Probe {
            node: "node-1".into(),
            protocol: "TCP".into(),
            bytes: 60,
            source: party("10.244.1.5:40000", Some("default/a")),
            destination: party("10.96.0.7:80", None),
            service: Some(Service { namespace: "default".into(), name: "web".into(), port: String::new() }),
            outcome: Outcome::Refused,
            hook: "from_pod".into(),
            station: "balance".into(),
            reason: "service has no ready backend".into(),
            steps: vec![
                step("from_pod", "parse", Outcome::Forwarded, "the source is the Pod's own"),
                step("from_pod", "balance", Outcome::Refused, "service has no ready backend"),
            ],
            unknown: vec!["the weather".into()],
        };
        let text = probe.to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "default/a (10.244.1.5:40000, node-1) -> service default/web (10.96.0.7:80), TCP, 60 bytes, asked on node-1",
                "  from_pod  parse    the source is the Pod's own",
                "X from_pod  balance  service has no ready backend",
                "REFUSED at from_pod/balance: service has no ready backend",
                "not known here: the weather",
            ]
        );
        let json = serde_json::to_string(&probe).unwrap();
        assert_eq!(serde_json::from_str::<Probe>(&json).unwrap(), probe);
    }
}
