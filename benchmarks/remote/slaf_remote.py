"""SLAF, through its public Python API."""

from __future__ import annotations

from typing import Any

from remote import access, asking
from slaf import SLAFArray

GROUP = (
    "SELECT cell_type, COUNT(*) AS n, AVG(total_counts) AS mean FROM cells "
    "WHERE batch = ? GROUP BY cell_type"
)


class SlafRemote(asking.Store):
    """A handle with the default options."""

    def __init__(self, address: str, endpoint: str) -> None:
        self.array = SLAFArray(address, storage_options=access.options(endpoint))

    def cell_by_name(self, name: str) -> Any:
        """Long frame of one cell."""
        return self.array.get_cell_expression(name)

    def cell_by_number(self, number: int) -> Any:
        """Long frame of one cell."""
        return self.array.get_cell_expression(number)

    def gene(self, name: str, number: int) -> Any:
        """CSR of one gene, by its name."""
        return self.array.to_csr(genes=[name])

    def group(self, batch: str) -> dict[str, tuple[int, float]]:
        """SQL."""
        return {name: (n, mean) for name, n, mean in self.array.query(GROUP, [batch]).iter_rows()}

    def cells(self, names: list[str], numbers: list[int]) -> Any:
        """CSR of some cells, by their numbers."""
        return self.array.to_csr(cells=numbers)


if __name__ == "__main__":
    asking.main(SlafRemote)
