//! The types of elements that are read, and their decoding.

use hdf5_pure::{Datatype, DatatypeByteOrder, FixedPointLayout, FloatingPointLayout, StringPadding};
use slaf_core::{Dtype, Error, Result, Values};

/// A 16-bit float.
pub(crate) type Half = <arrow::datatypes::Float16Type as arrow::array::ArrowPrimitiveType>::Native;

/// The type of a dataset's elements.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Elem {
    Number {
        dtype: Dtype,
        big_endian: bool,
    },
    Float16 {
        big_endian: bool,
    },
    VlenString,
    FixedString {
        size: usize,
        padding: StringPadding,
    },
    /// Text of four-byte characters, which Zarr stores have.
    Utf32 {
        size: usize,
        big_endian: bool,
    },
    /// R's logicals, or booleans of another form than h5py's: the bytes of FALSE, TRUE and NA.
    Logical {
        size: usize,
        members: Vec<(Vec<u8>, Option<bool>)>,
    },
    Compound,
    /// Anything else, in words.
    Other(String),
}

impl Elem {
    pub(crate) fn of(datatype: &Datatype) -> Elem {
        match datatype {
            Datatype::FixedPoint { size, byte_order, layout } => integer(*size, byte_order, layout),
            Datatype::FloatingPoint { size, byte_order, layout } => float(*size, byte_order, layout),
            Datatype::Enumeration { base_type, members, .. } => {
                let mut names: Vec<_> = members.iter().map(|m| (m.value.as_slice(), m.name.as_str())).collect();
                names.sort_unstable();
                if base_type.type_size() == 1 && names == [(&[0][..], "FALSE"), (&[1][..], "TRUE")] {
                    Elem::Number { dtype: Dtype::Bool, big_endian: false }
                } else {
                    logical(base_type.type_size() as usize, &names).unwrap_or_else(|| Elem::Other("enum".into()))
                }
            }
            Datatype::VariableLength { is_string: true, .. } => Elem::VlenString,
            Datatype::String { size, padding, .. } => {
                Elem::FixedString { size: *size as usize, padding: padding.clone() }
            }
            Datatype::Compound { .. } => Elem::Compound,
            Datatype::VariableLength { .. } => Elem::Other("variable-length array".into()),
            Datatype::Opaque { .. } => Elem::Other("opaque".into()),
            Datatype::Reference { .. } => Elem::Other("reference".into()),
            Datatype::BitField { .. } => Elem::Other("bit field".into()),
            Datatype::Array { .. } => Elem::Other("array".into()),
            _ => Elem::Other("unknown".into()),
        }
    }

    /// The type of numbers and booleans.
    pub(crate) fn dtype(&self) -> Option<Dtype> {
        match self {
            Elem::Number { dtype, .. } => Some(*dtype),
            _ => None,
        }
    }

    /// Whether values may be missing.
    pub(crate) fn has_na(&self) -> bool {
        matches!(self, Elem::Logical { members, .. } if members.iter().any(|m| m.1.is_none()))
    }

    pub(crate) fn is_string(&self) -> bool {
        matches!(self, Elem::VlenString | Elem::FixedString { .. } | Elem::Utf32 { .. })
    }

    /// For messages.
    pub(crate) fn name(&self) -> &str {
        match self {
            Elem::Number { dtype, .. } => dtype.name(),
            Elem::Float16 { .. } => "float16",
            Elem::VlenString | Elem::FixedString { .. } | Elem::Utf32 { .. } => "string",
            Elem::Logical { .. } => "logical",
            Elem::Compound => "compound",
            Elem::Other(name) => name,
        }
    }
}

/// An enumeration of FALSE, TRUE and perhaps NA.
fn logical(size: usize, names: &[(&[u8], &str)]) -> Option<Elem> {
    let one = |&(value, name): &(&[u8], &str)| {
        let meaning = match name {
            "FALSE" => Some(false),
            "TRUE" => Some(true),
            "NA" => None,
            _ => return None,
        };
        Some((value.to_vec(), meaning))
    };
    let members = names.iter().map(one).collect::<Option<Vec<_>>>()?;
    let has = |meaning| members.iter().filter(|m| m.1 == meaning).count() == 1;
    (has(Some(false)) && has(Some(true))).then_some(Elem::Logical { size, members })
}

