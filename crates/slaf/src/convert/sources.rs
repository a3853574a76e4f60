//! The inputs of a conversion.

use super::inputs::open_any;
use super::job::tick;
use super::options::ConvertOptions;
use crate::progress::Progress;
use slaf_core::{Error, ErrorKind, Result};
use slaf_ingest::{Description, Input, Loss, Union, UnionOptions};
use std::path::{Path, PathBuf};

/// The inputs of a conversion, opened.
pub(super) struct Sources {
    pub(super) paths: Vec<PathBuf>,
    pub(super) opened: Opened,
}

pub(super) enum Opened {
    One(Box<dyn Input>),
    Several(Box<Union>),
}

impl Sources {
    /// Opens the inputs, and unites them if there are several.
    pub(super) fn open(
        inputs: &[&Path],
        options: &ConvertOptions,
        progress: Progress<'_>,
        notes: &mut Vec<String>,
    ) -> Result<Sources> {
        let input_options = options.open_options();
        let paths = expand(inputs, notes)?;
        let mut opened = Vec::new();
        for path in &paths {
            tick(progress, "opening", 0, 0)?;
            opened.push((path.display().to_string(), open_any(path, &input_options)?));
        }
        let opened = match opened.len() {
            0 => return Err(Error::invalid("no input")),
            1 => Opened::One(opened.swap_remove(0).1),
            _ => {
                let union = UnionOptions {
                    join: options.join,
                    source_column: options.source_column.clone(),
                    fill_layers: options.fill_layers,
                };
                Opened::Several(Box::new(slaf_ingest::union(opened, &union)?))
            }
        };
        Ok(Sources { paths, opened })
    }

    pub(super) fn input(&self) -> &dyn Input {
        match &self.opened {
            Opened::One(input) => &**input,
            Opened::Several(union) => &**union,
        }
    }

    pub(super) fn refuse_losses(&self, allow_loss: bool) -> Result<()> {
        // Those of several inputs name theirs.
        refuse_losses(self.input().description(), allow_loss).map_err(|e| self.name(e, ""))
    }

    /// Adds the input to an error of reading one. Errors of writing name the store, whose address is
    /// `target`, and those of several inputs name theirs.
    pub(super) fn name(&self, e: Error, target: &str) -> Error {
        let of_target = !target.is_empty() && e.location().is_some_and(|l| l.starts_with(target));
        match (&self.opened, &self.paths[..]) {
            (Opened::One(_), [path]) if !of_target && e.kind() != ErrorKind::Interrupted => e.at(path.display()),
            _ => e,
        }
    }
}

/// The inputs, with the h5ad files of a folder in its place.
pub(crate) fn expand(inputs: &[&Path], notes: &mut Vec<String>) -> Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for &path in inputs {
        if path.to_str().is_some_and(|p| p.contains("://")) {
            let what = "inputs are read from a local disk: copy it to one, and convert it there";
            return Err(Error::invalid(what).at(path.display()));
        }
        match slaf_ingest::h5ads_in(path)? {
            Some((files, others)) => {
                let beside =
                    if others > 0 { format!("; {others} other things in it are no inputs") } else { String::new() };
                notes.push(format!("{}: a folder of {} h5ad files{beside}", path.display(), files.len()));
                all.extend(files);
            }
            None => all.push(path.to_owned()),
        }
    }
    Ok(all)
}

/// Refuses content that the store cannot hold.
pub(crate) fn refuse_losses(description: &Description, allow_loss: bool) -> Result<()> {
    refuse_losses_of("the store", "leave it out with --allow-loss (allow_loss=True)", description, allow_loss)
}

/// As [`refuse_losses`]: what it is that cannot hold the content, and what to do.
pub(crate) fn refuse_losses_of(holder: &str, advice: &str, description: &Description, allow_loss: bool) -> Result<()> {
    match description.losses.is_empty() || allow_loss {
        true => Ok(()),
        false => {
            let what = format!("{holder} cannot hold {}; {advice}", listed(&description.losses));
            Err(Error::new(ErrorKind::WouldLoseData, what))
        }
    }
}

/// Losses by name, those of the same reason together.
fn listed(losses: &[Loss]) -> String {
    const SHOWN: usize = 20;
    let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
    for Loss { path, reason } in &losses[..losses.len().min(SHOWN)] {
        match reasons.iter_mut().find(|(known, _)| known == reason) {
            Some((_, paths)) => paths.push(path),
            None => reasons.push((reason.as_str(), vec![path.as_str()])),
        }
    }
    let list: Vec<String> = reasons.iter().map(|(reason, paths)| format!("{} ({reason})", paths.join(", "))).collect();
    let more = if losses.len() > SHOWN { format!(" and {} more", losses.len() - SHOWN) } else { String::new() };
    list.join(", ") + &more
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_of_one_reason_are_told_together() {
        let loss = |path: &str, reason: &str| Loss { path: path.to_string(), reason: reason.to_string() };
        let losses = [loss("obsp/a", "a graph"), loss("uns/x", "unknown"), loss("obsp/b", "a graph")];
        let mut description = Description { losses: losses.to_vec(), ..Description::default() };
        refuse_losses(&description, true).unwrap();
        let error = refuse_losses(&description, false).unwrap_err();
        assert_eq!(
            error.message(),
            "the store cannot hold obsp/a, obsp/b (a graph), uns/x (unknown); leave it out with --allow-loss \
             (allow_loss=True)"
        );
        description.losses = (0..23).map(|i| loss(&format!("uns/{i}"), "unknown")).collect();
        let error = refuse_losses(&description, false).unwrap_err();
        assert!(error.message().contains("uns/18, uns/19 (unknown) and 3 more"), "{error}");
    }
}
