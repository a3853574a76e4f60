//! Types, fill values and attributes of Zarr, as those of HDF5.

use super::super::attrs::Attrs;
use super::super::elem::Elem;
use super::super::limits::unsupported;
use super::super::strings::utf32_string;
use hdf5_pure::{
    AttrValue, CharacterSet, CompoundTypeBuilder, Datatype, DatatypeByteOrder, EnumTypeBuilder, FixedPointLayout,
    FloatingPointLayout, StringPadding, make_f64_type, make_i8_type, make_i64_type, make_u64_type,
};
use serde_json::Value;
use slaf_core::{Context, Error, Result};
use std::collections::HashMap;
use std::ops::Range;

/// The type of an array's elements.
#[derive(Clone)]
pub(super) struct Type {
    pub(super) elem: Elem,
    pub(super) size: u64,
    /// `None` where HDF5 has no such type.
    pub(super) datatype: Option<Datatype>,
    /// Where records have text of four-byte characters, and whether it is big-endian. It becomes
    /// UTF-8, which never takes more bytes, in its place.
    texts: Vec<(Range<usize>, bool)>,
}

impl Type {
    fn of(datatype: Datatype) -> Type {
        let (elem, size) = (Elem::of(&datatype), u64::from(datatype.type_size()));
        Type { elem, size, datatype: Some(datatype), texts: Vec::new() }
    }

    fn string() -> Type {
        Type { elem: Elem::VlenString, size: 4, datatype: Some(string_type()), texts: Vec::new() }
    }

    fn utf32(size: u64, big_endian: bool) -> Type {
        Type { elem: Elem::Utf32 { size: size as usize, big_endian }, size, datatype: None, texts: Vec::new() }
    }

    /// The type that version 2 names as NumPy does.
    pub(super) fn version_2(dtype: &Value, strings: bool) -> Result<Type> {
        let unknown = || unsupported(format!("values of type {dtype}"));
        if let Some(fields) = dtype.as_array() {
            let one = |field: &Value| {
                let name = field.get(0)?.as_str()?;
                let of = Type::version_2(field.get(1)?, false).ok()?;
                field.get(2).is_none().then(|| (name.to_owned(), of))
            };
            return compound(fields.iter().map(one).collect::<Option<_>>().ok_or_else(unknown)?);
        }
        let text = dtype.as_str().ok_or_else(unknown)?;
        let (order, rest) = text.split_at_checked(1).ok_or_else(unknown)?;
        let (kind, size) = rest.split_at_checked(1).ok_or_else(unknown)?;
        if kind == "O" {
            return if strings { Ok(Type::string()) } else { Err(unknown()) };
        }
        let size: u32 = size.parse().ok().filter(|&s| s < 1 << 20).ok_or_else(unknown)?;
        let big = order == ">";
        Ok(match (kind, size) {
            ("b", 1) => Type::of(bool_type()?),
            ("i" | "u", 1 | 2 | 4 | 8) => Type::of(integer(size, kind == "i", big)),
            ("f", 2 | 4 | 8) => Type::of(float(size, big)),
            ("S", 1..) => Type::of(fixed(size, CharacterSet::Utf8)),
            ("U", 1..) => Type::utf32(4 * u64::from(size), big),
            _ => return Err(unknown()),
        })
    }

    pub(super) fn version_3(dtype: &Value, big: bool) -> Result<Type> {
        let unknown = || unsupported(format!("values of type {dtype}"));
        let name = dtype.as_str().or_else(|| dtype.get("name")?.as_str()).ok_or_else(unknown)?;
        let config = dtype.get("configuration");
        let bytes = || config?.get("length_bytes")?.as_u64().filter(|&n| n > 0 && n < 1 << 22);
        Ok(match name {
            "bool" => Type::of(bool_type()?),
            "int8" => Type::of(integer(1, true, big)),
            "int16" => Type::of(integer(2, true, big)),
            "int32" => Type::of(integer(4, true, big)),
            "int64" => Type::of(integer(8, true, big)),
            "uint8" => Type::of(integer(1, false, big)),
            "uint16" => Type::of(integer(2, false, big)),
            "uint32" => Type::of(integer(4, false, big)),
            "uint64" => Type::of(integer(8, false, big)),
            "float16" => Type::of(float(2, big)),
            "float32" => Type::of(float(4, big)),
            "float64" => Type::of(float(8, big)),
            "string" => Type::string(),
            "fixed_length_utf32" => Type::utf32(bytes().ok_or_else(unknown)?, big),
            "null_terminated_bytes" => Type::of(fixed(bytes().ok_or_else(unknown)? as u32, CharacterSet::Utf8)),
            "structured" | "struct" => {
                let fields = config.and_then(|c| c.get("fields")?.as_array()).ok_or_else(unknown)?;
                let one = |field: &Value| {
                    let (name, of) = match field {
                        Value::Array(pair) => (pair.first()?, pair.get(1)?),
                        other => (other.get("name")?, other.get("data_type")?),
                    };
                    Some((name.as_str()?.to_owned(), Type::version_3(of, big).ok()?))
                };
                compound(fields.iter().map(one).collect::<Option<_>>().ok_or_else(unknown)?)?
            }
            _ => return Err(unknown()),
        })
    }