fn big(order: &DatatypeByteOrder) -> Option<bool> {
    match order {
        DatatypeByteOrder::LittleEndian => Some(false),
        DatatypeByteOrder::BigEndian => Some(true),
        DatatypeByteOrder::Vax => None,
    }
}

fn integer(size: u32, order: &DatatypeByteOrder, layout: &FixedPointLayout) -> Elem {
    let full = layout.bit_offset == 0 && u32::from(layout.bit_precision) == size * 8;
    let dtype = match (size, layout.signed) {
        (1, false) => Dtype::U8,
        (2, false) => Dtype::U16,
        (4, false) => Dtype::U32,
        (8, false) => Dtype::U64,
        (1, true) => Dtype::I8,
        (2, true) => Dtype::I16,
        (4, true) => Dtype::I32,
        (8, true) => Dtype::I64,
        _ => return Elem::Other(format!("{size}-byte integer")),
    };
    match big(order) {
        Some(big_endian) if full => Elem::Number { dtype, big_endian },
        _ => Elem::Other("partial integer".into()),
    }
}

fn float(size: u32, order: &DatatypeByteOrder, layout: &FloatingPointLayout) -> Elem {
    let half = layout.exponent_size == 5 && layout.mantissa_size == 10 && layout.bit_offset == 0;
    match (size, big(order)) {
        (4, Some(big_endian)) if *layout == FloatingPointLayout::IEEE754_BINARY32 => {
            Elem::Number { dtype: Dtype::F32, big_endian }
        }
        (8, Some(big_endian)) if *layout == FloatingPointLayout::IEEE754_BINARY64 => {
            Elem::Number { dtype: Dtype::F64, big_endian }
        }
        (2, Some(big_endian)) if half => Elem::Float16 { big_endian },
        _ => Elem::Other(format!("{size}-byte float")),
    }
}

macro_rules! decode {
    ($bytes:expr, $big:expr, $t:ty) => {{
        let (words, _) = $bytes.as_chunks::<{ size_of::<$t>() }>();
        if $big {
            words.iter().map(|&w| <$t>::from_be_bytes(w)).collect::<Vec<$t>>()
        } else {
            words.iter().map(|&w| <$t>::from_le_bytes(w)).collect::<Vec<$t>>()
        }
    }};
}

/// The numbers in `bytes`.
pub(crate) fn decode_values(bytes: &[u8], dtype: Dtype, big: bool) -> Values {
    match dtype {
        Dtype::Bool => Values::Bool(bytes.iter().map(|&b| b != 0).collect()),
        Dtype::U8 => Values::U8(bytes.to_vec()),
        Dtype::I8 => Values::I8(decode!(bytes, big, i8)),
        Dtype::U16 => Values::U16(decode!(bytes, big, u16)),
        Dtype::I16 => Values::I16(decode!(bytes, big, i16)),
        Dtype::U32 => Values::U32(decode!(bytes, big, u32)),
        Dtype::I32 => Values::I32(decode!(bytes, big, i32)),
        Dtype::U64 => Values::U64(decode!(bytes, big, u64)),
        Dtype::I64 => Values::I64(decode!(bytes, big, i64)),
        Dtype::F32 => Values::F32(decode!(bytes, big, f32)),
        Dtype::F64 => Values::F64(decode!(bytes, big, f64)),
    }
}

/// 16-bit floats.
pub(crate) fn decode_halves(bytes: &[u8], big: bool) -> impl Iterator<Item = Half> {
    let (words, _) = bytes.as_chunks::<2>();
    words.iter().map(move |w| Half::from_bits(if big { u16::from_be_bytes(*w) } else { u16::from_le_bytes(*w) }))
}

