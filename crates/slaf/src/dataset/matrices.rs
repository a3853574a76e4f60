//! Matrices: reading, arithmetic, statistics, tokens.

use super::handle::Dataset;
use crate::matrix::{self, Part, Piece, Pieces, Question};
use crate::progress::Progress;
use crate::reader::{self, ReadOptions};
use crate::selection::Selection;
use crate::store::TableName;
use crate::store::manifest::MatrixEntry;
use crate::tokenize::{self, Tokens};
use crate::triplets::{self, Cells, TripletOrder};
use arrow::array::RecordBatch;
use slaf_core::{Context, CsrChunk, Result};
use slaf_ingest::{Axis, MatrixKey};
use slaf_kernels::linear::{Gram, Leading, Wanted};
use slaf_kernels::matrix::{Plan, Request, Summary};
use slaf_kernels::rank_sums::{Comparison, RankSums};
use slaf_kernels::tokenizers::{GeneColumn, GeneTable, Random, Tokenizer};
use slaf_lance::runtime::block_on;

impl Dataset {
    /// The entry of a matrix: shape, value type, size.
    ///
    /// # Errors
    /// `unknown-table` with the matrices that there are.
    pub fn matrix_info(&self, key: &MatrixKey) -> Result<&MatrixEntry> {
        self.snapshot.matrix(key)
    }

    /// Reads a part of a matrix: `rows` and `cols` in the order given, repeats included.
    ///
    /// Columns are cells for `Obsp`, genes of raw for `RawX`, otherwise genes.
    ///
    /// # Errors
    /// `unknown-table`, `out-of-range`, `corrupt`.
    pub fn read(&self, key: &MatrixKey, rows: &Selection, cols: &Selection) -> Result<CsrChunk> {
        let entry = self.snapshot.matrix(key)?;
        let (n_rows, n_cols) = (rows.len(entry.n_rows), cols.len(entry.n_cols));
        let _span = tracing::debug_span!("read", matrix = %key, rows = n_rows, columns = n_cols).entered();
        block_on(self.snapshot.read(key, entry, rows, cols, ReadOptions::default())).at(key)
    }

    /// Reads a part of a matrix of cells x genes, one row for each stored value: `cell_id` and
    /// `gene_id` (Utf8View, each name once in memory) and `value` (in the type of the matrix).
    ///
    /// # Errors
    /// Those of [`Dataset::read`]; `unsupported-feature` for more than 2^32 values.
    pub fn triplets(
        &self,
        key: &MatrixKey,
        rows: &Selection,
        cols: &Selection,
        order: TripletOrder,
    ) -> Result<RecordBatch> {
        block_on(triplets::read(&self.snapshot, key, Cells::Rows(rows), cols, order)).at(key)
    }

    /// The values of one cell by its name, as [`Dataset::triplets`] gives them.
    ///
    /// # Errors
    /// Those of [`Dataset::resolve_cells`] and [`Dataset::triplets`].
    pub fn triplets_of_cell(&self, key: &MatrixKey, name: &str, cols: &Selection) -> Result<RecordBatch> {
        block_on(async {
            let row = self.snapshot.resolve(Axis::Cells, &[name]).await?.swap_remove(0);
            triplets::read(&self.snapshot, key, Cells::Named(row, name), cols, TripletOrder::ByCell).await.at(key)
        })
    }

    /// Whether the values of cells are read without waiting for others: they are on a local disk, and
    /// what tells where they are has been read before; `by_name`, also where each name is.
    pub fn cells_at_hand(&self, by_name: bool) -> bool {
        self.snapshot.is_at_hand() && (!by_name || self.snapshot.kept.has_names(TableName::Cells))
    }

    /// Reads a part of a matrix in chunks of at most `batch_rows` rows.
    ///
    /// # Errors
    /// `unknown-table` and `out-of-range` now; `corrupt` from the iterator.
    pub fn stream(
        &self,
        key: &MatrixKey,
        rows: &Selection,
        cols: &Selection,
        batch_rows: usize,
    ) -> Result<impl Iterator<Item = Result<CsrChunk>> + Send + use<>> {
        reader::stream(&self.snapshot, key, rows, cols, batch_rows)
    }

    /// Reads a part of a matrix, with `plan` applied to it. Rows and columns of the plan are those
    /// of the selections.
    ///
    /// # Errors
    /// Those of [`Dataset::read`]; `invalid-argument` for a plan that does not fit, and for
    /// integers that overflow; `interrupted`.
    pub fn compute(
        &self,
        key: &MatrixKey,
        rows: &Selection,
        cols: &Selection,
        plan: &Plan,
        progress: Progress<'_>,
    ) -> Result<CsrChunk> {
        matrix::compute(Part { snapshot: &self.snapshot, key, rows, cols }, plan, progress)
    }

