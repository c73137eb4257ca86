//! Validation of numbers that may be percentages, and of quantities.

use serde_json::Value;

use super::resource;
use crate::quantity::Quantity;
use crate::status::{Errors, FieldError};

/// Words for a quantity that is too small.
const NOT_POSITIVE: &str = "must be greater than zero";
const NEGATIVE: &str = "must be greater than or equal to 0";

/// A number or a percentage below `key`, neither negative: its number.
pub(super) fn number_or_percent(object: &Value, path: &str, key: &str, errors: &mut Errors) -> Option<i64> {
    let path = format!("{path}.{key}");
    match object.get(key)? {
        Value::Number(number) => {
            let number = number.as_i64()?;
            if number < 0 {
                errors.push(FieldError::invalid(path, number, NEGATIVE));
            }
            Some(number)
        }
        Value::String(text) => {
            let percent = text.strip_suffix('%').filter(|d| d.bytes().all(|b| b.is_ascii_digit()));
            let percent = percent.and_then(|digits| digits.parse().ok());
            if percent.is_none() {
                let why = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or \
                           '93%', regex used for validation is '[0-9]+%')";
                errors.push(FieldError::invalid(path, text.as_str(), why));
            }
            percent
        }
        _ => None,
    }
}

/// As [`number_or_percent`], of which no percentage may be above a hundred.
pub(super) fn share(object: &Value, path: &str, key: &str, errors: &mut Errors) -> Option<i64> {
    let found = number_or_percent(object, path, key, errors);
    let value = &object[key];
    if value.is_string() && found.is_some_and(|share| share > 100) {
        errors.push(FieldError::invalid(
            format!("{path}.{key}"),
            value.clone(),
            "must not be greater than 100%",
        ));
    }
    found
}

/// A quantity, if it is one.
pub(super) fn quantity(value: Option<&Value>) -> Option<Quantity> {
    Quantity::from_value(value?).ok()
}

/// A quantity that must be above zero.
pub(super) fn positive(value: &Value, path: &str, errors: &mut Errors) {
    if quantity(Some(value)).is_some_and(|quantity| quantity.is_negative() || quantity.is_zero()) {
        errors.push(FieldError::invalid(path, value.clone(), NOT_POSITIVE));
    }
}

/// The quantity of a resource: not negative, and whole where the resource is counted in pieces.
pub(super) fn of_resource(name: &str, value: &Value, path: &str, errors: &mut Errors) {
    let Some(quantity) = quantity(Some(value)) else { return };
    if quantity.is_negative() {
        errors.push(FieldError::invalid(path, value.clone(), NEGATIVE));
    }
    if resource::is_counted(name) && !quantity.is_whole() {
        errors.push(FieldError::invalid(path, value.clone(), "must be an integer"));
    }
}
