//! Statistics of X that the tables hold, so that its values are not read.

use super::part::Part;
use crate::selection::Selection;
use crate::store::sums::Sums;
use slaf_core::{Dtype, Result, Values};
use slaf_ingest::MatrixKey;
use slaf_kernels::matrix::{Columns, Detail, Dot, Plan, Request, Rows, Stats, Summary};
use slaf_lance::runtime::block_on;

/// The error of a sum of squared distances that is borne, relative to it: less than results in the
/// type have anyway, or nearly so.
const TOLERANCE_F32: f64 = 1e-7;
const TOLERANCE: f64 = 1e-10;
/// Half the distance from 1 to the next float64.
const ROUNDING: f64 = f64::EPSILON / 2.0;
/// If more than this share of the columns has to be read, all are.
const READ_SHARE: usize = 4;

/// What the tables tell of a request, and the passes over values that find the rest.
pub(super) struct Known {
    rows: Option<Stats>,
    columns: Option<Stats>,
    /// The product of the rows, where no column has a weight.
    dot: Option<Vec<f64>>,
    passes: Vec<(What, Pass)>,
}

/// Statistics that are found in values: of all rows.
pub(super) struct Pass {
    pub(super) cols: Selection,
    pub(super) request: Request,
}

/// What a pass is for.
enum What {
    /// Whatever the tables do not tell.
    Rest,
    /// The squares of these columns.
    Squares(Vec<usize>),
    /// The product of the rows.
    Product,
}

/// Finds out what the tables tell, which is nothing but of X as it is stored.
pub(super) fn known(part: Part<'_>, plan: &Plan, request: &Request) -> Result<Known> {
    let mut known = Known { rows: None, columns: None, dot: None, passes: Vec::new() };
    let in_tables = plan.is_empty() && *part.key == MatrixKey::X;
    if in_tables && !request.signs && request.detail != Detail::All {
        let (n_rows, n_cols) = part.shape()?;
        let whole = |s: &Selection, n: usize| *s == Selection::All || *s == Selection::Range(0..n as u64);
        let entry = part.snapshot.matrix(part.key)?;
        if let Some(columns) = request.columns.as_ref().filter(|_| whole(part.rows, entry.n_rows as usize)) {
            known.columns = self::columns(part, columns, request, &mut known.passes)?;
        }
        if let Some(rows) = request.rows.as_ref().filter(|_| whole(part.cols, entry.n_cols as usize)) {
            known.rows = self::rows(part, rows, request)?;
            if let (Some(_), Some(dot)) = (&known.rows, &rows.dot) {
                match product(dot, n_cols, request) {
                    Some(pass) => known.passes.push((What::Product, pass)),
                    None => known.dot = Some(vec![0.0; n_rows * dot.k]),
                }
            }
        }
    }
    let is_known = known.rows.is_some() || known.columns.is_some();
    let rest = Request {
        rows: request.rows.clone().filter(|_| known.rows.is_none()),
        columns: request.columns.clone().filter(|_| known.columns.is_none()),
        ..flags(request)
    };
    if !is_known || rest.rows.is_some() || rest.columns.is_some() {
        known.passes.push((What::Rest, Pass { cols: part.cols.clone(), request: rest }));
    }
    Ok(known)
}

impl Known {
    /// The passes that are left.
    pub(super) fn passes(&self) -> impl Iterator<Item = &Pass> {
        self.passes.iter().map(|(_, pass)| pass)
    }

    /// The answer, with what each pass found.
    pub(super) fn finish(mut self, found: Vec<Summary>) -> Summary {
        let mut summary = Summary::default();
        let mut dot = self.dot;
        for ((what, _), found) in self.passes.into_iter().zip(found) {
            match (what, &mut self.columns) {
                (What::Rest, _) => summary = found,
                (What::Product, _) => dot = Some(found.dot),
                (What::Squares(doubtful), Some(columns)) => {
                    doubtful.into_iter().zip(found.columns.square).for_each(|(i, square)| columns.square[i] = square);
                }
                (What::Squares(_), None) => {}
            }
        }
        summary.columns = self.columns.unwrap_or(summary.columns);
        summary.rows = self.rows.unwrap_or(summary.rows);
        summary.dot = dot.unwrap_or(summary.dot);
        summary
    }
}

