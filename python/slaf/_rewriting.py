"""What writes a version anew: without some cells, or without what many changes left behind."""

from __future__ import annotations

import os

from slaf import _slaf
from slaf._boundary import ConvertOptions, RewriteOptions
from slaf._changing import Changing, grow_options
from slaf._numbers import budget, flag, path_text, text
from slaf._progress import bar
from slaf._report import Report


class Rewriting(Changing):
    """What writes all of a version anew."""

    def delete_cells(
        self, where: str, *, allow_loss: bool = False, memory: int | None = None
    ) -> Report:
        """Take cells out, as one new version: those for which a condition in SQL holds.

        All that stays is written anew, as a conversion does it. Older versions have the cells until
        :meth:`gc` removes these: then their bytes are gone.

        Parameters
        ----------
        where
            A condition over the columns of ``cells``, asked of the newest version. A cell for which
            it is null stays. Where it holds for no cell, no version is made.
        allow_loss
            Leave out frames of obsm, which are kept as they came, with all cells.
        memory
            Bytes to use, about; 1 GiB by default, 1 MiB at least.

        Raises
        ------
        QueryError
            For a condition that is wrong.
        InputError
            For frames of obsm, without ``allow_loss``.

        Examples
        --------
        >>> from slaf import SLAFArray
        >>> slaf_array = SLAFArray(growing_path)
        >>> slaf_array.delete_cells("batch = 'b2'").removed
        ['2 cells']
        >>> slaf_array.obs["batch"].unique().to_list()
        ['b1']
        """
        where, options = text("where", where), _rewrite_options(allow_loss, memory)
        with bar() as progress:
            told = _slaf.delete_cells(
                self._store.path, where, options, grow_options(self._store), progress
            )
        return self._told(told)

    def filter(
        self,
        where: str,
        target: str | os.PathLike[str],
        *,
        overwrite: bool = False,
        allow_loss: bool = False,
        memory: int | None = None,
    ) -> Report:
        """Make a new store of some cells: those for which a condition in SQL holds.

        The new store has all genes, layers, arrays and graphs of these cells, and ``uns``. This one
        does not change.

        Parameters
        ----------
        where
            A condition over the columns of ``cells``, asked of the version of this object.
        target
            Path or address of the new store; this one's ``storage_options`` hold for it, too.
        overwrite
            Replace a store that is there.
        allow_loss
            Leave out frames of obsm, which are kept as they came, with all cells.
        memory
            Bytes to use, about; 1 GiB by default, 1 MiB at least.

        Returns
        -------
        Report
            As of a conversion.

        Examples
        --------
        >>> from slaf import SLAFArray
        >>> SLAFArray(store_path).filter("n_counts > 2", tmp_path / "rich.slaf").n_cells
        3
        >>> SLAFArray(tmp_path / "rich.slaf").obs["n_counts"].to_list()
        [3, 4, 5]
        """
        where, output = text("where", where), path_text("target", target)
        rewrite = _rewrite_options(allow_loss, memory)
        options = ConvertOptions(
            overwrite=flag("overwrite", overwrite),
            allow_loss=rewrite.allow_loss,
            by_gene=True,
            memory=rewrite.memory,
            join="outer",
            source_column=None,
            fill_layers=False,
            genome=None,
            feature_type=None,
            modality=None,
            genes_in_rows=None,
            measured=None,
            durability="full",
            storage_options=self._store.storage_options,
        )
        with bar() as progress:
            told = self._store.native.filter(where, output, options, progress)
        return Report(*told)

    def optimize(self, *, force: bool = False, memory: int | None = None) -> Report:
        """Write the newest version anew where that makes it smaller or quicker to read.

        That is: many appends made small fragments and stripes, dropped columns take space, or other
        genes are popular by now than when they were ranked. Cells, genes and values stay as they
        are, in their order. Older versions stay, and so do objects that show one.

        Parameters
        ----------
        force
            Write also where there is little to gain.
        memory
            Bytes to use, about; 1 GiB by default, 1 MiB at least.

        Returns
        -------
        Report
            ``rewritten``: whether a version was made; ``reasons``; ``fragments``, ``stripes`` and
            ``bytes``, each before and after.

        Examples
        --------
        >>> from slaf import SLAFArray
        >>> slaf_array = SLAFArray(growing_path)
        >>> slaf_array.optimize().reasons
        ['there is little to gain']
        >>> slaf_array.optimize(force=True).rewritten
        True
        """
        options, force = _rewrite_options(False, memory), flag("force", force)
        with bar() as progress:
            told = _slaf.optimize(
                self._store.path, force, options, grow_options(self._store), progress
            )
        return self._told(told)


def _rewrite_options(allow_loss: bool, memory: int | None) -> RewriteOptions:
    return RewriteOptions(allow_loss=flag("allow_loss", allow_loss), memory=budget(memory))
