"""Genes that tell groups of cells apart."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from slaf._boundary import Labels
from slaf._errors import from_kind, invalid
from slaf._numbers import whole
from slaf.integrations._lazy import LazyMatrix
from slaf.integrations._workers import on_workers
from slaf.integrations.anndata import LazyAnnData
from slaf.integrations.scanpy._common import checked, column, mask_of, matrix_of
from slaf.integrations.scanpy._rank_tests import (
    Floats,
    Groups,
    Tested,
    exponentials,
    group_means,
    log2_fold,
    logreg,
    t_test,
    undo_log,
    wilcoxon,
)

if TYPE_CHECKING:
    import pandas as pd

Method: TypeAlias = Literal["t-test", "t-test_overestim_var", "wilcoxon", "logreg"]
METHODS = ("logreg", "t-test", "wilcoxon", "t-test_overestim_var")
CORRECTIONS = ("benjamini-hochberg", "bonferroni")


def rank_genes_groups(
    adata: LazyAnnData,
    groupby: str,
    *,
    mask_var: npt.NDArray[np.bool_] | str | None = None,
    use_raw: bool | None = None,
    groups: Literal["all"] | Iterable[str] = "all",
    reference: str = "rest",
    n_genes: int | None = None,
    rankby_abs: bool = False,
    pts: bool = False,
    key_added: str | None = None,
    copy: bool = False,
    method: Method | None = None,
    corr_method: Literal["benjamini-hochberg", "bonferroni"] = "benjamini-hochberg",
    tie_correct: bool = False,
    layer: str | None = None,
    mean_in_log_space: bool = True,
    client: Any = None,
    **kwds: Any,
) -> LazyAnnData | None:
    """Rank genes by how well they tell each group of cells from the others.

    As ``scanpy.tl.rank_genes_groups``; its plots and ``sc.get.rank_genes_groups_df`` take the
    result. Expects logarithms. The t-tests take one pass over the cells. ``"wilcoxon"`` takes one
    over the genes, which ranks the very float32 values that scanpy ranks, for all groups at once:
    thousands of groups cost little more than one, and ties nothing. Both work in memory that does
    not grow with the number of values, and their answers do not depend on the number of threads.
    ``"logreg"`` is scikit-learn's, which needs the chosen cells and genes in memory, and a few
    times more.

    Parameters
    ----------
    adata
        The data set; ``uns[key_added]`` is set.
    groupby
        The column of obs that has the groups.
    mask_var
        The genes to take: an array, or the name of a column of var.
    use_raw
        Whether to use raw; ``None`` if there is one.
    groups
        The groups to rank genes for. Cells of the other groups, and of none, stay part of
        the rest.
    reference
        The group to compare with; ``"rest"`` for all cells that are not in the group.
    n_genes
        How many genes to list; all by default.
    rankby_abs
        Order genes by the absolute value of the score.
    pts
        Find the shares of cells with a value other than zero, too.
    key_added
        Where the result goes in uns: ``"rank_genes_groups"`` by default.
    copy
        Whether to change and return a copy.
    method
        ``"t-test"`` (Welch's, the default); ``"t-test_overestim_var"``, which takes the others for
        as few as the group; ``"wilcoxon"`` (the rank-sum test without continuity correction); or
        ``"logreg"``, whose scores are coefficients.
    corr_method
        How p-values are corrected for the number of genes.
    tie_correct
        Put the tie correction on the variance of ``"wilcoxon"``.
    layer
        What to use in place of X.
    mean_in_log_space
        Whether fold changes are those of means of logarithms, as scanpy up to 1.12 has them, or
        of means of the values whose logarithms they are, which take one more pass.
    client
        A ``dask.distributed.Client`` whose workers take the passes over the matrix, each reading
        the store itself. The result is the same, bit by bit.
    **kwds
        Arguments of ``sklearn.linear_model.LogisticRegression``.

    Returns
    -------
    LazyAnnData or None
        ``uns[key_added]`` has ``params`` and, with a field for each group, the record arrays
        ``names`` (object), ``scores`` and ``logfoldchanges`` (float32, to base 2), ``pvals`` and
        ``pvals_adj`` (float64), rows by falling score; with ``pts`` the frames ``pts`` and, without
        a reference, ``pts_rest`` (genes x groups, float64). ``"logreg"`` has names and scores
        alone, and of two groups only the first.

    Raises
    ------
    InvalidArgumentError
        For groups of fewer than two cells, unknown groups, and NaN with ``"wilcoxon"``; for
        ``"logreg"`` with ``client``.

    Examples
    --------
    >>> import numpy as np
    >>> from slaf.integrations import read_slaf
    >>> from slaf.integrations import scanpy as slaf_sc
    >>> adata = read_slaf(store_path)[:, :3].copy()
    >>> adata.X = np.log1p(adata.X)
    >>> adata.obs["batch"] = adata.obs["batch"].cat.remove_unused_categories()
    >>> slaf_sc.tl.rank_genes_groups(adata, "batch", method="wilcoxon", n_genes=1)
    >>> slaf_sc.get.rank_genes_groups_df(adata, "b2")[["names", "scores"]].round(2)
       names  scores
    0  gene2    0.23
    """
    adata = checked(adata, "rank_genes_groups")
    if n_genes is not None:
        # As in scanpy, 0 means all.
        n_genes = whole("n_genes", n_genes, 0, (1 << 63) - 1) or None
    mask = mask_of(adata, mask_var, "var")
    if use_raw is None:
        use_raw = adata.raw is not None
    elif use_raw and adata.raw is None:
        raise invalid("Received `use_raw=True`, but `adata.raw` is empty.")
    method = "t-test" if method is None else method
    if "only_positive" in kwds:
        rankby_abs = not kwds.pop("only_positive")
    if method not in METHODS:
        raise invalid(f"Method must be one of {METHODS}, not {method!r}.")
    if corr_method not in CORRECTIONS:
        raise invalid(f"Correction method must be one of {CORRECTIONS}, not {corr_method!r}.")
    if kwds and method != "logreg":
        raise invalid(f"{method!r} takes no {', '.join(kwds)}")
    if client is not None and method == "logreg":
        raise invalid("method='logreg' is scikit-learn's, of a matrix in memory: it has no client")
    if layer is not None and use_raw:
        raise invalid("Cannot specify `layer` and have `use_raw=True`.")
    adata = adata.copy() if copy else adata
    adata.strings_to_categoricals()
    labels = column(adata, groupby, "obs")
    chosen = _groups(labels, groupby, groups, reference)
    matrix, names = _matrix(adata, layer, use_raw, mask)
    matrix = on_workers(matrix, client)
    base = adata.uns.get("log1p", {}).get("base")

    def fold(ours: Floats, others: Floats) -> Floats:
        return log2_fold(undo_log(ours, base), undo_log(others, base))

    if method == "logreg":
        codes = labels.cat.codes.to_numpy()
        tested, reported = logreg(matrix, chosen, codes, **kwds), list(range(len(chosen.names)))
        reported = reported if len(reported) > 2 else reported[:1]
    else:
        if method == "wilcoxon":
            tested = wilcoxon(matrix, chosen, fold, tie_correct, names)
        else:
            tested = t_test(matrix, chosen, fold, method == "t-test_overestim_var")
        reported = chosen.compared
    folds = tested.folds
    if folds is not None and not mean_in_log_space:
        folds = log2_fold(*group_means(exponentials(matrix, base), chosen))
    if tested.is_counts:
        message = (
            "It seems you use rank_genes_groups on the raw count data. Please logarithmize your "
            "data before calling rank_genes_groups."
        )
        warnings.warn(message, UserWarning, stacklevel=2)
    result: dict[str, Any] = {
        "params": {
            "groupby": groupby,
            "reference": reference,
            "method": method,
            "use_raw": use_raw,
            "layer": layer,
            "corr_method": corr_method,
        }
    }
    if pts and tested.nonzero is not None:
        result |= _shares(tested, chosen, names)
    result |= _records(tested, folds, chosen, reported, names, n_genes, rankby_abs, corr_method)
    adata.uns["rank_genes_groups" if key_added is None else key_added] = result
    return adata if copy else None


def _groups(
    labels: pd.Series[Any], groupby: str, groups: Literal["all"] | Iterable[str], reference: str
) -> Groups:
    """The groups that are compared, in order."""
    import pandas as pd

    if not isinstance(labels.dtype, pd.CategoricalDtype):
        raise invalid(f"obs[{groupby!r}] is not categorical: use astype('category')")
    categories = list(labels.cat.categories)
    code_of = {name: code for code, name in enumerate(categories)}
    if isinstance(groups, str) and groups == "all":
        order = categories
    elif isinstance(groups, (str, int)):
        raise invalid("Specify a sequence of groups")
    else:
        order = list(dict.fromkeys(groups))
        # Numbers stand for texts, as in scanpy, unless the categories are numbers themselves.
        if order and isinstance(order[0], int) and order[0] not in code_of:
            order = [str(name) for name in order]
        if reference != "rest" and reference not in order:
            order.append(reference)
    if reference != "rest" and reference not in code_of:
        raise invalid(f"reference = {reference} needs to be one of groupby = {categories}.")
    unknown = [name for name in order if name not in code_of]
    if unknown or not order:
        raise invalid(f"groups {unknown} need to be some of groupby = {categories}.")
    codes = labels.cat.codes.to_numpy()
    of_code = np.full(len(categories) + 1, len(order), dtype=np.uint32)
    of_code[[code_of[name] for name in order]] = np.arange(len(order))
    # The code of no category is -1, the last.
    chosen = Groups(
        [str(name) for name in order],
        of_code[codes],
        None if reference == "rest" else order.index(reference),
    )
    repeated = [name for name, n in Counter(chosen.names).items() if n > 1]
    if repeated:
        raise invalid(
            f"several categories of obs[{groupby!r}] are {repeated[0]!r} as text, such as a number "
            "and a text, and fields of the result are named so: give them other names with "
            "cat.rename_categories, or leave some out with groups"
        )
    if "" in chosen.names:
        raise invalid(
            f"a category of obs[{groupby!r}] is '', which no field of the result can be named: "
            "give it a name with cat.rename_categories, or leave it out with groups"
        )
    few = [name for name, n in zip(chosen.names, chosen.sizes, strict=False) if n < 2]
    if few:
        raise invalid(
            f"Could not calculate statistics for groups {', '.join(few)} since they only contain "
            "one sample."
        )
    if not chosen.compared:
        raise invalid(f"the group {reference} is the reference, and there is no other to compare")
    if chosen.reference is None and (chosen.other_sizes() == 0).any():
        raise invalid(f"all cells are in one group of {groupby!r}: there is no rest")
    return chosen


def _matrix(
    adata: LazyAnnData, layer: str | None, use_raw: bool, mask: npt.NDArray[np.bool_] | None
) -> tuple[LazyMatrix, pd.Index[Any]]:
    """The matrix and the names of its genes."""
    matrix = matrix_of(adata, layer, use_raw)
    names = adata.raw.var_names if use_raw and adata.raw is not None else adata.var_names
    if mask is None:
        return matrix, names
    if len(mask) != len(names):
        raise invalid(f"mask_var is for {len(mask)} genes, but raw has {len(names)}")
    return matrix[:, mask], names[mask]


def _shares(tested: Tested, groups: Groups, names: pd.Index[Any]) -> dict[str, pd.DataFrame]:
    import pandas as pd

    slots = {"pts": tested.nonzero}
    if groups.reference is None:
        slots["pts_rest"] = tested.nonzero_others
    return {
        slot: pd.DataFrame(shares.T, index=names, columns=groups.names)
        for slot, shares in slots.items()
        if shares is not None
    }


def _records(
    tested: Tested,
    folds: Floats | None,
    groups: Groups,
    reported: list[int],
    names: pd.Index[Any],
    n_genes: int | None,
    rankby_abs: bool,
    corr_method: str,
) -> dict[str, Any]:
    """The record arrays, a field for each group."""
    n_all = len(names)
    n = n_all if n_genes is None else min(n_genes, n_all)
    dtypes = {"names": "O", "scores": "f4"}
    if tested.pvals is not None:
        dtypes |= {"pvals": "f8", "pvals_adj": "f8", "logfoldchanges": "f4"}
    records = {
        slot: np.recarray((n,), dtype=[(groups.names[g], dtype) for g in reported])
        for slot, dtype in dtypes.items()
    }
    in_memory = np.asarray(names, dtype=object)
    for g in reported:
        scores, name = tested.scores[g], groups.names[g]
        top = _top(np.abs(scores) if rankby_abs else scores, n)
        records["names"][name] = in_memory[top]
        records["scores"][name] = scores[top]
        if tested.pvals is not None and folds is not None:
            pvals = tested.pvals[g]
            records["pvals"][name] = pvals[top]
            records["pvals_adj"][name] = _corrected(pvals, corr_method)[top]
            records["logfoldchanges"][name] = folds[g][top]
    return records


def _top(scores: Floats, n: int) -> npt.NDArray[np.intp]:
    """The genes with the highest scores, in falling order; equal ones come as in scanpy."""
    if n == 0:
        return np.empty(0, dtype=np.intp)
    best = np.argpartition(scores, -n)[-n:]
    return best[np.argsort(scores[best])[::-1]]


def _corrected(pvals: Floats, method: str) -> Floats:
    """P-values corrected as by ``statsmodels.stats.multitest.multipletests``."""
    n = len(pvals)
    if method == "bonferroni":
        return np.minimum(pvals * n, 1.0)
    order = np.argsort(pvals)
    raised = pvals[order] / (np.arange(1, n + 1) / n)
    # Benjamini and Hochberg (1995): no p-value is above that of a larger one.
    corrected = np.empty(n)
    corrected[order] = np.minimum(np.minimum.accumulate(raised[::-1])[::-1], 1.0)
    return corrected


def filter_rank_genes_groups(
    adata: LazyAnnData,
    *,
    key: str | None = None,
    groupby: str | None = None,
    use_raw: bool | None = None,
    key_added: str = "rank_genes_groups_filtered",
    min_in_group_fraction: float = 0.25,
    min_fold_change: float = 1,
    max_out_group_fraction: float = 0.5,
    compare_abs: bool = False,
) -> None:
    """Leave only genes that many cells of a group and few others have, and that change enough.

    As ``scanpy.tl.filter_rank_genes_groups``. What :func:`rank_genes_groups` left in uns is used;
    the rest takes one pass over the genes that are listed.

    Parameters
    ----------
    adata
        The data set; ``uns[key_added]`` is set.
    key
        Where the result is in uns: ``"rank_genes_groups"`` by default.
    groupby, use_raw
        The column of obs, and whether to use raw; those of the result by default.
    key_added
        Where what is left goes in uns: ``names`` has NaN in place of genes that are left out.
    min_in_group_fraction, max_out_group_fraction
        More than the former of the cells of the group, and less than the latter of all others,
        have a value other than zero.
    min_fold_change
        The logarithm to base 2 of the fold change is above this.
    compare_abs
        Compare its absolute value.
    """
    import pandas as pd

    adata = checked(adata, "filter_rank_genes_groups")
    found = _result(adata, "rank_genes_groups" if key is None else key)
    params = found["params"]
    groupby = params["groupby"] if groupby is None else groupby
    use_raw = params["use_raw"] if use_raw is None else use_raw
    is_same = params["reference"] == "rest" and (groupby, use_raw) == (
        params["groupby"],
        params["use_raw"],
    )
    names = pd.DataFrame(found["names"])
    if is_same and "pts_rest" in found and "logfoldchanges" in found:
        _refuse_repeated(found["pts"].index)
        # What an earlier filter left out stays NaN.
        ins, outs = (
            {group: found[slot][group].reindex(names[group]).to_numpy() for group in names}
            for slot in ("pts", "pts_rest")
        )
        folds = {group: found["logfoldchanges"][group] for group in names}
    else:
        ins, outs, folds = _of_listed(adata, groupby, use_raw, names)
        if is_same and "logfoldchanges" in found:
            folds = {group: found["logfoldchanges"][group] for group in names}
    for group in names:
        fold = np.abs(folds[group]) if compare_abs else folds[group]
        kept = (ins[group] > min_in_group_fraction) & (outs[group] < max_out_group_fraction)
        names[group] = names[group].where(kept & (fold > min_fold_change))
    adata.uns[key_added] = {**found, "names": names.to_records(index=False)}


OfGroups: TypeAlias = "dict[str, Floats]"


def _of_listed(
    adata: LazyAnnData, groupby: str, use_raw: bool, names: pd.DataFrame
) -> tuple[OfGroups, OfGroups, OfGroups]:
    """Shares of cells in and out of groups, and fold changes, of the genes listed for each."""
    import pandas as pd

    labels = column(adata, groupby, "obs").astype("string")
    groups = [str(group) for group in names]
    codes = pd.Categorical(labels, categories=groups).codes
    chosen = Groups(groups, np.where(codes < 0, len(groups), codes).astype(np.uint32), None)
    matrix, all_names = _matrix(adata, None, use_raw, None)
    # Without those that an earlier filter left out.
    listed = pd.Index(pd.unique(names.to_numpy().ravel())).dropna()
    _refuse_repeated(all_names)
    at = all_names.get_indexer(listed)
    if (at < 0).any():
        where = "raw" if use_raw else "the data set"
        raise from_kind(
            "unknown-gene",
            f"{int((at < 0).sum()):,} genes of the result are not in {where} any more, such as "
            f"{listed[at < 0][0]!r}: call rank_genes_groups again, or with pts=True before genes "
            "are left out",
        )
    matrix = matrix[:, at]
    base = adata.uns.get("log1p", {}).get("base")
    moments = matrix.summarize(
        columns=True, groups=Labels(chosen.labels, len(groups) + 1)
    ).of_columns()
    n, n_other = chosen.sizes[:-1, None], chosen.other_sizes()[:, None]
    sums, counts = moments.sum.astype(np.float64), moments.nonzero.astype(np.int64)
    with np.errstate(invalid="ignore", divide="ignore"):
        ins, outs = counts[:-1] / n, chosen.others(counts, np.add) / n_other
        means = [sums[:-1] / n, chosen.others(sums, np.add) / n_other]
        folds = log2_fold(undo_log(means[0], base), undo_log(means[1], base))
    places = {group: listed.get_indexer(names[group]) for group in groups}

    def pick(of_all: Floats) -> OfGroups:
        # Place -1 is that of no gene.
        return {g: np.append(row, np.nan)[places[g]] for g, row in zip(groups, of_all, strict=True)}

    return pick(ins), pick(outs), pick(folds)


def _refuse_repeated(names: pd.Index[Any]) -> None:
    """Refuse names that say of several genes which one it is."""
    if not names.is_unique:
        raise from_kind(
            "ambiguous-name",
            f"the gene {names[names.duplicated()][0]!r} is there more than once, so that names of "
            "the result are those of several: call var_names_make_unique() and rank_genes_groups "
            "again",
        )


def _result(adata: LazyAnnData, key: str) -> Any:
    if key not in adata.uns:
        raise from_kind(
            "unknown-column", f"no uns[{key!r}]: call rank_genes_groups first, or name the key"
        )
    return adata.uns[key]


def rank_genes_groups_df(
    adata: LazyAnnData,
    group: str | Iterable[str] | None,
    *,
    key: str = "rank_genes_groups",
    pval_cutoff: float | None = None,
    log2fc_min: float | None = None,
    log2fc_max: float | None = None,
    gene_symbols: str | None = None,
) -> pd.DataFrame:
    """Show what :func:`rank_genes_groups` found as a frame, as ``scanpy.get`` does.

    Parameters
    ----------
    adata
        The data set.
    group
        One group, several, or ``None`` for all.
    key
        Where the result is in uns.
    pval_cutoff
        Only corrected p-values below this.
    log2fc_min, log2fc_max
        Only fold changes between these, both excluded.
    gene_symbols
        A column of var to put beside the genes.

    Returns
    -------
    pandas.DataFrame
        A row for each gene of each group: ``group`` (unless there is one), ``names``, ``scores``,
        ``logfoldchanges``, ``pvals``, ``pvals_adj``, and with shares of cells
        ``pct_nz_group`` and ``pct_nz_reference``.
    """
    import pandas as pd

    adata = checked(adata, "rank_genes_groups_df")
    found = _result(adata, key)
    there_are = list(found["names"].dtype.names)
    several = isinstance(group, Iterable) and not isinstance(group, str)
    # Categories that are numbers are texts in the result.
    wanted = there_are if group is None else [str(g) for g in (group if several else [group])]
    unknown = sorted(set(wanted) - set(there_are))
    if unknown:
        raise from_kind("unknown-column", f"no groups {unknown} in uns[{key!r}]; {there_are}")
    is_tested = found["params"]["method"] != "logreg"
    slots = ["names", "scores"] + ["logfoldchanges", "pvals", "pvals_adj"] * is_tested
    if "pts" in found:
        _refuse_repeated(found["pts"].index)
    parts = []
    for name in wanted:
        part = pd.DataFrame({slot: found[slot][name] for slot in slots})
        part.insert(0, "group", pd.Categorical([name] * len(part), categories=wanted))
        for slot, share in (("pts", "pct_nz_group"), ("pts_rest", "pct_nz_reference")):
            if slot in found:
                part[share] = found[slot][name].reindex(part["names"]).to_numpy()
        parts.append(part)
    frame = pd.concat(parts, ignore_index=True)
    if is_tested:
        if pval_cutoff is not None:
            frame = frame[frame["pvals_adj"] < pval_cutoff]
        if log2fc_min is not None:
            frame = frame[frame["logfoldchanges"] > log2fc_min]
        if log2fc_max is not None:
            frame = frame[frame["logfoldchanges"] < log2fc_max]
    if gene_symbols is not None:
        symbols = column(adata, gene_symbols, "var")
        _refuse_repeated(symbols.index)
        symbols = symbols.reindex(frame["names"])
        frame.insert(len(slots) + 1, gene_symbols, symbols.to_numpy())
    if len(wanted) == 1:
        frame = frame.drop(columns="group")
    return frame.reset_index(drop=True)