fn flags(request: &Request) -> Request {
    Request { skip_nan: request.skip_nan, detail: request.detail, signs: request.signs, ..Request::default() }
}

/// The statistics of rows over all columns.
fn rows(part: Part<'_>, rows: &Rows, request: &Request) -> Result<Option<Stats>> {
    if request.detail != Detail::Sums || rows.groups.is_some() || !rows.top.is_empty() {
        return Ok(None);
    }
    if rows.dot.as_ref().is_some_and(|dot| dot.weights.len() != part.snapshot.manifest.n_genes as usize * dot.k) {
        return Ok(None);
    }
    let Some(sums) = block_on(part.snapshot.cell_sums(part.rows))? else { return Ok(None) };
    // NaN and infinities of columns without a weight are in a product, too.
    let finite = request.skip_nan || rows.dot.is_some();
    if finite && !sums.sum.iter().all(|s| s.is_finite()) {
        return Ok(None);
    }
    Ok(Some(stats(part.snapshot.matrix(part.key)?.dtype, sums, None)))
}

/// The statistics of columns over all rows.
fn columns(
    part: Part<'_>,
    columns: &Columns,
    request: &Request,
    passes: &mut Vec<(What, Pass)>,
) -> Result<Option<Stats>> {
    let n_cols = part.shape()?.1;
    let centres = columns.centres.as_deref();
    if columns.groups.is_some() || columns.left.is_some() || columns.running {
        return Ok(None);
    }
    if centres.is_some_and(|c| c.len() != n_cols) {
        return Ok(None);
    }
    let Some(sums) = block_on(part.snapshot.gene_sums(part.cols))? else { return Ok(None) };
    if request.skip_nan && sums.sum.iter().any(|s| s.is_nan()) {
        return Ok(None);
    }
    let dtype = part.snapshot.matrix(part.key)?.dtype;
    if request.detail == Detail::Sums {
        return Ok(Some(stats(dtype, sums, None)));
    }
    let Some((squares, doubtful)) = squares(part, &sums, centres, dtype)? else { return Ok(None) };
    if doubtful.len() > n_cols / READ_SHARE {
        return Ok(None);
    }
    if !doubtful.is_empty() {
        let genes: Vec<u64> = part.cols.iter(part.snapshot.manifest.n_genes).collect();
        let cols = Selection::Ids(doubtful.iter().map(|&i| genes[i]).collect());
        let centres = centres.map(|c| doubtful.iter().map(|&i| c[i]).collect());
        let request = Request { columns: Some(Columns { centres, ..Columns::default() }), ..flags(request) };
        passes.push((What::Squares(doubtful), Pass { cols, request }));
    }
    Ok(Some(stats(dtype, sums, Some(squares))))
}

/// The sums of squared distances of the values that are not zero to the centres, or to zero; and
/// the columns where they are not accurate.
fn squares(
    part: Part<'_>,
    sums: &Sums,
    centres: Option<&[f64]>,
    dtype: Dtype,
) -> Result<Option<(Vec<f64>, Vec<usize>)>> {
    let Some(moments) = block_on(part.snapshot.gene_moments())? else { return Ok(None) };
    let order = block_on(part.snapshot.order())?;
    let n_rows = part.shape()?.0;
    let (mut squares, mut doubtful) = (Vec::with_capacity(sums.sum.len()), Vec::new());
    let tolerance = if dtype == Dtype::F32 { TOLERANCE_F32 } else { TOLERANCE };
    for (i, gene) in part.cols.iter(part.snapshot.manifest.n_genes).enumerate() {
        let of_values = moments.squares[order.rank_of[gene as usize] as usize];
        let (n, sum, centre) = (f64::from(sums.nonzero[i]), sums.sum[i], centres.map_or(0.0, |c| c[i]));
        let square = about(centre, n, sum, of_values);
        // Each addition may have rounded; of whole numbers none has while they are small.
        let is_exact = !dtype.is_float() && of_values < 1.0 / ROUNDING;
        let rounded = if is_exact { 2.0 * ROUNDING * square } else { n * ROUNDING * of_values };
        let of_sum = if dtype.is_float() { n * ROUNDING * 2.0 * (centre * (n * of_values).sqrt()).abs() } else { 0.0 };
        let with_zeros = square + (n_rows as f64 - n) * centre * centre;
        // Of infinities nothing is known, and NaN is no answer.
        let accurate = with_zeros.is_finite() && rounded + of_sum <= tolerance * with_zeros;
        if !accurate {
            doubtful.push(i);
        }
        squares.push(square);
    }
    Ok(Some((squares, doubtful)))
}

