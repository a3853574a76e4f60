//! `uns` of several inputs.
//!
//! What every input has and has the same stays where it is, `uns[key]`. Everything else is under
//! `uns["by_source"]`, for each input by its number: `{"source": its name, "uns": {key: ...}}`, and
//! `"absent_layers"` where it has none of a layer of others.

use crate::h5::{Group, H5File, Node, same};
use crate::h5_out::{Filter, H5Out, copy_tree};
use crate::h5ad_writer::{Element, write_into};
use crate::model::Input;
use crate::temporary::{TemporaryFolder, folder_of};
use slaf_core::{Context, Error, Result};
use std::collections::BTreeMap;
use std::path::Path;

const UNS: &str = "uns";
const BY_SOURCE: &str = "by_source";

/// What is told of an input.
pub(crate) struct Part<'a> {
    pub(crate) name: &'a str,
    /// Whose `uns` it is; `None` where that is there already.
    pub(crate) input: Option<&'a dyn Input>,
    /// Layers of other inputs, for whose lack zeros stand.
    pub(crate) absent_layers: Vec<String>,
}

/// Whether a description has `uns` among its extras.
pub(crate) fn has_uns(input: &dyn Input) -> bool {
    input.description().extras.iter().any(|e| e == UNS)
}

/// The entries of an input, and the root of the file that holds them.
struct Entries {
    members: BTreeMap<String, Node>,
    root: Group,
}

