use super::bits;
use super::layout::{BLOCK, Block, CHECKSUM, ENTRY, Kind, MINUS_ONE, UNCHECKED, VERSION, checksum};
use crate::order::rises;
use crate::{Dtype, Error, Result, Value};
use std::collections::HashMap;

/// A dictionary is tried for rows with at most this many distinct values.
const MAX_DICT: usize = 4096;

/// Packs a row; see [`encode_row_into`].
///
/// # Errors
/// As [`encode_row_into`].
pub fn encode_row<T: Value>(columns: &[u32], values: &[T]) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    encode_row_into(columns, values, &mut out)?;
    Ok(out)
}

/// Packs a row and appends it to `out`.
///
/// # Errors
/// `invalid-argument` if the columns do not rise strictly or the lengths differ; nothing is
/// appended then.
pub fn encode_row_into<T: Value>(columns: &[u32], values: &[T], out: &mut Vec<u8>) -> Result<()> {
    if columns.len() != values.len() {
        return Err(Error::invalid(format!("{} columns, but {} values", columns.len(), values.len())));
    }
    if !rises(columns) {
        let w = columns.windows(2).find(|w| w[0] >= w[1]).unwrap_or(columns);
        return Err(Error::invalid(format!("column {} after column {}: columns must rise", w[1], w[0])));
    }
    let mut blocks = Blocks::default();
    let mut numbers = [0u32; BLOCK];
    let are_counts = columns.chunks(BLOCK).zip(values.chunks(BLOCK)).all(|(columns, values)| {
        let numbers = &mut numbers[..columns.len()];
        let are_counts = counts(values, numbers);
        if are_counts {
            blocks.push(columns, BlockValues::Packed(numbers));
        }
        are_counts
    });
    if are_counts {
        blocks.write(Kind::Count, columns.len(), &[], out);
        return Ok(());
    }
    blocks = Blocks::default();
    let coded = Coded::new(values);
    for (i, c) in columns.chunks(BLOCK).enumerate() {
        let at = i * BLOCK;
        match &coded {
            Coded::Numbers(_, all) => {
                numbers[..c.len()].copy_from_slice(&all[at..at + c.len()]);
                blocks.push(c, BlockValues::Packed(&mut numbers[..c.len()]));
            }
            Coded::Dict { positions, .. } => {
                numbers[..c.len()].copy_from_slice(&positions[at..at + c.len()]);
                blocks.push(c, BlockValues::Packed(&mut numbers[..c.len()]));
            }
            Coded::Raw(kind, bytes) => {
                let size = kind.raw_size();
                blocks.push(c, BlockValues::Raw(&bytes[at * size..(at + c.len()) * size]));
            }
        }
    }
    let (kind, dict): (Kind, &[u8]) = match &coded {
        Coded::Numbers(kind, _) | Coded::Raw(kind, _) => (*kind, &[]),
        Coded::Dict { kind, dict, .. } => (*kind, dict),
    };
    blocks.write(kind, columns.len(), dict, out);
    Ok(())
}

/// The counts of a block, if its values are counts.
pub(super) fn counts<T: Value>(values: &[T], numbers: &mut [u32]) -> bool {
    let mut all = 0;
    for (number, value) in numbers.iter_mut().zip(values) {
        let count = value.to_small_count();
        all |= count;
        *number = count as u32;
    }
    all >= 0
        || numbers.iter_mut().zip(values).all(|(number, value)| {
            let count = value.as_count();
            *number = count.unwrap_or_default();
            count.is_some()
        })
}

/// The values of a row that are no counts in the form in which they are packed.
enum Coded {
    Numbers(Kind, Vec<u32>),
    Dict { kind: Kind, dict: Vec<u8>, positions: Vec<u32> },
    Raw(Kind, Vec<u8>),
}

impl Coded {
    fn new<T: Value>(values: &[T]) -> Coded {
        match T::DTYPE {
            Dtype::F32 => Self::dictionary(Kind::Dict32, values),
            Dtype::F64 => Self::dictionary(Kind::Dict64, values),
            _ => None,
        }
        .unwrap_or_else(|| match zigzag(values) {
            Some(numbers) => Coded::Numbers(Kind::ZigZag, numbers),
            None => {
                let kind = raw_kind(T::DTYPE);
                Coded::Raw(kind, raw_bytes(kind, values))
            }
        })
    }

