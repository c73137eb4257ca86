//! Validation of LimitRanges.

use std::collections::{BTreeSet, HashSet};

use serde_json::Value;

use super::{Rules, amount, entries, items, name, resource, rules, text};
use crate::quantity::Quantity;
use crate::status::{Errors, FieldError};

const TYPES: &[&str] = &["Container", "PersistentVolumeClaim", "Pod"];
const BOUNDS: &[&str] = &["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"];

/// A LimitRange.
pub(crate) static RULES: Rules = Rules {
    create: |object, _, errors| limit_range(object, errors),
    update: |new, _, _, errors| limit_range(new, errors),
    status: |_, _| {},
};

fn limit_range(range: &Value, errors: &mut Errors) {
    let mut types = HashSet::new();
    let limits = range.get("spec").map_or(&[][..], |spec| items(spec, "limits"));
    for (at, limit) in limits.iter().enumerate() {
        let path = format!("spec.limits[{at}]");
        let type_ = text(limit, "type");
        let type_path = format!("{path}.type");
        let broken = name::qualified(type_);
        if broken.is_empty() && !type_.contains('/') && !TYPES.contains(&type_) {
            let why = "must be a standard limit type or fully qualified";
            errors.push(FieldError::invalid(&type_path, type_, why));
        }
        rules(broken, &type_path, type_, errors);
        if !types.insert(type_) {
            errors.push(FieldError::duplicate(type_path, type_));
        }
        self::limit(limit, type_, &path, errors);
    }
}

fn limit(limit: &Value, type_: &str, path: &str, errors: &mut Errors) {
    let mut names = BTreeSet::new();
    for bound in BOUNDS {
        if type_ == "Pod" && bound.starts_with("default") {
            if entries(limit, bound).next().is_some() {
                let why = "may not be specified when `type` is 'Pod'";
                errors.push(FieldError::forbidden(format!("{path}.{bound}"), why));
            }
            continue;
        }
        for (name, _) in entries(limit, bound) {
            let path = format!("{path}.{bound}[{name}]");
            if matches!(type_, "Pod" | "Container") {
                resource::of_container(name, &path, errors);
            } else {
                resource::any(name, &path, errors);
            }
            names.insert(name);
        }
    }
    let has = |bound: &str| limit.get(bound).is_some_and(|bound| !bound["storage"].is_null());
    if type_ == "PersistentVolumeClaim" && !has("min") && !has("max") {
        let why = "either minimum or maximum storage value is required, but neither was provided";
        errors.push(FieldError::required(format!("{path}.limits"), why));
    }
    for name in names {
        bounds(limit, type_, name, path, errors);
    }
}

/// The bounds of one resource fit each other: from the least to the most.
fn bounds(limit: &Value, type_: &str, name: &str, path: &str, errors: &mut Errors) {
    let of = |bound: &str| -> Option<Quantity> {
        let held = !(type_ == "Pod" && bound.starts_with("default"));
        amount::quantity(limit.get(bound).and_then(|b| b.get(name)).filter(|_| held))
    };
    let mut rising = |[low, low_name]: [&str; 2], [high, high_name]: [&str; 2], at: &str, shown: &str| {
        if let (Some(low), Some(high), Some(shown)) = (of(low), of(high), of(shown))
            && low > high
        {
            let why = format!("{low_name} value {low} is greater than {high_name} value {high}");
            errors.push(FieldError::invalid(format!("{path}.{at}[{name}]"), shown.to_string(), why));
        }
    };
    let (min, max) = (["min", "min"], ["max", "max"]);
    let (request, limit_) = (["defaultRequest", "default request"], ["default", "default"]);
    rising(min, max, "min", "min");
    rising(min, request, "defaultRequest", "defaultRequest");
    rising(request, max, "defaultRequest", "defaultRequest");
    rising(request, ["default", "default limit"], "defaultRequest", "defaultRequest");
    rising(min, limit_, "default", "min");
    rising(limit_, max, "default", "max");
    ratio(
        of("maxLimitRequestRatio"),
        of("min"),
        of("max"),
        &format!("{path}.maxLimitRequestRatio[{name}]"),
        errors,
    );
    if let (Some(request), Some(limit)) = (of("defaultRequest"), of("default"))
        && !resource::may_be_overcommitted(name)
        && request != limit
    {
        let why = format!("default value {limit} must equal to defaultRequest value {request} in {name}");
        let path = format!("{path}.defaultRequest[{name}]");
        errors.push(FieldError::invalid(path, request.to_string(), why));
    }
}

/// How far a limit may be above its request: not below one, nor further than the bounds are apart.
fn ratio(
    ratio: Option<Quantity>,
    min: Option<Quantity>,
    max: Option<Quantity>,
    path: &str,
    errors: &mut Errors,
) {
    let Some(ratio) = ratio else { return };
    if ratio < Quantity::from_units(1) {
        errors.push(FieldError::invalid(path, ratio.to_string(), format!("ratio {ratio} is less than 1")));
    }
    let (Some(min), Some(max)) = (min, max) else { return };
    #[allow(clippy::cast_precision_loss, reason = "told to six digits")]
    let [ratio_milli, min, max] = [ratio, min, max].map(|quantity| quantity.milli_ceil() as f64);
    let apart = max / min;
    if ratio_milli / 1000.0 > apart {
        let why = format!("ratio {ratio} is greater than max/min = {apart:.6}");
        errors.push(FieldError::invalid(path, ratio.to_string(), why));
    }
}
