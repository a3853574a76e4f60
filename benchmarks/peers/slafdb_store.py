"""`slafdb`, the Python reference of this format family."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from peers import harness
from slaf import SLAFArray
from slaf.data import SLAFConverter
from slaf.integrations import read_slaf


class SlafdbStore(harness.Store):
    """Variants: `default`, and `plain` without the integer layout.

    The integer layout fails on predicates in SQL, hence the second variant.
    """

    def __init__(self, target: Path, variant: str) -> None:
        self.target = target
        self.variant = variant
        self.array = SLAFArray(str(target))

    @classmethod
    def build(cls, source: Path, target: Path, variant: str) -> bool:
        """Converts with the default options, or without the integer layout."""
        options = {} if variant == "default" else {"use_optimized_dtypes": False}
        SLAFConverter(**options).convert(str(source), str(target))
        return True

    def cells(self, rows: list[int]) -> Any:
        """Long frame of some cells, by name."""
        names = self.array.obs["cell_id"][rows].to_list()
        return self.array.get_cell_expression(names)

    def genes(self, cols: list[int]) -> Any:
        """Long frame of some genes, by the faster of two ways that answer."""
        if self.variant == "default" or len(cols) > 1:
            # The function below fails in the integer layout, and takes minutes for many genes.
            return self.array.get_submatrix(gene_selector=cols)
        names = self.array.var["gene_id"][cols].to_list()
        return self.array.get_gene_expression(names)

    def submatrix(self, rows: list[int], cols: list[int]) -> Any:
        """Long frame of some genes in some cells."""
        return self.array.get_submatrix(cell_selector=rows, gene_selector=cols)

    def everything(self) -> Any:
        """The lazy matrix, computed."""
        return read_slaf(str(self.target)).X.compute()

    def gene_sums(self) -> Any:
        """Aggregation."""
        return self.array.query(
            'SELECT gene_integer_id AS "index", SUM(value) AS value '
            "FROM expression GROUP BY gene_integer_id"
        )

    def cell_sums(self) -> Any:
        """Aggregation."""
        return self.array.query(
            'SELECT cell_integer_id AS "index", SUM(value) AS value '
            "FROM expression GROUP BY cell_integer_id"
        )

    def filter_cells(self, cell_type: str, min_genes: int) -> Any:
        """Keyword filters."""
        return self.array.filter_cells(cell_type=cell_type, n_genes_by_counts=f">={min_genes}")

    def filter_counts(self, cell_type: str, batch: str) -> Any:
        """Names that a filter returned, as the selector of the counts."""
        found = self.array.filter_cells(cell_type=cell_type, batch=batch)
        return self.array.get_cell_expression(found["cell_id"].to_list())


if __name__ == "__main__":
    harness.main(SlafdbStore)