    /// Statistics of a part of a matrix with `plan` applied to it, in one pass and in memory that
    /// does not grow with the stored values. The answer does not depend on the number of threads.
    ///
    /// # Errors
    /// As [`Dataset::compute`].
    pub fn reduce(
        &self,
        key: &MatrixKey,
        rows: &Selection,
        cols: &Selection,
        plan: &Plan,
        request: &Request,
        progress: Progress<'_>,
    ) -> Result<Summary> {
        matrix::reduce(Part { snapshot: &self.snapshot, key, rows, cols }, plan, request, progress)
    }

    /// Sums of ranks of groups of cells by each gene of a part of a matrix with `plan` applied to
    /// it, in memory that does not grow with the stored values. X is read gene by gene; other
    /// matrices cell by cell, as often as their genes do not fit into a bounded memory together.
    /// The answer does not depend on the number of threads.
    ///
    /// # Errors
    /// As [`Dataset::compute`]; `invalid-argument` also for labels of another number than the rows.
    pub fn rank_sums(
        &self,
        key: &MatrixKey,
        rows: &Selection,
        cols: &Selection,
        plan: &Plan,
        comparison: &Comparison,
        progress: Progress<'_>,
    ) -> Result<RankSums> {
        matrix::rank_sums(Part { snapshot: &self.snapshot, key, rows, cols }, plan, comparison, progress)
    }

    /// The products of all pairs of columns of a part of a matrix with `plan` applied to it, in
    /// float64 and in one pass: of principal components. It takes memory for two such matrices of
    /// columns x columns, and does not depend on the number of threads.
    ///
    /// # Errors
    /// As [`Dataset::compute`]; `invalid-argument` for NaN and infinite values.
    pub fn gram(
        &self,
        key: &MatrixKey,
        rows: &Selection,
        cols: &Selection,
        plan: &Plan,
        progress: Progress<'_>,
    ) -> Result<Gram> {
        matrix::gram(Part { snapshot: &self.snapshot, key, rows, cols }, plan, progress)
    }

    /// The largest eigenvalues of the products of the columns of [`Dataset::compute`], in a pass for
    /// every 32 vectors of a Krylov space; see [`crate::linear::leading`].
    ///
    /// # Errors
    /// As [`Dataset::gram`]; `invalid-argument` for more eigenvalues than columns, and for means or
    /// factors that are not as many.
    pub fn leading(
        &self,
        key: &MatrixKey,
        rows: &Selection,
        cols: &Selection,
        plan: &Plan,
        wanted: Wanted<'_>,
        progress: Progress<'_>,
    ) -> Result<Leading> {
        matrix::leading(Part { snapshot: &self.snapshot, key, rows, cols }, plan, wanted, progress)
    }

    /// The work for the answer of [`Dataset::reduce`], [`Dataset::gram`] or [`Dataset::rank_sums`], or for a
    /// pass of [`Dataset::leading`] (whose search is [`crate::linear::Lanczos`]), in pieces that are done apart,
    /// also on other machines, by so many workers. The answer does not depend on how many they are, bit by bit.
    ///
    /// # Errors
    /// Those of these methods.
    pub fn pieces(
        &self,
        key: &MatrixKey,
        rows: &Selection,
        cols: &Selection,
        plan: &Plan,
        question: Question,
        workers: usize,
    ) -> Result<Pieces> {
        matrix::pieces(Part { snapshot: &self.snapshot, key, rows, cols }, plan, question, workers)
    }

    /// Does a piece of the work, in all threads, for [`Pieces::take`].
    ///
    /// # Errors
    /// Those of these methods; `invalid-argument` for a piece of another question.
    #[expect(clippy::too_many_arguments, reason = "a part of a matrix, and what to do with it")]
    pub fn work(
        &self,
        key: &MatrixKey,
        rows: &Selection,
        cols: &Selection,
        plan: &Plan,
        question: &Question,
        piece: &Piece,
        progress: Progress<'_>,
    ) -> Result<Vec<u8>> {
        matrix::work(Part { snapshot: &self.snapshot, key, rows, cols }, plan, question, piece, progress)
    }

    /// The columns of var that may hold ids of a vocabulary: the names of the genes as `gene_id`,
    /// and the text columns; or `only` one of these.
    ///
    /// # Errors
    /// `unknown-column` if there is no such text column; `corrupt`.
    pub fn gene_columns(&self, only: Option<&str>) -> Result<Vec<GeneColumn>> {
        tokenize::gene_columns(&self.snapshot, only)
    }

    /// Tokenizes cells in the order given, over X.
    ///
    /// # Errors
    /// Those of reading and of [`Tokenizer::tokenize`].
    pub fn tokenize(&self, tokenizer: &Tokenizer, cells: &Selection, random: &mut Random) -> Result<Tokens> {
        tokenize::tokenize(&self.snapshot, tokenizer, cells, random)
    }

    /// The median of each gene over the cells that have it, of X with `target_sum` counts in each
    /// cell: what Geneformer's tokenizer scales by.
    ///
    /// # Errors
    /// Those of reading; `ambiguous-name` for genes of one name.
    pub fn gene_medians(&self, target_sum: f64) -> Result<GeneTable> {
        tokenize::gene_medians(&self.snapshot, target_sum)
    }
}
