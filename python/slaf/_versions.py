"""The versions of a store: names for them, going back, comparing and removing."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np

from slaf import _slaf
from slaf._changing import Changing, grow_options
from slaf._errors import invalid
from slaf._numbers import flag, text, whole
from slaf._report import Report
from slaf._store import Store

#: No version is older.
_LONGEST = timedelta(days=365_000)


class Versions(Changing):
    """What tells, names and removes versions."""

    def tag(self, name: str, version: int | None = None) -> int:
        """Give a version a name, that of this object by default.

        ``SLAFArray(path, version=name)`` opens it, and :meth:`gc` keeps it.

        Returns
        -------
        int
            The version that has the name.

        Raises
        ------
        AlreadyExistsError
            If another version has the name.

        Examples
        --------
        >>> from slaf import SLAFArray
        >>> slaf_array = SLAFArray(growing_path)
        >>> slaf_array.tag("raw") == slaf_array.version
        True
        >>> SLAFArray(growing_path, version="raw").version == slaf_array.version
        True
        """
        if version is None:
            version = self._store.version
        version = whole("version", version, 1, (1 << 64) - 1)
        return _slaf.tag(self._store.path, text("name", name), version, grow_options(self._store))

    def untag(self, name: str) -> int:
        """Take a name away; gives the version that had it."""
        return _slaf.untag(self._store.path, text("name", name), grow_options(self._store))

    def rollback(self, to: int | str) -> Report:
        """Make a new version that is as an older one was.

        The versions between stay. The object moves to the new version.

        Parameters
        ----------
        to
            A version, or its tag.
        """
        # What mends a store whose newest version is damaged does not open that one.
        number = self._number(to) if isinstance(to, str) else whole("to", to, 1, (1 << 64) - 1)
        return self._told(_slaf.rollback(self._store.path, number, grow_options(self._store)))

    def diff(self, a: int | str | datetime, b: int | str | datetime | None = None) -> Report:
        """Tell what differs between two versions.

        Parameters
        ----------
        a, b
            Versions, tags or times; ``b`` is the version of this object by default.

        Returns
        -------
        Report
            ``n_cells`` and ``n_genes`` of both, ``added``, ``removed`` and ``changed`` slots, and
            ``cells_added``, the range of rows that ``b`` has after those of ``a``, if it grew from
            that.
        """
        store = self._store
        versions = (self._number(a), store.version if b is None else self._number(b))
        return Report(*_slaf.diff(store.path, versions, store.storage_options))

    def _number(self, version: int | str | datetime) -> int:
        """The number of a version, of the one with a tag, or of a time."""
        if version is None:
            raise invalid("a version is a number, a tag or a time, not None")
        return Store(self._store.path, version, self._store.storage_options).version

    def gc(self, older_than: timedelta | float, dry_run: bool = True) -> Report:
        """Remove old versions, and the files that no other version needs.

        The newest version stays, and so do versions with tags, and on a local disk those that an
        object in any process of this machine shows.

        Parameters
        ----------
        older_than
            Remove versions that are the newest no longer for so long: a ``timedelta``, or days.
        dry_run
            Only tell what would be removed.

        Returns
        -------
        Report
            ``versions``, ``files`` and ``bytes`` that go, and ``kept``: why others stay.
        """
        if isinstance(older_than, (int, float, np.integer, np.floating)) and not isinstance(
            older_than, bool
        ):
            # NaN is below nothing, and stays what it is.
            days = float(min(older_than, _LONGEST.days))
            older_than = timedelta(days=days) if days >= 0 else older_than
        if not isinstance(older_than, timedelta) or older_than < timedelta():
            raise invalid(f"older_than is a timedelta or a number of days, not {older_than!r}")
        seconds, dry_run = older_than.total_seconds(), flag("dry_run", dry_run)
        return Report(*_slaf.gc(self._store.path, seconds, dry_run, grow_options(self._store)))
