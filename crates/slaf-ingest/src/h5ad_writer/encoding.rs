//! What the elements of an h5ad have in common.

use crate::h5_out::{Attr, H5Out};
use arrow::datatypes::ToByteSlice;
use slaf_core::{Dtype, Error, Result, Values};

/// Bytes of a chunk of a matrix.
pub(super) const CHUNK: usize = 512 << 10;

/// Refuses what HDF5 cannot hold as one name.
///
/// # Errors
/// `invalid-argument`.
pub fn check_name(name: &str) -> Result<()> {
    let why = match name {
        "" => "it is empty",
        "." => "it means the group itself",
        _ if name.contains('/') => "it contains a slash",
        _ if name.contains('\0') => "it contains a NUL",
        _ => return Ok(()),
    };
    Err(Error::invalid(format!("{name:?} cannot be a name in an h5ad: {why}; give it another one")))
}

pub(super) fn encoding_attrs(name: &str, version: &str) -> Vec<Attr> {
    vec![Attr::string("encoding-type", name), Attr::string("encoding-version", version)]
}

/// The values in the type of their matrix.
pub(super) fn widened(values: Values, dtype: Dtype) -> Result<Values> {
    match values.dtype() {
        d if d == dtype => Ok(values),
        d if d.promote(dtype) == dtype => Ok(values.cast(dtype)),
        d => Err(Error::malformed(format!("values of type {d} in an array of type {dtype}"))),
    }
}

/// The bytes of values; `buffer` holds them where they have another form in memory.
pub(super) fn bytes_of<'a>(values: &'a Values, buffer: &'a mut Vec<u8>) -> &'a [u8] {
    match values {
        Values::Bool(v) => {
            buffer.clear();
            buffer.extend(v.iter().map(|&b| u8::from(b)));
            buffer
        }
        Values::U8(v) => v,
        Values::U16(v) => v.to_byte_slice(),
        Values::U32(v) => v.to_byte_slice(),
        Values::U64(v) => v.to_byte_slice(),
        Values::I8(v) => v.to_byte_slice(),
        Values::I16(v) => v.to_byte_slice(),
        Values::I32(v) => v.to_byte_slice(),
        Values::I64(v) => v.to_byte_slice(),
        Values::F32(v) => v.to_byte_slice(),
        Values::F64(v) => v.to_byte_slice(),
    }
}

/// Says of a group what it is.
pub(super) fn set_encoding(out: &mut H5Out, path: &str, name: &str, version: &str) -> Result<()> {
    encoding_attrs(name, version).iter().try_for_each(|a| out.set_attr(path, a))
}
