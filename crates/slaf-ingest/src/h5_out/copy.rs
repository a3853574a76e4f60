//! Copies of whole elements out of another HDF5 file.

use super::dataset::{DatasetWriter, Filter, write_small};
use super::message::{Attr, Space, Type};
use super::{GroupNode, H5Out};
use hdf5_pure::{AttrValue, Datatype, File, Group};
use slaf_core::{Context, Error, ErrorKind, Result};
use std::collections::HashMap;

/// A dataset smaller than this is not worth compressing.
const SMALL: usize = 64 << 10;
const CHUNK: usize = 512 << 10;

fn hdf5(e: hdf5_pure::Error) -> Error {
    Error::malformed(e.to_string()).with_source(e)
}

/// Copies a group with all that is in it, or a dataset, to the path `to`.
///
/// # Errors
/// `not-found` for a path that `source` does not have; `unsupported-input` for references, opaque
/// values and the like; those of reading and writing.
pub(crate) fn copy_tree(out: &mut H5Out, source: &File, path: &str, to: &str, filter: Filter) -> Result<()> {
    let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
    let group = if parent.is_empty() { Ok(source.root()) } else { source.group(parent) };
    let group = group.map_err(hdf5).at(path)?;
    let copy = Copy { source, filter };
    if group.groups().map_err(hdf5)?.iter().any(|g| g == name) {
        copy.group(out, &group.group(name).map_err(hdf5).at(path)?, to)
    } else if group.datasets().map_err(hdf5)?.iter().any(|d| d == name) {
        copy.dataset(out, &group, name, to)
    } else {
        Err(Error::new(ErrorKind::NotFound, "no such element in the file of extras").at(path))
    }
}

struct Copy<'a> {
    source: &'a File,
    filter: Filter,
}

impl Copy<'_> {
    fn group(&self, out: &mut H5Out, group: &Group, path: &str) -> Result<()> {
        if out.contains(path) {
            return Err(Error::new(ErrorKind::AlreadyExists, "written already").at(path));
        }
        let attrs = attrs(group.attrs().map_err(hdf5)?, &group.attr_datatypes().map_err(hdf5)?).at(path)?;
        *out.group_mut(path)? = GroupNode::default();
        for attr in &attrs {
            out.set_attr(path, attr)?;
        }
        for name in group.groups().map_err(hdf5)? {
            let child = group.group(&name).map_err(hdf5).at(path)?;
            self.group(out, &child, &format!("{path}/{name}"))?;
        }
        for name in group.datasets().map_err(hdf5)? {
            self.dataset(out, group, &name, &format!("{path}/{name}"))?;
        }
        if !group.named_datatypes().map_err(hdf5)?.is_empty() {
            return Err(Error::new(ErrorKind::UnsupportedInput, "a named datatype cannot be copied").at(path));
        }
        Ok(())
    }

    fn dataset(&self, out: &mut H5Out, group: &Group, name: &str, path: &str) -> Result<()> {
        let dataset = group.dataset(name).map_err(hdf5).at(path)?;
        let datatype = dataset.datatype().map_err(hdf5).at(path)?;
        let of = Type::copy(&datatype).at(path)?;
        let attrs = attrs(dataset.attrs().map_err(hdf5)?, &dataset.attr_datatypes().map_err(hdf5)?).at(path)?;
        let dims = dataset.shape().map_err(hdf5).at(path)?;
        let mut data = dataset.read_raw().map_err(hdf5).at(path)?;
        if of.size() > 0 && holds_references(&datatype) {
            for element in data.chunks_exact_mut(of.size()) {
                self.move_strings(out, &datatype, element).at(path)?;
            }
        }
        let space = match dims.is_empty() {
            true if data.is_empty() => Space::Null,
            true => Space::Scalar,
            false => Space::Simple(dims.clone()),
        };
        if self.filter == Filter::None || data.len() < SMALL || dims.is_empty() {
            return write_small(out, path, &of, &space, &data, &attrs);
        }
        let mut writer = DatasetWriter::new(of, dims[1..].to_vec(), self.filter, CHUNK).at(path)?;
        writer.push(out, &data)?;
        writer.finish(out, path, dims[0], &attrs)
    }

    /// Stores the variable-length parts of an element in the new file, and points to them there.
    fn move_strings(&self, out: &mut H5Out, of: &Datatype, element: &mut [u8]) -> Result<()> {
        let short = || Error::malformed("an element is shorter than its type");
        match of {
            Datatype::VariableLength { base_type, .. } => {
                let reference: &mut [u8; 16] =
                    element.get_mut(..16).and_then(|e| e.try_into().ok()).ok_or_else(short)?;
                let count = number(&reference[..4]) as usize;
                let size = base_type.type_size() as usize;
                let mut bytes = match count {
                    0 => Vec::new(),
                    _ => self.heap_object(number(&reference[4..12]), number(&reference[12..]))?,
                };
                if let Some(len) = count.checked_mul(size).filter(|&len| len <= bytes.len()) {
                    bytes.truncate(len);
                } else {
                    return Err(Error::malformed("a string is longer than its place in the heap"));
                }
                if holds_references(base_type) {
                    for inner in bytes.chunks_exact_mut(size.max(1)) {
                        self.move_strings(out, base_type, inner)?;
                    }
                }
                *reference = out.store(&bytes)?;
                // The heap counts bytes; the reference counts elements.
                reference[..4].copy_from_slice(&(count as u32).to_le_bytes());
                Ok(())
            }
            Datatype::Compound { members, .. } => members.iter().try_for_each(|m| {
                let begin = m.byte_offset as usize;
                let end = begin.saturating_add(m.datatype.type_size() as usize);
                self.move_strings(out, &m.datatype, element.get_mut(begin..end).ok_or_else(short)?)
            }),
            Datatype::Array { base_type, .. } if holds_references(base_type) => element
                .chunks_exact_mut((base_type.type_size() as usize).max(1))
                .try_for_each(|inner| self.move_strings(out, base_type, inner)),
            _ => Ok(()),
        }
    }

    /// The contents of object `index` of the global heap collection at `address` of the source.
    fn heap_object(&self, address: u64, index: u64) -> Result<Vec<u8>> {
        let damaged = || Error::malformed("a reference into the heap of strings is wrong");
        // A file with a user block before it counts from elsewhere, and is refused here.
        let begin = usize::try_from(address).map_err(|_| damaged())?;
        let bytes = self.source.as_bytes().get(begin..).ok_or_else(damaged)?;
        if bytes.get(..4) != Some(b"GCOL") {
            return Err(damaged());
        }
        let size = number(bytes.get(8..16).ok_or_else(damaged)?) as usize;
        let mut rest = bytes.get(16..size).ok_or_else(damaged)?;
        while let (Some(head), Some(body)) = (rest.get(..16), rest.get(16..)) {
            let len = number(&head[8..]) as usize;
            match number(&head[..2]) {
                0 => break,
                i if i == index => return body.get(..len).map(<[u8]>::to_vec).ok_or_else(damaged),
                _ => {}
            }
            rest = len.checked_next_multiple_of(8).and_then(|n| body.get(n..)).ok_or_else(damaged)?;
        }
        Err(damaged())
    }
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |n, &b| n << 8 | u64::from(b))
}

