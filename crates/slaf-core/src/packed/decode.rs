use super::bits;
use super::layout::{BLOCK, Block, CHECKSUM, ENTRY, Kind, MINUS_ONE, PATCH_BITS, UNCHECKED, VERSION, checksum};
use crate::dtype::Number;
use crate::{Dtype, Error, ErrorKind, Result, Value};

/// A packed row, header checked, nothing decoded yet.
#[derive(Clone, Debug)]
pub struct Row<'a> {
    kind: Kind,
    nnz: usize,
    index_bytes: usize,
    dict: &'a [u8],
    table: &'a [u8],
    payload: &'a [u8],
    /// The bytes under the checksum, and the checksum, of a row that has one.
    checked: Option<(&'a [u8], u32)>,
}

fn corrupt(what: &str) -> Error {
    Error::corrupt(format!("packed row: {what}"))
}

impl<'a> Row<'a> {
    /// Reads the header. The checksum is compared when values are decoded.
    ///
    /// # Errors
    /// `corrupt` if the header is cut or senseless; `unsupported-feature` for a later version.
    pub fn parse(bytes: &'a [u8]) -> Result<Row<'a>> {
        let [version, tag, ..] = *bytes else { return Err(corrupt("shorter than its header")) };
        let (bytes, checked) = match version {
            UNCHECKED => (bytes, None),
            VERSION => {
                let (row, sum) = bytes.split_last_chunk::<CHECKSUM>().ok_or_else(|| corrupt("cut in its header"))?;
                (row, Some((row, u32::from_le_bytes(*sum))))
            }
            _ => {
                return Err(Error::new(
                    ErrorKind::UnsupportedFeature,
                    format!(
                        "packed row of version {version}; this SLAF reads versions up to {VERSION}: please upgrade"
                    ),
                ));
            }
        };
        let kind = Kind::from_byte(tag & 0x0f).ok_or_else(|| corrupt("unknown kind of values"))?;
        if tag >> 4 > 3 {
            return Err(corrupt("reserved bits are set"));
        }
        let index_bytes = (tag >> 4) as usize + 1;
        let mut at = 2;
        let cut = || corrupt("cut in its header");
        let nnz = bits::read_varint(bytes, &mut at).ok_or_else(cut)? as usize;
        let mut dict: &[u8] = &[];
        if kind.dict_size() > 0 {
            let n = bits::read_varint(bytes, &mut at).ok_or_else(cut)? as usize;
            let end = at + n * kind.dict_size();
            dict = bytes.get(at..end).ok_or_else(cut)?;
            at = end;
        }
        // Every 128 nonzeros need a table entry, so that `nnz` is bounded by the bytes at hand.
        let end = at + nnz.div_ceil(BLOCK) * (index_bytes + ENTRY);
        let table = bytes.get(at..end).ok_or_else(cut)?;
        Ok(Row { kind, nnz, index_bytes, dict, table, payload: &bytes[end..], checked })
    }

    /// Compares the row with its checksum; a row of version 1 has none.
    #[inline]
    fn check(&self) -> Result<()> {
        match self.checked {
            Some((row, sum)) if checksum(row) != sum => Err(corrupt("its content does not match its checksum")),
            _ => Ok(()),
        }
    }

    fn check_length(&self, n: usize) -> Result<()> {
        if n == self.nnz {
            return Ok(());
        }
        Err(Error::invalid(format!("a row of {} values needs slices of that length", self.nnz)))
    }

    /// The number of stored values.
    pub fn nnz(&self) -> usize {
        self.nnz
    }

    fn n_blocks(&self) -> usize {
        self.nnz.div_ceil(BLOCK)
    }

    fn block_len(&self, i: usize) -> usize {
        (self.nnz - i * BLOCK).min(BLOCK)
    }

    #[inline]
    fn block(&self, i: usize) -> Block {
        let size = self.index_bytes + ENTRY;
        let entry = &self.table[i * size..(i + 1) * size];
        let mut first = [0; 4];
        first[..self.index_bytes].copy_from_slice(&entry[..self.index_bytes]);
        let rest = &entry[self.index_bytes..];
        Block {
            first: u32::from_le_bytes(first),
            gap_width: rest[0],
            value_code: rest[1],
            gap_patches: rest[2],
            value_patches: rest[3],
        }
    }

    /// Splits the payload of a block off the front of `rest`.
    #[inline]
    fn split<'b>(&self, block: &Block, n: usize, rest: &mut &'b [u8]) -> Result<Parts<'b>> {
        let value_width = block.value_code & !MINUS_ONE;
        if block.gap_width > 32 || value_width > 32 {
            return Err(corrupt("more than 32 bits a number"));
        }
        let mut take = |len: usize| -> Result<&'b [u8]> {
            let (head, tail) = rest.split_at_checked(len).ok_or_else(|| corrupt("cut in a block"))?;
            *rest = tail;
            Ok(head)
        };
        let gaps = take(bits::packed_len(n, block.gap_width))?;
        let gap_patches = take(2 * block.gap_patches as usize)?;
        let raw = self.kind.raw_size();
        let values = take(if raw > 0 { n * raw } else { bits::packed_len(n, value_width) })?;
        let value_patches = take(2 * block.value_patches as usize)?;
        Ok(Parts { gaps, gap_patches, values, value_patches, value_width })
    }

    /// Decodes the whole row into slices of [`Row::nnz`] entries. Columns rise strictly and are
    /// below `n_columns`.
    ///
    /// # Errors
    /// `corrupt` when the bytes are no row of this type and width; the slices' contents are
    /// unspecified then. `invalid-argument` if the slices have another length.
    pub fn decode<T: Value>(&self, n_columns: u64, columns: &mut [u32], values: &mut [T]) -> Result<()> {
        self.check_length(columns.len())?;
        self.check_length(values.len())?;
        self.check()?;
        let mut rest = self.payload;
        // The lowest column that the next block may begin with.
        let mut floor = 0;
        let blocks = columns.chunks_mut(BLOCK).zip(values.chunks_mut(BLOCK));
        for (i, (columns, values)) in blocks.enumerate() {
            let block = self.block(i);
            let parts = self.split(&block, columns.len(), &mut rest)?;
            floor = decode_columns(&block, &parts, floor, columns)?;
            self.decode_values(&block, &parts, values)?;
        }
        if floor > n_columns {
            return Err(corrupt("a column beyond the matrix"));
        }
        at_end(rest)
    }

    /// Decodes the values alone, into a slice of [`Row::nnz`] entries. Of the columns nothing is compared
    /// but their checksum, if the row has one.
    ///
    /// # Errors
    /// As [`Row::decode`].
    pub fn values<T: Value>(&self, values: &mut [T]) -> Result<()> {
        self.check_length(values.len())?;
        self.check()?;
        let mut rest = self.payload;
        for (i, values) in values.chunks_mut(BLOCK).enumerate() {
            let block = self.block(i);
            let parts = self.split(&block, values.len(), &mut rest)?;
            self.decode_values(&block, &parts, values)?;
        }
        at_end(rest)
    }

    /// Calls `found(i, value)` for each `wanted[i]` that the row has, decoding only the blocks
    /// that may have one. `wanted` rises strictly.
    ///
    /// # Errors
    /// As [`Row::decode`].
    pub fn lookup<T: Value>(&self, wanted: &[u32], mut found: impl FnMut(usize, T)) -> Result<()> {
        self.check()?;
        let mut rest = self.payload;
        let mut columns = [0u32; BLOCK];
        let mut values = [T::default(); BLOCK];
        let mut next = 0;
        for i in 0..self.n_blocks() {
            let n = self.block_len(i);
            let block = self.block(i);
            let parts = self.split(&block, n, &mut rest)?;
            let end = if i + 1 < self.n_blocks() { self.block(i + 1).first } else { u32::MAX };
            next += wanted[next..].partition_point(|&w| w < block.first);
            if next == wanted.len() {
                break;
            }
            if wanted[next] >= end && i + 1 < self.n_blocks() {
                continue;
            }
            decode_columns(&block, &parts, 0, &mut columns[..n])?;
            self.decode_values(&block, &parts, &mut values[..n])?;
            let mut at = 0;
            while next < wanted.len() && (i + 1 == self.n_blocks() || wanted[next] < end) {
                at += columns[at..n].partition_point(|&c| c < wanted[next]);
                if at == n {
                    break;
                }
                if columns[at] == wanted[next] {
                    found(next, values[at]);
                }
                next += 1;
            }
        }
        Ok(())
    }

    #[inline]
    fn decode_values<T: Value>(&self, block: &Block, parts: &Parts<'_>, values: &mut [T]) -> Result<()> {
        let wrong_type = || corrupt(&format!("values that are no {}", T::DTYPE));
        let raw = self.kind.raw_size();
        if raw > 0 {
            for (v, bytes) in values.iter_mut().zip(parts.values.chunks_exact(raw)) {
                *v = from_bits(self.kind, little_endian(bytes)).ok_or_else(wrong_type)?;
            }
            return Ok(());
        }
        let mut numbers = [0u32; BLOCK];
        let numbers = &mut numbers[..values.len()];
        if !bits::unpack(parts.values, parts.value_width, parts.value_patches, numbers) {
            return Err(corrupt("a patch outside of its block"));
        }
        let add = u32::from(block.value_code & MINUS_ONE != 0);
        match self.kind {
            Kind::Count => {
                let mut all = 0;
                for n in numbers.iter_mut() {
                    *n = n.wrapping_add(add);
                    all |= *n;
                }
                // The largest count of each type has all of its bits set.
                if all > T::MAX_COUNT {
                    return Err(wrong_type());
                }
                let counts = values.iter_mut().zip(numbers.iter());
                if all <= i32::MAX as u32 {
                    counts.for_each(|(v, &n)| *v = T::from_small_count(n as i32));
                } else {
                    counts.for_each(|(v, &n)| *v = T::from_count_unchecked(n));
                }
            }
            Kind::ZigZag => {
                for (v, n) in values.iter_mut().zip(numbers.iter()) {
                    let n = n.wrapping_add(add);
                    let i = Number::Int(i128::from((n >> 1) as i32 ^ -((n & 1) as i32)));
                    *v = T::from_number(i);
                    if v.to_number() != i && !T::DTYPE.is_float() {
                        return Err(wrong_type());
                    }
                }
            }
            _ => {
                let size = self.kind.dict_size();
                for (v, n) in values.iter_mut().zip(numbers.iter()) {
                    let at = n.wrapping_add(add) as usize * size;
                    let entry = self.dict.get(at..at + size).ok_or_else(|| corrupt("outside of its dictionary"))?;
                    *v = from_bits(self.kind, little_endian(entry)).ok_or_else(wrong_type)?;
                }
            }
        }
        Ok(())
    }
}

