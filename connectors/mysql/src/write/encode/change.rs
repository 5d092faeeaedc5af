//! Changes on their way into their staging table.

use tideway_core::{Result, operations::Operations};

use super::{Rows, null, print, quoted};

impl Rows<'_> {
    /// Puts a change: the numbers of its part and of itself, which are its `place`, its
    /// operation, the values that it has, and which ones it keeps.
    pub fn put_change(
        &mut self,
        row: usize,
        place: (u64, u64),
        operations: &Operations<'_>,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let style = self.style;
        let [open, between, close] = style.marks();
        out.extend_from_slice(open);
        for number in [place.0, place.1, operations.code(row).into()] {
            print(out, number);
            out.extend_from_slice(between);
        }
        for (at, cells) in self.columns.iter_mut().enumerate() {
            match operations.lacks(row, at) {
                true => null(style, out),
                false => cells.put(row, style, out)?,
            }
            out.extend_from_slice(between);
        }
        match operations.kept(row) {
            Some(kept) => quoted(kept.as_bytes(), style, out),
            None => null(style, out),
        }
        out.extend_from_slice(close);
        Ok(())
    }
}