/// The integers in `bytes`, none of which may be negative. Errors give the position.
pub(crate) fn decode_u64(bytes: &[u8], dtype: Dtype, big: bool) -> Result<Vec<u64>> {
    fn convert<T: TryInto<u64> + Copy + std::fmt::Display>(v: Vec<T>) -> Result<Vec<u64>> {
        let mut out = Vec::with_capacity(v.len());
        for (i, x) in v.into_iter().enumerate() {
            out.push(x.try_into().map_err(|_| Error::malformed(format!("{x} at position {i} is negative")))?);
        }
        Ok(out)
    }
    match decode_values(bytes, dtype, big) {
        Values::U64(v) => Ok(v),
        Values::U8(v) => convert(v),
        Values::U16(v) => convert(v),
        Values::U32(v) => convert(v),
        Values::I8(v) => convert(v),
        Values::I16(v) => convert(v),
        Values::I32(v) => convert(v),
        Values::I64(v) => convert(v),
        other => Err(Error::malformed(format!("{}, not integers", other.dtype()))),
    }
}

/// The integers in `bytes`, which must be below `limit`; if one is not, its position and value.
pub(crate) fn decode_u32(bytes: &[u8], dtype: Dtype, big: bool, limit: u64) -> Result<Vec<u32>, (usize, i128)> {
    macro_rules! convert {
        ($v:expr) => {{
            let limit = i128::from(limit);
            match $v.iter().position(|&x| i128::from(x) < 0 || i128::from(x) >= limit) {
                Some(i) => Err((i, i128::from($v[i]))),
                None => Ok($v.into_iter().map(|x| x as u32).collect()),
            }
        }};
    }
    match decode_values(bytes, dtype, big) {
        // The two types that nearly every file has take one branch-free pass.
        Values::I32(v) if limit <= 1 << 31 => {
            let v: Vec<u32> = v.into_iter().map(|x| x as u32).collect();
            match in_range(&v, limit) {
                None => Ok(v),
                Some(i) => Err((i, i128::from(v[i] as i32))),
            }
        }
        Values::U32(v) => match in_range(&v, limit) {
            None => Ok(v),
            Some(i) => Err((i, i128::from(v[i]))),
        },
        Values::I64(v) => {
            let bits = v.iter().fold(0, |a, &x| a.max(x as u64));
            if bits < limit {
                return Ok(v.into_iter().map(|x| x as u32).collect());
            }
            convert!(v)
        }
        Values::U8(v) => convert!(v),
        Values::U16(v) => convert!(v),
        Values::U64(v) => convert!(v),
        Values::I8(v) => convert!(v),
        Values::I16(v) => convert!(v),
        Values::I32(v) => convert!(v),
        _ => Err((0, -1)),
    }
}

/// The first position that is not below the limit.
fn in_range(v: &[u32], limit: u64) -> Option<usize> {
    let max = v.iter().fold(0, |a, &x| a.max(x));
    if v.is_empty() || u64::from(max) < limit {
        return None;
    }
    v.iter().position(|&x| u64::from(x) >= limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_of_every_type_are_checked() {
        let i32s: Vec<u8> = [3_i32, -1, 7].iter().flat_map(|x| x.to_le_bytes()).collect();
        assert_eq!(decode_u32(&i32s, Dtype::I32, false, 8), Err((1, -1)));
        let u16s: Vec<u8> = [3_u16, 7, 9].iter().flat_map(|x| x.to_be_bytes()).collect();
        assert_eq!(decode_u32(&u16s, Dtype::U16, true, 9), Err((2, 9)));
        assert_eq!(decode_u32(&u16s, Dtype::U16, true, 10), Ok(vec![3, 7, 9]));
        let i64s: Vec<u8> = [3_i64, 1 << 40].iter().flat_map(|x| x.to_le_bytes()).collect();
        assert_eq!(decode_u32(&i64s, Dtype::I64, false, 1 << 32), Err((1, 1 << 40)));
    }

    #[test]
    fn negative_offsets_are_refused() {
        let bytes: Vec<u8> = [0_i16, -5].iter().flat_map(|x| x.to_le_bytes()).collect();
        let e = decode_u64(&bytes, Dtype::I16, false).unwrap_err();
        assert_eq!(e.to_string(), "-5 at position 1 is negative");
    }
}
