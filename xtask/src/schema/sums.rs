//! What the table says of itself in its head: the digests of what it was written from and of its rows, so that a row
//! which was edited by hand is noticed where the sources are not.

use anyhow::{Result, ensure};
use sha2::{Digest, Sha256};

/// Before the digests of the sources, of the rows, and of the descriptions beside them.
const SOURCES: &str = "# SHA-256 of the sources: ";
const ROWS: &str = "# SHA-256 of the rows: ";
const WORDS: &str = "# SHA-256 of words.zz, unpacked: ";

/// A digest as text.
pub(super) fn of(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The lines of the head that tell them; each source by its name.
pub(super) fn lines(sources: &[(String, String)], rows: &str, words: &str) -> String {
    let told: Vec<String> = sources.iter().map(|(name, sum)| format!("{name} {sum}")).collect();
    let (rows, words) = (of(rows.as_bytes()), of(words.as_bytes()));
    format!("{SOURCES}{}.\n{ROWS}{rows}.\n{WORDS}{words}.\n", told.join(", "))
}

/// Whether a table's rows, the descriptions and the source that is checked in are those that its head speaks of.
///
/// # Errors
/// They are others, or the head says nothing.
pub(super) fn check(table: &str, words: &[u8], further: &[u8]) -> Result<()> {
    let told = |line: &str| {
        let found = table.lines().find_map(|l| l.strip_prefix(line)?.strip_suffix('.'));
        found.map(ToOwned::to_owned).unwrap_or_default()
    };
    let rows: String =
        table.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect();
    ensure!(
        told(ROWS) == of(rows.as_bytes()),
        "the rows are not those that `cargo xtask schema` wrote: change what it reads, and have it write them"
    );
    ensure!(
        told(WORDS) == of(words),
        "the descriptions are not those that `cargo xtask schema` wrote: have it write them"
    );
    let source = format!("further.json {}", of(further));
    ensure!(
        told(SOURCES).split(", ").any(|told| told == source),
        "further.json is not that which the table was written from: run `cargo xtask schema`"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Workspace;

    #[test]
    fn the_table_that_is_checked_in_is_what_the_generator_wrote() {
        let root = Workspace::find().unwrap().root;
        super::super::check_table(&root).unwrap();
        let schema = root.join("control/api/schema");
        let table = std::fs::read_to_string(schema.join("kubernetes.tsv")).unwrap();
        let further = std::fs::read(schema.join("further.json")).unwrap();
        let words = super::super::unpacked(&std::fs::read(schema.join("words.zz")).unwrap()).unwrap();
        check(&table, &words, &further).unwrap();
        let refusal =
            |table: &str, words: &[u8], further: &[u8]| check(table, words, further).unwrap_err().to_string();
        let edited = table.replacen("\t1\tstring\t", "\t2\tstring\t", 1);
        assert!(edited != table && refusal(&edited, &words, &further).contains("the rows"));
        assert!(check(&format!("{table}F\tmore\t1\tstring\t\t\t\t\t\n"), &words, &further).is_err());
        assert!(refusal(&table, &words[1..], &further).contains("the descriptions"));
        assert!(refusal(&table, &words, b"{}").contains("further.json"));
        assert!(check("D\tx\t\t\n", &words, b"{}").is_err(), "a table that says nothing of itself");
    }
}
