//! Types, fill values and attributes of Zarr, as those of HDF5.

use super::super::{Attrs, Elem, unsupported};
use hdf5_pure::{
    AttrValue, CharacterSet, CompoundTypeBuilder, Datatype, DatatypeByteOrder, EnumTypeBuilder, FixedPointLayout,
    FloatingPointLayout, StringPadding, make_f64_type, make_i8_type, make_i64_type, make_u64_type,
};
use serde_json::Value;
use slaf_core::{Error, Result};
use std::collections::HashMap;

/// The type of an array's elements.
#[derive(Clone)]
pub(super) struct Type {
    pub(super) elem: Elem,
    pub(super) size: u64,
    /// `None` where HDF5 has no such type.
    pub(super) datatype: Option<Datatype>,
}

impl Type {
    fn of(datatype: Datatype) -> Type {
        Type { elem: Elem::of(&datatype), size: u64::from(datatype.type_size()), datatype: Some(datatype) }
    }

    fn string() -> Type {
        Type { elem: Elem::VlenString, size: 4, datatype: Some(string_type()) }
    }

    fn utf32(size: u64, big_endian: bool) -> Type {
        Type { elem: Elem::Utf32 { size: size as usize, big_endian }, size, datatype: None }
    }

    /// The type that version 2 names as NumPy does.
    pub(super) fn version_2(dtype: &Value, strings: bool) -> Result<Type> {
        let unknown = || unsupported(format!("values of type {dtype}"));
        if let Some(fields) = dtype.as_array() {
            let one = |field: &Value| {
                let name = field.get(0)?.as_str()?;
                let of = Type::version_2(field.get(1)?, false).ok()?.datatype?;
                field.get(2).is_none().then(|| (name.to_owned(), of))
            };
            return compound(&fields.iter().map(one).collect::<Option<Vec<_>>>().ok_or_else(unknown)?);
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
            ("S", 1..) => Type::of(fixed(size)),
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
            "null_terminated_bytes" => Type::of(fixed(bytes().ok_or_else(unknown)? as u32)),
            "structured" | "struct" => {
                let fields = config.and_then(|c| c.get("fields")?.as_array()).ok_or_else(unknown)?;
                let one = |field: &Value| {
                    let (name, of) = match field {
                        Value::Array(pair) => (pair.first()?, pair.get(1)?),
                        other => (other.get("name")?, other.get("data_type")?),
                    };
                    Some((name.as_str()?.to_owned(), Type::version_3(of, big).ok()?.datatype?))
                };
                compound(&fields.iter().map(one).collect::<Option<Vec<_>>>().ok_or_else(unknown)?)?
            }
            _ => return Err(unknown()),
        })
    }

    /// The bytes of the fill value, `None` for zeros.
    ///
    /// # Errors
    /// `unsupported-input` for a value of another form than a number.
    pub(super) fn fill(&self, value: &Value) -> Result<Option<Vec<u8>>> {
        let unknown = || unsupported(format!("a fill value {value}"));
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
            (None, _) => crate::h5::elem::Half::from_f64(float().ok_or_else(unknown)?).to_le_bytes().to_vec(),
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

fn fixed(size: u32) -> Datatype {
    Datatype::String { size, padding: StringPadding::NullPad, charset: CharacterSet::Utf8 }
}

fn string_type() -> Datatype {
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

fn compound(fields: &[(String, Datatype)]) -> Result<Type> {
    let size: u32 = fields.iter().map(|f| f.1.type_size()).sum();
    let mut builder = CompoundTypeBuilder::with_size(size);
    let mut at = 0;
    for (name, of) in fields {
        builder = builder.field(name, at, of.clone());
        at += u64::from(of.type_size());
    }
    builder.build().map(Type::of).map_err(|e| Error::malformed(e.to_string()))
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
