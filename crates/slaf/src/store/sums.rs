//! Sums over X that the tables hold, and whether they are exact.

use super::schema;
use super::snapshot::Snapshot;
use super::table_name::TableName;
use super::values::primitive;
use crate::selection::Selection;
use arrow::datatypes::{Float64Type, UInt32Type, UInt64Type};
use slaf_core::{Dtype, Error, Result};
use slaf_ingest::MatrixKey;

/// Integers up to here are exact in a float64.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Of some cells or genes over the whole other axis: how many values are not zero, and their sum.
#[derive(Debug)]
pub(crate) struct Sums {
    pub(crate) nonzero: Vec<u32>,
    pub(crate) sum: Vec<f64>,
}

/// What the gene-major rows tell of the genes over all cells, by rank.
#[derive(Debug)]
pub(crate) struct GeneMoments {
    /// Stored values, explicit zeros included.
    pub(crate) stored: Vec<u64>,
    pub(crate) sum: Vec<f64>,
    pub(crate) squares: Vec<f64>,
}

impl Snapshot {
    /// The sums of some cells; `None` where whole numbers may have been rounded.
    pub(crate) async fn cell_sums(&self, cells: &Selection) -> Result<Option<Sums>> {
        let dtype = self.matrix(&MatrixKey::X)?.dtype;
        let nonzero = self.column_of(TableName::Cells, schema::N_GENES, cells).await?;
        let nonzero = primitive::<UInt32Type>(&nonzero, schema::N_GENES)?.to_vec();
        let sum = self.column_of(TableName::Cells, schema::TOTAL, cells).await?;
        let sum = primitive::<Float64Type>(&sum, schema::TOTAL)?.to_vec();
        let are_exact =
            |squares: Option<f64>| nonzero.iter().zip(&sum).all(|(&n, &sum)| is_exact(dtype, n.into(), sum, squares));
        if !are_exact(None) {
            // The squares of a cell are some of those of all.
            let all = self.gene_moments().await?.map(|m| m.squares.iter().sum());
            if !are_exact(all) {
                return Ok(None);
            }
        }
        Ok(Some(Sums { nonzero, sum }))
    }

    /// The sums of some genes; `None` where whole numbers may have been rounded.
    pub(crate) async fn gene_sums(&self, genes: &Selection) -> Result<Option<Sums>> {
        let dtype = self.matrix(&MatrixKey::X)?.dtype;
        let n_cells = self.column_of(TableName::Genes, schema::N_CELLS, genes).await?;
        let n_cells = primitive::<UInt64Type>(&n_cells, schema::N_CELLS)?;
        let sum = self.column_of(TableName::Genes, schema::TOTAL, genes).await?;
        let sum = primitive::<Float64Type>(&sum, schema::TOTAL)?.to_vec();
        if !n_cells.iter().zip(&sum).all(|(&n, &sum)| is_exact(dtype, n, sum, None)) {
            let Some(moments) = self.gene_moments().await? else { return Ok(None) };
            let order = self.order().await?;
            let ranks = genes.iter(self.manifest.n_genes).map(|g| order.rank_of[g as usize] as usize);
            let squares = ranks.map(|rank| moments.squares[rank]);
            if !n_cells.iter().zip(&sum).zip(squares).all(|((&n, &sum), s)| is_exact(dtype, n, sum, Some(s))) {
                return Ok(None);
            }
        }
        let too_many = |_| Error::corrupt("a gene in more cells than there are").at("genes");
        let nonzero = n_cells.iter().map(|&n| u32::try_from(n).map_err(too_many)).collect::<Result<_>>()?;
        Ok(Some(Sums { nonzero, sum }))
    }

    /// Counts, sums and sums of squares of all genes; `None` without gene-major rows.
    pub(crate) async fn gene_moments(&self) -> Result<Option<GeneMoments>> {
        if self.manifest.tables.by_gene.is_none() {
            return Ok(None);
        }
        let n = self.manifest.n_genes as usize;
        let mut moments = GeneMoments { stored: vec![0; n], sum: vec![0.0; n], squares: vec![0.0; n] };
        let stored = self.column(TableName::ByGene, schema::NNZ).await?;
        let sum = self.column(TableName::ByGene, schema::SUM).await?;
        let squares = self.column(TableName::ByGene, schema::SUM_OF_SQUARES).await?;
        let stored = primitive::<UInt64Type>(&stored, schema::NNZ)?;
        let sum = primitive::<Float64Type>(&sum, schema::SUM)?;
        let squares = primitive::<Float64Type>(&squares, schema::SUM_OF_SQUARES)?;
        for stripe in &self.manifest.stripes {
            let rows = stripe.first_row as usize..(stripe.first_row + stripe.n_genes) as usize;
            moments.stored.iter_mut().zip(&stored[rows.clone()]).for_each(|(all, n)| *all += n);
            moments.sum.iter_mut().zip(&sum[rows.clone()]).for_each(|(all, s)| *all += s);
            moments.squares.iter_mut().zip(&squares[rows]).for_each(|(all, s)| *all += s);
        }
        Ok(Some(moments))
    }
}

/// Whether a sum of `n` values that was added in float64 is exact; of floats, whether it is as
/// good as any other. `squares` is at least the sum of their squares.
pub(crate) fn is_exact(dtype: Dtype, n: u64, sum: f64, squares: Option<f64>) -> bool {
    let (largest, is_unsigned) = match dtype {
        Dtype::F32 | Dtype::F64 => return true,
        Dtype::Bool => (1.0, true),
        Dtype::U8 => (f64::from(u8::MAX), true),
        Dtype::U16 => (f64::from(u16::MAX), true),
        Dtype::U32 => (f64::from(u32::MAX), true),
        Dtype::U64 => (u64::MAX as f64, true),
        Dtype::I8 => (128.0, false),
        Dtype::I16 => (32_768.0, false),
        Dtype::I32 => (2_147_483_648.0, false),
        Dtype::I64 => (-(i64::MIN as f64), false),
    };
    // What was added on the way is not larger than the result, or than n times the largest value,
    // or than the root of n times the squares, which were rounded themselves.
    n as f64 * largest <= EXACT
        || is_unsigned && sum < EXACT
        || squares.is_some_and(|squares| n as f64 * squares < EXACT * EXACT / 4.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_that_may_have_been_rounded() {
        assert!(is_exact(Dtype::I32, 1 << 20, 7.0, None));
        assert!(!is_exact(Dtype::I32, 1 << 23, 7.0, None));
        assert!(is_exact(Dtype::I32, 1 << 23, 7.0, Some(1e9)));
        // 2^53 + 1 - 2^53 is 0 in float64.
        assert!(!is_exact(Dtype::I64, 2, 0.0, Some(2.0 * EXACT * EXACT)));
        assert!(is_exact(Dtype::U64, 1 << 40, EXACT - 1.0, None));
        assert!(!is_exact(Dtype::U64, 2, EXACT, None));
        assert!(is_exact(Dtype::F64, 2, f64::NAN, None));
    }
}
