//! Query parameters, decoded.

use weft_api::status::Status;

/// The parameters of a request, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads `a=1&b=2`.
    pub(crate) fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter(|p| !p.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name, true), decode(value, true))
        });
        Self(pairs.collect())
    }

    /// The same query about the one object of this name.
    pub(crate) fn about(&self, name: &str) -> Self {
        let own = format!("metadata.name={name}");
        let selector = self.get("fieldSelector").map_or(own.clone(), |asked| format!("{asked},{own}"));
        let others = self.0.iter().filter(|(n, _)| n != "fieldSelector").cloned();
        Self(others.chain([("fieldSelector".to_owned(), selector)]).collect())
    }

    /// The first value of a parameter; an empty one counts as not there.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.first(name).filter(|v| !v.is_empty())
    }

    fn first(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// All values of a parameter.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> + use<'a> {
        self.0.iter().filter(move |(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// A flag: `true`, `1` or no value at all.
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.first(name).is_some_and(|v| matches!(v, "true" | "1" | "" | "True"))
    }

    /// A number.
    ///
    /// # Errors
    /// 400 when it is none.
    pub(crate) fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, Status> {
        match self.get(name) {
            None => Ok(None),
            Some(text) => match text.parse() {
                Ok(number) => Ok(Some(number)),
                Err(_) => Err(Status::bad_request(format!("{name}: {text:?} is not a valid number"))),
            },
        }
    }

    /// Whether `dryRun=All`.
    ///
    /// # Errors
    /// 400 for any other value.
    pub(crate) fn dry_run(&self) -> Result<bool, Status> {
        match self.get("dryRun") {
            None => Ok(false),
            Some("All") => Ok(true),
            Some(other) => Err(Status::bad_request(format!(
                "dryRun: Unsupported value: {other:?}: supported values: \"All\""
            ))),
        }
    }
}

/// Undoes percent encoding; what is no valid encoding stands as it is.
pub(crate) fn decode(text: &str, plus_is_space: bool) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let hex = |at: usize| bytes.get(at).and_then(|c| char::from(*c).to_digit(16));
        match bytes[i] {
            b'%' => match (hex(i + 1), hex(i + 2)) {
                (Some(high), Some(low)) => {
                    out.push(u8::try_from(high * 16 + low).unwrap_or(b'?'));
                    i += 2;
                }
                _ => out.push(b'%'),
            },
            b'+' if plus_is_space => out.push(b' '),
            other => out.push(other),
        }
        i += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Percent-encodes one value of a query.
pub(crate) fn encode(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::with_capacity(text.len()), |mut out, b| {
        if b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~') {
            out.push(char::from(b));
        } else {
            let _ = write!(out, "%{b:02X}");
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters() {
        let query = Query::parse("labelSelector=app%3Dweb%2Cx&limit=500&command=a+b&command=%zz&watch");
        assert_eq!(query.get("labelSelector"), Some("app=web,x"));
        assert_eq!(query.number::<usize>("limit").unwrap(), Some(500));
        assert_eq!(query.all("command").collect::<Vec<_>>(), ["a b", "%zz"]);
        assert!(query.flag("watch") && !query.flag("follow"));
        assert!(Query::parse("limit=x").number::<usize>("limit").is_err());
        assert!(Query::parse("dryRun=All").dry_run().unwrap());
        assert_eq!(decode(&encode("a b/ü%"), true), "a b/ü%");
        let one = Query::parse("labelSelector=a&fieldSelector=spec.nodeName%3Dn").about("p");
        assert_eq!(one.get("labelSelector"), Some("a"));
        assert_eq!(one.get("fieldSelector"), Some("spec.nodeName=n,metadata.name=p"));
    }
}