/// The sum of squared distances to a centre of `n` values with this sum and sum of squares, in
/// twice the precision, so that what cancels does not show.
fn about(centre: f64, n: f64, sum: f64, squares: f64) -> f64 {
    let product = |a: f64, b: f64| {
        let p = a * b;
        (p, a.mul_add(b, -p))
    };
    let add = |(high, low): (f64, f64), x: f64| {
        let s = high + x;
        let of_x = s - high;
        (s, low + ((high - (s - of_x)) + (x - of_x)))
    };
    let (linear, linear_low) = product(-2.0 * centre, sum);
    let (c, c_low) = product(centre, centre);
    let (constant, constant_low) = product(c, n);
    let (high, low) = [linear, constant, linear_low, constant_low, c_low * n].into_iter().fold((squares, 0.0), add);
    (high + low).max(0.0)
}

/// The pass for the product of rows of finite values with weights: over the columns that have one.
fn product(dot: &Dot, n_cols: usize, request: &Request) -> Option<Pass> {
    let of = |column: usize| &dot.weights[column * dot.k..(column + 1) * dot.k];
    let weighted: Vec<usize> = (0..n_cols).filter(|&c| of(c).iter().any(|w| *w != 0.0)).collect();
    if weighted.is_empty() {
        return None;
    }
    // Columns are all of the matrix, in their order.
    let cols = Selection::Ids(weighted.iter().map(|&c| c as u64).collect());
    let weights = weighted.iter().flat_map(|&c| of(c)).copied().collect();
    let rows = Rows { dot: Some(Dot { weights, k: dot.k }), ..Rows::default() };
    Some(Pass { cols, request: Request { rows: Some(rows), ..flags(request) } })
}

fn stats(dtype: Dtype, Sums { nonzero, sum }: Sums, square: Option<Vec<f64>>) -> Stats {
    let n = sum.len();
    let zeros = |n| match dtype {
        _ if dtype.is_float() => Values::F64(vec![0.0; n]),
        Dtype::U64 => Values::U64(vec![0; n]),
        _ => Values::I64(vec![0; n]),
    };
    let sum = match dtype {
        _ if dtype.is_float() => Values::F64(sum),
        Dtype::U64 => Values::U64(sum.into_iter().map(|s| s as u64).collect()),
        _ => Values::I64(sum.into_iter().map(|s| s as i64).collect()),
    };
    Stats {
        nonzero,
        positive: Vec::new(),
        nan: vec![0; n],
        fractional: Vec::new(),
        sum: Some(sum),
        square: square.unwrap_or_else(|| vec![0.0; n]),
        min: zeros(n),
        max: zeros(n),
    }
}

#[cfg(test)]
mod tests {
    use super::about;

    #[test]
    fn distances_to_a_centre_do_not_cancel() {
        // A million and a million and one, a thousand of each.
        let (low, n) = (1e6, 1000.0);
        let sum = n * low + n * (low + 1.0);
        let squares = n * low * low + n * (low + 1.0) * (low + 1.0);
        assert_eq!(about(low + 0.5, 2.0 * n, sum, squares), 500.0);
        assert_eq!(about(0.0, 2.0 * n, sum, squares), squares);
    }
}
