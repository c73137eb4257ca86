//! Cron schedules, as a CronJob's `spec.schedule` spells them: five fields or one of the names that begin with `@`.
//!
//! Grammar and words are those of the parser that Kubernetes uses (`robfig/cron`, the standard form); which instants
//! a schedule means in which zone is its reader's.

use jiff::civil::DateTime;

use crate::time::parse_go_duration;

/// When something is to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// At each minute whose parts are in these sets.
    Minutes(Minutes),
    /// Again and again, so many seconds apart; at least one.
    EverySeconds(u64),
}

/// Minutes by their parts; bit `n` of a set stands for the number `n`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Minutes {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    /// Sunday is 0.
    weekdays: u64,
    /// Whether days or weekdays are all of them by `*`: then both must fit, otherwise one is enough.
    any_day: bool,
}

/// Why a text is no schedule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// Nothing there.
    #[error("empty spec string")]
    Empty,
    /// Not as many fields as there are.
    #[error("expected exactly 5 fields, found {found}: [{fields}]")]
    Fields {
        /// How many there are.
        found: usize,
        /// The fields.
        fields: String,
    },
    /// A name that is none.
    #[error("unrecognized descriptor: {0}")]
    Descriptor(String),
    /// `@every` without a length of time.
    #[error("failed to parse duration {0}: time: invalid duration {1:?}")]
    Duration(String, String),
    /// Neither a number nor a name.
    #[error("failed to parse int from {0}: strconv.Atoi: parsing {0:?}: invalid syntax")]
    Number(String),
    /// Below zero.
    #[error("negative number ({number}) not allowed: {text}")]
    Negative {
        /// The number.
        number: i64,
        /// Where it stands.
        text: String,
    },
    /// A range that is none.
    #[error("{why}: {text}")]
    Range {
        /// The rule.
        why: String,
        /// The range.
        text: String,
    },
}

/// One of the five fields.
struct Field {
    min: u64,
    max: u64,
    names: &'static [&'static str],
}

const MONTHS: &[&str] = &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
const MINUTE: Field = Field { min: 0, max: 59, names: &[] };
const HOUR: Field = Field { min: 0, max: 23, names: &[] };
const DAY: Field = Field { min: 1, max: 31, names: &[] };
const MONTH: Field = Field { min: 1, max: 12, names: MONTHS };
const WEEKDAY: Field = Field { min: 0, max: 6, names: WEEKDAYS };

impl Schedule {
    /// Reads a schedule. A time zone in front of it (`TZ=`, `CRON_TZ=`) is none of its fields and must be off.
    ///
    /// # Errors
    /// The grammar is broken, or a number is out of its bounds.
    pub fn parse(text: &str) -> Result<Self, ScheduleError> {
        if text.is_empty() {
            return Err(ScheduleError::Empty);
        }
        if text.starts_with('@') {
            return named(text);
        }
        let fields: Vec<&str> = text.split_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields.as_slice() else {
            return Err(ScheduleError::Fields { found: fields.len(), fields: fields.join(" ") });
        };
        let (minutes, _) = set(minute, &MINUTE)?;
        let (hours, _) = set(hour, &HOUR)?;
        let (days, every_day) = set(day, &DAY)?;
        let (months, _) = set(month, &MONTH)?;
        let (weekdays, every_weekday) = set(weekday, &WEEKDAY)?;
        let any_day = every_day || every_weekday;
        Ok(Self::Minutes(Minutes { minutes, hours, days, months, weekdays, any_day }))
    }
}

impl Minutes {
    /// Whether the minute of this time is one of them.
    #[must_use]
    pub fn holds(&self, time: DateTime) -> bool {
        let has = |set: u64, number: i8| u32::try_from(number).is_ok_and(|n| set & (1 << n) != 0);
        let day = has(self.days, time.day());
        let weekday = has(self.weekdays, time.weekday().to_sunday_zero_offset());
        has(self.minutes, time.minute())
            && has(self.hours, time.hour())
            && has(self.months, time.month())
            && if self.any_day { day && weekday } else { day || weekday }
    }
}

fn named(text: &str) -> Result<Schedule, ScheduleError> {
    let fields = match text {
        "@yearly" | "@annually" => "0 0 1 1 *",
        "@monthly" => "0 0 1 * *",
        "@weekly" => "0 0 * * 0",
        "@daily" | "@midnight" => "0 0 * * *",
        "@hourly" => "0 * * * *",
        _ => {
            let Some(length) = text.strip_prefix("@every ") else {
                return Err(ScheduleError::Descriptor(text.to_owned()));
            };
            let nanos = parse_go_duration(length)
                .ok_or_else(|| ScheduleError::Duration(text.to_owned(), length.to_owned()))?;
            let seconds = u64::try_from(nanos / 1_000_000_000).unwrap_or(0);
            return Ok(Schedule::EverySeconds(seconds.max(1)));
        }
    };
    Schedule::parse(fields)
}

/// The numbers of a field, and whether it says `*`.
fn set(text: &str, field: &Field) -> Result<(u64, bool), ScheduleError> {
    let (mut all, mut every) = (0, false);
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (bits, star) = range(part, field)?;
        all |= bits;
        every |= star;
    }
    Ok((all, every))
}

