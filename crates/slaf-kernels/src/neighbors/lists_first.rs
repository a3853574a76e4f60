//! Most of the nearest points, where bounds leave too much to be compared: those of the nearest clusters
//! first, as in an inverted file (Jégou, Douze and Schmid 2011), then neighbours of neighbours (Dong,
//! Moses and Li 2011), until little changes. Nothing is drawn at random, and each round reads what the one
//! before has found, so that the result does not depend on the number of threads.

use super::blocks::{Block, Pass, blocks};
use super::clusters::Clusters;
use super::exact::{Best, Points, Real};
use super::search::{Nearest, Sample, of_block};
use slaf_core::Result;

/// Points of the nearest clusters that each point is compared with.
const CANDIDATES: usize = 1 << 14;
/// The nearest neighbours whose neighbours are looked at.
const NEIGHBORS: usize = 32;
/// Rounds, and the part of neighbours that is to change in one for another one to come.
const ROUNDS: usize = 10;
const CHANGED: f64 = 0.001;

/// Most of the nearest points of each point, with their recall by a sample.
///
/// # Errors
/// `interrupted`.
pub(super) fn most<T: Real>(
    points: Points<'_, T>,
    clusters: &Clusters,
    sample: &Sample,
    pass: &Pass<'_>,
) -> Result<Nearest> {
    let (n, k) = (clusters.order.len(), sample.k);
    let empty = || Nearest { k, rows: vec![0; n * k], distances: vec![0.0; n * k], recall: None };
    // Twice as many as are wanted: the nearest are rarely all in the nearest clusters.
    let members = CANDIDATES.max(2 * (k + 1));
    let mut nearest = empty();
    let of = |block: &Block| of_block(points, clusters, block, k, members).0;
    pass.each(blocks(clusters), "cells", of, |at, best| nearest.put(points, clusters.order[at], best))?;
    let mut is_new = vec![true; n * k];
    for _ in 0..ROUNDS {
        let before = Around::new(nearest.rows, is_new, k);
        let mut after = empty();
        is_new = vec![false; n * k];
        let of = |block: &Block| {
            let mut candidates = Vec::new();
            let better = clusters.order[block.points.clone()].iter().map(|&number| {
                before.candidates(number, &mut candidates);
                let (row, mut best) = (points.row(number as usize), Best::new(k));
                candidates.iter().for_each(|&other| best.offer(points.squared(row, points.row(other as usize)), other));
                best
            });
            better.collect()
        };
        pass.each(blocks(clusters), "neighbours of neighbours", of, |at, best| {
            let number = clusters.order[at];
            after.put(points, number, best);
            let of_point = number as usize * k..(number as usize + 1) * k;
            for (is_new, row) in is_new[of_point.clone()].iter_mut().zip(&after.rows[of_point.clone()]) {
                *is_new = !before.rows[of_point.clone()].contains(row);
            }
        })?;
        nearest = after;
        if (is_new.iter().filter(|is_new| **is_new).count() as f64) < CHANGED * (n * k) as f64 {
            break;
        }
    }
    nearest.recall = Some(sample.recall(&nearest.rows));
    Ok(nearest)
}

/// The neighbours of points, and what they are neighbours of.
struct Around {
    k: usize,
    rows: Vec<u32>,
    /// Whether a neighbour was found in the last round.
    is_new: Vec<bool>,
    /// As many at the most as a point has neighbours, those that it is nearest to first; and whether it
    /// is a new neighbour of theirs.
    reverse: Vec<(u32, bool)>,
    n_reverse: Vec<u32>,
}

impl Around {
    fn new(rows: Vec<u32>, is_new: Vec<bool>, k: usize) -> Around {
        let (n, most) = (rows.len() / k, k.min(NEIGHBORS));
        let (mut reverse, mut n_reverse) = (vec![(0, false); n * most], vec![0u32; n]);
        for rank in 0..k {
            for i in 0..n {
                let other = rows[i * k + rank] as usize;
                let so_far = n_reverse[other] as usize;
                if so_far < most {
                    reverse[other * most + so_far] = (i as u32, is_new[i * k + rank]);
                    n_reverse[other] += 1;
                }
            }
        }
        Around { k, rows, is_new, reverse, n_reverse }
    }

    /// The first neighbours of a point, and whether each is new.
    fn first(&self, number: u32, most: usize) -> impl Iterator<Item = (u32, bool)> {
        let of_point = number as usize * self.k..number as usize * self.k + most;
        self.rows[of_point.clone()].iter().copied().zip(self.is_new[of_point].iter().copied())
    }

    /// The neighbours of a point, and what is near to it by what was found since it was last compared,
    /// each once.
    fn candidates(&self, number: u32, out: &mut Vec<u32>) {
        let most = self.k.min(NEIGHBORS);
        let reverse = &self.reverse[number as usize * most..][..self.n_reverse[number as usize] as usize];
        out.clear();
        out.extend(self.first(number, self.k).map(|(other, _)| other));
        for (other, is_new) in self.first(number, most).chain(reverse.iter().copied()) {
            out.push(other);
            out.extend(self.first(other, most).filter(|(_, newly)| is_new || *newly).map(|(far, _)| far));
        }
        out.sort_unstable();
        out.dedup();
        out.retain(|&other| other != number);
    }
}
