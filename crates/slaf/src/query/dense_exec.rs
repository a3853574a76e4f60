//! Aggregates from tallies: pieces of work in parallel, put together in their order.

use super::dense_plan::{Dense, Found};
use super::dense_read::{Layout, Reading, lost};
use super::grouped_exec::{GroupedExec, Groups, unexpected};
use super::sides::Sides;
use crate::store::values::to_arrow;
use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, UInt64Array};
use arrow::compute::{cast, nullif};
use datafusion::common::Result as DfResult;
use datafusion::common::runtime::SpawnedTask;
use futures::{StreamExt, TryStreamExt, stream};
use slaf_core::Result;
use slaf_kernels::grouped::{Ordered, Tallies};
use slaf_lance::error::from_arrow;
use slaf_lance::runtime::pool_threads;
use slaf_sql::error::from_datafusion;
use slaf_sql::floats::f64_in_one_form;
use std::ops::Range;
use std::sync::Arc;
use tokio::sync::mpsc;

impl GroupedExec {
    /// Tallies all values and hands over the results.
    pub(super) async fn run_dense<T: Ordered>(
        &self,
        dense: &Dense,
        sides: &Sides,
        reading: Arc<Reading>,
        send: &mpsc::Sender<DfResult<RecordBatch>>,
    ) -> Result<()> {
        let n_rows = self.leaf.view.shape().0;
        let at_once = reading.at_once(pool_threads()?);
        let pieces = reading.pieces();
        let is_small = pieces.len() == 1 && reading.is_small();
        let mut tallied = stream::iter(pieces)
            .map(|piece| {
                let reading = reading.clone();
                async move {
                    let of = piece.clone();
                    let tally = async move { reading.tally::<T>(of).await };
                    let tallies = match is_small {
                        true => tally.await?,
                        false => SpawnedTask::spawn(tally).join().await.map_err(lost)??,
                    };
                    Ok::<_, slaf_core::Error>((piece, tallies))
                }
            })
            .buffered(at_once);
        let mut groups = Groups::new(self, sides)?;
        let mut merged: Option<Tallies<T>> = None;
        while let Some((piece, tallies)) = tallied.try_next().await? {
            match (reading.layout, &mut merged) {
                (Layout::Merged, None) => merged = Some(tallies),
                (Layout::Merged, Some(merged)) => merged.merge(&tallies),
                (Layout::OwnGenes, _) => self.put(dense, sides, &reading, &piece, &tallies, &mut groups)?,
                (Layout::OwnCells, _) => {
                    self.put(dense, sides, &reading, &piece, &tallies, &mut groups)?;
                    let ids: Vec<u64> = reading.cells(&piece).iter(n_rows).collect();
                    let full = std::mem::replace(&mut groups, Groups::new(self, sides)?);
                    if !self.emit(full, sides, &ids, send).await? {
                        return Ok(());
                    }
                }
            }
        }
        if let Some(tallies) = merged {
            self.put(dense, sides, &reading, &(0..0), &tallies, &mut groups)?;
        }
        if reading.layout != Layout::OwnCells {
            self.emit(groups, sides, &[], send).await?;
        }
        Ok(())
    }

    /// Puts the tallies of a piece into the accumulators that turn them into results.
    fn put<T: Ordered>(
        &self,
        dense: &Dense,
        sides: &Sides,
        reading: &Reading,
        piece: &Range<u64>,
        tallies: &Tallies<T>,
        groups: &mut Groups<'_>,
    ) -> Result<()> {
        groups.reserve(sides.rows.len((piece.end - piece.start) as usize));
        // What has no values makes no group.
        let places: Vec<usize> = (0..tallies.all.len()).filter(|&p| tallies.all[p] > 0).collect();
        let mut numbers: Vec<usize> = places.iter().map(|&p| reading.group(piece, p)).collect();
        let total = groups.number(&mut numbers);
        if places.is_empty() {
            return Ok(());
        }
        let aggregates = groups.accumulators.iter_mut().zip(self.aggregate.aggr_expr()).zip(&dense.results);
        for ((accumulator, aggregate), &(lane, found)) in aggregates {
            let states = states(tallies, lane, found, &places);
            let fields = aggregate.state_fields().map_err(from_datafusion)?;
            if fields.len() != states.len() {
                return Err(unexpected("an aggregate with another state"));
            }
            let states = states.iter().zip(&fields).map(|(s, f)| cast(s, f.data_type()).map_err(from_arrow));
            let mut states = states.collect::<Result<Vec<_>>>()?;
            let counts = tallies.count(lane);
            let knows_none = matches!(found, Found::Count | Found::Moments);
            if !knows_none && places.iter().any(|&p| counts[p] == 0) {
                // Accumulators have every group that they were told of for one that has values.
                let none = BooleanArray::from_iter(places.iter().map(|&p| Some(counts[p] == 0)));
                states = states.iter().map(|s| nullif(s, &none).map_err(from_arrow)).collect::<Result<_>>()?;
            }
            accumulator.merge_batch(&states, &numbers, None, total).map_err(from_datafusion)?;
        }
        Ok(())
    }
}

/// The state of an aggregate at these places, as DataFusion has it.
fn states<T: Ordered>(tallies: &Tallies<T>, lane: usize, found: Found, places: &[usize]) -> Vec<ArrayRef> {
    let tally = &tallies.lanes[lane];
    let counts = tallies.count(lane);
    let count = || -> ArrayRef { Arc::new(UInt64Array::from_iter_values(places.iter().map(|&p| counts[p]))) };
    let floats = |of: &[f64]| -> ArrayRef {
        Arc::new(Float64Array::from_iter_values(places.iter().map(|&p| f64_in_one_form(of[p]))))
    };
    let values = |keys: &[i64]| to_arrow(T::wrap(places.iter().map(|&p| T::from_key(keys[p])).collect()));
    let sum = || match T::DTYPE.is_float() {
        true => floats(&tally.sum),
        false => Arc::new(Int64Array::from_iter_values(places.iter().map(|&p| tally.whole[p]))),
    };
    match found {
        Found::Count => vec![count()],
        Found::Sum => vec![sum()],
        Found::Mean => vec![count(), sum()],
        Found::Min => vec![values(&tally.min)],
        Found::Max => vec![values(&tally.max)],
        Found::Moments => vec![count(), floats(&tally.mean), floats(&tally.square)],
    }
}
