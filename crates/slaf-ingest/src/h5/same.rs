//! Whether two elements, of one file or of two, are the same.

use super::data::Dataset;
use super::elem::Elem;
use super::tree::{Group, Node};
use slaf_core::Result;

/// Whether two elements have the same attributes, types, shapes and values. What cannot be
/// compared, such as arrays of variable length, counts as different.
///
/// # Errors
/// Those of reading.
pub(crate) fn same(a: &Node, b: &Node) -> Result<bool> {
    let (of_a, of_b) = (a.attrs()?, b.attrs()?);
    if of_a.values != of_b.values || !of_a.unread().is_empty() || !of_b.unread().is_empty() {
        return Ok(false);
    }
    match (a, b) {
        (Node::Group(a), Node::Group(b)) => same_members(a, b),
        (Node::Dataset(a), Node::Dataset(b)) => same_data(a, b),
        _ => Ok(false),
    }
}

fn same_members(a: &Group, b: &Group) -> Result<bool> {
    let (a, b) = (a.members()?, b.members()?);
    if a.len() != b.len() {
        return Ok(false);
    }
    for ((name, one), (other_name, other)) in a.iter().zip(&b) {
        if name != other_name || !same(one, other)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn same_data(a: &Dataset, b: &Dataset) -> Result<bool> {
    if a.elem() != b.elem() || a.shape() != b.shape() {
        return Ok(false);
    }
    if a.is_null()? || b.is_null()? {
        return Ok(a.is_null()? && b.is_null()?);
    }
    let rows = || 0..a.shape().first().copied().unwrap_or(1);
    match a.elem() {
        Elem::Number { .. } | Elem::Float16 { .. } | Elem::Logical { .. } => {
            Ok(a.reader()?.bytes(rows())? == b.reader()?.bytes(rows())?)
        }
        Elem::VlenString | Elem::FixedString { .. } | Elem::Utf32 { .. } => Ok(a.read_strings()? == b.read_strings()?),
        Elem::Compound if a.shape().len() == 1 => {
            let (a, b) = (a.fields()?, b.fields()?);
            if a.len() != b.len() {
                return Ok(false);
            }
            for ((name, one), (other_name, other)) in a.iter().zip(&b) {
                if name != other_name || !same_data(one, other)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        Elem::Compound | Elem::Other(_) => Ok(false),
    }
}
