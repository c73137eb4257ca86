//! Validation.
pub mod name;
