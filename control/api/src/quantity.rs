//! Quantities: amounts such as `100m`, `1.5Gi` or `2e3`, exact to the billionth.
//!
//! The rules are those of `resource.Quantity` in the Kubernetes API reference: suffixes, canonical spelling, and
//! rounding up where a fraction does not fit.

use std::cmp::Ordering;
use std::fmt;
use std::ops::{Add, Sub};

use serde_json::Value;

/// Billionths in one unit.
const NANO: i128 = 1_000_000_000;
/// Largest amount, units: what Kubernetes caps at (2^63 − 1).
const UNITS_MAX: i128 = i64::MAX as i128;
/// Longest text read, bytes.
const TEXT_BYTES_MAX: usize = 64;

/// An amount. Compared by value: `1000m` equals `1`.
#[derive(Clone, Copy, Debug)]
pub struct Quantity {
    /// Billionths.
    nano: i128,
    format: Format,
}

/// Which family of suffixes an amount is spelt with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    /// `m`, `k`, `M`, …
    Decimal,
    /// `Ki`, `Mi`, …
    Binary,
    /// `e3`, `E6`, …
    Exponent,
}

/// Why a text is no quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// Not of the form number and suffix.
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    /// The suffix is not known.
    #[error("unable to parse quantity's suffix")]
    Suffix,
    /// Larger than 2^63 − 1.
    #[error("quantity is out of range")]
    Range,
}

impl Quantity {
    /// Nothing.
    pub const fn zero() -> Self {
        Self { nano: 0, format: Format::Decimal }
    }

    /// Whole units: cores, bytes, Pods.
    pub const fn from_units(units: i64) -> Self {
        Self { nano: units as i128 * NANO, format: Format::Decimal }
    }

    /// Thousandths, for example of a core.
    pub const fn from_milli(milli: i64) -> Self {
        Self { nano: milli as i128 * (NANO / 1000), format: Format::Decimal }
    }

    /// Billionths, for example of a core.
    pub const fn from_nano(nano: i64) -> Self {
        Self { nano: nano as i128, format: Format::Decimal }
    }

    /// Whole bytes, spelt with binary suffixes.
    pub const fn from_bytes(bytes: i64) -> Self {
        Self { nano: bytes as i128 * NANO, format: Format::Binary }
    }

    /// Reads a quantity.
    ///
    /// # Errors
    /// The text is no quantity, or too large.
    pub fn parse(text: &str) -> Result<Self, QuantityError> {
        if text.is_empty() || text.len() > TEXT_BYTES_MAX {
            return Err(QuantityError::Format);
        }
        let (negative, rest) = match text.as_bytes()[0] {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, suffix) = rest.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
            return Err(QuantityError::Format);
        }
        let (multiplier, divisor, format) = suffix_of(suffix)?;
        let nano = scaled(whole, fraction, multiplier, divisor)?;
        Ok(Self { nano: if negative { -nano } else { nano }, format })
    }

    /// Reads a quantity from JSON, where it is a string or a number.
    ///
    /// # Errors
    /// Neither, or not readable.
    pub fn from_value(value: &Value) -> Result<Self, QuantityError> {
        match value {
            Value::String(text) => Self::parse(text),
            Value::Number(number) => Self::parse(&number.to_string()),
            _ => Err(QuantityError::Format),
        }
    }

    /// Thousandths, rounded up; saturating.
    pub fn milli_ceil(self) -> i64 {
        saturate(ceil_div(self.nano, NANO / 1000))
    }

    /// Whole units, rounded up; saturating.
    pub fn units_ceil(self) -> i64 {
        saturate(ceil_div(self.nano, NANO))
    }

    /// Whether it is below zero.
    pub fn is_negative(self) -> bool {
        self.nano < 0
    }

    /// Whether it is zero.
    pub fn is_zero(self) -> bool {
        self.nano == 0
    }

    /// Whether it is a whole number of units.
    pub fn is_whole(self) -> bool {
        self.nano % NANO == 0
    }

    /// The sum, or nothing if it does not fit.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        let nano = self.nano.checked_add(other.nano).filter(|n| n.abs() <= UNITS_MAX * NANO)?;
        Some(Self { nano, format: if self.is_zero() { other.format } else { self.format } })
    }

    /// The difference, or nothing if it does not fit.
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.checked_add(Self { nano: -other.nano, format: other.format })
    }
}

