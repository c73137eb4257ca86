//! Kinds of `batch`.

use super::{BASE as CORE, Kind, Subresource::*};
use crate::{default, table, validate};

const BASE: Kind = Kind { group: "batch", ..CORE };

/// `Job`.
pub(super) const JOB: Kind = Kind {
    kind: "Job",
    plural: "jobs",
    singular: "job",
    categories: &["all"],
    subresources: &[Status],
    selectable_fields: &["status.successful"],
    schema: "io.k8s.api.batch.v1.Job",
    has_generation: true,
    default: default::job::job,
    prepare: default::job::select,
    rules: &validate::job::RULES,
    part_rules: validate::job::status_change,
    printer: &table::batch::JOB,
    ..BASE
};
/// `CronJob`.
pub(super) const CRON_JOB: Kind = Kind {
    kind: "CronJob",
    plural: "cronjobs",
    singular: "cronjob",
    short_names: &["cj"],
    categories: &["all"],
    subresources: &[Status],
    schema: "io.k8s.api.batch.v1.CronJob",
    has_generation: true,
    default: default::job::cron_job,
    rules: &validate::cron_job::RULES,
    printer: &table::batch::CRON_JOB,
    ..BASE
};
