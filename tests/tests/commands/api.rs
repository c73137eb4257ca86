//! What is true in the API, read past the command under test: through `kubectl proxy`, which so is tested too.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;
use weft_tests::cluster::COMMAND_MAX;
use weft_tests::{Running, until};

use crate::Kubectl;
use crate::row::Fact;

/// How long the control loops have.
const FACT_MAX: Duration = Duration::from_secs(10);

/// A proxy that runs.
pub(crate) struct Api {
    address: String,
    _proxy: Running,
}

impl Api {
    pub(crate) fn by_proxy(kubectl: &Kubectl) -> Self {
        let proxy = Running::start(&mut kubectl.command("proxy --port=0"));
        let address = until("the proxy to listen", COMMAND_MAX, || {
            let said = proxy.said();
            Some(said.lines().next()?.strip_prefix("Starting to serve on ")?.to_owned())
        });
        Self { address, _proxy: proxy }
    }

    /// The object at a path, `null` where there is none.
    pub(crate) fn get(&self, path: &str) -> Value {
        let path = match path.split_once('/') {
            Some(("", _)) => path.to_owned(),
            Some(("apps", rest)) => format!("/apis/apps/v1/namespaces/default/{rest}"),
            _ => format!("/api/v1/namespaces/default/{path}"),
        };
        let mut stream = TcpStream::connect(&self.address).expect("the proxy listens");
        // An answer to HTTP/1.0 is whole when the connection ends.
        write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").expect("the proxy reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("the proxy answers");
        let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
        match head.split(' ').nth(1) {
            Some("200") => serde_json::from_str(body).unwrap_or_else(|error| panic!("{error} in {body}")),
            Some("404") => Value::Null,
            _ => panic!("GET {path}: {answer}"),
        }
    }

    /// Whether a fact is one, now or soon.
    pub(crate) fn holds(&self, (path, pointer, wanted): &Fact) -> Result<(), String> {
        let wanted: Value =
            serde_json::from_str(wanted).unwrap_or_else(|error| panic!("{error} in {wanted}"));
        let end = std::time::Instant::now() + FACT_MAX;
        loop {
            let found = self.get(path).pointer(pointer).cloned().unwrap_or(Value::Null);
            if has(&found, &wanted) {
                return Ok(());
            }
            if std::time::Instant::now() > end {
                return Err(format!("{path} {pointer} is {found}, not {wanted}"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn has(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (found, Value::String(any)) if any == "*" => !found.is_null(),
        (Value::Object(found), Value::Object(wanted)) => {
            wanted.iter().all(|(name, wanted)| has(found.get(name).unwrap_or(&Value::Null), wanted))
        }
        (Value::Array(found), Value::Array(wanted)) => {
            wanted.iter().all(|wanted| found.iter().any(|found| has(found, wanted)))
        }
        (found, wanted) => found == wanted,
    }
}
