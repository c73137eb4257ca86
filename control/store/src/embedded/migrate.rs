//! From an older format to this build's: one step for each format, all of them in the engine transaction that also writes the new
//! number. Power may go at any moment: the store has the old format, or the new one.

use redb::WriteTransaction;

use super::table::{FORMAT, Fault, put_build, put_format};

/// What leads from one format to the next. It sees what the steps before it have left.
type Step = fn(&WriteTransaction) -> Result<(), Fault>;

/// By the format they begin with: the first leads from 1 to 2.
///
/// | format | since | what is new |
/// | --- | --- | --- |
/// | 1 | 0.1.0 | |
/// | 2 | 0.1.0 | `meta` has `build`: which build brought the store to its format, for who has to be told to use that one |
const STEPS: [Step; FORMAT as usize - 1] = [put_build];

/// Carries out what leads from `format` on; the caller commits.
pub(super) fn migrate(transaction: &WriteTransaction, format: u64) -> Result<(), Fault> {
    let done = usize::try_from(format.saturating_sub(1)).unwrap_or(usize::MAX);
    for step in STEPS.iter().skip(done) {
        step(transaction)?;
    }
    put_format(transaction, FORMAT)
}
