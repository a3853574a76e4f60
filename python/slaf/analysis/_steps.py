"""The steps of an analysis: what each reads, computes, and gives to be written."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from slaf._errors import from_kind, invalid
from slaf.analysis._lineage import Names
from slaf.analysis._parameters import Parameters
from slaf.analysis._quality import TOP, gene_sets, judge, symbols_of
from slaf.integrations._workers import on_workers
from slaf.integrations.anndata import LazyAnnData
from slaf.integrations.scanpy import pp, tl

#: Fewer cells than these make no neighbourhoods worth the name.
LEAST_CELLS = 10
#: scanpy gives igraph each edge twice, which takes it 6 GB for a million cells. Of more cells than
#: these each edge is given once: the same modularity, in half of the memory.
MANY_CELLS = 200_000


@dataclass
class Result:
    """What a step gives: slots to write, and numbers and remarks to record."""

    slots: dict[str, dict[str, Any]] = field(default_factory=dict)
    found: dict[str, Any] = field(default_factory=dict)

    def put(self, slot: str, value: Any) -> None:
        """Give a value a slot, as ``"obs/leiden"``."""
        of, _, name = slot.partition("/")
        self.slots.setdefault(of, {})[name] = value


@dataclass(frozen=True)
class Context:
    """What a step works with.

    Attributes
    ----------
    adata : LazyAnnData
        All of the version that is read; it is not changed.
    parameters : Parameters
        Of the analysis.
    names : Names
        Of results.
    client : dask.distributed.Client, optional
        Whose workers take the passes over the counts.
    """

    adata: LazyAnnData
    parameters: Parameters
    names: Names
    client: Any = None

    def counts(self, part: LazyAnnData) -> Any:
        """The lazy matrix of counts of a part."""
        layer = self.parameters.layer
        counts: Any = part.X if layer is None else part.layers[layer]
        return on_workers(counts, self.client)

    def part(self, cells: npt.NDArray[np.bool_], genes: npt.NDArray[np.bool_]) -> LazyAnnData:
        """Some cells and genes, whose X is the counts, and that has nothing to collide with."""
        part = self.adata[cells, genes].copy()
        part.X = self.counts(part)
        part.raw = None
        part.uns = {}
        if self.parameters.batch_key is not None:
            # Numbers name batches as well.
            batches = part.obs[self.parameters.batch_key]
            part.obs[self.parameters.batch_key] = batches.astype(str).astype("category")
        return part

    @property
    def genes(self) -> npt.NDArray[np.bool_]:
        """The genes that are not left out."""
        passes = self.adata.var[self.names("passes_qc")]
        # Genes that came after an analysis have no part in it.
        return passes.where(passes.notna(), False).to_numpy(dtype=bool)

    def analyzed(self) -> LazyAnnData:
        """The cells and genes that are analysed, with logarithms of normalised counts."""
        factors = self.adata.obs[self.names("size_factor")].to_numpy()
        cells = ~np.isnan(factors)
        part, factors = self.part(cells, self.genes), factors[cells]
        X = part.X
        assert X is not None
        X = X.astype(np.float32) if X.dtype.kind in "biu" else X
        safe = np.where(factors == 0, factors.dtype.type(1), factors)
        part.X = X.combine("divide", safe.astype(X.dtype)[:, None]).log1p()
        part.uns["log1p"] = {"base": None}
        return part

    def embedded(self, *keys: str) -> tuple[LazyAnnData, npt.NDArray[np.bool_]]:
        """The cells that are analysed with entries of obsm, and which they are."""
        cells = ~np.isnan(self.adata.obs[self.names("size_factor")].to_numpy())
        return self.part(cells, self.genes), cells

    @property
    def rep(self) -> str:
        """The embedding that neighbours are found in."""
        corrected = self.parameters.harmony and self.parameters.batch_key is not None
        return self.names("X_pca_harmony" if corrected else "X_pca")


def spread(values: Any, cells: npt.NDArray[np.bool_]) -> npt.NDArray[Any]:
    """Rows of floats of some cells among all, NaN for the others."""
    array = np.asarray(values)
    whole = np.full((len(cells), *array.shape[1:]), np.nan, dtype=array.dtype)
    whole[cells] = array
    return whole


def _spread_graph(graph: Any, cells: npt.NDArray[np.bool_]) -> Any:
    """A graph of some cells as one of all; the others have no edges."""
    import scipy.sparse as sp

    graph = graph.tocsr()
    n, places = len(cells), np.flatnonzero(cells).astype(graph.indices.dtype)
    counts = np.zeros(n, dtype=np.int64)
    counts[cells] = np.diff(graph.indptr)
    indptr = np.concatenate([[0], np.cumsum(counts)])
    return sp.csr_matrix((graph.data, places[graph.indices], indptr), shape=(n, n))


def _qc(c: Context) -> Result:
    """Metrics of all cells and genes."""
    p, result = c.parameters, Result()
    whole = c.adata.copy()
    X = c.counts(whole)
    _refuse_no_counts(c, X)
    whole.X = X
    symbols, column = symbols_of(whole, p.symbols)
    sets = gene_sets(symbols)
    for name, mask in sets.items():
        whole.var[name] = mask
    top = [TOP] if c.adata.n_vars >= TOP else None
    frames = pp.calculate_qc_metrics(
        whole, qc_vars=list(sets), percent_top=top, log1p=False, inplace=False
    )
    assert frames is not None
    for of, frame in zip(("obs", "var"), frames, strict=True):
        for column_name in frame:
            result.put(f"{of}/{column_name}", frame[column_name].to_numpy())
    for name, mask in sets.items():
        result.put(f"var/{name}", mask)
    notes = [f"no {name} genes among the names" for name in ("mt", "ribo") if name not in sets]
    if top is None:
        notes.append(f"fewer than {TOP} genes: no share of the largest")
    genes = {name: int(mask.sum()) for name, mask in sets.items()}
    result.found = {"symbols": column, "genes": genes, "notes": notes}
    return result


def _refuse_no_counts(c: Context, matrix: Any) -> None:
    """Refuse a matrix whose values are no counts.

    One pass, unless the type says so.
    """
    layer = c.parameters.layer
    where = "X" if layer is None else f"layers[{layer!r}]"
    if matrix.dtype.kind in "bu":
        return
    columns = matrix.summarize(columns=True, signs=True).of_columns()
    negative = columns.nonzero != columns.positive
    bad = negative | (columns.fractional > 0) | (columns.nan > 0)
    if not bad.any():
        return
    gene = c.adata.var_names[int(np.flatnonzero(bad)[0])]
    others = [name for name in c.adata.layers if name != layer]
    way = "convert the file that has the counts"
    if others:
        way = f"name a layer that has the counts, of {others} (--layer, layer=); or {way}"
    what = "has values that are no counts: negative, missing or fractions"
    raise from_kind(
        "invalid-argument",
        f"{where} {what}, as after a normalisation or logarithm. The first is of gene {gene!r}. "
        f"An analysis begins with counts: {way}",
        c.adata._store.path,
    )


def _filter(c: Context) -> Result:
    """Bounds of quality control."""
    p, obs, result = c.parameters, c.adata.obs, Result()

    def metric(name: str) -> npt.NDArray[Any] | None:
        full = c.names(name)
        return obs[full].to_numpy() if full in obs else None

    batches = None if p.batch_key is None else obs[p.batch_key]
    judged = judge(metric, batches, p)
    n_passed = int(judged.passes.sum())
    told = ", ".join(f"{reason}: {n:,}" for reason, n in judged.counts.items())
    if n_passed < LEAST_CELLS:
        raise invalid(
            f"{n_passed} of {c.adata.n_obs:,} cells pass quality control ({told or 'none fails'}), "
            f"and an analysis needs {LEAST_CELLS}: look at obs[{c.names('total_counts')!r}] and "
            f"obs[{c.names('n_genes_by_counts')!r}], and take other bounds"
        )
    part = c.part(judged.passes, np.ones(c.adata.n_vars, dtype=bool))
    found = pp.filter_genes(part, min_cells=max(p.min_cells, 1), inplace=False)
    assert isinstance(found, tuple)
    kept = np.asarray(found[0])
    if kept.sum() < 2:
        raise invalid(
            f"{int(kept.sum())} genes have counts in {p.min_cells} cells that pass: take a lower "
            "min_cells"
        )
    result.put("obs/passes_qc", judged.passes)
    result.put("obs/qc_reason", judged.reasons)
    result.put("var/passes_qc", kept)
    result.found = {
        "n_cells": c.adata.n_obs,
        "n_passed": n_passed,
        "reasons": judged.counts,
        "bounds": judged.bounds,
        "n_genes": c.adata.n_vars,
        "n_genes_kept": int(kept.sum()),
        "notes": judged.notes,
    }
    if batches is not None:
        names, codes = np.unique(batches.astype(str).to_numpy(), return_inverse=True)
        every = np.bincount(codes, minlength=len(names))
        passed = np.bincount(codes[judged.passes], minlength=len(names))
        result.found["batches"] = [
            [str(name), int(n), int(k)] for name, n, k in zip(names, every, passed, strict=True)
        ]
    return result


def _doublets(c: Context) -> Result:
    """Scrublet, batch by batch."""
    import pandas as pd

    result = Result()
    cells = c.adata.obs[c.names("passes_qc")].to_numpy(dtype=bool)
    # Its processes read the counts of samples themselves.
    part = replace(c, client=None).part(cells, c.genes)
    pp.scrublet(part, batch_key=c.parameters.batch_key, random_state=c.parameters.seed)
    result.put("obs/doublet_score", spread(part.obs["doublet_score"].to_numpy(), cells))
    predicted = pd.array([pd.NA] * len(cells), dtype="boolean")
    found = part.obs["predicted_doublet"]
    predicted[cells] = pd.array(found.where(found.notna(), None).to_list(), dtype="boolean")
    result.put("obs/predicted_doublet", predicted)
    n = int(np.sum(found.fillna(False).to_numpy(dtype=bool)))
    result.found = {"n_doublets": n, "n_cells": int(cells.sum()), "notes": []}
    return result


def _normalize(c: Context) -> Result:
    """Divisors of counts."""
    obs, result = c.adata.obs, Result()
    cells = obs[c.names("passes_qc")].to_numpy(dtype=bool)
    if c.parameters.doublets:
        doublets = obs[c.names("predicted_doublet")].fillna(False).to_numpy(dtype=bool)
        cells = cells & ~doublets
    if cells.sum() < LEAST_CELLS:
        raise invalid(f"{int(cells.sum())} cells are left, and an analysis needs {LEAST_CELLS}")
    part = c.part(cells, c.genes)
    with warnings.catch_warnings():
        # It is noted.
        warnings.filterwarnings("ignore", "Some cells have zero counts")
        done = pp.normalize_total(part, target_sum=c.parameters.target_sum, inplace=False)
    assert isinstance(done, dict)
    factors = np.asarray(done["norm_factor"])
    result.put("obs/size_factor", spread(factors, cells))
    empty = int((factors == 0).sum())
    notes = [f"{empty:,} cells have no counts in the genes that are left"] if empty else []
    result.found = {"n_cells": int(cells.sum()), "notes": notes}
    return result


def _hvg(c: Context) -> Result:
    """Genes that vary more than others of their mean."""
    p, result = c.parameters, Result()
    part = c.analyzed()
    if p.flavor.startswith("seurat_v3"):
        part.X = c.part(*_axes(c)).X
    wanted = None if p.n_top_genes is None else min(p.n_top_genes, part.n_vars)
    with warnings.catch_warnings():
        # The number of genes that vary is told in any case.
        warnings.filterwarnings("ignore", "`n_top_genes` > number of normalized dispersions")
        frame = pp.highly_variable_genes(
            part, n_top_genes=wanted, flavor=p.flavor, batch_key=p.batch_key, inplace=False
        )
    assert frame is not None
    chosen = frame["highly_variable"].to_numpy(dtype=bool)
    if chosen.sum() < 2:
        raise invalid(
            f"{int(chosen.sum())} genes are highly variable, and components need 2: give a number "
            "of genes (--n-top-genes, n_top_genes=)"
        )
    genes = c.genes
    for name in frame.columns.drop("mean_bin", errors="ignore"):
        values = frame[name].to_numpy()
        if name in ("highly_variable", "highly_variable_intersection"):
            whole = np.zeros(len(genes), dtype=bool)
            whole[genes] = values
        else:
            dtype = np.float32 if name == "dispersions_norm" else np.float64
            whole = spread(values.astype(dtype), genes)
        result.put(f"var/{name}", whole)
    result.put("uns/hvg", {"flavor": p.flavor})
    result.found = {"n_genes": int(chosen.sum()), "flavor": p.flavor, "notes": []}
    return result


def _axes(c: Context) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    return ~np.isnan(c.adata.obs[c.names("size_factor")].to_numpy()), c.genes


def _pca(c: Context) -> Result:
    """Principal components of the variable genes."""
    p, result = c.parameters, Result()
    chosen = c.adata.var[c.names("highly_variable")].to_numpy(dtype=bool)
    cells, genes = _axes(c)
    part = c.analyzed()[:, chosen[genes]].copy()
    if p.scale is not None:
        with warnings.catch_warnings():
            # It is asked for.
            warnings.filterwarnings("ignore", "zero-centering a sparse array/matrix")
            pp.scale(part, max_value=p.scale)
    n = min(p.n_comps, min(part.shape) - 1)
    pp.pca(part, n_comps=n, mask_var=None)
    loadings = np.asarray(part.varm["PCs"])
    whole = np.zeros((len(chosen), loadings.shape[1]), dtype=loadings.dtype)
    whole[chosen] = loadings
    result.put("obsm/X_pca", spread(part.obsm["X_pca"], cells))
    result.put("varm/PCs", whole)
    info = part.uns["pca"]
    mask = c.names("highly_variable")
    params = {"zero_center": True, "use_highly_variable": True, "mask_var": mask}
    result.put("uns/pca", {**info, "params": params})
    ratio = [float(v) for v in info["variance_ratio"]]
    notes = [f"{n} components: there are {part.n_obs:,} cells and {part.n_vars:,} genes"]
    result.found = {"n_comps": n, "variance_ratio": ratio, "notes": notes if n < p.n_comps else []}
    return result


def _harmony(c: Context) -> Result:
    """The components without what differs between batches."""
    key, result = c.parameters.batch_key, Result()
    assert key is not None
    part, cells = c.embedded()
    basis, adjusted = c.names("X_pca"), c.names("X_pca_harmony")
    n = part.obs[key].nunique()
    notes = []
    if n < 2:
        corrected = np.asarray(part.obsm[basis])
        notes.append(f"one batch in obs[{key!r}]: the components are as they were")
    else:
        with _progress_of("harmonypy") as told:
            # harmonypy takes a cluster for 30 cells: of less than half as many it would be none.
            few = {"nclust": 1} if part.n_obs <= 15 else {}
            pp.harmony_integrate(part, key, basis=basis, adjusted_basis=adjusted, **few)
        if any("Stopped before convergence" in message for message in told):
            notes.append("Harmony stopped before it converged")
        corrected = np.asarray(part.obsm[adjusted])
    result.put("obsm/X_pca_harmony", spread(corrected, cells))
    result.found = {"n_batches": int(n), "notes": notes}
    return result


@contextmanager
def _progress_of(name: str) -> Iterator[list[str]]:
    """Keep what a logger tells below the level of warnings from being shown, and give it."""
    told: list[str] = []

    def is_shown(record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            told.append(record.getMessage())
        return record.levelno >= logging.WARNING

    logger = logging.getLogger(name)
    logger.addFilter(is_shown)
    try:
        yield told
    finally:
        logger.removeFilter(is_shown)


def _neighbors(c: Context) -> Result:
    """The graph of nearest neighbours."""
    p, result = c.parameters, Result()
    part, cells = c.embedded()
    n_pcs = p.n_pcs
    if n_pcs is not None:
        n_pcs = min(n_pcs, part.obsm[c.rep].shape[1])
    k = min(p.n_neighbors, max(2, part.n_obs // 2))
    with warnings.catch_warnings():
        # A note says so.
        warnings.filterwarnings("ignore", "neighbours are .* of the nearest")
        pp.neighbors(part, n_neighbors=k, n_pcs=n_pcs, use_rep=c.rep, random_state=p.seed)
    entry = dict(part.uns["neighbors"])
    for what in ("connectivities", "distances"):
        result.put(f"obsp/{what}", _spread_graph(part.obsp[what], cells))
        entry[f"{what}_key"] = c.names(what)
    result.put("uns/neighbors", entry)
    notes = []
    if k < p.n_neighbors:
        notes.append(f"{k} neighbours, since there are {part.n_obs} cells")
    if "recall" in entry["params"]:
        notes.append(
            f"{entry['params']['recall']:.1%} of the nearest neighbours were found: {c.rep} "
            "separates cells badly, and comparing all takes too long (fewer components may tell "
            "as much)"
        )
    result.found = {"n_neighbors": k, "rep": c.rep, "notes": notes}
    return result


def _graph(c: Context) -> tuple[LazyAnnData, npt.NDArray[np.bool_]]:
    """The cells that are analysed, with their graph."""
    part, cells = c.embedded()
    entry = dict(c.adata.uns[c.names("neighbors")])
    # scanpy's functions take the names that it gives itself.
    for what in ("connectivities", "distances"):
        part.obsp[what] = part.obsp[c.names(what)]
        entry[f"{what}_key"] = what
    part.uns["neighbors"] = entry
    return part, cells


def _umap(c: Context) -> Result:
    """Two dimensions to look at."""
    result = Result()
    part, cells = _graph(c)
    with warnings.catch_warnings():
        # umap-learn says that a seed costs parallelism, and of small graphs that it lays them out
        # in another way.
        warnings.filterwarnings("ignore", "n_jobs value")
        warnings.filterwarnings("ignore", "k >= N for N")
        tl.umap(part, random_state=c.parameters.seed)
    result.put("obsm/X_umap", spread(part.obsm["X_umap"], cells))
    result.put("uns/umap", dict(part.uns["umap"]))
    result.found = {"notes": []}
    return result


def _clusters(c: Context) -> Result:
    """Leiden's clusters."""
    import pandas as pd
    import scipy.sparse as sp

    p, result = c.parameters, Result()
    part, cells = _graph(c)
    once = None
    if part.n_obs > MANY_CELLS:
        once = sp.triu(part.obsp["connectivities"], format="csr")
    tl.leiden(
        part,
        p.resolution,
        flavor="igraph",
        n_iterations=2,
        directed=False,
        random_state=p.seed,
        adjacency=once,
    )
    labels = part.obs["leiden"]
    codes = np.full(len(cells), -1)
    codes[cells] = labels.cat.codes.to_numpy()
    categories: Any = [str(name) for name in labels.cat.categories]
    result.put("obs/leiden", pd.Series(pd.Categorical.from_codes(codes, categories)))
    result.put("uns/leiden", dict(part.uns["leiden"]))
    sizes = labels.value_counts(sort=False)
    result.found = {"sizes": {str(k): int(n) for k, n in sizes.items()}, "notes": []}
    return result


