//! Where rules leave what is wrong with an object: no more of it than a client can read, however much a hostile object makes.

use super::FieldError;

/// Most errors that are told of one object, and bytes of all together.
pub(super) const COUNT_MAX: usize = 128;
const BYTES_MAX: usize = 64 * 1024;

/// What is wrong with an object. Behind a bound errors are only counted.
#[derive(Debug, Default)]
pub(crate) struct Errors {
    told: Vec<FieldError>,
    bytes: usize,
    left_out: usize,
    /// The only parts of the object that are asked about; none: all of it.
    parts: Option<&'static [&'static str]>,
    /// How many were of other parts.
    beside: usize,
}

impl Errors {
    /// Takes only what is wrong with these parts of an object.
    pub(crate) fn of_parts(parts: &'static [&'static str]) -> Self {
        Self { parts: Some(parts), ..Self::default() }
    }

    /// Whether a path leads into one of these parts.
    pub(crate) fn is_of(path: &str, parts: &[&str]) -> bool {
        let inside = |rest: &str| rest.is_empty() || rest.starts_with(['.', '[']);
        parts.iter().any(|part| path.strip_prefix(part).is_some_and(inside))
    }

    /// Adds one.
    pub(crate) fn push(&mut self, error: FieldError) {
        if self.parts.is_some_and(|parts| !Self::is_of(&error.path, parts)) {
            self.beside += 1;
            return;
        }
        if self.is_closed() {
            self.left_out += 1;
            return;
        }
        self.bytes += error.bytes();
        self.told.push(error);
    }

    /// Adds all of another place, told or not.
    pub(crate) fn append(&mut self, others: Self) {
        self.extend(others.told);
        self.left_out += others.left_out;
    }

    /// Whether no more will be told, or too much was found: rules that go over much may end.
    pub(crate) fn is_full(&self) -> bool {
        self.is_closed() || self.beside >= COUNT_MAX
    }

    /// Whether no more will be told.
    pub(crate) fn is_closed(&self) -> bool {
        self.told.len() >= COUNT_MAX || self.bytes >= BYTES_MAX
    }

    /// Those that are told.
    pub(crate) fn told(&self) -> &[FieldError] {
        &self.told
    }

    /// Leaves out those that are not to be kept; there is no more room for others behind it.
    pub(crate) fn retain(&mut self, keep: impl FnMut(&FieldError) -> bool) {
        self.told.retain(keep);
    }

    /// How many there were, told or not.
    pub(crate) fn len(&self) -> usize {
        self.told.len() + self.left_out
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.told.is_empty()
    }

    /// Orders them by their words.
    pub(crate) fn sort(&mut self) {
        self.told.sort_by_cached_key(ToString::to_string);
    }

    /// Those that are told, and one for the others.
    pub(crate) fn into_vec(mut self) -> Vec<FieldError> {
        if self.is_closed() {
            self.told.push(FieldError::more(self.told.len(), self.left_out));
        }
        self.told
    }
}

impl Extend<FieldError> for Errors {
    fn extend<T: IntoIterator<Item = FieldError>>(&mut self, errors: T) {
        for error in errors {
            self.push(error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind;
    use crate::status::Status;

    #[test]
    fn only_so_many_are_told() {
        let mut errors = Errors::default();
        for at in 0..COUNT_MAX {
            assert!(!errors.is_full());
            errors.push(FieldError::required(format!("a[{at}]"), ""));
        }
        assert!(errors.is_full());
        let mut others = Errors::default();
        for _ in 0..1000 {
            others.push(FieldError::required("b", ""));
        }
        errors.append(others);
        assert_eq!(errors.len(), COUNT_MAX + 1000);
        let told = errors.into_vec();
        assert_eq!(told.len(), COUNT_MAX + 1);
        assert_eq!(
            told[COUNT_MAX].to_string(),
            ": Too many: only the first 128 errors are shown, and there are at least 1000 more"
        );
        assert_eq!(told[COUNT_MAX - 1].path, format!("a[{}]", COUNT_MAX - 1));
    }

    #[test]
    fn long_names_and_values_are_cut() {
        let long = "ä".repeat(1_000_000);
        let mut errors = Errors::default();
        for _ in 0..COUNT_MAX {
            errors.push(FieldError::invalid(&long, [long.as_str()].as_slice(), &long));
            errors.push(FieldError::not_supported("a", long.as_str(), &[&long]));
        }
        let told = errors.into_vec();
        let body = Status::invalid(&kind::POD, "a", &told).to_json().to_string();
        assert!(told.len() > 10 && body.len() < 4 * BYTES_MAX, "{} errors, {} bytes", told.len(), body.len());
        assert!(told[0].to_string().contains("Invalid value: [\"ää"), "{}", told[0]);
        let many = vec![FieldError::required("a", ""); 100_000];
        assert_eq!(Status::invalid(&kind::POD, "a", &many).details.unwrap().causes.len(), COUNT_MAX + 1);
    }
}
