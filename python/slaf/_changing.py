"""What all changes of a store share."""

from __future__ import annotations

from slaf import _slaf
from slaf._boundary import GrowOptions
from slaf._report import Report
from slaf._store import Store


def grow_options(store: Store) -> GrowOptions:
    """Give the options of a change of a store."""
    return GrowOptions(
        durability="full",
        storage_options=store.storage_options,
        version=store.version,
        write_id=store.native.write_id,
    )


class Changing:
    """An object that shows a version of a store, and moves to those that it makes."""

    @property
    def _store(self) -> Store:
        raise NotImplementedError

    def _move(self, version: int) -> None:
        """Show another version."""
        raise NotImplementedError

    def _told(self, told: tuple[int, str, str]) -> Report:
        version, text, fields = told
        self._move(version)
        return Report(text, fields)

    def refresh(self) -> int:
        """Move to the newest version of the store.

        Returns
        -------
        int
            The version that the object shows now.

        Raises
        ------
        ConflictError
            If another store is in its place by now: open that one.
        """
        newest = _slaf.newest_version(self._store.path, grow_options(self._store))
        if newest != self._store.version:
            self._move(newest)
        return newest
