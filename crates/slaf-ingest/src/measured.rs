//! Which genes were measured in which cells: a gene that the panel of a source does not have is not
//! zero in its cells, but unknown.

use arrow::buffer::BooleanBuffer;
use slaf_core::order::DROP;
use std::collections::HashMap;
use std::ops::Range;

/// Consecutive cells in which the same genes were measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeasuredSource {
    /// Where the cells come from; none where nobody said.
    pub name: Option<String>,
    /// The number of the first of them.
    pub first_cell: u64,
    /// How many there are, at least one.
    pub n_cells: u64,
    /// The place of their genes in [`Measured::sets`].
    pub set: usize,
}

impl MeasuredSource {
    /// The numbers of its cells.
    pub fn cells(&self) -> Range<u64> {
        self.first_cell..self.first_cell + self.n_cells
    }
}

/// The genes that were measured in each cell, by the sources of the cells. Equal sets of genes are
/// there once.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    n_genes: u64,
    sources: Vec<MeasuredSource>,
    sets: Vec<BooleanBuffer>,
    /// Where the set of these bits is.
    known: HashMap<Vec<u64>, usize>,
}

impl PartialEq for Measured {
    fn eq(&self, other: &Measured) -> bool {
        (self.n_genes, &self.sources, &self.sets) == (other.n_genes, &other.sources, &other.sets)
    }
}

impl Measured {
    /// No cells yet, of so many genes.
    pub fn new(n_genes: u64) -> Measured {
        Measured { n_genes, ..Measured::default() }
    }

    /// The number of genes, measured or not.
    pub fn n_genes(&self) -> u64 {
        self.n_genes
    }

    /// The number of cells.
    pub fn n_cells(&self) -> u64 {
        self.sources.last().map_or(0, |s| s.first_cell + s.n_cells)
    }

    /// The sources in the order of their cells, without gaps.
    pub fn sources(&self) -> &[MeasuredSource] {
        &self.sources
    }

    /// Sets of genes: a bit for each gene.
    pub fn sets(&self) -> &[BooleanBuffer] {
        &self.sets
    }

    /// The genes of a source: a bit for each gene.
    pub fn genes(&self, source: &MeasuredSource) -> &BooleanBuffer {
        &self.sets[source.set]
    }

    /// Adds cells behind the others. Those of one name and with the same genes are one source.
    pub fn push(&mut self, name: Option<&str>, n_cells: u64, genes: &BooleanBuffer) {
        debug_assert_eq!(genes.len() as u64, self.n_genes);
        if n_cells == 0 {
            return;
        }
        let n_sets = self.sets.len();
        let set = *self.known.entry(genes.bit_chunks().iter_padded().collect()).or_insert(n_sets);
        if set == n_sets {
            self.sets.push(genes.clone());
        }
        let first_cell = self.n_cells();
        match self.sources.last_mut() {
            Some(last) if last.set == set && last.name.as_deref() == name => last.n_cells += n_cells,
            _ => self.sources.push(MeasuredSource { name: name.map(str::to_owned), first_cell, n_cells, set }),
        }
    }

    /// Adds cells of another table, whose genes have other numbers here; `DROP` for none. A source
    /// without a name gets `name`.
    pub(crate) fn extend(&mut self, other: &Measured, genes: &[u32], name: Option<&str>) {
        let sets: Vec<BooleanBuffer> = other.sets.iter().map(|set| renumbered(set, genes, self.n_genes)).collect();
        for source in &other.sources {
            self.push(source.name.as_deref().or(name), source.n_cells, &sets[source.set]);
        }
    }

    /// Adds cells in which all genes of an input were measured.
    pub(crate) fn extend_all(&mut self, n_cells: u64, genes: &[u32], name: Option<&str>) {
        let all = BooleanBuffer::new_set(genes.len());
        self.push(name, n_cells, &renumbered(&all, genes, self.n_genes));
    }