    /// The elements of a chunk, of the type that [`Type::datatype`] says.
    pub(super) fn decode(&self, mut chunk: Vec<u8>) -> Result<Vec<u8>> {
        if self.texts.is_empty() {
            return Ok(chunk);
        }
        for record in chunk.chunks_exact_mut((self.size as usize).max(1)) {
            for (place, big) in &self.texts {
                let slot = &mut record[place.clone()];
                let text = utf32_string(slot, *big)?;
                slot.fill(0);
                slot[..text.len()].copy_from_slice(text.as_bytes());
            }
        }
        Ok(chunk)
    }

    /// The bytes of the fill value, `None` for zeros.
    ///
    /// # Errors
    /// `unsupported-input` for a value of another form than a number.
    pub(super) fn fill(&self, value: &Value) -> Result<Option<Vec<u8>>> {
        let unknown = || unsupported(format!("a fill value {value}"));
        if let (Elem::Utf32 { size, big_endian }, Value::String(text)) = (&self.elem, value) {
            return utf32(text, *size, *big_endian).ok_or_else(unknown);
        }
        let zero = match value {
            Value::Null | Value::Bool(false) => true,
            Value::String(s) => s.is_empty() || s.trim_end_matches('=').bytes().all(|b| b == b'A'),
            Value::Number(n) => n.as_f64() == Some(0.0) && !n.to_string().starts_with('-'),
            _ => false,
        };
        if zero {
            return Ok(None);
        }
        let (dtype, big) = match self.elem {
            Elem::Number { dtype, big_endian } => (Some(dtype), big_endian),
            Elem::Float16 { big_endian } => (None, big_endian),
            _ => return Err(unknown()),
        };
        let float = || match value {
            Value::String(s) if s == "NaN" => Some(f64::NAN),
            Value::String(s) if s == "Infinity" => Some(f64::INFINITY),
            Value::String(s) if s == "-Infinity" => Some(f64::NEG_INFINITY),
            other => other.as_f64(),
        };
        use slaf_core::Dtype;
        let mut bytes = match (dtype, value) {
            (Some(Dtype::Bool), Value::Bool(true)) => vec![1],
            (Some(Dtype::F64), _) => float().ok_or_else(unknown)?.to_le_bytes().to_vec(),
            (Some(Dtype::F32), _) => (float().ok_or_else(unknown)? as f32).to_le_bytes().to_vec(),
            (None, _) => super::super::elem::Half::from_f64(float().ok_or_else(unknown)?).to_le_bytes().to_vec(),
            (Some(Dtype::U64), Value::Number(n)) => n.as_u64().ok_or_else(unknown)?.to_le_bytes().to_vec(),
            (Some(_), Value::Number(n)) => n.as_i64().ok_or_else(unknown)?.to_le_bytes().to_vec(),
            _ => return Err(unknown()),
        };
        bytes.truncate(self.size as usize);
        if big {
            bytes.reverse();
        }
        Ok(Some(bytes))
    }
}

/// A text as numpy stores it, `None` of an empty one; nothing if it is too long.
fn utf32(text: &str, size: usize, big: bool) -> Option<Option<Vec<u8>>> {
    let code = |c: char| if big { u32::from(c).to_be_bytes() } else { u32::from(c).to_le_bytes() };
    let mut bytes: Vec<u8> = text.chars().flat_map(code).collect();
    let fits = bytes.len() <= size;
    bytes.resize(size, 0);
    fits.then_some((!text.is_empty()).then_some(bytes))
}

fn integer(size: u32, signed: bool, big: bool) -> Datatype {
    let layout = FixedPointLayout { signed, bit_offset: 0, bit_precision: (8 * size) as u16 };
    Datatype::FixedPoint { size, byte_order: order(big), layout }
}

fn float(size: u32, big: bool) -> Datatype {
    let layout = match size {
        2 => FloatingPointLayout {
            bit_offset: 0,
            bit_precision: 16,
            exponent_location: 10,
            exponent_size: 5,
            mantissa_location: 0,
            mantissa_size: 10,
            exponent_bias: 15,
        },
        4 => FloatingPointLayout::IEEE754_BINARY32,
        _ => FloatingPointLayout::IEEE754_BINARY64,
    };
    Datatype::FloatingPoint { size, byte_order: order(big), layout }
}