fn at_end(rest: &[u8]) -> Result<()> {
    if rest.is_empty() { Ok(()) } else { Err(corrupt("bytes after its end")) }
}

/// The bytes of one block.
struct Parts<'a> {
    gaps: &'a [u8],
    gap_patches: &'a [u8],
    values: &'a [u8],
    value_patches: &'a [u8],
    value_width: u8,
}

/// Decodes the columns of a block, all at least `floor`; returns the last one plus one.
#[inline]
fn decode_columns(block: &Block, parts: &Parts<'_>, floor: u64, columns: &mut [u32]) -> Result<u64> {
    if !bits::unpack(parts.gaps, block.gap_width, parts.gap_patches, columns) {
        return Err(corrupt("a patch outside of its block"));
    }
    let first = u64::from(block.first);
    // Where gaps of that many bits cannot wrap the 32-bit sums around, their 64-bit sum is not needed.
    let bits = u64::from(block.gap_width) + if parts.gap_patches.is_empty() { 0 } else { u64::from(PATCH_BITS) };
    let may_wrap = bits >= 32 || first + ((columns.len() as u64) << bits) > 1 << 32;
    let sum = |gaps: &[u32]| gaps.iter().map(|&g| u64::from(g) + 1).sum::<u64>();
    if first < floor || may_wrap && first + sum(&columns[1..]) + 1 > 1 << 32 {
        return Err(corrupt("columns that do not rise"));
    }
    let mut column = block.first;
    columns[0] = column;
    let mut gaps = columns[1..].chunks_exact_mut(4);
    for gaps in &mut gaps {
        // Sums of the gaps alone first: only the last addition waits for the columns before.
        let mut sum = 0_u32;
        for gap in gaps.iter_mut() {
            sum = sum.wrapping_add(*gap).wrapping_add(1);
            *gap = sum.wrapping_add(column);
        }
        column = column.wrapping_add(sum);
    }
    for gap in gaps.into_remainder() {
        column = column.wrapping_add(*gap).wrapping_add(1);
        *gap = column;
    }
    Ok(u64::from(column) + 1)
}

