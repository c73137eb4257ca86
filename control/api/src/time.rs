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

#[cfg(test)]
mod tests {
    use super::*;

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
