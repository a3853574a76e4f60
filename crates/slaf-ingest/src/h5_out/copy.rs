//! Copies of whole elements out of another file.

use super::attr::Attr;
use super::dataset::{DatasetWriter, Filter, write_small};
use super::file::{GroupNode, H5Out};
use super::message::{Space, Type};
use crate::h5::{Attrs, Dataset, Group, Heap, Node, fixed_string, string_type};
use hdf5_pure::{AttrValue, CharacterSet, CompoundTypeBuilder, Datatype, StringPadding};
use slaf_core::{Context, Error, ErrorKind, Result};
use std::ops::Range;

/// A dataset smaller than this is not worth compressing.
const SMALL: u64 = 64 << 10;
const CHUNK: usize = 512 << 10;
/// Bytes that are read at a time, or one row.
const BLOCK: u64 = 4 << 20;

/// Copies a group with all that is in it, or a dataset, to the path `to`, but for the paths in
/// `skip`.
///
/// # Errors
/// `not-found` for a path that `source` does not have; `unsupported-input` for references, opaque
/// values and the like; those of reading and writing.
pub(crate) fn copy_tree(
    out: &mut H5Out,
    source: &Group,
    path: &str,
    to: &str,
    filter: Filter,
    skip: &[String],
) -> Result<()> {
    match source.get(path)? {
        Some(node) => Copy { filter, skip }.node(out, &node, to),
        None => Err(Error::new(ErrorKind::NotFound, "no such element in the file of extras").at(path)),
    }
}

struct Copy<'a> {
    filter: Filter,
    skip: &'a [String],
}

impl Copy<'_> {
    fn node(&self, out: &mut H5Out, node: &Node, path: &str) -> Result<()> {
        match node {
            Node::Dataset(d) => self.dataset(out, d, path),
            Node::Group(g) => {
                if out.contains(path) {
                    return Err(Error::new(ErrorKind::AlreadyExists, "written already").at(path));
                }
                let attrs = attrs(&g.attrs()?).at(path)?;
                *out.group_mut(path)? = GroupNode::default();
                for attr in &attrs {
                    out.set_attr(path, attr)?;
                }
                for (name, child) in g.members()? {
                    let path = format!("{path}/{name}");
                    if !self.skip.contains(&path) {
                        self.node(out, &child, &path)?;
                    }
                }
                Ok(())
            }
        }
    }

    fn dataset(&self, out: &mut H5Out, d: &Dataset, path: &str) -> Result<()> {
        let attrs = attrs(&d.attrs()?).at(path)?;
        let dims = d.shape().to_vec();
        let space = match dims.is_empty() {
            true if d.is_null()? => Space::Null,
            true => Space::Scalar,
            false => Space::Simple(dims.clone()),
        };
        let mut heap = d.heap();
        // Text of a Zarr store has no form of HDF5 yet, but for bytes of a fixed length, which may
        // be of any encoding.
        let is_fixed = matches!(d.datatype()?, Some(Datatype::String { .. }));
        let text = d.elem().is_string() && !is_fixed && (heap.is_none() || d.datatype()?.is_none());
        let records = if heap.is_none() { Records::of(d).at(path)? } else { None };
        let (of, datatype) = match d.datatype()? {
            _ if let Some(records) = &records => (records.of.clone(), None),
            Some(datatype) if !text => (Type::copy(&datatype).at(path)?, Some(datatype)),
            _ if text => (Type::string(), None),
            _ => return Err(Error::new(ErrorKind::UnsupportedInput, "values that HDF5 cannot hold").at(path)),
        };
        let small = dims.is_empty() || d.stored_bytes()? < SMALL;
        let mut writer = match small {
            true => None,
            false => Some(DatasetWriter::new(of.clone(), dims[1..].to_vec(), self.filter, CHUNK).at(path)?),
        };
        let mut all = Vec::new();
        if !matches!(space, Space::Null) {
            let mut reader = d.reader()?;
            let n = d.n_rows();
            let step = (BLOCK / (d.stored_bytes()? / n.max(1)).max(1)).max(1);
            let step = if step > d.chunk_rows() { step - step % d.chunk_rows() } else { step };
            let mut begin = 0;
            while begin < n {
                let rows = begin..begin.saturating_add(step).min(n);
                begin = rows.end;
                let mut data = Vec::new();
                if text {
                    for value in reader.strings(rows)? {
                        data.extend(out.store(value.as_bytes())?);
                    }
                } else if let Some(records) = &records {
                    for record in reader.bytes(rows)?.chunks_exact(records.size) {
                        records.push(out, record, &mut data).at(path)?;
                    }
                } else {
                    data = reader.bytes(rows)?;
                    if let (Some(datatype), Some(heap)) = (&datatype, &mut heap)
                        && holds_references(datatype)
                    {
                        for element in data.chunks_exact_mut(of.size().max(1)) {
                            move_strings(out, heap, datatype, element).at(path)?;
                        }
                    }
                }
                match &mut writer {
                    Some(writer) => writer.push(out, &data)?,
                    None => all.extend(data),
                }
            }
        }
        match writer {
            Some(writer) => writer.finish(out, path, dims[0], &attrs),
            None => write_small(out, path, &of, &space, &all, &attrs),
        }
    }
}

