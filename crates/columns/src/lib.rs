//! Text in columns: as wide as the widest cell of each, in characters.

#![deny(missing_docs, unsafe_code, unreachable_pub)]

/// The width of the widest cell of each column. A line may have fewer cells than others.
pub fn widest<'a>(lines: impl IntoIterator<Item = &'a [String]>) -> Vec<usize> {
    let mut widths = Vec::new();
    for cells in lines {
        widths.resize(widths.len().max(cells.len()), 0);
        for (width, cell) in widths.iter_mut().zip(cells) {
            *width = (*width).max(cell.chars().count());
        }
    }
    widths
}

/// The cells of a line, each as wide as its column; those of the columns `numbers` stand to the right. What is
/// too long is cut in the middle: what tells names apart is at their ends.
#[must_use]
pub fn aligned(cells: &[String], widths: &[usize], numbers: &[usize]) -> Vec<String> {
    let columns = cells.iter().zip(widths).enumerate();
    let aligned = columns.map(|(column, (cell, width))| {
        let cell = shortened(cell, *width);
        match numbers.contains(&column) {
            true => format!("{cell:>width$}"),
            false => format!("{cell:width$}"),
        }
    });
    aligned.collect()
}

fn shortened(text: &str, width: usize) -> String {
    let length = text.chars().count();
    if length <= width {
        return text.to_owned();
    }
    let kept = width.saturating_sub(1);
    let head: String = text.chars().take(kept / 2).collect();
    let tail = length.saturating_sub(kept.saturating_sub(kept / 2));
    let tail: String = text.chars().skip(tail).collect();
    format!("{head}…{tail}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(cells: &[&str]) -> Vec<String> {
        cells.iter().map(|cell| (*cell).to_owned()).collect()
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let lines = [
            cells(&["a", "12"]),
            cells(&["émue"]),
            cells(&["", "3", "x"]),
        ];
        let widths = widest(lines.iter().map(Vec::as_slice));
        assert_eq!(widths, [4, 2, 1]);
        assert_eq!(aligned(&lines[2], &widths, &[1]), ["    ", " 3", "x"]);
    }

    #[test]
    fn what_is_too_long_keeps_its_ends() {
        let name = cells(&["spiffe://d/ns/shop/sa/pay"]);
        assert_eq!(aligned(&name, &[10], &[]), ["spif…a/pay"]);
        assert_eq!(aligned(&name, &[1], &[]), ["…"]);
    }
}