/// The number in four or eight bytes.
#[inline]
fn little_endian(bytes: &[u8]) -> u64 {
    match bytes.try_into() {
        Ok(word) => u64::from_le_bytes(word),
        Err(_) => bytes.try_into().map_or(0, |word| u64::from(u32::from_le_bytes(word))),
    }
}

/// A raw or dictionary value as a `T`, if that type holds it exactly (f64 holds every f32).
#[inline]
fn from_bits<T: Value>(kind: Kind, bits: u64) -> Option<T> {
    let number = match kind {
        Kind::F32 | Kind::Dict32 => {
            if T::DTYPE == Dtype::F32 {
                return Some(T::from_bits64(bits));
            }
            Number::Float(f64::from(f32::from_bits(bits as u32)))
        }
        Kind::F64 | Kind::Dict64 => {
            return (T::DTYPE == Dtype::F64).then(|| T::from_bits64(bits));
        }
        Kind::U64 => Number::Int(i128::from(bits)),
        _ => Number::Int(i128::from(bits as i64)),
    };
    match (number, T::DTYPE) {
        (_, Dtype::F64) => Some(T::from_number(number)),
        (Number::Float(_), _) => None,
        (Number::Int(_), _) => {
            let v = T::from_number(number);
            (v.to_number() == number).then_some(v)
        }
    }
}
