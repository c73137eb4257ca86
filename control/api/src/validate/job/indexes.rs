//! Sets of indexes as Jobs spell them: `0,3-5,7`.

/// How many indexes a text names, or what is wrong with it; each must be below `completions`, and they rise.
pub(super) fn count(text: &str, completions: i64) -> Result<i64, String> {
    intervals(text, completions).map(|all| all.iter().map(|(first, last)| last - first + 1).sum())
}

/// The first index that two sets have in common. A set that cannot be read has none.
pub(super) fn overlap(a: &str, b: &str, completions: i64) -> Option<i64> {
    let (a, b) = (intervals(a, completions).ok()?, intervals(b, completions).ok()?);
    let (mut a, mut b) = (a.into_iter().peekable(), b.into_iter().peekable());
    while let (Some(&(a_first, a_last)), Some(&(b_first, b_last))) = (a.peek(), b.peek()) {
        if a_first <= b_last && b_first <= a_last {
            return Some(a_first.max(b_first));
        }
        if a_first <= b_first {
            a.next();
        } else {
            b.next();
        }
    }
    None
}

fn intervals(text: &str, completions: i64) -> Result<Vec<(i64, i64)>, String> {
    let mut all: Vec<(i64, i64)> = Vec::new();
    for fragment in text.split(',').filter(|_| !text.is_empty()) {
        let index = |text: &str| match text.parse::<i64>() {
            Err(_) => Err(format!("cannot convert string to integer for index: {text:?}")),
            Ok(index) if index >= completions => Err(format!("too large index: {text:?}")),
            Ok(index) => Ok(index),
        };
        let not_rising =
            |before: i64, now: i64| format!("non-increasing order, previous: {before}, current: {now}");
        let (first, last) = match fragment.split_once('-') {
            Some((_, rest)) if rest.contains('-') => {
                return Err(format!(
                    "the fragment {fragment:?} violates the requirement that an index interval can have at most two \
                     parts separated by '-'"
                ));
            }
            Some((first, last)) => (index(first)?, index(last)?),
            None => (index(fragment)?, index(fragment)?),
        };
        if fragment.contains('-') && first >= last {
            return Err(not_rising(first, last));
        }
        if let Some((_, before)) = all.last().filter(|(_, before)| *before >= first) {
            return Err(not_rising(*before, first));
        }
        all.push((first, last));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_rise_and_stay_below_the_completions() {
        assert_eq!(count("", 5), Ok(0));
        assert_eq!(count("0,2-4", 5), Ok(4));
        for (text, said) in [
            ("x", "cannot convert string to integer for index: \"x\""),
            ("0-5", "too large index: \"5\""),
            ("3-2", "non-increasing order, previous: 3, current: 2"),
            ("2,1", "non-increasing order, previous: 2, current: 1"),
            (
                "1-2-3",
                "the fragment \"1-2-3\" violates the requirement that an index interval can have at most two parts separated by '-'",
            ),
        ] {
            assert_eq!(count(text, 5), Err(said.to_owned()), "{text}");
        }
    }

    #[test]
    fn overlaps_are_found() {
        assert_eq!(overlap("0-2,5", "3,4", 9), None);
        assert_eq!(overlap("0-2,5-7", "3,6", 9), Some(6));
        assert_eq!(overlap("1-3", "0-2", 9), Some(1));
        assert_eq!(overlap("", "1", 9), None);
    }
}
