//! Elements of an h5ad that come from elsewhere than an HDF5 file.

use super::encoding::{bytes_of, check_name, encoding_attrs};
use crate::h5::{MAX_DEPTH, unsupported};
use crate::h5_out::{DatasetWriter, Filter, H5Out, Space, Type, dtype_type, write_small};
use slaf_core::{Context, Dtype, Error, Result, Values};
use std::path::Path;

const CHUNK: usize = 512 << 10;

/// What AnnData can hold in `uns`: see [`write_element`].
#[derive(Clone, Debug, PartialEq)]
pub enum Element {
    /// A mapping, in order.
    Dict(Vec<(String, Element)>),
    /// Python's `None`.
    Null,
    /// A text.
    String(String),
    /// A number: one value.
    Scalar(Values),
    /// An array, row-major.
    Array {
        /// Its length in each dimension.
        shape: Vec<u64>,
        /// As many as the product of `shape`.
        values: Values,
    },
    /// An array of strings, row-major.
    Strings {
        /// Its length in each dimension.
        shape: Vec<u64>,
        /// As many as the product of `shape`.
        strings: Vec<String>,
    },
}

/// Writes a new HDF5 file that holds an element at this path, in AnnData's encoding, and nothing
/// else: a form of [`Input::write_extras`](crate::Input::write_extras).
///
/// # Errors
/// `already-exists` if there is something at `target`; `invalid-argument` for names that HDF5
/// cannot hold, or a shape that does not fit the values; those of writing.
pub fn write_element(target: &Path, path: &str, element: &Element) -> Result<()> {
    let mut out = H5Out::new(std::fs::File::create_new(target)?);
    write(&mut out, path, element).at(path)?;
    out.finish()?;
    Ok(())
}

/// Writes an element to a file under construction.
pub(crate) fn write(out: &mut H5Out, path: &str, element: &Element) -> Result<()> {
    let attrs = |name: &str, version: &str| encoding_attrs(name, version);
    match element {
        Element::Dict(_) if path.matches('/').count() >= MAX_DEPTH => Err(unsupported(format!(
            "mappings within mappings, more than {MAX_DEPTH} of them: too deep to be read back"
        ))),
        Element::Dict(items) => {
            attrs("dict", "0.1.0").iter().try_for_each(|a| out.set_attr(path, a))?;
            for (key, item) in items {
                check_name(key)?;
                write(out, &format!("{path}/{key}"), item)?;
            }
            Ok(())
        }
        Element::Null => write_small(out, path, &dtype_type(Dtype::F32), &Space::Null, &[], &attrs("null", "0.1.0")),
        Element::String(s) => {
            let reference = out.store(s.as_bytes())?;
            write_small(out, path, &Type::string(), &Space::Scalar, &reference, &attrs("string", "0.2.0"))
        }
        Element::Scalar(value) => {
            check_shape(&[1], value.len())?;
            let mut buffer = Vec::new();
            let bytes = bytes_of(value, &mut buffer);
            write_small(out, path, &dtype_type(value.dtype()), &Space::Scalar, bytes, &attrs("numeric-scalar", "0.2.0"))
        }
        Element::Array { shape, values } => {
            let (n_rows, inner) = check_shape(shape, values.len())?;
            let mut writer = DatasetWriter::new(dtype_type(values.dtype()), inner, Filter::None, CHUNK)?;
            let mut buffer = Vec::new();
            writer.push(out, bytes_of(values, &mut buffer))?;
            writer.finish(out, path, n_rows, &attrs("array", "0.2.0"))
        }
        Element::Strings { shape, strings } => {
            let (n_rows, inner) = check_shape(shape, strings.len())?;
            let mut writer = DatasetWriter::new(Type::string(), inner, Filter::None, CHUNK)?;
            writer.push_strings(out, strings.iter().map(String::as_str))?;
            writer.finish(out, path, n_rows, &attrs("string-array", "0.2.0"))
        }
    }
}

/// The first dimension and the others, if they hold `n` values.
fn check_shape(shape: &[u64], n: usize) -> Result<(u64, Vec<u64>)> {
    let size = shape.iter().try_fold(1_u64, |size, &d| size.checked_mul(d));
    match shape.split_first() {
        Some((&first, inner)) if size == Some(n as u64) => Ok((first, inner.to_vec())),
        _ => Err(Error::invalid(format!("{n} values for an array of shape {shape:?}"))),
    }
}
