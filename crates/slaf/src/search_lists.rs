//! A search by the lists of an index: only those are read that can hold what is nearest.

use crate::store::Snapshot;
use crate::store::inverted::{Inverted, ListRows};
use crate::store::values::Coordinates;
use slaf_core::Result;
use slaf_kernels::neighbors::{FlatScan, Portion, Walk};
use slaf_lance::runtime::pool_threads;
use std::ops::Range;
use std::sync::Arc;

/// Bounds of queries and lists that are held at a time.
const BOUNDS: usize = 1 << 21;
/// Bytes of lists that are held at a time, about.
const HELD: u64 = 1 << 26;
/// Rounds after which bounds tell how much is left: the lists of four rounds are the nearest 60.
const ROUNDS: usize = 4;
/// The most pairs of so many that are worth it: many queries are compared with all rows at once, which
/// takes less for each.
fn most(pairs: u64, n_queries: usize) -> u64 {
    if n_queries == 1 { pairs / 4 * 3 } else { pairs / 3 }
}

/// Compares the queries of a scan with what the lists can hold of the wanted rows, by default all;
/// gives how many pairs were compared. `None` where comparing all is as fast: then the scan is not to be
/// used. `going` is asked now and then.
pub(crate) async fn compare(
    snapshot: &Snapshot,
    index: &Inverted,
    scan: &FlatScan,
    n_queries: usize,
    wanted: Option<&[bool]>,
    going: &(dyn Fn() -> bool + Sync),
) -> Result<Option<u64>> {
    let (threads, mut compared) = (pool_threads()?, 0);
    let step = (BOUNDS / index.lists.sizes.len().max(1)).clamp(1, 512);
    for start in (0..n_queries).step_by(step) {
        let queries = start..(start + step).min(n_queries);
        let most = most(index.n_rows * queries.len() as u64, queries.len());
        match block(snapshot, index, scan, queries, wanted, threads, most, going).await? {
            Some(pairs) => compared += pairs,
            None => return Ok(None),
        }
    }
    Ok(Some(compared))
}

#[expect(clippy::too_many_arguments, reason = "those of `compare` and what it decided")]
async fn block(
    snapshot: &Snapshot,
    index: &Inverted,
    scan: &FlatScan,
    queries: Range<usize>,
    wanted: Option<&[bool]>,
    threads: usize,
    most: u64,
    going: &(dyn Fn() -> bool + Sync),
) -> Result<Option<u64>> {
    // A thread of the runtime hands its other tasks over before it computes.
    let mut walk = tokio::task::block_in_place(|| Walk::new(&index.lists, scan, queries, threads));
    let (mut compared, mut judged) = (0, false);
    for number in 0.. {
        let round = walk.next_round();
        if round.is_empty() {
            break;
        }
        if number >= ROUNDS && !judged {
            let pairs =
                |(list, queries): &(usize, Vec<u32>)| u64::from(index.lists.sizes[*list]) * queries.len() as u64;
            if let Some(left) = walk.left() {
                judged = true;
                if compared + round.iter().map(pairs).sum::<u64>() + left > most {
                    return Ok(None);
                }
            }
        }
        for some in portions(index, &round) {
            let lists: Vec<usize> = some.iter().map(|(list, _)| *list).collect();
            let mut rows = snapshot.lists(index, &lists).await?;
            if let Some(wanted) = wanted {
                rows.iter_mut().for_each(|rows| *rows = Arc::new(rows.among(wanted)));
            }
            compared += some.iter().zip(&rows).map(|((_, q), rows)| (q.len() * rows.numbers.len()) as u64).sum::<u64>();
            tokio::task::block_in_place(|| offer(scan, some, &rows, threads, going))?;
        }
    }
    Ok(Some(compared))
}

/// Lists that are held at the same time.
fn portions<'a>(index: &'a Inverted, round: &'a [(usize, Vec<u32>)]) -> impl Iterator<Item = &'a [(usize, Vec<u32>)]> {
    let mut bytes = 0;
    round.chunk_by(move |_, (next, _)| {
        bytes += index.bytes_of(*next);
        let fits = bytes <= HELD;
        bytes = if fits { bytes } else { 0 };
        fits
    })
}

fn offer(
    scan: &FlatScan,
    round: &[(usize, Vec<u32>)],
    rows: &[Arc<ListRows>],
    threads: usize,
    going: &(dyn Fn() -> bool + Sync),
) -> Result<()> {
    let (mut narrow, mut wide) = (Vec::new(), Vec::new());
    for ((_, queries), rows) in round.iter().zip(rows) {
        let numbers = &rows.numbers;
        match &rows.values {
            Coordinates::F32(values) => narrow.push(Portion { values: values.values(), numbers, queries }),
            Coordinates::F64(values) => wide.push(Portion { values: values.values(), numbers, queries }),
        }
    }
    scan.offer_some(&narrow, threads, going)?;
    scan.offer_some(&wide, threads, going)
}
