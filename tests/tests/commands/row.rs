//! A row of the table: a command, what its user sees, and what is then true.

/// Where in the API, a JSON pointer, and what is there: an object has at least these fields, a list at least these items,
/// `"*"` is anything that is there, `null` is nothing.
pub(crate) type Fact = (&'static str, &'static str, &'static str);

/// A command of the recording.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    /// What the recording calls it.
    pub(crate) name: &'static str,
    /// As it is typed, without `kubectl`.
    pub(crate) line: &'static str,
    /// How it ends.
    pub(crate) code: i32,
    /// What is on the screen; after a `!`, what is not.
    pub(crate) says: &'static [&'static str],
    pub(crate) then: &'static [Fact],
    /// The first minor version that has the command as it is typed.
    pub(crate) since: u32,
}

pub(crate) const fn row(name: &'static str, line: &'static str) -> Row {
    Row { name, line, code: 0, says: &[], then: &[], since: 0 }
}

impl Row {
    pub(crate) const fn says(self, says: &'static [&'static str]) -> Self {
        Self { says, ..self }
    }

    pub(crate) const fn then(self, then: &'static [Fact]) -> Self {
        Self { then, ..self }
    }

    pub(crate) const fn ends(self, code: i32) -> Self {
        Self { code, ..self }
    }

    pub(crate) const fn since(self, since: u32) -> Self {
        Self { since, ..self }
    }
}

/// The words of a line; one in `'` may have spaces.
pub(crate) fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (at, piece) in line.split('\'').enumerate() {
        if at % 2 == 1 {
            words.push(piece.to_owned());
        } else {
            words.extend(piece.split_whitespace().map(str::to_owned));
        }
    }
    words
}
