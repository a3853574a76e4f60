//! The groups of one side of a matrix: what the cells, or the genes, contribute to a group.

use super::ids::dictionary;
use super::view::{Side, View};
use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::{cast, concat_batches, take};
use arrow::datatypes::{DataType, Int64Type};
use arrow::row::{RowConverter, SortField};
use datafusion::execution::TaskContext;
use datafusion::physical_plan::{ExecutionPlan, collect};
use slaf_core::Result;
use slaf_lance::error::from_arrow;
use slaf_sql::error::from_datafusion;
use std::collections::HashMap;
use std::sync::Arc;

/// In a map of ids: not on the other side of the join.
const NONE: u32 = u32::MAX;

/// The other side of a join with the expression.
#[derive(Clone, Debug)]
pub(super) struct Build {
    pub(super) side: Side,
    pub(super) plan: Arc<dyn ExecutionPlan>,
    /// The column that is joined by.
    pub(super) id: usize,
    /// An id that comes twice counts twice.
    pub(super) repeats: bool,
}

impl Build {
    /// Its rows. A plan runs once: some of DataFusion's refuse to do it again.
    pub(super) async fn run(&self, context: &Arc<TaskContext>) -> Result<RecordBatch> {
        let batches = collect(self.plan.clone(), context.clone()).await.map_err(from_datafusion)?;
        concat_batches(&self.plan.schema(), &batches).map_err(from_arrow)
    }
}

/// A column that the query groups by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GroupColumn {
    Number(Side),
    Name(Side),
    /// A column of the other side of a join.
    OfBuild(Side, usize),
}

impl GroupColumn {
    pub(super) fn side(self) -> Side {
        match self {
            GroupColumn::Number(side) | GroupColumn::Name(side) | GroupColumn::OfBuild(side, _) => side,
        }
    }
}

/// Which group an id belongs to.
#[derive(Debug)]
pub(super) enum GroupOf {
    /// All to one.
    One,
    /// Each to its own.
    Own,
    /// By id.
    Map(Vec<u32>),
}

/// The groups of the rows, or of the columns, of a view.
#[derive(Debug)]
pub(super) struct SideGroups {
    pub(super) group_of: GroupOf,
    /// The ids that the join leaves, rising.
    pub(super) allowed: Option<Vec<u64>>,
    /// The joined rows, and the row of each id and of each group.
    build: Option<(RecordBatch, Vec<u32>, Vec<u32>)>,
}

impl SideGroups {
    /// Groups the rows of the other side of a join, if there is one, by the columns that the query
    /// groups by. `None` if an id comes more than once, so that it counts more than once.
    pub(super) fn new(
        side: Side,
        n: u64,
        build: Option<(&Build, &RecordBatch)>,
        columns: &[GroupColumn],
    ) -> Result<Option<SideGroups>> {
        let own = columns.iter().any(|c| matches!(c, GroupColumn::Number(s) | GroupColumn::Name(s) if *s == side));
        let Some((build, joined)) = build else {
            let group_of = if own { GroupOf::Own } else { GroupOf::One };
            return Ok(Some(SideGroups { group_of, allowed: None, build: None }));
        };
        let ids = cast(joined.column(build.id), &DataType::Int64).map_err(from_arrow)?;
        let mut row_of = vec![NONE; n as usize];
        for (row, id) in ids.as_primitive::<Int64Type>().iter().enumerate() {
            let Some(slot) = id.and_then(|i| usize::try_from(i).ok()).and_then(|i| row_of.get_mut(i)) else {
                continue;
            };
            if *slot != NONE && build.repeats {
                return Ok(None);
            }
            *slot = row as u32;
        }
        let allowed = row_of.iter().enumerate().filter(|(_, r)| **r != NONE).map(|(id, _)| id as u64).collect();
        let keys: Vec<ArrayRef> = columns
            .iter()
            .filter_map(|c| match c {
                GroupColumn::OfBuild(s, column) if *s == side => Some(joined.column(*column).clone()),
                _ => None,
            })
            .collect();
        let mut first_row = Vec::new();
        let group_of = match (own, keys.is_empty()) {
            (true, _) => GroupOf::Own,
            (false, true) => GroupOf::One,
            (false, false) => {
                let group_of_row = group_rows(&keys, &mut first_row)?;
                GroupOf::Map(row_of.iter().map(|&r| group_of_row.get(r as usize).copied().unwrap_or(NONE)).collect())
            }
        };
        Ok(Some(SideGroups { group_of, allowed: Some(allowed), build: Some((joined.clone(), row_of, first_row)) }))
    }

    /// How many groups there are, if `n_own` ids have groups of their own.
    pub(super) fn len(&self, n_own: usize) -> usize {
        match (&self.group_of, &self.build) {
            (GroupOf::One, _) => 1,
            (GroupOf::Own, _) => n_own,
            (GroupOf::Map(_), build) => build.as_ref().map_or(0, |b| b.2.len()),
        }
    }

    /// The groups of ids; an id at place `i` of the list may have group `i` for its own.
    pub(super) fn of(&self, ids: impl Iterator<Item = u64>) -> Vec<u32> {
        match &self.group_of {
            GroupOf::One => ids.map(|_| 0).collect(),
            GroupOf::Own => ids.enumerate().map(|(i, _)| i as u32).collect(),
            GroupOf::Map(map) => ids.map(|id| map[id as usize]).collect(),
        }
    }

    /// A column of the result: what it is for each of these groups. `own_ids` has the id of each
    /// group of its own.
    pub(super) async fn column(
        &self,
        view: &View,
        column: &GroupColumn,
        groups: impl Iterator<Item = usize>,
        own_ids: &[u64],
    ) -> Result<ArrayRef> {
        Ok(match column {
            GroupColumn::Number(_) => Arc::new(Int64Array::from_iter_values(groups.map(|g| own_ids[g] as i64))),
            GroupColumn::Name(side) => {
                let names = view.inner.ids(view.ids(*side).axis).await?;
                dictionary(&names, groups.map(|g| own_ids[g]))?
            }
            GroupColumn::OfBuild(_, column) => {
                let Some((joined, row_of, first_row)) = &self.build else {
                    return Err(slaf_core::Error::new(slaf_core::ErrorKind::Internal, "a group without a join"));
                };
                let rows: UInt32Array = match self.group_of {
                    GroupOf::Own => groups.map(|g| row_of[own_ids[g] as usize]).collect(),
                    _ => groups.map(|g| first_row[g]).collect(),
                };
                take(joined.column(*column), &rows, None).map_err(from_arrow)?
            }
        })
    }
}

/// The group of each row by the values of some columns; `first_row` gets a row of each group.
fn group_rows(keys: &[ArrayRef], first_row: &mut Vec<u32>) -> Result<Vec<u32>> {
    let fields = keys.iter().map(|k| SortField::new(k.data_type().clone())).collect();
    let converter = RowConverter::new(fields).map_err(from_arrow)?;
    let rows = converter.convert_columns(keys).map_err(from_arrow)?;
    let mut groups = HashMap::new();
    let mut of_row = Vec::with_capacity(rows.num_rows());
    for (i, row) in rows.iter().enumerate() {
        of_row.push(*groups.entry(row).or_insert_with(|| {
            first_row.push(i as u32);
            first_row.len() as u32 - 1
        }));
    }
    Ok(of_row)
}