    /// Those of some cells, in their order; of cells that there are not, nothing.
    pub fn of_cells(&self, cells: impl Iterator<Item = u64>) -> Measured {
        let mut found = Measured::new(self.n_genes);
        for (source, n) in self.runs(cells) {
            found.push(source.name.as_deref(), n, self.genes(source));
        }
        found
    }

    /// Those of some genes, in their order.
    #[must_use]
    pub fn of_genes(&self, genes: &[u64]) -> Measured {
        let chosen = |set: &BooleanBuffer| genes.iter().map(|&gene| set.value(gene as usize)).collect();
        let sets: Vec<BooleanBuffer> = self.sets.iter().map(chosen).collect();
        let mut found = Measured::new(genes.len() as u64);
        for source in &self.sources {
            found.push(source.name.as_deref(), source.n_cells, &sets[source.set]);
        }
        found
    }

    /// The set of each of some cells, as a place among [`Measured::sets`].
    pub fn sets_of(&self, cells: impl Iterator<Item = u64>) -> Vec<usize> {
        self.runs(cells).flat_map(|(source, n)| std::iter::repeat_n(source.set, n as usize)).collect()
    }

    /// The sources of some cells, with the number of cells that follow each other there.
    fn runs(&self, cells: impl Iterator<Item = u64>) -> impl Iterator<Item = (&MeasuredSource, u64)> {
        let mut cells = cells.peekable();
        std::iter::from_fn(move || {
            loop {
                let Some(source) = self.source_of(cells.next()?) else { continue };
                let mut n = 1;
                while cells.next_if(|cell| source.cells().contains(cell)).is_some() {
                    n += 1;
                }
                return Some((source, n));
            }
        })
    }

    /// The place of the source of a cell.
    fn place_of(&self, cell: u64) -> usize {
        self.sources.partition_point(|s| s.first_cell + s.n_cells <= cell)
    }

    /// The source of a cell; none for a cell that there is not.
    pub fn source_of(&self, cell: u64) -> Option<&MeasuredSource> {
        self.sources.get(self.place_of(cell))
    }

    /// Calls all sources of the cells from `first_cell` on the same.
    pub fn rename_from(&mut self, first_cell: u64, name: &str) {
        let named = std::mem::replace(self, Measured::new(self.n_genes));
        for source in &named.sources {
            // Cells before and behind may be one source so far.
            let before = first_cell.saturating_sub(source.first_cell).min(source.n_cells);
            self.push(source.name.as_deref(), before, named.genes(source));
            self.push(Some(name), source.n_cells - before, named.genes(source));
        }
    }

    /// Whether every gene was measured in every cell: then there is nothing to tell.
    pub fn is_all(&self) -> bool {
        self.sets.iter().all(|set| set.count_set_bits() == set.len())
    }

    /// For each gene, the number of cells in which it was measured.
    pub fn cells_per_gene(&self) -> Vec<u64> {
        let mut cells_of_set = vec![0; self.sets.len()];
        self.sources.iter().for_each(|s| cells_of_set[s.set] += s.n_cells);
        let mut counts = vec![0; self.n_genes as usize];
        for (set, n) in self.sets.iter().zip(cells_of_set) {
            set.set_indices().for_each(|gene| counts[gene] += n);
        }
        counts
    }
}

