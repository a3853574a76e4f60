use super::encode::{BlockValues, Blocks, raw_bytes, raw_kind, zigzag};
use super::{BLOCK, Kind, Row};
use crate::{Error, Result, Value};

/// Builds one packed row from nonzeros that arrive one after the other in rising column order.
///
/// Only finished blocks and at most 128 pending nonzeros are held, so that thousands of rows (all
/// genes of a stripe) can grow side by side. Values of a float type that are not counts are held
/// raw: a dictionary would need the whole row.
#[derive(Debug)]
pub struct RowBuilder<T> {
    kind: Kind,
    nnz: usize,
    pending_columns: Vec<u32>,
    pending_values: Vec<T>,
    last: Option<u32>,
    blocks: Blocks,
}

impl<T: Value> Default for RowBuilder<T> {
    fn default() -> Self {
        RowBuilder {
            kind: Kind::Count,
            nnz: 0,
            pending_columns: Vec::new(),
            pending_values: Vec::new(),
            last: None,
            blocks: Blocks::default(),
        }
    }
}

impl<T: Value> RowBuilder<T> {
    /// Adds a nonzero.
    ///
    /// # Errors
    /// `invalid-argument` if the column does not rise.
    #[inline]
    pub fn push(&mut self, column: u32, value: T) -> Result<()> {
        if self.last.is_some_and(|last| last >= column) {
            return Err(Error::invalid(format!("column {column} after column {:?}: columns must rise", self.last)));
        }
        self.last = Some(column);
        self.pending_columns.push(column);
        self.pending_values.push(value);
        if self.pending_columns.len() == BLOCK {
            self.flush()?;
        }
        Ok(())
    }

    /// The number of nonzeros so far.
    pub fn nnz(&self) -> usize {
        self.nnz + self.pending_columns.len()
    }

    /// Bytes held.
    pub fn memory(&self) -> usize {
        size_of::<Self>()
            + self.blocks.memory()
            + self.pending_columns.capacity() * 4
            + self.pending_values.capacity() * size_of::<T>()
    }

    /// Appends the packed row to `out` and starts a new row.
    ///
    /// # Errors
    /// `internal` if an earlier block does not decode.
    pub fn finish(&mut self, out: &mut Vec<u8>) -> Result<()> {
        self.flush()?;
        self.blocks.write(self.kind, self.nnz, &[], out);
        *self = Self::default();
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        if self.pending_columns.is_empty() {
            return Ok(());
        }
        let needed = Self::kind_of(&self.pending_values);
        if needed != self.kind && needed != Kind::Count {
            self.widen(needed)?;
        }
        let (columns, values) = (std::mem::take(&mut self.pending_columns), std::mem::take(&mut self.pending_values));
        self.push_block(&columns, &values);
        (self.pending_columns, self.pending_values) = (columns, values);
        self.pending_columns.clear();
        self.pending_values.clear();
        Ok(())
    }

    /// The narrowest kind that holds these values.
    fn kind_of(values: &[T]) -> Kind {
        if values.iter().all(|v| v.as_count().is_some()) {
            Kind::Count
        } else if zigzag(values).is_some() {
            Kind::ZigZag
        } else {
            raw_kind(T::DTYPE)
        }
    }

    /// Codes the finished blocks again in a kind that holds them and the pending values.
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
            self.push_block(c, v);
        }
        Ok(())
    }

    fn push_block(&mut self, columns: &[u32], values: &[T]) {
        match self.kind {
            Kind::Count => {
                let mut numbers = [0; BLOCK];
                for (n, v) in numbers.iter_mut().zip(values) {
                    *n = v.as_count().unwrap_or_default();
                }
                self.blocks.push(columns, BlockValues::Packed(&mut numbers[..columns.len()]));
            }
            Kind::ZigZag => {
                let mut numbers = zigzag(values).unwrap_or_default();
                self.blocks.push(columns, BlockValues::Packed(&mut numbers));
            }
            kind => self.blocks.push(columns, BlockValues::Raw(&raw_bytes(kind, values))),
        }
        self.nnz += columns.len();
    }
}