fn range(text: &str, field: &Field) -> Result<(u64, bool), ScheduleError> {
    let broken = |why: String| ScheduleError::Range { why, text: text.to_owned() };
    let (ends, step) = match text.split('/').collect::<Vec<_>>().as_slice() {
        [ends] => (*ends, None),
        [ends, step] => (*ends, Some(number(step)?)),
        _ => return Err(broken("too many slashes".to_owned())),
    };
    let (start, mut end, single) = match ends.split('-').collect::<Vec<_>>().as_slice() {
        ["*" | "?", ..] => (field.min, field.max, true),
        [one] => {
            let one = number_or_name(one, field)?;
            (one, one, true)
        }
        [first, last] => (number_or_name(first, field)?, number_or_name(last, field)?, false),
        _ => return Err(broken("too many hyphens".to_owned())),
    };
    // `5/15` goes on to the end.
    if single && step.is_some() {
        end = field.max;
    }
    let Field { min, max, .. } = field;
    if start < *min {
        return Err(broken(format!("beginning of range ({start}) below minimum ({min})")));
    }
    if end > *max {
        return Err(broken(format!("end of range ({end}) above maximum ({max})")));
    }
    if start > end {
        return Err(broken(format!("beginning of range ({start}) beyond end of range ({end})")));
    }
    if step == Some(0) {
        return Err(broken("step of range should be a positive number".to_owned()));
    }
    let step = step.unwrap_or(1);
    let bits = (start..=end).filter(|n| (n - start) % step == 0).fold(0, |set, n| set | 1 << n);
    Ok((bits, ends.starts_with(['*', '?']) && step == 1))
}

fn number_or_name(text: &str, field: &Field) -> Result<u64, ScheduleError> {
    let lower = text.to_lowercase();
    match field.names.iter().zip(field.min..).find(|(name, _)| **name == lower) {
        Some((_, number)) => Ok(number),
        None => number(text),
    }
}

fn number(text: &str) -> Result<u64, ScheduleError> {
    let number: i64 = text.parse().map_err(|_| ScheduleError::Number(text.to_owned()))?;
    u64::try_from(number).map_err(|_| ScheduleError::Negative { number, text: text.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(schedule: &str, time: &str) -> bool {
        match Schedule::parse(schedule).unwrap() {
            Schedule::Minutes(minutes) => minutes.holds(time.parse().unwrap()),
            Schedule::EverySeconds(_) => panic!("{schedule}"),
        }
    }

    #[test]
    fn minutes_are_the_fields() {
        // A Monday.
        for (schedule, time, held) in [
            ("* * * * *", "2024-01-01T00:00", true),
            ("*/15 9-17 * * 1-5", "2024-01-01T09:45", true),
            ("*/15 9-17 * * 1-5", "2024-01-01T09:46", false),
            ("*/15 9-17 * * 1-5", "2024-01-06T09:45", false),
            ("5/20 * * * *", "2024-01-01T00:45", true),
            ("5/20 * * * *", "2024-01-01T00:40", false),
            ("0 0 1,15 JAN-mar ?", "2024-03-15T00:00", true),
            ("0 0 1,15 JAN-mar ?", "2024-04-15T00:00", false),
            // One of day and weekday is enough where both are named.
            ("0 0 13 * fri", "2024-01-05T00:00", true),
            ("0 0 13 * fri", "2024-01-13T00:00", true),
            ("0 0 13 * fri", "2024-01-12T00:01", false),
            ("0 0 13 * *", "2024-01-12T00:00", false),
            ("@weekly", "2024-01-07T00:00", true),
            ("@yearly", "2024-02-01T00:00", false),
        ] {
            assert_eq!(holds(schedule, time), held, "{schedule} {time}");
        }
        assert_eq!(Schedule::parse("@every 1h30m"), Ok(Schedule::EverySeconds(5_400)));
        assert_eq!(Schedule::parse("@every 1ms"), Ok(Schedule::EverySeconds(1)));
    }

    #[test]
    fn what_is_none_is_said_as_kubernetes_says_it() {
        for (text, said) in [
            ("", "empty spec string"),
            ("* * * *", "expected exactly 5 fields, found 4: [* * * *]"),
            ("@never", "unrecognized descriptor: @never"),
            ("@every x", "failed to parse duration @every x: time: invalid duration \"x\""),
            ("60 * * * *", "end of range (60) above maximum (59): 60"),
            ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
            ("5-1 * * * *", "beginning of range (5) beyond end of range (1): 5-1"),
            ("*/0 * * * *", "step of range should be a positive number: */0"),
            ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
            ("1/2/3 * * * *", "too many slashes: 1/2/3"),
            ("a * * * *", "failed to parse int from a: strconv.Atoi: parsing \"a\": invalid syntax"),
            ("*/-1 * * * *", "negative number (-1) not allowed: -1"),
        ] {
            assert_eq!(Schedule::parse(text).unwrap_err().to_string(), said, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[@*?0-9a-z,/ -]{0,40}") {
            let _ = Schedule::parse(&text);
        }
    }
}