/// Multiplier, divisor and family of a suffix.
fn suffix_of(suffix: &str) -> Result<(i128, i128, Format), QuantityError> {
    const DECIMAL: &[(&str, u32)] = &[("", 0), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];
    const SMALL: &[(&str, u32)] = &[("n", 9), ("u", 6), ("m", 3)];
    const BINARY: &[(&str, u32)] = &[("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40), ("Pi", 50), ("Ei", 60)];
    if let Some((_, power)) = DECIMAL.iter().find(|(s, _)| *s == suffix) {
        return Ok((10_i128.pow(*power), 1, Format::Decimal));
    }
    if let Some((_, power)) = SMALL.iter().find(|(s, _)| *s == suffix) {
        return Ok((1, 10_i128.pow(*power), Format::Decimal));
    }
    if let Some((_, power)) = BINARY.iter().find(|(s, _)| *s == suffix) {
        return Ok((1 << *power, 1, Format::Binary));
    }
    let Some(exponent) = suffix.strip_prefix(['e', 'E']) else { return Err(QuantityError::Suffix) };
    let exponent: i32 = exponent.parse().map_err(|_| QuantityError::Suffix)?;
    match exponent {
        0..=18 => Ok((10_i128.pow(exponent.unsigned_abs()), 1, Format::Exponent)),
        -18..0 => Ok((1, 10_i128.pow(exponent.unsigned_abs()), Format::Exponent)),
        _ => Err(QuantityError::Range),
    }
}

/// `whole.fraction × multiplier ÷ divisor` in billionths, rounded up.
fn scaled(whole: &str, fraction: &str, multiplier: i128, divisor: i128) -> Result<i128, QuantityError> {
    const DIGITS_MAX: usize = 18;
    /// The largest quantity in billionths has as many: what is written in a small unit is read again.
    const WHOLE_DIGITS_MAX: usize = 28;
    let whole = whole.trim_start_matches('0');
    let fraction = fraction.trim_end_matches('0');
    if whole.len() > WHOLE_DIGITS_MAX {
        return Err(QuantityError::Range);
    }
    // Digits past the eighteenth cannot matter but for rounding up.
    let (fraction, rest) = fraction.split_at(fraction.len().min(DIGITS_MAX));
    let digits = |text: &str| {
        if text.is_empty() { Ok(0) } else { text.parse::<i128>().map_err(|_| QuantityError::Format) }
    };
    let whole = digits(whole)?
        .checked_mul(multiplier)
        .and_then(|w| w.checked_mul(NANO))
        .ok_or(QuantityError::Range)?;
    let scale = 10_i128.pow(u32::try_from(fraction.len()).map_err(|_| QuantityError::Format)?);
    // (fraction / scale) × multiplier × 10^9, in two steps so that nothing overflows.
    let product = digits(fraction)?.checked_mul(multiplier).ok_or(QuantityError::Range)?;
    let (units, left) = (product / scale, product % scale);
    let part = units * NANO + ceil_div(left * NANO, scale);
    let nano = ceil_div(whole.checked_add(part).ok_or(QuantityError::Range)?, divisor);
    let nano = if rest.is_empty() { nano } else { nano.max(1) };
    if nano > UNITS_MAX * NANO { Err(QuantityError::Range) } else { Ok(nano) }
}

fn ceil_div(value: i128, by: i128) -> i128 {
    let quotient = value.div_euclid(by);
    if value.rem_euclid(by) == 0 { quotient } else { quotient + 1 }
}

fn saturate(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
        const DECIMAL: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
        let whole = self.nano % NANO == 0;
        if self.format == Format::Binary && whole && self.nano.abs() >= 1024 * NANO {
            let mut value = self.nano / NANO;
            let mut at = 0;
            while value % 1024 == 0 && at + 1 < BINARY.len() {
                value /= 1024;
                at += 1;
            }
            return write!(f, "{value}{}", BINARY[at]);
        }
        if self.nano == 0 {
            return f.write_str("0");
        }
        let mut value = self.nano;
        let mut at = 0;
        while value % 1000 == 0 && at + 1 < DECIMAL.len() {
            value /= 1000;
            at += 1;
        }
        if self.format == Format::Exponent {
            let exponent = i64::try_from(at).unwrap_or(0) * 3 - 9;
            return if exponent == 0 { write!(f, "{value}") } else { write!(f, "{value}e{exponent}") };
        }
        write!(f, "{value}{}", DECIMAL[at])
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nano == other.nano
    }
}
impl Eq for Quantity {}
impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nano.cmp(&other.nano)
    }
}
impl Default for Quantity {
    fn default() -> Self {
        Self::zero()
    }
}

