//! The messages of object headers: types, shapes, attributes, links.

use hdf5_pure::{CharacterSet, Datatype, DatatypeByteOrder, StringPadding};
use slaf_core::{Dtype, Error, ErrorKind, Result};

pub(super) const DATASPACE: u8 = 1;
pub(super) const LINK_INFO: u8 = 2;
pub(super) const DATATYPE: u8 = 3;
pub(super) const FILL_VALUE: u8 = 5;
pub(super) const LINK: u8 = 6;
pub(super) const LAYOUT: u8 = 8;
pub(super) const GROUP_INFO: u8 = 10;
pub(super) const FILTERS: u8 = 11;
pub(super) const ATTRIBUTE: u8 = 12;

/// An encoded datatype.
#[derive(Clone, Debug)]
pub(crate) struct Type {
    pub(super) bytes: Vec<u8>,
}

impl Type {
    fn new(class: u8, version: u8, bits: [u8; 2], size: u32) -> Type {
        let mut bytes = vec![version << 4 | class, bits[0], bits[1], 0];
        bytes.extend(size.to_le_bytes());
        Type { bytes }
    }

    /// Bytes of an element.
    pub(crate) fn size(&self) -> usize {
        self.bytes.get(4..8).map_or(0, |b| b.iter().rev().fold(0, |n, &b| n << 8 | usize::from(b)))
    }

    pub(super) fn int(size: u32, signed: bool) -> Type {
        let mut t = Type::new(0, 1, [u8::from(signed) << 3, 0], size);
        t.bytes.extend([0, 0, (size * 8) as u8, 0]);
        t
    }

    fn float(size: u32, exponent_size: u8, bias: u32) -> Type {
        let bits = (size * 8) as u8;
        let mantissa = bits - 1 - exponent_size;
        let mut t = Type::new(1, 1, [0x20, bits - 1], size);
        t.bytes.extend([0, 0, bits, 0, mantissa, exponent_size, 0, mantissa]);
        t.bytes.extend(bias.to_le_bytes());
        t
    }

    /// 16-bit floats.
    pub(crate) fn half() -> Type {
        Type::float(2, 5, 15)
    }

    /// Variable-length UTF-8 strings.
    pub(crate) fn string() -> Type {
        let mut t = Type::new(9, 1, [1, 1], 16);
        t.bytes.extend(Type::int(1, false).bytes);
        t
    }

    /// As h5py writes numpy's bool.
    pub(super) fn bool() -> Type {
        let mut t = Type::new(8, 3, [2, 0], 1);
        t.bytes.extend(Type::int(1, true).bytes);
        t.bytes.extend(b"FALSE\0TRUE\0\0\x01");
        t
    }