def _markers(c: Context) -> Result:
    """Genes that tell each cluster from the others."""
    p, result = c.parameters, Result()
    part = c.analyzed()
    key = c.names("leiden")
    sizes = part.obs[key].value_counts(sort=False)
    groups = [str(name) for name, n in sizes.items() if n >= 2]
    alone = [str(name) for name, n in sizes.items() if n == 1]
    notes = [f"cluster {name} has one cell, and no markers" for name in alone]
    if len(sizes) < 2 or not groups:
        result.found = {"n_groups": 0, "notes": ["one cluster: there is nothing to compare"]}
        return result
    ties = {"tie_correct": True} if p.method == "wilcoxon" else {}
    tl.rank_genes_groups(
        part,
        key,
        use_raw=False,
        groups=groups,
        method=p.method,  # type: ignore[arg-type]
        n_genes=min(p.n_markers, part.n_vars),
        pts=True,
        **ties,  # type: ignore[arg-type]
    )
    result.put("uns/rank_genes_groups", part.uns["rank_genes_groups"])
    result.found = {"n_groups": len(groups), "method": p.method, "notes": notes}
    return result


@dataclass(frozen=True)
class Step:
    """A step.

    Attributes
    ----------
    name, title : str
        How it is called in records, and for people.
    function : str
        What it calls.
    run : callable
        Does it.
    parameters : sequence of str
        The fields of :class:`Parameters` that it reads itself.
    after : sequence of str
        Steps whose results it reads; those that are not part of a plan are left out.
    writes : sequence of str
        All slots that it may write.
    """

    name: str
    title: str
    function: str
    run: Callable[[Context], Result]
    parameters: Sequence[str]
    after: Sequence[str]
    writes: Sequence[str]