/// Sums saturate at the largest amount.
impl Add for Quantity {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        let limit = if self.is_negative() { -UNITS_MAX } else { UNITS_MAX };
        self.checked_add(other).unwrap_or(Self { nano: limit * NANO, format: self.format })
    }
}

/// Differences saturate at the largest amount.
impl Sub for Quantity {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        self + Self { nano: -other.nano, format: other.format }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn q(text: &str) -> Quantity {
        Quantity::parse(text).unwrap()
    }

    #[test]
    fn canonical_spelling() {
        for (given, canonical) in [
            ("100m", "100m"),
            ("0.1", "100m"),
            ("1.5", "1500m"),
            ("1000m", "1"),
            ("1000", "1k"),
            ("1024Mi", "1Gi"),
            ("1.5Gi", "1536Mi"),
            ("500Ki", "500Ki"),
            ("1023", "1023"),
            ("0", "0"),
            ("0Ki", "0"),
            ("12e3", "12e3"),
            ("-1.5", "-1500m"),
            ("1n", "1n"),
            ("0.5Ki", "512"),
            ("9223372036854775807", "9223372036854775807"),
            (".5", "500m"),
            ("1.", "1"),
        ] {
            assert_eq!(q(given).to_string(), canonical, "{given}");
        }
    }

    #[test]
    fn what_is_written_in_a_small_unit_is_read_again() {
        for (given, canonical) in [
            (".4Ei", "461168601842738790400m"),
            ("9223372036854775806.000000001", "9223372036854775806000000001n"),
        ] {
            assert_eq!(q(given).to_string(), canonical);
            assert_eq!(q(canonical), q(given));
        }
        assert_eq!(Quantity::parse("9223372036854775807000000001n"), Err(QuantityError::Range));
        assert_eq!(Quantity::parse("99999999999999999999999999999n"), Err(QuantityError::Range));
    }

    #[test]
    fn compares_and_adds_by_value() {
        assert_eq!(q("1"), q("1000m"));
        assert_eq!(q("1Gi"), q("1073741824"));
        assert!(q("1G") < q("1Gi"));
        assert_eq!((q("250m") + q("750m")).to_string(), "1");
        assert_eq!((q("1Gi") - q("512Mi")).to_string(), "512Mi");
        assert_eq!(q("100m").milli_ceil(), 100);
        assert_eq!(q("1n").milli_ceil(), 1);
        assert_eq!(q("1500m").units_ceil(), 2);
        assert_eq!(q("0.0000000001").to_string(), "1n");
    }

    #[test]
    fn refuses_what_is_none() {
        for wrong in ["", "abc", "1Kb", "1 Gi", "--1", "1.2.3", "Ki", "1e", "0x10"] {
            assert!(Quantity::parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(Quantity::parse("100Ei"), Err(QuantityError::Range));
        assert!(Quantity::from_value(&serde_json::json!(true)).is_err());
        assert_eq!(Quantity::from_value(&serde_json::json!(2)).unwrap(), q("2"));
        assert_eq!(Quantity::from_value(&serde_json::json!(0.5)).unwrap(), q("500m"));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[-+]?[0-9.]{0,40}[a-zA-Z]{0,3}[-+]?[0-9]{0,3}") {
            if let Ok(read) = Quantity::parse(&text) {
                proptest::prop_assert_eq!(Quantity::parse(&read.to_string()).unwrap(), read);
            }
        }
    }
}
