//! The command line, read by hand: the demo image holds one program without dependencies.

use std::time::Duration;

use crate::resolve::Family;

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Serve(Serve),
    Get(Get),
    Udp(Udp),
    Hold(Hold),
    Soak(Soak),
    Sha256(Fetch),
    Resolve(Resolve),
}

/// Ports to listen on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Serve {
    pub(crate) http_port: u16,
    pub(crate) udp_port: u16,
}

/// Requests over HTTP.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Get {
    pub(crate) url: String,
    pub(crate) count: u32,
    pub(crate) summary: bool,
    pub(crate) timeout: Duration,
}

/// Datagrams.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Udp {
    pub(crate) target: String,
    pub(crate) count: u32,
    pub(crate) summary: bool,
    /// 0: any.
    pub(crate) source_port: u16,
    pub(crate) payload: String,
    pub(crate) timeout: Duration,
}

/// One long connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Hold {
    pub(crate) target: String,
    pub(crate) length: Duration,
    pub(crate) interval: Duration,
    /// A byte that comes back later than this is a gap.
    pub(crate) gap: Duration,
}

/// Many long connections, and new ones.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Soak {
    pub(crate) host: String,
    pub(crate) tcp_port: u16,
    pub(crate) udp_port: u16,
    /// Long connections, and as many UDP flows.
    pub(crate) long: u32,
    /// New connections a second, and as many new UDP flows.
    pub(crate) per_second: u32,
    /// Between two questions on each of the long ones.
    pub(crate) interval: Duration,
    /// Nothing may take longer.
    pub(crate) gap: Duration,
    /// The file that ends it.
    pub(crate) until: String,
}

/// One question to the name server.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Resolve {
    pub(crate) target: String,
    /// All addresses of it; unset: the first address, IPv4 before IPv6.
    pub(crate) family: Option<Family>,
    pub(crate) timeout: Duration,
}

/// One download.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fetch {
    pub(crate) target: String,
    pub(crate) timeout: Duration,
}

/// Reads the arguments after the program's name.
pub(crate) fn parse(args: &[String]) -> Result<Command, String> {
    let (verb, rest) = args.split_first().ok_or("say what to do")?;
    let mut flags = Flags::read(rest)?;
    let command = match verb.as_str() {
        "serve" => Command::Serve(Serve {
            http_port: flags.number("--http", 8080)?,
            udp_port: flags.number("--udp", 8081)?,
        }),
        "get" => Command::Get(Get {
            url: flags.target("URL")?,
            count: flags.number("--count", 1)?,
            summary: flags.switch("--summary"),
            timeout: flags.millis("--timeout-ms", 5_000)?,
        }),
        "udp" => Command::Udp(Udp {
            target: flags.target("HOST:PORT")?,
            count: flags.number("--count", 1)?,
            summary: flags.switch("--summary"),
            source_port: flags.number("--source-port", 0)?,
            payload: flags.value("--payload").unwrap_or_else(|| "ping".to_owned()),
            timeout: flags.millis("--timeout-ms", 2_000)?,
        }),
        "hold" => Command::Hold(Hold {
            target: flags.target("HOST:PORT")?,
            length: Duration::from_secs(flags.number("--seconds", 10)?),
            interval: flags.millis("--interval-ms", 50)?,
            gap: flags.millis("--gap-ms", 1_000)?,
        }),
        "soak" => Command::Soak(Soak {
            host: flags.target("HOST")?,
            tcp_port: flags.number("--tcp", 80)?,
            udp_port: flags.number("--udp", 81)?,
            long: flags.number("--long", 100)?,
            per_second: flags.number("--per-second", 50)?,
            interval: flags.millis("--interval-ms", 200)?,
            gap: flags.millis("--gap-ms", 1_000)?,
            until: flags.value("--until").ok_or("--until FILE is missing")?,
        }),
        "sha256" => Command::Sha256(Fetch {
            target: flags.target("URL")?,
            timeout: flags.millis("--timeout-ms", 30_000)?,
        }),
        "resolve" => Command::Resolve(Resolve {
            target: flags.target("NAME")?,
            family: match flags.value("--family").as_deref() {
                None => None,
                Some("IPv4") => Some(Family::V4),
                Some("IPv6") => Some(Family::V6),
                Some(other) => return Err(format!("--family {other:?} is neither IPv4 nor IPv6")),
            },
            timeout: flags.millis("--timeout-ms", 3_000)?,
        }),
        other => return Err(format!("{other:?} is nothing it can do")),
    };
    flags.finish()?;
    Ok(command)
}

