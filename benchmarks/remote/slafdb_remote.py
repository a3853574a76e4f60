"""`slafdb`, told of the server by the environment: it has no options for that."""

from __future__ import annotations

from typing import Any

from remote import asking
from slaf import SLAFArray

GROUP = (
    "SELECT cell_type, COUNT(*) AS n, AVG(total_counts) AS mean FROM cells "
    "WHERE batch = '{}' GROUP BY cell_type"
)


class SlafdbRemote(asking.Store):
    """A handle with the default options: obs and var are loaded in the background."""

    def __init__(self, address: str, endpoint: str) -> None:
        self.array = SLAFArray(address)

    def cell_by_name(self, name: str) -> Any:
        """Long frame of one cell."""
        return self.array.get_cell_expression(name)

    def cell_by_number(self, number: int) -> Any:
        """Long frame of one cell."""
        return self.array.get_submatrix(cell_selector=[number])

    def gene(self, name: str, number: int) -> Any:
        """Long frame of one gene; the function for its numbers reads all counts."""
        return self.array.get_gene_expression(name)

    def group(self, batch: str) -> dict[str, tuple[int, float]]:
        """SQL."""
        found = self.array.query(GROUP.format(batch))
        return {name: (n, mean) for name, n, mean in found.iter_rows()}

    def cells(self, names: list[str], numbers: list[int]) -> Any:
        """Long frame of some cells."""
        return self.array.get_submatrix(cell_selector=numbers)


if __name__ == "__main__":
    asking.main(SlafdbRemote)