fn holds_references(of: &Datatype) -> bool {
    match of {
        Datatype::VariableLength { .. } => true,
        Datatype::Compound { members, .. } => members.iter().any(|m| holds_references(&m.datatype)),
        Datatype::Array { base_type, .. } => holds_references(base_type),
        _ => false,
    }
}

fn attrs(values: HashMap<String, AttrValue>, types: &HashMap<String, Datatype>) -> Result<Vec<Attr>> {
    types
        .iter()
        .map(|(name, datatype)| {
            let refuse = || {
                Error::new(
                    ErrorKind::UnsupportedInput,
                    format!("attribute \"{name}\" has a type that cannot be copied"),
                )
            };
            attr(name, values.get(name).ok_or_else(refuse)?, datatype)?.ok_or_else(refuse)
        })
        .collect()
}

/// `None` for a value whose type this does not know.
fn attr(name: &str, value: &AttrValue, datatype: &Datatype) -> Result<Option<Attr>> {
    use AttrValue::{
        AsciiString, AsciiStringSized, F32, F32Array, F64, F64Array, I8, I8Array, I16, I16Array, I32, I32Array, I64,
        I64Array, String, StringSized, U8, U8Array, U16, U16Array, U32, U32Array, U64, U64Array, VarLenAsciiString,
        VarLenString,
    };
    let variable = matches!(datatype, Datatype::VariableLength { is_string: true, .. });
    let of = Type::copy(datatype)?;
    // An array of one string is not a string, though `as_str` would give it.
    let texts = match value {
        String(text) | AsciiString(text) | VarLenString(text) | VarLenAsciiString(text) => {
            Some((Space::Scalar, std::slice::from_ref(text)))
        }
        StringSized { value, .. } | AsciiStringSized { value, .. } => {
            Some((Space::Scalar, std::slice::from_ref(value)))
        }
        other => other.as_strings().map(|texts| (Space::Simple(vec![texts.len() as u64]), texts)),
    };
    if let Some((space, texts)) = texts {
        if variable {
            return Ok(Some(Attr::strings_of(name, of, space, texts.to_vec())));
        }
        let data = texts.iter().flat_map(|t| padded(t, of.size())).collect();
        return Ok(Some(Attr::raw(name, of, space, data)));
    }
    // `hdf5-pure` gives numbers in the width that the file has.
    macro_rules! numbers {
        ($($one:ident, $many:ident);*) => {
            match value {
                $($one(v) => (Space::Scalar, v.to_le_bytes().to_vec()),
                $many(v) => (
                    Space::Simple(vec![v.len() as u64]),
                    v.iter().flat_map(|v| v.to_le_bytes()).collect(),
                ),)*
                _ => return Ok(None),
            }
        };
    }
    let (space, data) = numbers!(
        F32, F32Array; F64, F64Array; I8, I8Array; I16, I16Array; I32, I32Array; I64, I64Array;
        U8, U8Array; U16, U16Array; U32, U32Array; U64, U64Array
    );
    let n = match &space {
        Space::Simple(dims) => dims.iter().product(),
        _ => 1,
    };
    let fits = data.len() as u64 == n * of.size() as u64 && little_endian(datatype);
    Ok(fits.then(|| Attr::raw(name, of, space, data)))
}

fn little_endian(of: &Datatype) -> bool {
    use hdf5_pure::DatatypeByteOrder::LittleEndian;
    match of {
        Datatype::FixedPoint { byte_order, .. } | Datatype::FloatingPoint { byte_order, .. } => {
            matches!(byte_order, LittleEndian)
        }
        Datatype::Enumeration { base_type, .. } => little_endian(base_type),
        _ => false,
    }
}

fn padded(text: &str, size: usize) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.resize(size, 0);
    bytes
}