    /// The type of a dataset that `hdf5-pure` reads.
    pub(crate) fn copy(of: &Datatype) -> Result<Type> {
        let unsupported = |what: &str| Error::new(ErrorKind::UnsupportedInput, format!("{what} cannot be copied"));
        let big = |order: &DatatypeByteOrder| u8::from(matches!(order, DatatypeByteOrder::BigEndian));
        Ok(match of {
            Datatype::FixedPoint { size, byte_order, layout } => {
                let mut t = Type::new(0, 1, [big(byte_order) | u8::from(layout.signed) << 3, 0], *size);
                t.bytes.extend(layout.bit_offset.to_le_bytes());
                t.bytes.extend(layout.bit_precision.to_le_bytes());
                t
            }
            Datatype::FloatingPoint { size, byte_order, layout } => {
                if matches!(byte_order, DatatypeByteOrder::Vax) {
                    return Err(unsupported("VAX floats"));
                }
                let sign = layout.bit_precision.saturating_sub(1) as u8;
                let mut t = Type::new(1, 1, [0x20 | big(byte_order), sign], *size);
                t.bytes.extend(layout.bit_offset.to_le_bytes());
                t.bytes.extend(layout.bit_precision.to_le_bytes());
                t.bytes.extend([
                    layout.exponent_location, layout.exponent_size, layout.mantissa_location, layout.mantissa_size,
                ]);
                t.bytes.extend(layout.exponent_bias.to_le_bytes());
                t
            }
            Datatype::String { size, padding, charset } => {
                Type::new(3, 1, [pad_bits(padding) | char_bits(charset) << 4, 0], *size)
            }
            Datatype::VariableLength { is_string: true, padding, charset, base_type } => {
                let pad = padding.as_ref().map_or(0, pad_bits);
                let chars = charset.as_ref().map_or(0, char_bits);
                let mut t = Type::new(9, 1, [1 | pad << 4, chars], 16);
                t.bytes.extend(Type::copy(base_type)?.bytes);
                t
            }
            Datatype::VariableLength { base_type, .. } => {
                let mut t = Type::new(9, 1, [0, 0], 16);
                t.bytes.extend(Type::copy(base_type)?.bytes);
                t
            }
            Datatype::Compound { size, members } => {
                let n = u16::try_from(members.len()).map_err(|_| unsupported("so many fields"))?;
                let mut t = Type::new(6, 3, n.to_le_bytes(), *size);
                // Offsets take as many bytes as the size of the whole needs.
                let width = (4 - (size.leading_zeros() / 8) as usize).max(1);
                for m in members {
                    t.bytes.extend(m.name.as_bytes());
                    t.bytes.push(0);
                    t.bytes.extend(&m.byte_offset.to_le_bytes()[..width]);
                    t.bytes.extend(Type::copy(&m.datatype)?.bytes);
                }
                t
            }
            Datatype::Enumeration { size, base_type, members } => {
                let n = u16::try_from(members.len()).map_err(|_| unsupported("so many members"))?;
                let mut t = Type::new(8, 3, n.to_le_bytes(), *size);
                t.bytes.extend(Type::copy(base_type)?.bytes);
                for m in members {
                    t.bytes.extend(m.name.as_bytes());
                    t.bytes.push(0);
                }
                members.iter().for_each(|m| t.bytes.extend(&m.value));
                t
            }
            Datatype::Array { base_type, dimensions } => {
                let mut t = Type::new(10, 3, [0, 0], of.type_size());
                t.bytes.push(u8::try_from(dimensions.len()).map_err(|_| unsupported("so many dimensions"))?);
                dimensions.iter().for_each(|d| t.bytes.extend(d.to_le_bytes()));
                t.bytes.extend(Type::copy(base_type)?.bytes);
                t
            }
            Datatype::Reference { .. } => return Err(unsupported("a reference to another object")),
            Datatype::Opaque { .. } => return Err(unsupported("an opaque value")),
            _ => return Err(unsupported("a time, a bit field or the like")),
        })
    }
}

fn pad_bits(padding: &StringPadding) -> u8 {
    match padding {
        StringPadding::NullTerminate => 0,
        StringPadding::NullPad => 1,
        StringPadding::SpacePad => 2,
    }
}

fn char_bits(charset: &CharacterSet) -> u8 {
    match charset {
        CharacterSet::Ascii => 0,
        CharacterSet::Utf8 => 1,
    }
}

/// The HDF5 type of matrix values.
pub(crate) fn dtype_type(dtype: Dtype) -> Type {
    match dtype {
        Dtype::Bool => Type::bool(),
        Dtype::U8 => Type::int(1, false),
        Dtype::U16 => Type::int(2, false),
        Dtype::U32 => Type::int(4, false),
        Dtype::U64 => Type::int(8, false),
        Dtype::I8 => Type::int(1, true),
        Dtype::I16 => Type::int(2, true),
        Dtype::I32 => Type::int(4, true),
        Dtype::I64 => Type::int(8, true),
        Dtype::F32 => Type::float(4, 8, 127),
        Dtype::F64 => Type::float(8, 11, 1023),
    }
}

/// A dataspace.
#[derive(Clone, Debug)]
pub(crate) enum Space {
    Null,
    Scalar,
    Simple(Vec<u64>),
}

impl Space {
    pub(super) fn encode(&self) -> Vec<u8> {
        let (kind, dims): (u8, &[u64]) = match self {
            Space::Scalar => (0, &[]),
            Space::Simple(dims) => (1, dims),
            Space::Null => (2, &[]),
        };
        let mut bytes = vec![2, dims.len() as u8, 0, kind];
        dims.iter().for_each(|d| bytes.extend(d.to_le_bytes()));
        bytes
    }
}

/// A link to an object of the same file.
pub(super) fn link(name: &str, address: u64) -> Result<Vec<u8>> {
    let len = u16::try_from(name.len())
        .map_err(|_| Error::invalid(format!("a name of {} bytes is too long for HDF5", name.len())))?;
    // Version 1; the name's length takes two bytes, its character set (UTF-8) is given.
    let mut bytes = vec![1, 0x11, 1];
    bytes.extend(len.to_le_bytes());
    bytes.extend(name.as_bytes());
    bytes.extend(address.to_le_bytes());
    Ok(bytes)
}