/// Records of a Zarr store with fields of text, which h5ad files have in a variable length.
struct Records {
    of: Type,
    /// Bytes of a record as it is read.
    size: usize,
    /// Its fields, and which are text.
    parts: Vec<(Range<usize>, bool)>,
}

impl Records {
    fn of(d: &Dataset) -> Result<Option<Records>> {
        let text = |of: &Datatype| matches!(of, Datatype::String { charset: CharacterSet::Utf8, .. });
        let (size, members) = match d.datatype()? {
            Some(Datatype::Compound { size, members }) if members.iter().any(|m| text(&m.datatype)) => (size, members),
            _ => return Ok(None),
        };
        let width = |of: &Datatype| if text(of) { 16 } else { of.type_size() };
        let total = members.iter().try_fold(0_u32, |n, m| n.checked_add(width(&m.datatype)));
        let total = total.ok_or_else(|| Error::new(ErrorKind::UnsupportedInput, "records of 4 GiB or more"))?;
        let mut builder = CompoundTypeBuilder::with_size(total);
        let (mut at, mut parts) = (0, Vec::with_capacity(members.len()));
        for m in members {
            let begin = m.byte_offset as usize;
            parts.push((begin..begin + m.datatype.type_size() as usize, text(&m.datatype)));
            let wide = width(&m.datatype);
            builder = builder.field(&m.name, at, if text(&m.datatype) { string_type() } else { m.datatype });
            at += u64::from(wide);
        }
        let of = builder.build().map_err(|e| Error::malformed(e.to_string()))?;
        Ok(Some(Records { of: Type::copy(&of)?, size: (size as usize).max(1), parts }))
    }

    fn push(&self, out: &mut H5Out, record: &[u8], to: &mut Vec<u8>) -> Result<()> {
        for (place, text) in &self.parts {
            let slot = record.get(place.clone()).ok_or_else(|| Error::malformed("a field outside of its record"))?;
            match text {
                true => to.extend(out.store(fixed_string(slot, &StringPadding::NullPad)?.as_bytes())?),
                false => to.extend(slot),
            }
        }
        Ok(())
    }
}

/// Stores the variable-length parts of an element in the new file, and points to them there.
fn move_strings(out: &mut H5Out, heap: &mut Heap<'_>, of: &Datatype, element: &mut [u8]) -> Result<()> {
    let short = || Error::malformed("an element is shorter than its type");
    match of {
        Datatype::VariableLength { base_type, .. } => {
            let reference: &mut [u8; 16] = element.get_mut(..16).and_then(|e| e.try_into().ok()).ok_or_else(short)?;
            let count = [reference[0], reference[1], reference[2], reference[3]];
            let size = base_type.type_size() as usize;
            let mut bytes = heap.object(reference, size)?.to_vec();
            if holds_references(base_type) {
                for inner in bytes.chunks_exact_mut(size.max(1)) {
                    move_strings(out, heap, base_type, inner)?;
                }
            }
            *reference = out.store(&bytes)?;
            // The heap counts bytes; the reference counts elements.
            reference[..4].copy_from_slice(&count);
            Ok(())
        }
        Datatype::Compound { members, .. } => members.iter().try_for_each(|m| {
            let begin = m.byte_offset as usize;
            let end = begin.saturating_add(m.datatype.type_size() as usize);
            move_strings(out, heap, &m.datatype, element.get_mut(begin..end).ok_or_else(short)?)
        }),
        Datatype::Array { base_type, .. } if holds_references(base_type) => element
            .chunks_exact_mut((base_type.type_size() as usize).max(1))
            .try_for_each(|inner| move_strings(out, heap, base_type, inner)),
        _ => Ok(()),
    }
}

fn holds_references(of: &Datatype) -> bool {
    match of {
        Datatype::VariableLength { .. } => true,
        Datatype::Compound { members, .. } => members.iter().any(|m| holds_references(&m.datatype)),
        Datatype::Array { base_type, .. } => holds_references(base_type),
        _ => false,
    }
}

fn attrs(attrs: &Attrs) -> Result<Vec<Attr>> {
    attrs
        .types
        .iter()
        .map(|(name, datatype)| {
            let refuse = || {
                Error::new(
                    ErrorKind::UnsupportedInput,
                    format!("attribute \"{name}\" has a type that cannot be copied"),
                )
            };
            attr(name, attrs.values.get(name).ok_or_else(refuse)?, datatype)?.ok_or_else(refuse)
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
