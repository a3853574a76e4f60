//! Names that change, and what is left out of the next version: nothing is written but a root
//! manifest, and the small files of categories and of `uns`.

use super::add::{replace_extras, write_categories};
use super::options::{GrowOptions, GrowReport};
use super::slots::Slot;
use super::writer::commit_over;
use slaf_core::{Error, ErrorKind, Result};
use slaf_lance::runtime::block_on;
use std::time::Instant;

/// Leaves slots out of the next version: `obs/cell_type`, `layers/counts`, `obsm/X_pca`, `uns`. Older
/// versions have them, until [`gc`](super::gc) removes these.
///
/// # Errors
/// `unknown-column` and `unknown-table` with near names; `invalid-argument` for X, raw, and no names;
/// those of writing.
pub fn drop_slots(uri: &str, names: &[&str], options: &GrowOptions) -> Result<GrowReport> {
    let started = Instant::now();
    if names.is_empty() {
        return Err(Error::invalid("nothing to drop: name slots such as obs/cell_type or layers/counts"));
    }
    let operation = format!("drop {}", names.join(", "));
    let change = |head: &super::writer::Head<'_>| {
        let mut next = head.next();
        let mut extras = Vec::new();
        for name in names {
            let slot = Slot::find(head.manifest(), name)?;
            slot.remove_from(next.manifest());
            if let Slot::Extra(path) = slot {
                extras.push(path);
            }
        }
        if !extras.is_empty() {
            replace_extras(head, &mut next, &extras, None)?;
        }
        write_categories(head, &mut next, block_on(head.snapshot.categories())?.clone())?;
        Ok((Some(next), ()))
    };
    let (manifest, ()) = commit_over(uri, options, &operation, change)?;
    let removed = names.iter().map(ToString::to_string).collect();
    Ok(GrowReport { seconds: started.elapsed().as_secs_f64(), ..GrowReport::new(&manifest, Vec::new(), removed) })
}

/// Gives a slot another name: `rename(uri, "obs/leiden", "cluster", ...)`.
///
/// # Errors
/// As [`drop_slots`]; `already-exists` if the new name is taken.
pub fn rename(uri: &str, slot: &str, new: &str, options: &GrowOptions) -> Result<GrowReport> {
    let started = Instant::now();
    let change = |head: &super::writer::Head<'_>| {
        let found = Slot::find(head.manifest(), slot)?;
        let renamed = found.renamed(new)?;
        if Slot::all(head.manifest()).iter().any(|s| s.shown() == renamed.shown()) {
            let what = format!("the store has {} already; drop it first, or choose another name", renamed.shown());
            return Err(Error::new(ErrorKind::AlreadyExists, what));
        }
        let mut next = head.next();
        found.rename_in(next.manifest(), new);
        Ok((Some(next), renamed.shown()))
    };
    let (manifest, shown) = commit_over(uri, options, &format!("rename {slot} to {new}"), change)?;
    let report = GrowReport::new(&manifest, vec![shown], vec![slot.to_string()]);
    Ok(GrowReport { seconds: started.elapsed().as_secs_f64(), ..report })
}
