//! What stands around the values of a staged change.

use bytes::{BufMut, BytesMut};
use tideway_core::operations::Operations;

/// Puts the code of the row's operation.
#[inline]
pub fn put_code(operations: &Operations<'_>, row: usize, out: &mut BytesMut) {
    out.put_u32(2);
    out.put_u16(operations.code(row).into());
}

/// Puts a bit for each of the columns, the first one leftmost, which says whether the row
/// keeps what it has there; null where it keeps nothing.
#[inline]
pub fn put_kept(operations: &Operations<'_>, columns: usize, row: usize, out: &mut BytesMut) {
    if !operations.keeps_some(row) {
        out.put_i32(-1);
        return;
    }
    let mut bytes = vec![0_u8; columns.div_ceil(8)];
    for column in 0..columns {
        if let (true, Some(byte)) = (operations.keeps(row, column), bytes.get_mut(column / 8)) {
            *byte |= 0x80 >> (column % 8);
        }
    }
    out.put_u32(4 + bytes.len() as u32);
    out.put_u32(columns as u32);
    out.put_slice(&bytes);
}