/// Flags that were given and not yet asked for.
struct Flags {
    named: Vec<(String, Option<String>)>,
    target: Option<String>,
}

impl Flags {
    fn read(args: &[String]) -> Result<Self, String> {
        let (mut named, mut target) = (Vec::new(), None);
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            if arg == "--summary" {
                named.push((arg.clone(), None));
            } else if arg.starts_with("--") {
                let (name, value) = match arg.split_once('=') {
                    Some((name, value)) => (name.to_owned(), value.to_owned()),
                    None => (arg.clone(), args.next().ok_or(format!("{arg} wants a value"))?.clone()),
                };
                named.push((name, Some(value)));
            } else if target.replace(arg.clone()).is_some() {
                return Err(format!("{arg:?} is one too many"));
            }
        }
        Ok(Self { named, target })
    }

    fn target(&mut self, what: &str) -> Result<String, String> {
        self.target.take().ok_or(format!("{what} is missing"))
    }

    fn value(&mut self, name: &str) -> Option<String> {
        let at = self.named.iter().position(|(given, _)| given == name)?;
        self.named.remove(at).1
    }

    fn switch(&mut self, name: &str) -> bool {
        let at = self.named.iter().position(|(given, _)| given == name);
        at.is_some_and(|at| self.named.remove(at).1.is_none())
    }

    fn number<T: std::str::FromStr>(&mut self, name: &str, default: T) -> Result<T, String> {
        match self.value(name) {
            Some(text) => text.parse().map_err(|_| format!("{name} {text:?} is no number that fits")),
            None => Ok(default),
        }
    }

    fn millis(&mut self, name: &str, default: u64) -> Result<Duration, String> {
        let millis: u64 = self.number(name, default)?;
        if millis == 0 { Err(format!("{name} is 0")) } else { Ok(Duration::from_millis(millis)) }
    }

    fn finish(self) -> Result<(), String> {
        match (self.named.first(), self.target) {
            (Some((name, _)), _) => Err(format!("{name} is no flag of this command")),
            (None, Some(target)) => Err(format!("{target:?} is one too many")),
            (None, None) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_line(line: &str) -> Result<Command, String> {
        parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn reads_flags_in_any_order() {
        let wanted = Command::Get(Get {
            url: "http://web/".into(),
            count: 200,
            summary: true,
            timeout: Duration::from_secs(5),
        });
        assert_eq!(parse_line("get http://web/ --count 200 --summary").unwrap(), wanted);
        assert_eq!(parse_line("get --summary --count=200 http://web/").unwrap(), wanted);
        assert_eq!(parse_line("serve").unwrap(), Command::Serve(Serve { http_port: 8080, udp_port: 8081 }));
    }

    #[test]
    fn says_what_is_wrong() {
        for (line, word) in [
            ("", "what to do"),
            ("fly", "fly"),
            ("get", "URL"),
            ("get a b", "too many"),
            ("get a --count x", "--count"),
            ("get a --count", "wants a value"),
            ("get a --speed 3", "--speed"),
            ("serve --http 70000", "--http"),
            ("serve now", "too many"),
            ("hold a:1 --gap-ms 0", "--gap-ms"),
            ("soak a", "--until"),
        ] {
            let error = parse_line(line).unwrap_err();
            assert!(error.contains(word), "{line}: {error}");
        }
    }
}