fn order(big: bool) -> DatatypeByteOrder {
    if big { DatatypeByteOrder::BigEndian } else { DatatypeByteOrder::LittleEndian }
}

fn fixed(size: u32, charset: CharacterSet) -> Datatype {
    Datatype::String { size, padding: StringPadding::NullPad, charset }
}

pub(crate) fn string_type() -> Datatype {
    Datatype::VariableLength {
        is_string: true,
        padding: Some(StringPadding::NullTerminate),
        charset: Some(CharacterSet::Utf8),
        base_type: Box::new(hdf5_pure::make_u8_type()),
    }
}

fn bool_type() -> Result<Datatype> {
    let of = EnumTypeBuilder::with_base(make_i8_type()).u8_value("FALSE", 0).u8_value("TRUE", 1).build();
    of.map_err(|e| Error::malformed(e.to_string()))
}

fn compound(fields: Vec<(String, Type)>) -> Result<Type> {
    let size = fields.iter().try_fold(0_u32, |n, f| n.checked_add(u32::try_from(f.1.size).ok()?));
    let mut builder = CompoundTypeBuilder::with_size(size.ok_or_else(|| unsupported("records of 4 GiB"))?);
    let (mut at, mut texts) = (0, Vec::new());
    for (name, of) in fields {
        let datatype = match (of.elem, of.datatype) {
            (Elem::Utf32 { size, big_endian }, _) => {
                texts.push((at..at + size, big_endian));
                fixed(size as u32, CharacterSet::Utf8)
            }
            // Bytes: nobody said how they are to be read.
            (Elem::FixedString { size, .. }, _) => fixed(size as u32, CharacterSet::Ascii),
            (Elem::VlenString, _) | (_, None) => return Err(unsupported(format!("a field \"{name}\" of objects"))),
            (_, Some(datatype)) => datatype,
        };
        texts.extend(of.texts.into_iter().map(|(place, big)| (at + place.start..at + place.end, big)));
        builder = builder.field(&name, at as u64, datatype);
        at += of.size as usize;
    }
    let of = builder.build().map_err(|e| Error::malformed(e.to_string()))?;
    Ok(Type { texts, ..Type::of(of) })
}

/// Attributes, of which those that HDF5 cannot hold have a type and no value.
pub(super) fn attrs(json: &Value) -> Result<Attrs> {
    let (mut values, mut types) = (HashMap::new(), HashMap::new());
    let Some(object) = json.as_object() else { return Attrs::new(values, types) };
    for (name, value) in object {
        let (value, of) = match attr(value)? {
            Some((value, of)) => (Some(value), of),
            None => (None, Datatype::Opaque { size: 1, tag: Vec::new() }),
        };
        types.insert(name.clone(), of);
        values.extend(value.map(|v| (name.clone(), v)));
    }
    Attrs::new(values, types)
}

fn attr(value: &Value) -> Result<Option<(AttrValue, Datatype)>> {
    let list = |v: &[Value]| {
        let texts = v.iter().map(|v| v.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>();
        if let Some(texts) = texts.filter(|t| !t.is_empty()) {
            return Some((AttrValue::VarLenStringArray(texts), string_type()));
        }
        if let Some(n) = v.iter().map(Value::as_i64).collect::<Option<Vec<_>>>().filter(|n| !n.is_empty()) {
            return Some((AttrValue::I64Array(n), make_i64_type()));
        }
        v.iter().map(Value::as_f64).collect::<Option<_>>().map(|n| (AttrValue::F64Array(n), make_f64_type()))
    };
    Ok(match value {
        Value::String(s) => Some((AttrValue::VarLenString(s.clone()), string_type())),
        Value::Bool(b) => Some((AttrValue::I8((*b).into()), bool_type()?)),
        Value::Number(n) => match (n.as_i64(), n.as_u64(), n.as_f64()) {
            (Some(n), ..) => Some((AttrValue::I64(n), make_i64_type())),
            (_, Some(n), _) => Some((AttrValue::U64(n), make_u64_type())),
            (_, _, n) => n.map(|n| (AttrValue::F64(n), make_f64_type())),
        },
        Value::Array(v) => list(v),
        _ => None,
    })
}

/// A list of whole numbers.
pub(super) fn numbers(value: Option<&Value>, what: &str) -> Result<Vec<u64>> {
    let list = value.and_then(Value::as_array).and_then(|v| v.iter().map(Value::as_u64).collect::<Option<Vec<_>>>());
    list.ok_or_else(|| Error::malformed(format!("no {what}"))).at("metadata")
}