/// A set of genes that have other numbers among `n_genes`.
fn renumbered(set: &BooleanBuffer, genes: &[u32], n_genes: u64) -> BooleanBuffer {
    let mut bits = vec![false; n_genes as usize];
    for gene in set.set_indices() {
        let new = genes[gene];
        if new != DROP {
            bits[new as usize] = true;
        }
    }
    BooleanBuffer::from(bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(bits: &str) -> BooleanBuffer {
        bits.bytes().map(|b| b == b'1').collect()
    }

    fn runs(measured: &Measured) -> Vec<(Option<&str>, u64, u64, usize)> {
        measured.sources().iter().map(|s| (s.name.as_deref(), s.first_cell, s.n_cells, s.set)).collect()
    }

    #[test]
    fn equal_sets_are_there_once_and_equal_neighbours_are_one_source() {
        let mut measured = Measured::new(10);
        let [all, some] = [set("1111111111"), set("1110000001")];
        measured.push(Some("a"), 3, &all);
        measured.push(Some("a"), 2, &all);
        measured.push(Some("b"), 4, &some);
        measured.push(Some("c"), 0, &set("0000000000"));
        // The same bits within a larger buffer.
        measured.push(None, 1, &set("000111000000100").slice(3, 10));
        measured.push(None, 1, &set("0001111111111").slice(3, 10));
        assert_eq!(runs(&measured), [(Some("a"), 0, 5, 0), (Some("b"), 5, 4, 1), (None, 9, 1, 1), (None, 10, 1, 0)]);
        assert_eq!(measured.sets(), [all, some]);
        assert_eq!((measured.n_cells(), measured.is_all()), (11, false));
        assert_eq!(measured.cells_per_gene(), [11, 11, 11, 6, 6, 6, 6, 6, 6, 11]);
        let place = |cell| measured.source_of(cell).map(|s| s.first_cell);
        assert_eq!([0, 4, 5, 9, 10, 11].map(place), [Some(0), Some(0), Some(5), Some(9), Some(10), None]);
    }

    #[test]
    fn some_cells_keep_what_was_measured() {
        let mut measured = Measured::new(2);
        measured.push(Some("a"), 3, &set("11"));
        measured.push(Some("b"), 3, &set("10"));
        measured.push(Some("a"), 3, &set("11"));
        let of = |cells: &[u64]| measured.of_cells(cells.iter().copied());
        assert_eq!(runs(&of(&[1, 4, 8])), [(Some("a"), 0, 1, 0), (Some("b"), 1, 1, 1), (Some("a"), 2, 1, 0)]);
        assert_eq!(runs(&of(&[8, 0, 1, 3])), [(Some("a"), 0, 3, 0), (Some("b"), 3, 1, 1)]);
        assert!(of(&[0, 1, 7]).is_all());
        assert!(of(&[]).is_all());
        assert_eq!(runs(&of(&[])), []);
        assert_eq!(measured.sets_of([8, 0, 4, 9, 5].into_iter()), [0, 0, 1, 1]);
        // The set of what is left comes first.
        assert_eq!(runs(&of(&[4])), [(Some("b"), 0, 1, 0)]);
    }

    #[test]
    fn some_genes_keep_where_they_were_measured() {
        let mut measured = Measured::new(3);
        measured.push(Some("a"), 3, &set("110"));
        measured.push(Some("a"), 2, &set("111"));
        measured.push(Some("b"), 1, &set("010"));
        let of = measured.of_genes(&[1, 0, 1]);
        assert_eq!(runs(&of), [(Some("a"), 0, 5, 0), (Some("b"), 5, 1, 1)]);
        assert_eq!(of.sets(), [set("111"), set("101")]);
        assert!(measured.of_genes(&[1]).is_all() && measured.of_genes(&[]).is_all());
    }

    #[test]
    fn genes_get_other_numbers_and_sources_names() {
        let mut panel = Measured::new(3);
        panel.push(None, 2, &set("110"));
        panel.push(Some("own"), 1, &set("111"));
        let mut all = Measured::new(5);
        all.extend_all(4, &[0, 1, DROP], Some("first"));
        all.extend(&panel, &[4, DROP, 0], Some("second"));
        assert_eq!(runs(&all), [(Some("first"), 0, 4, 0), (Some("second"), 4, 2, 1), (Some("own"), 6, 1, 2)]);
        assert_eq!(all.sets(), [set("11000"), set("00001"), set("10001")]);
        all.rename_from(4, "night 2");
        assert_eq!(runs(&all), [(Some("first"), 0, 4, 0), (Some("night 2"), 4, 2, 1), (Some("night 2"), 6, 1, 2)]);
        all.rename_from(5, "again");
        let [of_two, of_again] = [(Some("night 2"), 4, 1, 1), (Some("again"), 5, 1, 1)];
        assert_eq!(runs(&all), [(Some("first"), 0, 4, 0), of_two, of_again, (Some("again"), 6, 1, 2)]);
    }
}
