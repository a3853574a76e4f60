//! obs and var as groups of columns.

use super::columns::{ColumnSource, Refusal, index_strings};
use crate::h5::{Dataset, Group, Node};
use crate::model::{Column, ColumnInfo, Frame, FrameInfo, Loss};
use arrow::array::BooleanArray;
use slaf_core::{Context, Error, Result};
use std::collections::HashSet;
use std::ops::Range;

/// Rows of a block of a frame.
const BLOCK: u64 = 1 << 16;

/// A frame of the file, opened.
pub(crate) struct FrameReader {
    pub(crate) info: FrameInfo,
    pub(crate) n_rows: u64,
    path: String,
    index: ColumnSource,
    columns: Vec<ColumnSource>,
}

impl FrameReader {
    /// Opens the frame in `group`; what cannot be read is added to `losses`.
    pub(crate) fn open(group: &Group, losses: &mut Vec<Loss>) -> Result<FrameReader> {
        let attrs = group.attrs()?;
        let names = group.names()?;
        let index_name = match attrs.str("_index") {
            Some(name) => name.to_owned(),
            None => ["_index", "index"]
                .iter()
                .find(|n| names.iter().any(|m| m == *n))
                .ok_or_else(|| {
                    Error::malformed("no index: neither an attribute nor a member \"_index\"").at(group.path())
                })?
                .to_string(),
        };
        let order = match attrs.strings("column-order") {
            Some(order) => order,
            None if attrs.contains("column-order") => {
                return Err(Error::malformed("the attribute column-order is not readable").at(group.path()));
            }
            None => names.iter().filter(|n| **n != index_name && *n != "__categories").cloned().collect(),
        };
        let member = |name: &str| -> Result<Node> {
            let path = || format!("{}/{name}", group.path().trim_end_matches('/'));
            group.get(name)?.ok_or_else(|| Error::malformed("missing").at(path()))
        };
        let node = member(&index_name)?;
        let n_rows = match &node {
            Node::Dataset(d) => {
                d.check_storage()?;
                d.len()?
            }
            Node::Group(g) => {
                let values = if g.get("codes")?.is_some() { "codes" } else { "values" };
                let d = g.dataset(values)?;
                d.check_storage()?;
                d.len()?
            }
        };
        let index = ColumnSource::open(group, node, n_rows).map_err(|e| match e {
            Refusal::Error(e) => e,
            Refusal::Loss(reason) => Error::malformed(reason).at(format!("{}/{index_name}", group.path())),
        })?;
        let mut info =
            FrameInfo { index_name: (index_name != "_index").then(|| index_name.clone()), columns: Vec::new() };
        let mut columns = Vec::new();
        let inside = group.path().trim_start_matches('/');
        for name in &order {
            match ColumnSource::open(group, member(name)?, n_rows) {
                Ok(source) => {
                    info.columns.push(ColumnInfo {
                        name: name.clone(),
                        data_type: source.data_type(),
                        kind: source.kind(),
                    });
                    columns.push(source);
                }
                Err(Refusal::Error(e)) => return Err(e),
                Err(Refusal::Loss(reason)) => losses.push(Loss { path: format!("{inside}/{name}"), reason }),
            }
        }
        // A name with slashes is a path: its first part is the member.
        let tops: HashSet<&str> = order.iter().filter_map(|n| n.split('/').next()).collect();
        for name in names {
            let known = name == index_name || name == "__categories" || tops.contains(name.as_str());
            if !known {
                losses.push(Loss {
                    path: format!("{inside}/{name}"),
                    reason: "not in the column-order of its frame".into(),
                });
            }
        }
        Ok(FrameReader { info, n_rows, path: group.path().to_owned(), index, columns })
    }

    /// Opens a table of AnnData before 0.7, whose first field is the index. The categories of a
    /// column are in `uns`; the paths of those that were used go to `used`.
    pub(crate) fn open_table(
        table: &Dataset,
        uns: Option<&Group>,
        losses: &mut Vec<Loss>,
        used: &mut Vec<String>,
    ) -> Result<FrameReader> {
        table.check_storage()?;
        let n_rows = table.len()?;
        let mut fields = table.fields()?.into_iter();
        let (index_name, index) =
            fields.next().ok_or_else(|| Error::malformed("a table without columns").at(table.path()))?;
        let mut info = FrameInfo { index_name: Some(index_name), columns: Vec::new() };
        let mut columns = Vec::new();
        for (name, field) in fields {
            let path = field.path().trim_start_matches('/').to_owned();
            let mut source = ColumnSource::Plain(field);
            if let Some(Node::Dataset(categories)) =
                uns.map(|u| u.get(&format!("{name}_categories"))).transpose()?.flatten()
            {
                source = source.with_categories(categories, used)?;
            }
            match source.check(n_rows) {
                Ok(()) => {
                    let (data_type, kind) = (source.data_type(), source.kind());
                    info.columns.push(ColumnInfo { name, data_type, kind });
                    columns.push(source);
                }
                Err(Refusal::Error(e)) => return Err(e),
                Err(Refusal::Loss(reason)) => losses.push(Loss { path, reason }),
            }
        }
        let index = ColumnSource::Plain(index);
        Ok(FrameReader { info, n_rows, path: table.path().to_owned(), index, columns })
    }

    /// A frame whose columns were found by the caller, in the group at `path`.
    pub(crate) fn from_parts(
        info: FrameInfo,
        n_rows: u64,
        path: &str,
        index: ColumnSource,
        columns: Vec<ColumnSource>,
    ) -> FrameReader {
        FrameReader { info, n_rows, path: path.to_owned(), index, columns }
    }

    /// Adds a column of booleans that the file does not have as such.
    pub(crate) fn add_mask(&mut self, name: String, values: BooleanArray) -> Result<()> {
        if self.info.columns.iter().any(|c| c.name == name) {
            return Err(Error::malformed(format!("two columns \"{name}\"")).at(&self.path));
        }
        let column = ColumnSource::Made(values);
        self.info.columns.push(ColumnInfo { name, data_type: column.data_type(), kind: column.kind() });
        self.columns.push(column);
        Ok(())
    }

    /// All rows, in blocks; one without rows for a frame without rows.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = Result<Frame>> {
        let starts = (0..self.n_rows.max(1)).step_by(BLOCK as usize);
        starts.map(|start| self.read(start..(start + BLOCK).min(self.n_rows)))
    }

    /// Some rows of all columns.
    pub(crate) fn read(&self, rows: Range<u64>) -> Result<Frame> {
        if rows.start > rows.end || rows.end > self.n_rows {
            return Err(Error::invalid(format!("rows {}..{} of {}", rows.start, rows.end, self.n_rows)).at(&self.path));
        }
        let index = index_strings(self.index.read(rows.clone())?.as_ref()).at(&self.path)?;
        let mut columns = Vec::with_capacity(self.columns.len());
        for (info, source) in self.info.columns.iter().zip(&self.columns) {
            columns.push(Column { info: info.clone(), array: source.read(rows.clone())? });
        }
        Ok(Frame { index, columns })
    }
}