_HVG = (
    "highly_variable", "means", "dispersions", "dispersions_norm", "variances", "variances_norm",
    "highly_variable_rank", "highly_variable_nbatches", "highly_variable_intersection",
)  # fmt: skip
_QC_OBS = (
    "n_genes_by_counts", "total_counts", f"pct_counts_in_top_{TOP}_genes", "total_counts_mt",
    "pct_counts_mt", "total_counts_ribo", "pct_counts_ribo",
)  # fmt: skip
_QC_VAR = (
    "n_cells_by_counts", "mean_counts", "pct_dropout_by_counts", "total_counts", "mt", "ribo",
)  # fmt: skip
_BOUNDS = (
    "batch_key", "min_counts", "max_counts", "min_genes", "max_genes", "max_pct_mt", "mads",
    "mads_mt", "min_cells",
)  # fmt: skip

#: All steps, in order.
STEPS: Sequence[Step] = (
    Step(
        "qc", "quality metrics", "pp.calculate_qc_metrics", _qc, ("layer", "symbols"), (),
        [*(f"obs/{n}" for n in _QC_OBS), *(f"var/{n}" for n in _QC_VAR)],
    ),
    Step(
        "filter", "filters", "slaf.analysis, pp.filter_genes", _filter, _BOUNDS, ("qc",),
        ["obs/passes_qc", "obs/qc_reason", "var/passes_qc"],
    ),
    Step(
        "doublets", "doublets", "pp.scrublet", _doublets, ("batch_key", "seed"), ("filter",),
        ["obs/doublet_score", "obs/predicted_doublet"],
    ),
    Step(
        "normalize", "normalisation", "pp.normalize_total", _normalize, ("target_sum", "doublets"),
        ("filter", "doublets"), ["obs/size_factor"],
    ),
    Step(
        "hvg", "variable genes", "pp.highly_variable_genes", _hvg,
        ("flavor", "n_top_genes", "batch_key"), ("normalize",),
        [*(f"var/{name}" for name in _HVG), "uns/hvg"],
    ),
    Step(
        "pca", "components", "pp.pca", _pca, ("scale", "n_comps"), ("hvg",),
        ["obsm/X_pca", "varm/PCs", "uns/pca"],
    ),
    Step(
        "harmony", "integration", "pp.harmony_integrate", _harmony, ("batch_key",), ("pca",),
        ["obsm/X_pca_harmony"],
    ),
    Step(
        "neighbors", "neighbours", "pp.neighbors", _neighbors, ("n_neighbors", "n_pcs", "seed"),
        ("pca", "harmony"), ["obsp/distances", "obsp/connectivities", "uns/neighbors"],
    ),
    Step(
        "umap", "layout", "tl.umap", _umap, ("seed",), ("neighbors",),
        ["obsm/X_umap", "uns/umap"],
    ),
    Step(
        "clusters", "clusters", "tl.leiden", _clusters, ("resolution", "seed"), ("neighbors",),
        ["obs/leiden", "uns/leiden"],
    ),
    Step(
        "markers", "markers", "tl.rank_genes_groups", _markers, ("method", "n_markers"),
        ("clusters",), ["uns/rank_genes_groups"],
    ),
)  # fmt: skip


def planned(p: Parameters) -> list[Step]:
    """The steps that parameters ask for."""
    without: Mapping[str, bool] = {
        "doublets": p.doublets,
        "harmony": p.harmony and p.batch_key is not None,
        "umap": p.umap,
        "clusters": p.clusters,
        "markers": p.clusters,
    }
    return [step for step in STEPS if without.get(step.name, True)]
