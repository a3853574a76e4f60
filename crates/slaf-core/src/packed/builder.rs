use super::decode::Row;
use super::encode::{BlockValues, Blocks, counts, raw_bytes, raw_kind, zigzag};
use super::layout::{BLOCK, Kind};
use crate::order::rises;
use crate::{Error, Result, Value};
use std::marker::PhantomData;

/// Builds one packed row from blocks of nonzeros that arrive one after the other.
///
/// Only packed blocks are held, so that thousands of rows (all genes of a stripe) can grow side by
/// side. Values of a float type that are not counts are held raw: a dictionary would need the
/// whole row.
#[derive(Debug)]
pub struct RowBuilder<T> {
    kind: Kind,
    nnz: usize,
    last: Option<u32>,
    blocks: Blocks,
    value: PhantomData<T>,
}

impl<T: Value> Default for RowBuilder<T> {
    fn default() -> Self {
        RowBuilder { kind: Kind::Count, nnz: 0, last: None, blocks: Blocks::default(), value: PhantomData }
    }
}

impl<T: Value> RowBuilder<T> {
    /// Adds a block: [`BLOCK`] nonzeros, or fewer if it is the last one.
    ///
    /// # Errors
    /// `invalid-argument` if the columns do not rise, the lengths differ, or the block before was
    /// not full.
    pub fn push_block(&mut self, columns: &[u32], values: &[T]) -> Result<()> {
        if columns.len() != values.len() || columns.len() > BLOCK || !self.nnz.is_multiple_of(BLOCK) {
            return Err(Error::invalid(format!(
                "a block of {} columns and {} values after {} nonzeros: blocks have {BLOCK}, but for the last",
                columns.len(),
                values.len(),
                self.nnz
            )));
        }
        let Some((&first, &last)) = columns.first().zip(columns.last()) else { return Ok(()) };
        if self.last.is_some_and(|before| before >= first) || !rises(columns) {
            return Err(Error::invalid(format!(
                "columns from {first} to {last} after {:?}: columns must rise",
                self.last
            )));
        }
        self.last = Some(last);
        let mut numbers = [0; BLOCK];
        let numbers = &mut numbers[..columns.len()];
        if !counts(values, numbers) {
            let needed = if zigzag(values).is_some() { Kind::ZigZag } else { raw_kind(T::DTYPE) };
            if needed != self.kind {
                self.widen(needed)?;
            }
        } else if self.kind == Kind::Count {
            self.blocks.push(columns, BlockValues::Packed(numbers));
            self.nnz += columns.len();
            return Ok(());
        }
        self.add(columns, values);
        Ok(())
    }

    /// The number of nonzeros so far.
    pub fn nnz(&self) -> usize {
        self.nnz
    }

    /// Appends the packed row to `out` and starts a new row.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        self.blocks.write(self.kind, self.nnz, &[], out);
        *self = Self::default();
    }

    /// Codes the finished blocks again in a kind that holds them and the next values.
    fn widen(&mut self, needed: Kind) -> Result<()> {
        let mut bytes = Vec::new();
        self.blocks.write(self.kind, self.nnz, &[], &mut bytes);
        let (mut columns, mut values) = (vec![0; self.nnz], vec![T::default(); self.nnz]);
        Row::parse(&bytes)?.decode(1 << 32, &mut columns, &mut values)?;
        let fits = needed != Kind::ZigZag || zigzag(&values).is_some();
        self.kind = if fits && self.kind.raw_size() == 0 { needed } else { raw_kind(T::DTYPE) };
        self.blocks = Blocks::default();
        self.nnz = 0;
        for (c, v) in columns.chunks(BLOCK).zip(values.chunks(BLOCK)) {
            self.add(c, v);
        }
        Ok(())
    }

    /// Adds a block to a row that holds more than counts.
    fn add(&mut self, columns: &[u32], values: &[T]) {
        match self.kind {
            Kind::ZigZag => {
                let mut numbers = zigzag(values).unwrap_or_default();
                self.blocks.push(columns, BlockValues::Packed(&mut numbers));
            }
            kind => self.blocks.push(columns, BlockValues::Raw(&raw_bytes(kind, values))),
        }
        self.nnz += columns.len();
    }
}
