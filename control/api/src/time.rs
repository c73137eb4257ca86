//! Times as the API spells them. The clock is the caller's.

use jiff::Timestamp;

/// RFC 3339 in UTC, with whole seconds or, for `micro`, six digits.
#[must_use]
pub fn rfc3339(time: Timestamp, micro: bool) -> String {
    let format = if micro { "%Y-%m-%dT%H:%M:%S%.6fZ" } else { "%Y-%m-%dT%H:%M:%SZ" };
    time.strftime(format).to_string()
}

/// How long ago `then` was, as kubectl prints ages: `5s`, `3m20s`, `4h`, `12d`, `3y10d`; never negative.
#[must_use]
pub fn age(then: Timestamp, now: Timestamp) -> String {
    let seconds = now.as_second().saturating_sub(then.as_second());
    human_seconds(seconds)
}

/// A duration as kubectl prints it (`duration.HumanDuration`).
#[must_use]
pub fn human_seconds(seconds: i64) -> String {
    let two = |big: i64, big_unit: &str, small: i64, small_unit: &str| {
        if small == 0 { format!("{big}{big_unit}") } else { format!("{big}{big_unit}{small}{small_unit}") }
    };
    if seconds < -1 {
        return "<invalid>".to_owned();
    }
    let seconds = seconds.max(0);
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let (days, years) = (hours / 24, hours / 24 / 365);
    match () {
        () if seconds < 120 => format!("{seconds}s"),
        () if minutes < 10 => two(minutes, "m", seconds % 60, "s"),
        () if minutes < 180 => format!("{minutes}m"),
        () if hours < 8 => two(hours, "h", minutes % 60, "m"),
        () if hours < 48 => format!("{hours}h"),
        () if hours < 192 => two(days, "d", hours % 24, "h"),
        () if days < 730 => format!("{days}d"),
        () if days < 2920 => two(years, "y", days % 365, "d"),
        () => format!("{years}y"),
    }
}

/// A length of time as Go writes it (`time.Duration.String`): `0s`, `1.5ms`, `1m30s`, `2h0m0s`.
#[must_use]
pub fn go_duration(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let all = nanos.unsigned_abs();
    let decimal = |unit: u64| {
        let (whole, rest, digits) = (all / unit, all % unit, unit.ilog10() as usize);
        let fraction = format!("{rest:0digits$}");
        let fraction = if rest == 0 { "" } else { fraction.trim_end_matches('0') };
        let point = if fraction.is_empty() { "" } else { "." };
        (whole, format!("{point}{fraction}"))
    };
    let small = |unit, name| {
        let (whole, fraction) = decimal(unit);
        format!("{sign}{whole}{fraction}{name}")
    };
    match all {
        0 => "0s".to_owned(),
        1..1_000 => format!("{sign}{all}ns"),
        1_000..1_000_000 => small(1_000, "µs"),
        1_000_000..1_000_000_000 => small(1_000_000, "ms"),
        _ => {
            let (seconds, fraction) = decimal(1_000_000_000);
            let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
            match (hours, minutes) {
                (0, 0) => format!("{sign}{seconds}{fraction}s"),
                (0, _) => format!("{sign}{minutes}m{seconds}{fraction}s"),
                _ => format!("{sign}{hours}h{minutes}m{seconds}{fraction}s"),
            }
        }
    }
}

/// Reads what Go's `time.ParseDuration` reads, as nanoseconds.
#[must_use]
pub fn parse_go_duration(text: &str) -> Option<i64> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut nanos = 0_i128;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, unit) = rest.split_at(end);
        let end = unit.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(unit.len());
        let (unit, next) = unit.split_at(end);
        let unit: i128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let digits =
            |text: &str| if text.is_empty() { Some(0) } else { text.parse::<i64>().ok().map(i128::from) };
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        // More digits than these do not change a nanosecond of an hour.
        let fraction = &fraction[..fraction.len().min(15)];
        let below = 10_i128.pow(u32::try_from(fraction.len()).ok()?);
        nanos = nanos.checked_add(digits(whole)? * unit + digits(fraction)? * unit / below)?;
        rest = next;
    }
    i64::try_from(nanos * sign).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of Go's documentation and tests of `time.Duration`.
    #[test]
    fn durations_are_gos() {
        for (nanos, text) in [
            (0, "0s"),
            (1, "1ns"),
            (1_100, "1.1µs"),
            (2_200_000, "2.2ms"),
            (3_300_000_000, "3.3s"),
            (245_000_000_000, "4m5s"),
            (245_001_000_000, "4m5.001s"),
            (18_367_001_000_000, "5h6m7.001s"),
            (3_600_000_000_000, "1h0m0s"),
            (-1_500_000_000, "-1.5s"),
            (i64::MAX, "2562047h47m16.854775807s"),
        ] {
            assert_eq!(go_duration(nanos), text);
            assert_eq!(parse_go_duration(text), Some(nanos), "{text}");
        }
        for (text, nanos) in
            [("1h15m30.918s", 4_530_918_000_000), (".5s", 500_000_000), ("+5.s", 5_000_000_000), ("0", 0)]
        {
            assert_eq!(parse_go_duration(text), Some(nanos), "{text}");
        }
        for text in ["", "-", "3", "s", ".s", "1x", "1..5s", "9223372036854775808ns", "99999999999999999999h"]
        {
            assert_eq!(parse_go_duration(text), None, "{text}");
        }
    }

    #[test]
    fn ages_read_like_kubectl() {
        for (seconds, text) in [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (125, "2m5s"),
            (600, "10m"),
            (3 * 3600, "3h"),
            (3 * 3600 + 60, "3h1m"),
            (9 * 3600, "9h"),
            (49 * 3600, "2d1h"),
            (10 * 86400, "10d"),
            (800 * 86400, "2y70d"),
            (-5, "<invalid>"),
        ] {
            assert_eq!(human_seconds(seconds), text);
        }
    }

    #[test]
    fn spelling() {
        let time: Timestamp = "2024-05-06T07:08:09.123456789+02:00".parse().unwrap();
        assert_eq!(rfc3339(time, false), "2024-05-06T05:08:09Z");
        assert_eq!(rfc3339(time, true), "2024-05-06T05:08:09.123456Z");
    }
}
