//! Columns for a terminal.

use std::io;

use crate::output;

/// Rows by which the columns' widths are found; those that come later are printed as they come.
const ROWS_BEFORE: usize = 500;

/// Rows that come one at a time. Columns are as wide as the longest of their first cells, three spaces between.
pub(crate) struct Table {
    header: &'static [&'static str],
    waiting: Vec<Vec<String>>,
    widths: Option<Vec<usize>>,
}

impl Table {
    /// A table with a header.
    pub(crate) fn new(header: &'static [&'static str]) -> Self {
        Self { header, waiting: Vec::new(), widths: None }
    }

    /// One more row.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub(crate) fn row(&mut self, cells: Vec<String>) -> io::Result<()> {
        if let Some(widths) = &self.widths {
            return output::line(line(widths, &mut cells.iter().map(String::as_str)));
        }
        self.waiting.push(cells);
        if self.waiting.len() < ROWS_BEFORE { Ok(()) } else { self.flush() }
    }

    /// No more rows come.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub(crate) fn end(mut self) -> io::Result<()> {
        if self.widths.is_none() { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        let rows = std::mem::take(&mut self.waiting);
        let widths = widths(self.header, &rows);
        output::line(line(&widths, &mut self.header.iter().copied()))?;
        for row in &rows {
            output::line(line(&widths, &mut row.iter().map(String::as_str)))?;
        }
        self.widths = Some(widths);
        Ok(())
    }
}

/// Prints rows under a header.
///
/// # Errors
/// Standard output cannot be written.
pub(crate) fn print(header: &'static [&'static str], rows: Vec<Vec<String>>) -> io::Result<()> {
    let mut table = Table::new(header);
    rows.into_iter().try_for_each(|row| table.row(row))?;
    table.end()
}

fn widths(header: &[&str], rows: &[Vec<String>]) -> Vec<usize> {
    let mut widths: Vec<usize> = header.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    widths
}

fn line(widths: &[usize], cells: &mut dyn Iterator<Item = &str>) -> String {
    let padded: Vec<String> = cells.zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
    padded.join("   ").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [vec!["a".to_owned(), "1".to_owned()], vec!["longer".to_owned(), "2".to_owned()]];
        let widths = widths(&["NAME", "N"], &rows);
        let lines: Vec<String> =
            rows.iter().map(|row| line(&widths, &mut row.iter().map(String::as_str))).collect();
        assert_eq!(lines, ["a        1", "longer   2"]);
        assert_eq!(line(&widths, &mut ["NAME", "N"].into_iter()), "NAME     N");
    }

    #[test]
    fn no_more_rows_are_held_than_widths_are_found_by() {
        let mut table = Table::new(&["N"]);
        for number in 0..ROWS_BEFORE * 2 {
            table.row(vec![number.to_string()]).expect("printed");
            assert!(table.waiting.len() < ROWS_BEFORE);
        }
    }
}
