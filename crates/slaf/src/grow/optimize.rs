//! A version whose small pieces are merged, and whose genes are ranked by their present popularity.

use super::index::carry;
use super::options::GrowOptions;
use super::rewrite::{RewriteOptions, rewrite};
use super::store_input::StoreInput;
use super::writer::{Head, commit_over};
use crate::config;
use crate::dataset::Dataset;
use crate::progress::Progress;
use crate::size::human_bytes;
use crate::store::manifest::{Manifest, Slot};
use serde::Serialize;
use slaf_core::Result;
use slaf_core::order::GeneOrder;
use slaf_lance::runtime::block_on;
use std::fmt;
use std::time::Instant;

/// So many pieces more than a conversion makes are left alone.
const FEW: u64 = 4;
/// A share of the bits of gene numbers that is worth writing all anew.
const GAIN: f64 = 0.05;

/// What [`optimize`] did.
#[derive(Clone, Debug, Serialize)]
pub struct Optimized {
    /// The version that it made, or the newest one.
    pub version: u64,
    /// Whether there was something to gain, and a version was made.
    pub rewritten: bool,
    /// Why, or why not.
    pub reasons: Vec<String>,
    /// Fragments of the table of cells, before and after.
    pub fragments: [u64; 2],
    /// Stripes of the gene-major copy of X, before and after.
    pub stripes: [u64; 2],
    /// Bytes of the version, before and after.
    pub bytes: [u64; 2],
    /// How long it took.
    pub seconds: f64,
}

impl fmt::Display for Optimized {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "version      {}{}", self.version, if self.rewritten { "" } else { ", as before" })?;
        for reason in &self.reasons {
            writeln!(f, "because      {reason}")?;
        }
        for (what, [before, after]) in [("fragments", self.fragments), ("stripes", self.stripes)] {
            writeln!(f, "{what:<12} {before} -> {after}")?;
        }
        let [before, after] = self.bytes.map(human_bytes);
        writeln!(f, "bytes        {before} -> {after}")?;
        write!(f, "time         {:.2} s", self.seconds)
    }
}

/// What a version is made of.
struct Pieces {
    fragments: u64,
    stripes: u64,
    bytes: u64,
}

/// Writes the newest version anew where that makes it smaller or quicker to read: many appends made
/// small fragments and stripes, other genes are popular by now than when they were ranked, or dropped
/// columns take space. Cells, genes and values stay as they are, in their order; older versions stay
/// until [`gc`](super::gc) removes them. `force` writes also where there is little to gain.
///
/// # Errors
/// Those of reading and of writing. After an error nothing is left, unless it is
/// `commit-outcome-unknown`.
pub fn optimize(
    uri: &str,
    force: bool,
    options: &RewriteOptions,
    grow: &GrowOptions,
    progress: Progress<'_>,
) -> Result<Optimized> {
    let started = Instant::now();
    let change = |head: &Head<'_>| {
        let (before, mut reasons) = judge(head, options)?;
        let rewritten = force || !reasons.is_empty();
        if reasons.is_empty() {
            reasons.push(if force { "it was asked for" } else { "there is little to gain" }.to_string());
        }
        let input = StoreInput::new(Dataset::of(head.snapshot.clone()))?;
        let (next, after) = match rewritten {
            true => {
                let mut next = rewrite(head, &input, options, progress)?;
                carry(head.manifest(), next.manifest());
                let fragments = head.grow(&next.manifest().tables.cells)?.fragments() as u64;
                (Some(next), fragments)
            }
            false => (None, before.fragments),
        };
        Ok((next, (before, after, reasons, rewritten)))
    };
    let (manifest, (before, after, reasons, rewritten)) = commit_over(uri, grow, "optimize", change)?;
    Ok(Optimized {
        version: manifest.version,
        rewritten,
        reasons,
        fragments: [before.fragments, after],
        stripes: [before.stripes, manifest.stripes.len() as u64],
        bytes: [before.bytes, bytes_of(&manifest)],
        seconds: started.elapsed().as_secs_f64(),
    })
}

/// What there is to gain.
fn judge(head: &Head<'_>, options: &RewriteOptions) -> Result<(Pieces, Vec<String>)> {
    let manifest = head.manifest();
    let growth = head.grow(&manifest.tables.cells)?;
    let pieces = Pieces {
        fragments: growth.fragments() as u64,
        stripes: manifest.stripes.len() as u64,
        bytes: bytes_of(manifest),
    };
    let mut reasons = Vec::new();
    for (what, there, least) in [
        ("fragments", pieces.fragments, fragments_of(manifest.n_cells)),
        ("stripes", pieces.stripes, stripes_of(manifest, options.memory)),
    ] {
        if there > least + FEW.max(least / 2) {
            reasons.push(format!("{there} {what} can be {least}"));
        }
    }
    let known = super::slots::columns_of_cells(manifest);
    let unused = growth.columns().iter().filter(|c| !known.contains(c.as_str())).count();
    if unused > 0 {
        reasons.push(format!("{unused} dropped columns take space"));
    }
    if manifest.matrices.iter().any(|m| m.slot == Slot::X) {
        let stats = Dataset::of(head.snapshot.clone()).gene_stats()?;
        let gain = gain(&block_on(head.snapshot.order())?.rank_of, &stats.n_cells);
        if gain >= GAIN {
            reasons.push(format!("other genes are popular than when they were ranked ({:.0} % of bits)", gain * 100.0));
        }
    }
    Ok((pieces, reasons))
}

/// The share of the bits of gene numbers that ranks by the present popularity save, by an estimate: a
/// gene of rank r takes about log2(2 + r) bits in each cell that expresses it.
fn gain(ranks: &[u32], n_cells: &[u64]) -> f64 {
    let bits = |ranks: &[u32]| -> f64 {
        ranks.iter().zip(n_cells).map(|(&rank, &n)| n as f64 * (f64::from(rank) + 2.0).log2()).sum()
    };
    let now = bits(ranks);
    if now == 0.0 { 0.0 } else { 1.0 - bits(&GeneOrder::by_popularity(n_cells).rank_of) / now }
}

/// The fragments that a conversion makes of so many cells.
fn fragments_of(n_cells: u64) -> u64 {
    n_cells.div_ceil(config::fragment_rows() as u64)
}

/// About the most stripes that a conversion makes of a version.
fn stripes_of(manifest: &Manifest, memory: usize) -> u64 {
    let nnz = manifest.matrices.iter().find(|m| m.slot == Slot::X).map_or(0, |m| m.nnz);
    1 + nnz / crate::convert::cells::stripe_nnz(memory) + manifest.n_cells / config::stripe_cells()
}

fn bytes_of(manifest: &Manifest) -> u64 {
    manifest.files.iter().map(|f| f.length).sum()
}

#[cfg(test)]
mod tests {
    use super::gain;

    #[test]
    fn ranks_that_fit_gain_nothing() {
        assert_eq!(gain(&[0, 1, 2], &[9, 5, 1]), 0.0);
        assert_eq!(gain(&[], &[]), 0.0);
        assert_eq!(gain(&[1, 0], &[0, 0]), 0.0);
        // log2(4) * 9 + log2(3) * 5 + log2(2) * 1 = 26.92 bits; by popularity 9 + 7.92 + 2 = 18.92.
        assert!((gain(&[2, 1, 0], &[9, 5, 1]) - (1.0 - 18.925 / 26.925)).abs() < 1e-3);
    }
}
