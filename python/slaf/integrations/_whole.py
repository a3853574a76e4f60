"""What is done with a data set as a whole: writing, chunks, transposing, comparing."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Collection, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, cast

import numpy as np
import numpy.typing as npt

from slaf._errors import from_kind, invalid
from slaf._progress import bar
from slaf._selectors import Axis
from slaf.integrations import _write
from slaf.integrations._contents import SLOTS, Contents
from slaf.integrations._foreign import not_in_memory
from slaf.integrations._lazy import LazyMatrix
from slaf.integrations._mappings import LazyMapping, subset

if TYPE_CHECKING:
    from slaf._report import Report
    from slaf.integrations.anndata import LazyAnnData


class Whole:
    """What a :class:`LazyAnnData` does with all of its slots."""

    _contents: Contents

    @property
    @abstractmethod
    def X(self) -> LazyMatrix | None:
        """The matrix."""

    @property
    @abstractmethod
    def is_view(self) -> bool:
        """Whether this is a selection of another object."""

    @property
    @abstractmethod
    def n_obs(self) -> int:
        """Number of cells."""

    @abstractmethod
    def copy(self) -> LazyAnnData:
        """An object that changes independently."""

    # Writing

    def save(self) -> Report:
        """Write what was changed into the store, as its next version.

        Written are columns of ``obs`` and ``var``, layers, entries of ``obsm``, ``varm``, ``obsp``
        and ``varp``, and ``uns``; what was deleted is not in the new version. Nothing else is
        rewritten. ``X`` and ``raw`` of a store stay as they are: a warning says so where they were
        changed, and the change stays in memory. The object goes on over the new version.

        Returns
        -------
        Report
            The new ``version``, what was ``written`` and ``removed``, and what is ``left``: changed
            in memory alone.

        Raises
        ------
        InvalidArgumentError
            For a part of the store, and for names of cells or genes that were changed.
        ConflictError
            If somebody else changed the same ``uns`` meanwhile.

        Examples
        --------
        >>> from slaf.integrations import read_slaf
        >>> adata = read_slaf(growing_path)
        >>> adata.obs["is_large"] = adata.obs["n_counts"] > 3
        >>> adata.save().written
        ['obs/is_large']
        """
        from slaf.integrations._save import save

        return save(cast("LazyAnnData", self))

    def write(
        self,
        filename: str | os.PathLike[str],
        *,
        convert_strings_to_categoricals: bool = False,
        compression: str | None = None,
        compression_opts: Any = None,
        as_dense: Collection[str] = (),
    ) -> None:
        """Write the present state to an h5ad file, or to a new store.

        Matrices stream, in memory that does not grow with the number of counts; the annotation is
        read, unless nothing was touched and the whole data set streams from the store.

        Parameters
        ----------
        filename
            Where to. A file that ends in ``.h5ad`` is replaced; a path that ends in ``.slaf`` is
            that of a new store, made by way of a temporary h5ad file.
        convert_strings_to_categoricals
            Whether columns of strings that repeat become categorical in the file; this object stays
            as it is.
        compression, compression_opts, as_dense
            As in ``AnnData.write_h5ad``; for an h5ad file.

        Raises
        ------
        AlreadyExistsError
            If there is something at the path of a new store.
        InvalidArgumentError
            For a path with another ending.
        """
        suffix = Path(os.fspath(filename)).suffix
        given = {
            "convert_strings_to_categoricals": convert_strings_to_categoricals,
            "compression": compression,
            "compression_opts": compression_opts,
            "as_dense": as_dense,
        }
        if suffix == ".slaf":
            from slaf.data import SLAFConverter

            wrong = [name for name, value in given.items() if value]
            if wrong:
                raise invalid(f"{wrong[0]} is for h5ad files, not for a store")
            SLAFConverter().convert_anndata(self, filename)
            return
        if suffix != ".h5ad":
            raise invalid(
                f"{os.fspath(filename)!r} ends neither in .h5ad nor in .slaf: write() makes h5ad "
                "files and stores; for zarr call write_zarr()"
            )
        if not (self.is_view or self._is_touched() or any(given.values())):
            with bar() as progress:
                self._contents.store.native.export(filename, "h5ad", True, False, progress)
            return
        _write.write_h5ad(
            cast("LazyAnnData", self),
            filename,
            convert_strings=convert_strings_to_categoricals,
            as_dense=as_dense,
            **_given(compression=compression, compression_opts=compression_opts),
        )

    write_h5ad = write

    def write_zarr(
        self,
        store: str | os.PathLike[str],
        *,
        chunks: tuple[int, ...] | None = None,
        convert_strings_to_categoricals: bool = False,
    ) -> None:
        """Write the present state to a zarr folder; matrices stream, as in :meth:`write`.

        Parameters
        ----------
        store
            A path; a zarr folder that is there is replaced when the new one is complete.
        chunks
            Shape of the chunks of a dense X.
        convert_strings_to_categoricals
            Whether columns of strings that repeat become categorical in the folder.

        Raises
        ------
        AlreadyExistsError
            If there is something else at the path.
        """
        if not isinstance(store, (str, os.PathLike)):
            raise invalid(f"write_zarr() takes a path, not a {type(store).__name__}")
        _write.write_zarr(
            cast("LazyAnnData", self),
            store,
            convert_strings=convert_strings_to_categoricals,
            chunks=chunks,
        )

    def _is_touched(self) -> bool:
        contents = self._contents
        return (
            not contents.is_stored
            or bool(contents.frames)
            or contents.uns is not None
            or any(mapping.touched for mapping in contents.mappings.values())
        )

    # Chunks

    def chunked_X(self, chunk_size: int | None = None) -> Iterator[tuple[Any, int, int]]:
        """X in pieces of rows, each read in its original encoding.

        Parameters
        ----------
        chunk_size
            Rows of a piece; 6000 by default, as AnnData has it.

        Yields
        ------
        The piece, and the numbers of its first row and of the row after its last.
        """
        chunk_size = 6000 if chunk_size is None else chunk_size
        if chunk_size < 1:
            raise invalid(f"chunk_size is {chunk_size}: a chunk has at least one row")
        X = self._needed_X()
        for start in range(0, self.n_obs, chunk_size):
            end = min(start + chunk_size, self.n_obs)
            yield X[start:end].to_memory(), start, end

    def chunk_X(
        self, select: int | Sequence[int] | npt.NDArray[Any] = 1000, *, replace: bool = True
    ) -> npt.NDArray[Any]:
        """Rows of X as a dense array.

        Parameters
        ----------
        select
            The rows; or how many, to draw them with numpy's global generator as AnnData does.
        replace
            Whether a row may be drawn more than once.
        """
        X = self._needed_X()
        if isinstance(select, (int, np.integer)):
            select = np.random.choice(self.n_obs, min(int(select), self.n_obs), replace)
        dense: npt.NDArray[Any] = X[np.asarray(select)].toarray()
        return dense

    def _needed_X(self) -> LazyMatrix:
        if self.X is None:
            raise invalid("there is no X")
        return self.X

    # Transposing

    @property
    def T(self) -> LazyAnnData:
        """The transpose; see :meth:`transpose`."""
        return self.transpose()

    def transpose(self) -> LazyAnnData:
        """Give cells and genes in each other's place, without raw, as AnnData does.

        X and layers stay lazy; of their reductions sums and products stream, and others read.
        """
        source = self.copy()._contents
        axes = {"obs": Axis(source.n("var")), "var": Axis(source.n("obs"))}
        contents = Contents(source.store, axes)
        contents.frames = {"obs": source.frame("var"), "var": source.frame("obs")}
        contents.matrices = {name: m.T for name, m in source.matrices.items()}
        contents.layers = {name: m.T for name, m in source.layers.items()}
        contents.uns = source.get_uns()
        for slot in SLOTS:
            of, ndim = slot[:3], 1 if slot.endswith("m") else 2
            other = source.mappings[f"{'var' if of == 'obs' else 'obs'}{slot[3:]}"]
            load = partial(_entry, other, ndim)
            contents.mappings[slot] = LazyMapping(slot, axes[of], ndim, list(other), load)
        return self._of(contents)

    @abstractmethod
    def _of(self, contents: Contents) -> LazyAnnData:
        """A data set of its own with these contents."""

    # What AnnData refuses, and what would take it for an array

    def __eq__(self, other: object) -> NoReturn:
        raise _compared()

    def __ne__(self, other: object) -> NoReturn:
        raise _compared()

    def __lt__(self, other: object) -> NoReturn:
        raise _compared()

    def __le__(self, other: object) -> NoReturn:
        raise _compared()

    def __gt__(self, other: object) -> NoReturn:
        raise _compared()

    def __ge__(self, other: object) -> NoReturn:
        raise _compared()

    __hash__ = None  # type: ignore[assignment]

    def __contains__(self, key: object) -> NoReturn:
        message = "a data set has no `in`: ask its obs, var, obs_names or var_names"
        raise from_kind("unsupported-feature", message)

    def __setitem__(self, index: Any, value: Any) -> NoReturn:
        message = "values do not change in place: set X, a layer, or columns of obs and var"
        raise from_kind("unsupported-feature", message)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NoReturn:
        raise not_in_memory("a function that makes an array")

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> NoReturn:
        raise not_in_memory(f"np.{ufunc.__name__}")

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> NoReturn:
        raise not_in_memory(f"np.{function.__name__}")


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _entry(mapping: LazyMapping, ndim: int, name: str, rows: Axis) -> Any:
    """Rows of an entry that another slot has."""
    return subset(mapping[name], rows, ndim)


def _compared() -> Exception:
    message = (
        "data sets are not compared: compare X, obs or var, or use adata.to_memory(); for "
        "functions of scanpy call their like in slaf.integrations.pp"
    )
    return from_kind("unsupported-feature", message)
