//! Reviews: resources that are questions, and the binding of a Pod, which is an act. They are answered and never stored.

/// One kind of question, or act.
#[derive(Debug, PartialEq, Eq)]
pub struct Review {
    /// API group.
    pub group: &'static str,
    /// Served version.
    pub version: &'static str,
    /// CamelCase name, for example `TokenReview`.
    pub kind: &'static str,
    /// Lower-case plural, as in the URL.
    pub plural: &'static str,
    /// Lower-case singular.
    pub singular: &'static str,
    /// Whether it is asked in a namespace.
    pub namespaced: bool,
    /// Name of its definition in the schema tables.
    pub schema: &'static str,
}

macro_rules! reviews {
    ($($(#[$doc:meta])* $name:ident: $group:literal, $package:literal, $kind:literal, $singular:literal, $namespaced:literal;)*) => {
        $($(#[$doc])* pub static $name: Review = Review {
            group: $group,
            version: "v1",
            kind: $kind,
            plural: concat!($singular, "s"),
            singular: $singular,
            namespaced: $namespaced,
            schema: concat!("io.k8s.api.", $package, ".v1.", $kind),
        };)*

        /// Every question that is served.
        pub static REVIEWS: &[&Review] = &[$(&$name),*];
    };
}

reviews! {
    /// This Pod runs there.
    BINDING: "", "core", "Binding", "binding", true;
    /// Who am I?
    SELF_SUBJECT: "authentication.k8s.io", "authentication", "SelfSubjectReview", "selfsubjectreview", false;
    /// Whose token is this?
    TOKEN: "authentication.k8s.io", "authentication", "TokenReview", "tokenreview", false;
    /// May somebody do this there?
    LOCAL_SUBJECT_ACCESS: "authorization.k8s.io", "authorization", "LocalSubjectAccessReview", "localsubjectaccessreview", true;
    /// May I do this?
    SELF_SUBJECT_ACCESS: "authorization.k8s.io", "authorization", "SelfSubjectAccessReview", "selfsubjectaccessreview", false;
    /// What may I do?
    SELF_SUBJECT_RULES: "authorization.k8s.io", "authorization", "SelfSubjectRulesReview", "selfsubjectrulesreview", false;
    /// May somebody do this?
    SUBJECT_ACCESS: "authorization.k8s.io", "authorization", "SubjectAccessReview", "subjectaccessreview", false;
}

impl Review {
    /// The object's `apiVersion`.
    #[must_use]
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            return self.version.to_owned();
        }
        format!("{}/{}", self.group, self.version)
    }
}

/// The question behind `/apis/<group>/<version>/<plural>`, if it is served.
#[must_use]
pub fn by_resource(group: &str, version: &str, plural: &str) -> Option<&'static Review> {
    REVIEWS.iter().copied().find(|r| r.group == group && r.version == version && r.plural == plural)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_question_has_a_definition() {
        for review in REVIEWS {
            assert!(crate::schema::definition(review.schema).is_some(), "{}", review.schema);
            assert_eq!(by_resource(review.group, review.version, review.plural), Some(*review));
            assert_eq!(review.kind.to_lowercase(), review.singular);
        }
        assert_eq!(by_resource("authentication.k8s.io", "v1beta1", "tokenreviews"), None);
    }
}
