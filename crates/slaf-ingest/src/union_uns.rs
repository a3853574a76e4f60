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
use slaf_core::{Context, Result};
use std::collections::BTreeMap;
use std::path::Path;

const UNS: &str = "uns";
const BY_SOURCE: &str = "by_source";

/// What is told of an input.
pub(crate) struct Part<'a> {
    pub(crate) name: &'a str,
    pub(crate) input: &'a dyn Input,
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
        all.push(match has_uns(part.input) {
            true => Some(entries(part, &scratch.path().join(format!("{i}.h5"))).at(part.name)?),
            false => None,
        });
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
        let place = format!("{UNS}/{BY_SOURCE}/{i}");
        dict(&mut out, &format!("{UNS}/{BY_SOURCE}"))?;
        dict(&mut out, &place)?;
        write_into(&mut out, &format!("{place}/source"), &Element::String(part.name.to_owned()))?;
        if !part.absent_layers.is_empty() {
            let strings = part.absent_layers.clone();
            let absent = Element::Strings { shape: vec![strings.len() as u64], strings };
            write_into(&mut out, &format!("{place}/absent_layers"), &absent)?;
        }
        if let Some(entries) = entries.as_ref().filter(|_| !own.is_empty()) {
            dict(&mut out, &format!("{place}/{UNS}"))?;
            for key in own {
                let (from, to) = (format!("{UNS}/{key}"), format!("{place}/{UNS}/{key}"));
                copy_tree(&mut out, &entries.root, &from, &to, Filter::None, &[]).at(part.name)?;
            }
        }
    }
    out.finish()?;
    Ok(())
}

fn entries(part: &Part<'_>, file: &Path) -> Result<Entries> {
    part.input.write_extras(file)?;
    let root = Group::root(&H5File::open(file)?);
    let members = match root.group(UNS)? {
        Some(group) => group.members()?.into_iter().collect(),
        None => BTreeMap::new(),
    };
    Ok(Entries { members, root })
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
