//! The names that an expression may call: those of CEL itself, and of the libraries that Kubernetes brings.
//!
//! A name that is here too much lets an expression through that Kubernetes refuses; one that is missing refuses what Kubernetes
//! takes. So all are here that any version up to 1.37 has, wherever it has them.

use super::Type;

/// Functions and what they always give, [`Type::Dyn`] if that depends.
const FUNCTIONS: &[(&str, Type<'static>)] = &[
    // CEL.
    ("bool", Type::Bool),
    ("bytes", Type::Bytes),
    ("contains", Type::Bool),
    ("double", Type::Double),
    ("duration", Type::Dyn),
    ("dyn", Type::Dyn),
    ("endsWith", Type::Bool),
    ("getDate", Type::Int),
    ("getDayOfMonth", Type::Int),
    ("getDayOfWeek", Type::Int),
    ("getDayOfYear", Type::Int),
    ("getFullYear", Type::Int),
    ("getHours", Type::Int),
    ("getMilliseconds", Type::Int),
    ("getMinutes", Type::Int),
    ("getMonth", Type::Int),
    ("getSeconds", Type::Int),
    ("int", Type::Int),
    ("matches", Type::Bool),
    ("size", Type::Int),
    ("startsWith", Type::Bool),
    ("string", Type::Text),
    ("timestamp", Type::Dyn),
    ("type", Type::Dyn),
    ("uint", Type::Uint),
    // Optional values.
    ("first", Type::Dyn),
    ("hasValue", Type::Bool),
    ("last", Type::Dyn),
    ("or", Type::Dyn),
    ("orValue", Type::Dyn),
    ("unwrapOpt", Type::List),
    ("value", Type::Dyn),
    // Texts, and lists of them. `indexOf`, `lastIndexOf` and `reverse` are also of lists.
    ("charAt", Type::Text),
    ("format", Type::Text),
    ("indexOf", Type::Int),
    ("join", Type::Text),
    ("lastIndexOf", Type::Int),
    ("lowerAscii", Type::Text),
    ("replace", Type::Text),
    ("reverse", Type::Dyn),
    ("split", Type::List),
    ("substring", Type::Text),
    ("trim", Type::Text),
    ("upperAscii", Type::Text),
    // Lists.
    ("distinct", Type::List),
    ("flatten", Type::List),
    ("includes", Type::Bool),
    ("isSorted", Type::Bool),
    ("max", Type::Dyn),
    ("min", Type::Dyn),
    ("slice", Type::List),
    ("sort", Type::List),
    ("sum", Type::Dyn),
    // Regular expressions.
    ("find", Type::Text),
    ("findAll", Type::List),
    // URLs.
    ("getEscapedPath", Type::Text),
    ("getHost", Type::Text),
    ("getHostname", Type::Text),
    ("getPort", Type::Text),
    ("getQuery", Type::Map),
    ("getScheme", Type::Text),
    ("isURL", Type::Bool),
    ("url", Type::Dyn),
    // Whether a user may do something.
    ("allowed", Type::Bool),
    ("check", Type::Dyn),
    ("error", Type::Text),
    ("errored", Type::Bool),
    ("fieldSelector", Type::Dyn),
    ("group", Type::Dyn),
    ("labelSelector", Type::Dyn),
    ("name", Type::Dyn),
    ("namespace", Type::Dyn),
    ("path", Type::Dyn),
    ("reason", Type::Text),
    ("resource", Type::Dyn),
    ("serviceAccount", Type::Dyn),
    ("subresource", Type::Dyn),
    // Quantities, and versions.
    ("add", Type::Dyn),
    ("asApproximateFloat", Type::Double),
    ("asInteger", Type::Int),
    ("compareTo", Type::Int),
    ("isGreaterThan", Type::Bool),
    ("isInteger", Type::Bool),
    ("isLessThan", Type::Bool),
    ("isQuantity", Type::Bool),
    ("isSemver", Type::Bool),
    ("major", Type::Int),
    ("minor", Type::Int),
    ("patch", Type::Int),
    ("quantity", Type::Dyn),
    ("semver", Type::Dyn),
    ("sign", Type::Int),
    ("sub", Type::Dyn),
    // Addresses.
    ("cidr", Type::Dyn),
    ("containsCIDR", Type::Bool),
    ("containsIP", Type::Bool),
    ("family", Type::Int),
    ("ip", Type::Dyn),
    ("isCIDR", Type::Bool),
    ("isGlobalUnicast", Type::Bool),
    ("isIP", Type::Bool),
    ("isLinkLocalMulticast", Type::Bool),
    ("isLinkLocalUnicast", Type::Bool),
    ("isLoopback", Type::Bool),
    ("isUnspecified", Type::Bool),
    ("masked", Type::Dyn),
    ("prefixLength", Type::Int),
    // Formats of names, and images.
    ("containsDigest", Type::Bool),
    ("digest", Type::Text),
    ("identifier", Type::Text),
    ("image", Type::Dyn),
    ("isImage", Type::Bool),
    ("registry", Type::Text),
    ("repository", Type::Text),
    ("tag", Type::Text),
    ("validate", Type::Dyn),
];

/// Functions whose name has a dot.
const QUALIFIED: &[(&str, &str, Type<'static>)] = &[
    ("format", "byte", Type::Dyn),
    ("format", "date", Type::Dyn),
    ("format", "datetime", Type::Dyn),
    ("format", "dns1035Label", Type::Dyn),
    ("format", "dns1035LabelPrefix", Type::Dyn),
    ("format", "dns1123Label", Type::Dyn),
    ("format", "dns1123LabelPrefix", Type::Dyn),
    ("format", "dns1123Subdomain", Type::Dyn),
    ("format", "dns1123SubdomainPrefix", Type::Dyn),
    ("format", "labelValue", Type::Dyn),
    ("format", "named", Type::Dyn),
    ("format", "qualifiedName", Type::Dyn),
    ("format", "uri", Type::Dyn),
    ("format", "uuid", Type::Dyn),
    ("ip", "isCanonical", Type::Bool),
    ("lists", "range", Type::List),
    ("optional", "none", Type::Dyn),
    ("optional", "of", Type::Dyn),
    ("optional", "ofNonZeroValue", Type::Dyn),
    ("optional", "unwrap", Type::List),
    ("sets", "contains", Type::Bool),
    ("sets", "equivalent", Type::Bool),
    ("sets", "intersects", Type::Bool),
    ("strings", "quote", Type::Text),
];

/// A macro of what it is called on: its name, how many arguments, how many of the first of them are variables that it declares,
/// and what comes of it. If that is a truth, the last argument must be one.
pub(super) struct Macro {
    pub(super) name: &'static str,
    pub(super) arguments: usize,
    pub(super) variables: usize,
    pub(super) result: Type<'static>,
}

const fn of(name: &'static str, arguments: usize, variables: usize, result: Type<'static>) -> Macro {
    Macro { name, arguments, variables, result }
}

const MACROS: &[Macro] = &[
    of("all", 2, 1, Type::Bool),
    of("all", 3, 2, Type::Bool),
    of("exists", 2, 1, Type::Bool),
    of("exists", 3, 2, Type::Bool),
    of("existsOne", 2, 1, Type::Bool),
    of("existsOne", 3, 2, Type::Bool),
    of("exists_one", 2, 1, Type::Bool),
    of("exists_one", 3, 2, Type::Bool),
    of("filter", 2, 1, Type::List),
    of("map", 2, 1, Type::List),
    of("map", 3, 1, Type::List),
    of("optFlatMap", 2, 1, Type::Dyn),
    of("optMap", 2, 1, Type::Dyn),
    of("sortBy", 2, 1, Type::List),
    of("transformList", 3, 2, Type::List),
    of("transformList", 4, 2, Type::List),
    of("transformMap", 3, 2, Type::Map),
    of("transformMap", 4, 2, Type::Map),
    of("transformMapEntry", 3, 2, Type::Map),
    of("transformMapEntry", 4, 2, Type::Map),
];

/// What a function gives, if there is one of this name.
pub(super) fn result(name: &str) -> Option<Type<'static>> {
    FUNCTIONS.iter().find(|(known, _)| *known == name).map(|(_, result)| *result)
}

/// As [`result`], of one with a dot in its name. That of patches is only where these are made.
pub(super) fn qualified(before: &str, name: &str, patches: bool) -> Option<Type<'static>> {
    if patches && (before, name) == ("jsonpatch", "escapeKey") {
        return Some(Type::Text);
    }
    QUALIFIED.iter().find(|known| (known.0, known.1) == (before, name)).map(|known| known.2)
}

/// The macro of this name with so many arguments.
pub(super) fn receiver_macro(name: &str, arguments: usize) -> Option<&'static Macro> {
    MACROS.iter().find(|known| known.name == name && known.arguments == arguments)
}
