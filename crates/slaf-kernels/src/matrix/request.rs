//! What can be asked about a matrix, and the answer.

use super::moments::{RANGE, SIGNS, SQUARES};
use slaf_core::{Dtype, Error, Result, Values};

/// What to find out, in one pass.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// What to find out about each row.
    pub rows: Option<Rows>,
    /// What to find out about each column.
    pub columns: Option<Columns>,
    /// NaN is counted and then left out.
    pub skip_nan: bool,
    /// How much of it.
    pub detail: Detail,
    /// Counts of values above zero, and of values that are no integers, too; they are always part
    /// of [`Detail::All`].
    pub signs: bool,
}

/// How much to find out about rows and columns: each step costs time for every value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Detail {
    /// Counts of values other than zero, and sums.
    #[default]
    Sums,
    /// Sums of squares, too.
    Squares,
    /// Extremes, too.
    All,
}

slaf_core::names!(Detail, "detail", { Sums => "sums", Squares => "squares", All => "all" });

/// About each row: counts of values, their sum, and what is named here.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    /// The sums of the largest stored values, for each of these numbers of values; rising.
    pub top: Vec<usize>,
    /// Weighted sums.
    pub dot: Option<Dot>,
    /// Groups of columns: everything but what is named above is about each of them apart.
    pub groups: Option<Groups>,
}

/// The product `X @ weights`.
#[derive(Clone, Debug)]
pub struct Dot {
    /// columns x `k`, row-major.
    pub weights: Vec<f64>,
    /// Numbers for each row.
    pub k: usize,
}

/// About each column of each group of rows: counts of values, their sum and sum of squares, and
/// what is named here.
#[derive(Clone, Debug, Default)]
pub struct Columns {
    /// The groups of rows; without them, all rows are one.
    pub groups: Option<Groups>,
    /// One for each column, to which distances are squared in place of zero.
    pub centres: Option<Vec<f64>>,
    /// Weighted sums over all rows.
    pub left: Option<Left>,
    /// [`Running`] statistics, too, for which parts are added one by one.
    pub running: bool,
}

/// Disjoint groups of rows, or of columns.
#[derive(Clone, Debug)]
pub struct Groups {
    /// The group of each; what is in no group has a label that is not below `n`.
    pub labels: Vec<u32>,
    /// How many groups there are.
    pub n: usize,
}

impl Groups {
    pub(super) fn sizes(&self) -> Vec<usize> {
        let mut sizes = vec![0; self.n];
        for &label in &self.labels {
            if let Some(size) = sizes.get_mut(label as usize) {
                *size += 1;
            }
        }
        sizes
    }
}

impl Columns {
    /// The group of a row, if it is in one.
    pub(super) fn group(&self, row: usize) -> Option<usize> {
        self.groups.as_ref().map_or(Some(0), |groups| Some(groups.labels[row] as usize).filter(|&l| l < groups.n))
    }
}

/// The product `weights.T @ X`.
#[derive(Clone, Debug)]
pub struct Left {
    /// rows x `k`, row-major.
    pub weights: Vec<f64>,
    /// Numbers for each column.
    pub k: usize,
}

impl Dot {
    /// For each column whether a weight is not zero.
    pub(super) fn weighted(&self) -> Vec<bool> {
        if self.k == 0 {
            return Vec::new();
        }
        self.weights.chunks(self.k).map(|weights| weights.iter().any(|w| *w != 0.0)).collect()
    }
}

impl Request {
    /// What loops over values have to find.
    pub(super) fn wanted(&self) -> u8 {
        let signs = if self.signs { SIGNS } else { 0 };
        match self.detail {
            Detail::Sums => signs,
            Detail::Squares => signs | SQUARES,
            Detail::All => SIGNS | SQUARES | RANGE,
        }
    }

    pub(super) fn check(&self, n_rows: usize, n_cols: usize) -> Result<()> {
        let wrong = |got: usize, wanted: usize, what: &str| {
            if got == wanted { Ok(()) } else { Err(Error::invalid(format!("{got} {what}, not {wanted}"))) }
        };
        if n_rows as u64 > u64::from(u32::MAX) {
            return Err(Error::invalid("statistics of more than 2^32 rows at once"));
        }
        if let Some(dot) = self.rows.as_ref().and_then(|r| r.dot.as_ref()) {
            wrong(dot.weights.len(), n_cols * dot.k, "weights of columns")?;
        }
        if let Some(groups) = self.rows.as_ref().and_then(|r| r.groups.as_ref()) {
            wrong(groups.labels.len(), n_cols, "labels of columns")?;
        }
        if let Some(columns) = &self.columns {
            if let Some(groups) = &columns.groups {
                wrong(groups.labels.len(), n_rows, "labels of rows")?;
            }
            if columns.running && self.skip_nan {
                return Err(Error::invalid("running statistics leave no NaN out"));
            }
            if let Some(centres) = &columns.centres {
                wrong(centres.len(), n_cols, "centres of columns")?;
            }
            if let Some(left) = &columns.left {
                wrong(left.weights.len(), n_rows * left.k, "weights of rows")?;
            }
        }
        Ok(())
    }

    pub(super) fn n_groups(&self) -> usize {
        self.columns.as_ref().and_then(|c| c.groups.as_ref()).map_or(1, |g| g.n)
    }
}

/// The answer to a [`Request`]; what was not asked for is empty.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Rows x groups, row-major.
    pub rows: Stats,
    /// Groups x columns, row-major.
    pub columns: Stats,
    /// rows x numbers of [`Rows::top`].
    pub top: Vec<f64>,
    /// rows x `k`.
    pub dot: Vec<f64>,
    /// `k` x columns.
    pub left: Vec<f64>,
    /// What [`Columns::running`] asked for.
    pub running: Option<Running>,
}

/// Statistics of the stored values of each column of each group, zeros among them, updated value by
/// value in the order of the rows by the algorithm of Welford (1962).
///
/// What they are good for is their last bits: those of any other program that computes so.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Running {
    /// Stored values.
    pub stored: Vec<u32>,
    /// Means of the stored values.
    pub mean: Vec<f64>,
    /// Sums of squared deviations from the mean.
    pub square: Vec<f64>,
}

/// Statistics of rows or columns. Zeros count as values, stored or not.
#[derive(Clone, Debug)]
pub struct Stats {
    /// Values other than zero.
    pub nonzero: Vec<u32>,
    /// Values above zero; empty unless [`Request::signs`] asks for them.
    pub positive: Vec<u32>,
    /// NaN that were left out.
    pub nan: Vec<u32>,
    /// Values that are no integers; as `positive`.
    pub fractional: Vec<u32>,
    /// uint64 for uint64, int64 for other integers and bool, else float64, as the extremes are;
    /// `None` if one does not fit.
    pub sum: Option<Values>,
    /// Sums over nonzero values of the squared distance: of a row (or its groups) to the mean, of
    /// a column to its centre, or to zero.
    pub square: Vec<f64>,
    /// The smallest values.
    pub min: Values,
    /// The largest values.
    pub max: Values,
}

impl Default for Stats {
    fn default() -> Self {
        let none = || Values::empty(Dtype::F64);
        Stats {
            nonzero: Vec::new(),
            positive: Vec::new(),
            nan: Vec::new(),
            fractional: Vec::new(),
            sum: Some(none()),
            square: Vec::new(),
            min: none(),
            max: none(),
        }
    }
}