    /// A dictionary, if it makes the row smaller than raw values.
    fn dictionary<T: Value>(kind: Kind, values: &[T]) -> Option<Coded> {
        let mut seen: HashMap<u64, u32> = HashMap::new();
        for &v in values {
            seen.insert(v.to_bits64(), 0);
            if seen.len() > MAX_DICT.min(values.len() / 2) {
                return None;
            }
        }
        // Rising order gives the small (frequent) values of normalised counts the small numbers.
        let mut distinct: Vec<u64> = seen.keys().copied().collect();
        let number = |b: u64| T::from_bits64(b).as_f64();
        distinct.sort_by(|&a, &b| number(a).total_cmp(&number(b)).then(a.cmp(&b)));
        let mut dict = Vec::with_capacity(distinct.len() * kind.dict_size());
        for (i, &b) in distinct.iter().enumerate() {
            seen.insert(b, i as u32);
            dict.extend(&b.to_le_bytes()[..kind.dict_size()]);
        }
        let positions = values.iter().map(|&v| seen[&v.to_bits64()]).collect();
        Some(Coded::Dict { kind, dict, positions })
    }
}

/// Zigzag codes, for integer types whose values all fit.
pub(super) fn zigzag<T: Value>(values: &[T]) -> Option<Vec<u32>> {
    if T::DTYPE.is_float() {
        return None;
    }
    values
        .iter()
        .map(|v| match v.to_number() {
            crate::dtype::Number::Int(i) => {
                let i = i32::try_from(i).ok()?;
                Some(((i << 1) ^ (i >> 31)) as u32)
            }
            crate::dtype::Number::Float(_) => None,
        })
        .collect()
}

/// The raw kind that holds every value of a type that packed numbers cannot hold.
pub(super) fn raw_kind(dtype: Dtype) -> Kind {
    match dtype {
        Dtype::F32 => Kind::F32,
        Dtype::F64 => Kind::F64,
        Dtype::U64 => Kind::U64,
        _ => Kind::I64,
    }
}

/// The values, little-endian, in the type that `kind` names.
pub(super) fn raw_bytes<T: Value>(kind: Kind, values: &[T]) -> Vec<u8> {
    let mut out = Vec::with_capacity(values.len() * kind.raw_size());
    for &v in values {
        out.extend(&v.to_bits64().to_le_bytes()[..kind.raw_size()]);
    }
    out
}

/// The values of one block on their way into the payload.
pub(super) enum BlockValues<'a> {
    /// Numbers to be packed; they may be changed.
    Packed(&'a mut [u32]),
    Raw(&'a [u8]),
}

/// The blocks of a row under construction.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    table: Vec<Block>,
    payload: Vec<u8>,
}

impl Blocks {
    /// Adds a block of up to 128 rising columns.
    pub(super) fn push(&mut self, columns: &[u32], values: BlockValues<'_>) {
        let mut gaps = [0u32; BLOCK];
        for (gap, w) in gaps[1..].iter_mut().zip(columns.windows(2)) {
            *gap = w[1] - w[0] - 1;
        }
        let (gap_width, gap_patches) = bits::pack(&gaps[..columns.len()], &mut self.payload);
        let (value_code, value_patches) = match values {
            BlockValues::Packed(numbers) => {
                let minus_one = numbers.iter().fold(true, |all, &n| all & (n > 0));
                if minus_one {
                    numbers.iter_mut().for_each(|n| *n -= 1);
                }
                let (width, patches) = bits::pack(numbers, &mut self.payload);
                (width | if minus_one { MINUS_ONE } else { 0 }, patches)
            }
            BlockValues::Raw(bytes) => {
                self.payload.extend(bytes);
                (0, 0)
            }
        };
        self.table.push(Block { first: columns[0], gap_width, value_code, gap_patches, value_patches });
    }

    /// Appends the finished row.
    pub(super) fn write(&self, kind: Kind, nnz: usize, dict: &[u8], out: &mut Vec<u8>) {
        let last_first = self.table.last().map_or(0, |b| b.first);
        let index_bytes = ((32 - last_first.leading_zeros()).div_ceil(8) as usize).max(1);
        out.reserve(12 + dict.len() + self.table.len() * (ENTRY + index_bytes) + self.payload.len() + CHECKSUM);
        let start = out.len();
        // An empty row has nothing to protect, and there are many among genes.
        let version = if nnz == 0 { UNCHECKED } else { VERSION };
        out.extend([version, kind as u8 | ((index_bytes - 1) << 4) as u8]);
        bits::write_varint(nnz as u64, out);
        if kind.dict_size() > 0 {
            bits::write_varint((dict.len() / kind.dict_size()) as u64, out);
            out.extend(dict);
        }
        for b in &self.table {
            out.extend(&b.first.to_le_bytes()[..index_bytes]);
            out.extend([b.gap_width, b.value_code, b.gap_patches, b.value_patches]);
        }
        out.extend(&self.payload);
        if version == VERSION {
            let sum = checksum(&out[start..]);
            out.extend(sum.to_le_bytes());
        }
    }
}
