//! Columns for a terminal.

use std::io;

use crate::output;

/// Prints rows under a header, columns as wide as their longest cell, three spaces between.
///
/// # Errors
/// Standard output cannot be written.
pub(crate) fn print(header: &[&str], rows: &[Vec<String>]) -> io::Result<()> {
    lines(header, rows).iter().try_for_each(output::line)
}

fn lines(header: &[&str], rows: &[Vec<String>]) -> Vec<String> {
    let mut widths: Vec<usize> = header.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<String> = cells.zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        padded.join("   ").trim_end().to_owned()
    };
    let mut lines = vec![line(&mut header.iter().copied())];
    lines.extend(rows.iter().map(|row| line(&mut row.iter().map(String::as_str))));
    lines
}

#[cfg(test)]
mod tests {
    #[test]
    fn columns_line_up() {
        let rows = [vec!["a".to_owned(), "1".to_owned()], vec!["longer".to_owned(), "2".to_owned()]];
        assert_eq!(super::lines(&["NAME", "N"], &rows), ["NAME     N", "a        1", "longer   2"]);
    }
}
