//! Text in columns.

use crate::printable::printable;

/// The cells of a line.
pub(crate) type Line = Vec<String>;

/// Columns two spaces apart. A line that is shorter than the others is a note, behind the first column. Those of
/// the columns `numbers` stand to the right.
pub(crate) fn align(lines: &[Line], numbers: &[usize]) -> String {
    let columns = lines.first().map_or(0, Vec::len);
    let counted = lines.iter().map(|line| match line.len() == columns {
        true => line.as_slice(),
        false => line.get(..1).unwrap_or_default(),
    });
    let widths = columns::widest(counted);
    let mut text = String::new();
    for line in lines {
        let (in_columns, note) = match line.len() == columns {
            true => (line.as_slice(), &[][..]),
            false => line.split_at_checked(1).unwrap_or_default(),
        };
        let mut cells = columns::aligned(in_columns, &widths, numbers);
        cells.extend_from_slice(note);
        text.push_str(printable(&cells.join("  ")).trim_end());
        text.push('\n');
    }
    text
}
