//! Aligned columns, for terminals of 100.

use std::io::{self, Write};

/// Columns of the terminal that tables are made for.
const WIDTH: usize = 100;
/// A last column is wrapped, but never to less than this.
const MIN_LAST: usize = 20;
const GAP: &str = "  ";

/// A table.
pub(crate) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
}

struct Column {
    head: &'static str,
    is_right: bool,
}

impl Table {
    /// A table with these columns; heads that start with `>` are of columns aligned to the right.
    pub(crate) fn new(heads: &[&'static str]) -> Self {
        let column = |head: &&'static str| match head.strip_prefix('>') {
            Some(head) => Column {
                head,
                is_right: true,
            },
            None => Column {
                head,
                is_right: false,
            },
        };
        Self {
            columns: heads.iter().map(column).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Writes the head and the rows. The last column is wrapped at the terminal's width.
    pub(crate) fn write(&self, output: &mut dyn Write) -> io::Result<()> {
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|place| self.width(place))
            .collect();
        let before_last: usize = widths
            .iter()
            .rev()
            .skip(1)
            .map(|width| width + GAP.len())
            .sum();
        let room = WIDTH.saturating_sub(before_last).max(MIN_LAST);
        self.line(
            output,
            &widths,
            room,
            self.columns.iter().map(|column| column.head),
        )?;
        for row in &self.rows {
            self.line(output, &widths, room, row.iter().map(String::as_str))?;
        }
        Ok(())
    }

    fn width(&self, place: usize) -> usize {
        let head = self
            .columns
            .get(place)
            .map_or(0, |column| column.head.chars().count());
        let cells = self.rows.iter().filter_map(|row| row.get(place));
        cells
            .map(|cell| cell.chars().count())
            .fold(head, usize::max)
    }

    fn line<'a>(
        &self,
        output: &mut dyn Write,
        widths: &[usize],
        room: usize,
        cells: impl Iterator<Item = &'a str>,
    ) -> io::Result<()> {
        let last = self.columns.len().saturating_sub(1);
        let mut line = String::new();
        let mut at = 0;
        for ((place, cell), (column, width)) in
            cells.enumerate().zip(self.columns.iter().zip(widths))
        {
            if place > 0 {
                line.push_str(GAP);
                at += GAP.len();
            }
            if place == last && !column.is_right {
                let indent = format!("\n{:at$}", "");
                line.push_str(&wrap(cell, room).join(&indent));
            } else if column.is_right {
                line.push_str(&format!("{cell:>width$}"));
            } else {
                line.push_str(&format!("{cell:<width$}"));
            }
            at += width;
        }
        writeln!(output, "{}", line.trim_end())
    }
}

/// Breaks a text between words into lines of at most `room` characters.
fn wrap(text: &str, room: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = match lines.last_mut() {
            Some(line) if line.is_empty() => line,
            Some(line) if line.chars().count() + 1 + word.chars().count() <= room => {
                line.push(' ');
                line
            }
            _ => lines.push_mut(String::new()),
        };
        line.push_str(word);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(table: &Table) -> String {
        let mut output = Vec::new();
        table.write(&mut output).unwrap();
        String::from_utf8(output).unwrap()
    }

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new(&["NAME", ">COUNT", "WHY"]);
        table.row(["a", "1", "x"].map(str::to_owned));
        table.row(["longer", "1234567", "y"].map(str::to_owned));
        assert_eq!(
            text(&table),
            "NAME      COUNT  WHY\na             1  x\nlonger  1234567  y\n"
        );
    }

    #[test]
    fn the_last_column_is_wrapped_between_words() {
        let mut table = Table::new(&["NAME", "WHY"]);
        table.row(["a".to_owned(), "word ".repeat(40)]);
        let text = text(&table);
        assert!(text.lines().count() > 2);
        for line in text.lines() {
            assert!(line.len() <= WIDTH, "{line}");
        }
        assert!(
            text.lines()
                .skip(2)
                .all(|line| line.starts_with("      word"))
        );
    }

    #[test]
    fn a_word_longer_than_the_line_stays_whole() {
        assert_eq!(wrap("aaaaaa b", 3), ["aaaaaa", "b"]);
        assert_eq!(wrap("", 3), [""]);
    }
}