/// Writes a new HDF5 file with the `uns` of the union.
///
/// # Errors
/// Those of reading and writing, and `already-exists` if there is something at `target`.
pub(crate) fn write(parts: &[Part<'_>], target: &Path) -> Result<()> {
    let mut out = H5Out::new(std::fs::File::create_new(target)?);
    let scratch = TemporaryFolder::new_in(folder_of(target))?;
    let mut all = Vec::new();
    for (i, part) in parts.iter().enumerate() {
        all.push(entries(part, &scratch.path().join(format!("{i}.h5"))).at(part.name)?);
    }
    let dict = |out: &mut H5Out, path: &str| write_into(out, path, &Element::Dict(Vec::new()));
    dict(&mut out, UNS)?;
    let shared = shared(&all)?;
    if let Some(Some(first)) = all.first() {
        for key in &shared {
            let path = format!("{UNS}/{key}");
            copy_tree(&mut out, &first.root, &path, &path, Filter::None, &[])?;
        }
    }
    for (i, (part, entries)) in parts.iter().zip(&all).enumerate() {
        let own = entries.iter().flat_map(|e| e.members.keys()).filter(|k| !shared.contains(k));
        let own: Vec<&String> = own.collect();
        if own.is_empty() && part.absent_layers.is_empty() {
            continue;
        }
        dict(&mut out, &format!("{UNS}/{BY_SOURCE}"))?;
        write_part(&mut out, &format!("{UNS}/{BY_SOURCE}/{i}"), part, entries.as_ref(), &own)?;
    }
    out.finish()?;
    Ok(())
}

/// Writes what there is to tell of one input: its name, its absent layers, and its `own` entries.
fn write_part(out: &mut H5Out, place: &str, part: &Part<'_>, entries: Option<&Entries>, own: &[&String]) -> Result<()> {
    write_into(out, place, &Element::Dict(Vec::new()))?;
    write_into(out, &format!("{place}/source"), &Element::String(part.name.to_owned()))?;
    if !part.absent_layers.is_empty() {
        let strings = part.absent_layers.clone();
        let absent = Element::Strings { shape: vec![strings.len() as u64], strings };
        write_into(out, &format!("{place}/absent_layers"), &absent)?;
    }
    if let Some(entries) = entries.filter(|_| !own.is_empty()) {
        write_into(out, &format!("{place}/{UNS}"), &Element::Dict(Vec::new()))?;
        for key in own {
            let (from, to) = (format!("{UNS}/{key}"), format!("{place}/{UNS}/{key}"));
            copy_tree(out, &entries.root, &from, &to, Filter::None, &[]).at(part.name)?;
        }
    }
    Ok(())
}

/// Writes a new HDF5 file with the `uns` of a store, of the bytes of its file of extras if it has
/// one, and what there is to tell of an input that is appended: what it has and the store has not the same, and
/// its absent layers, under `uns["by_source"]`, with the next number. Gives false, and writes nothing, if there
/// is nothing to tell.
///
/// # Errors
/// Those of reading and writing, and `already-exists` if there is something at `target`.
pub(crate) fn append(before: Option<&[u8]>, part: &Part<'_>, target: &Path) -> Result<bool> {
    let scratch = TemporaryFolder::new_in(folder_of(target))?;
    let new = entries(part, &scratch.path().join("new.h5")).at(part.name)?;
    if new.is_none() && part.absent_layers.is_empty() {
        return Ok(false);
    }
    let before = match before {
        Some(image) => {
            let file = H5File::of_bytes(image.to_vec()).map_err(|e| Error::corrupt(e.to_string()).with_source(e))?;
            let root = Group::root(&file);
            let members = match root.group(UNS)? {
                Some(group) => group.members()?.into_iter().collect(),
                None => BTreeMap::new(),
            };
            Some(Entries { members, root })
        }
        None => None,
    };
    let mut own = Vec::new();
    for (key, node) in new.iter().flat_map(|new| &new.members) {
        let there = before.as_ref().and_then(|b| b.members.get(key));
        if !there.map_or(Ok(false), |there| same(node, there))? {
            own.push(key);
        }
    }
    if own.is_empty() && part.absent_layers.is_empty() {
        return Ok(false);
    }
    let mut out = H5Out::new(std::fs::File::create_new(target)?);
    let dict = |out: &mut H5Out, path: &str| write_into(out, path, &Element::Dict(Vec::new()));
    dict(&mut out, UNS)?;
    let mut number = 0;
    let by_source = format!("{UNS}/{BY_SOURCE}");
    if let Some(before) = &before {
        for key in before.members.keys().filter(|k| *k != BY_SOURCE) {
            let path = format!("{UNS}/{key}");
            copy_tree(&mut out, &before.root, &path, &path, Filter::None, &[])?;
        }
        dict(&mut out, &by_source)?;
        if let Some(Node::Group(sources)) = before.members.get(BY_SOURCE) {
            for (key, _) in sources.members()? {
                let path = format!("{by_source}/{key}");
                copy_tree(&mut out, &before.root, &path, &path, Filter::None, &[])?;
                number = number.max(key.parse::<u64>().map_or(0, |n| n + 1));
            }
        }
    } else {
        dict(&mut out, &by_source)?;
    }
    write_part(&mut out, &format!("{by_source}/{number}"), part, new.as_ref(), &own)?;
    out.finish()?;
    Ok(true)
}

/// The `uns` of an input that has one.
fn entries(part: &Part<'_>, file: &Path) -> Result<Option<Entries>> {
    let Some(input) = part.input.filter(|input| has_uns(*input)) else { return Ok(None) };
    input.write_extras(file)?;
    let root = Group::root(&H5File::open(file)?);
    let members = match root.group(UNS)? {
        Some(group) => group.members()?.into_iter().collect(),
        None => BTreeMap::new(),
    };
    Ok(Some(Entries { members, root }))
}

/// The keys that every input has, and has the same.
fn shared(all: &[Option<Entries>]) -> Result<Vec<String>> {
    let Some((Some(first), others)) = all.split_first() else { return Ok(Vec::new()) };
    let mut keys = Vec::new();
    for (key, node) in first.members.iter().filter(|(k, _)| *k != BY_SOURCE) {
        let mut everywhere = true;
        for other in others {
            everywhere = everywhere
                && match other.as_ref().and_then(|e| e.members.get(key)) {
                    Some(there) => same(node, there)?,
                    None => false,
                };
        }
        if everywhere {
            keys.push(key.clone());
        }
    }
    Ok(keys)
}
