"""What scanpy does with a neighbourhood graph or an embedding, called without the matrix."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from slaf._errors import from_kind, invalid
from slaf.integrations.anndata import LazyAnnData
from slaf.integrations.scanpy._light import Needs, needed, run

#: With as few genes scanpy takes X itself in place of principal components.
FEW_GENES = 50


def umap(
    adata: LazyAnnData, *, neighbors_key: str = "neighbors", copy: bool = False, **options: Any
) -> LazyAnnData | None:
    """Lay cells out by UMAP (McInnes 2018), from the graph of ``pp.neighbors``.

    Calls ``scanpy.tl.umap`` with the graph and the embedding that it was made from: X is not read,
    unless the graph was made from X itself.

    Parameters
    ----------
    adata
        The data set; ``obsm["X_umap"]`` (float32, cells x components) and ``uns["umap"]`` are set.
    neighbors_key
        The entry of uns that names the graph.
    copy
        Whether to change and return a copy.
    **options
        Arguments of ``scanpy.tl.umap``.

    Raises
    ------
    UnsupportedError
        Without umap-learn, which comes with scanpy.
    """

    def needs(adata: LazyAnnData) -> Needs:
        graph = _graph(adata, neighbors_key)
        params = adata.uns[neighbors_key].get("params", {})
        start = options.get("init_pos")
        obsm, X = _representation(adata, params.get("use_rep"), params.get("n_pcs"))
        if isinstance(start, str) and start in adata.obsm:
            obsm = [*obsm, start]
        uns, obs = [neighbors_key], []
        if isinstance(start, str) and start == "paga":
            uns.append("paga")
            obs.append(str(adata.uns["paga"]["groups"]))
        return Needs(obs=obs, obsm=obsm, obsp=graph, uns=uns, X=X)

    return run(adata, "umap", needs, _tool("umap", neighbors_key=neighbors_key, **options), copy)


def tsne(
    adata: LazyAnnData,
    n_pcs: int | None = None,
    *,
    use_rep: str | None = None,
    copy: bool = False,
    **options: Any,
) -> LazyAnnData | None:
    """Lay cells out by t-SNE (van der Maaten 2008), from an embedding.

    Calls ``scanpy.tl.tsne`` with the embedding alone.

    Parameters
    ----------
    adata
        The data set; ``obsm["X_tsne"]`` and ``uns["tsne"]`` are set.
    n_pcs
        Components of the embedding that are used; all by default.
    use_rep
        The entry of obsm; ``"X_pca"`` by default.
    copy
        Whether to change and return a copy.
    **options
        Arguments of ``scanpy.tl.tsne``.
    """

    def needs(adata: LazyAnnData) -> Needs:
        obsm, X = _representation(adata, use_rep, n_pcs)
        return Needs(obsm=obsm, X=X)

    return run(adata, "tsne", needs, _tool("tsne", n_pcs, use_rep=use_rep, **options), copy)


def leiden(
    adata: LazyAnnData,
    resolution: float = 1,
    *,
    restrict_to: tuple[str, Sequence[str]] | None = None,
    flavor: str = "leidenalg",
    neighbors_key: str | None = None,
    obsp: str | None = None,
    adjacency: Any = None,
    copy: bool = False,
    **options: Any,
) -> LazyAnnData | None:
    """Find clusters by the algorithm of Leiden (Traag 2019), in the graph of ``pp.neighbors``.

    Calls ``scanpy.tl.leiden`` with the graph alone.

    Parameters
    ----------
    adata
        The data set; ``obs["leiden"]`` (categorical) and ``uns["leiden"]`` are set.
    resolution
        Higher ones give more clusters.
    restrict_to
        A column of obs, and the categories of it to cluster anew.
    flavor
        Whose implementation is called: ``"leidenalg"`` or ``"igraph"``.
    neighbors_key, obsp, adjacency
        The graph: an entry of uns that names it, of obsp, or a matrix.
    copy
        Whether to change and return a copy.
    **options
        Arguments of ``scanpy.tl.leiden``.

    Raises
    ------
    UnsupportedError
        Without igraph, and leidenalg for its flavor: ``pip install 'slaf[analysis]'``.
    """
    needed("igraph", "leiden")
    if flavor == "leidenalg":
        needed("leidenalg", 'leiden with flavor="leidenalg"')
    options |= {"restrict_to": restrict_to, "flavor": flavor, "adjacency": adjacency}
    return _clusters("leiden", adata, resolution, neighbors_key, obsp, copy, options)


def louvain(
    adata: LazyAnnData,
    resolution: float | None = None,
    *,
    restrict_to: tuple[str, Sequence[str]] | None = None,
    flavor: str = "vtraag",
    neighbors_key: str | None = None,
    obsp: str | None = None,
    adjacency: Any = None,
    copy: bool = False,
    **options: Any,
) -> LazyAnnData | None:
    """Find clusters by the algorithm of Louvain (Blondel 2008), in the graph of ``pp.neighbors``.

    Calls ``scanpy.tl.louvain`` with the graph alone; arguments are those of :func:`leiden`.

    Parameters
    ----------
    adata
        The data set; ``obs["louvain"]`` (categorical) and ``uns["louvain"]`` are set.
    resolution, restrict_to, neighbors_key, obsp, adjacency, copy
        As in :func:`leiden`.
    flavor
        ``"vtraag"`` (the package louvain) or ``"igraph"``.
    **options
        Arguments of ``scanpy.tl.louvain``.

    Raises
    ------
    UnsupportedError
        Without igraph (``pip install 'slaf[analysis]'``), or louvain for its flavor.
    """
    needed("igraph", "louvain")
    if flavor == "vtraag" and not options.get("partition_type"):
        needed("louvain", 'louvain with flavor="vtraag"')
    options |= {"restrict_to": restrict_to, "flavor": flavor, "adjacency": adjacency}
    return _clusters("louvain", adata, resolution, neighbors_key, obsp, copy, options)


def _clusters(
    name: str,
    adata: LazyAnnData,
    resolution: float | None,
    neighbors_key: str | None,
    obsp: str | None,
    copy: bool,
    options: dict[str, Any],
) -> LazyAnnData | None:
    restrict_to, adjacency = options["restrict_to"], options["adjacency"]

    def needs(adata: LazyAnnData) -> Needs:
        obs = [] if restrict_to is None else [restrict_to[0]]
        if adjacency is not None:
            return Needs(obs=obs)
        if obsp is not None:
            return Needs(obs=obs, obsp=[obsp])
        key = "neighbors" if neighbors_key is None else neighbors_key
        return Needs(obs=obs, obsp=_graph(adata, key), uns=[key])

    call = _tool(name, resolution, neighbors_key=neighbors_key, obsp=obsp, **options)
    return run(adata, name, needs, call, copy)


def diffmap(
    adata: LazyAnnData,
    n_comps: int = 15,
    *,
    neighbors_key: str | None = None,
    copy: bool = False,
    **options: Any,
) -> LazyAnnData | None:
    """Find diffusion maps (Coifman 2005), from the graph of ``pp.neighbors``.

    Calls ``scanpy.tl.diffmap`` with the graph alone.

    Parameters
    ----------
    adata
        The data set; ``obsm["X_diffmap"]`` (float32) and ``uns["diffmap_evals"]`` are set.
    n_comps
        Components, the first of which is the steady state.
    neighbors_key
        The entry of uns that names the graph.
    copy
        Whether to change and return a copy.
    **options
        Arguments of ``scanpy.tl.diffmap``.
    """
    key = "neighbors" if neighbors_key is None else neighbors_key
    call = _tool("diffmap", n_comps, neighbors_key=key, **options)
    return run(adata, "diffmap", lambda adata: _graph_needs(adata, key), call, copy)


def dpt(
    adata: LazyAnnData,
    n_dcs: int = 10,
    *,
    neighbors_key: str | None = None,
    copy: bool = False,
    **options: Any,
) -> LazyAnnData | None:
    """Find diffusion pseudotime (Haghverdi 2016), from the graph and its diffusion maps.

    Calls ``scanpy.tl.dpt`` with these alone. The root is ``uns["iroot"]``, the number of a cell.

    Parameters
    ----------
    adata
        The data set; ``obs["dpt_pseudotime"]`` is set, and with branchings ``dpt_groups`` and
        ``dpt_order``.
    n_dcs
        Diffusion components that are used.
    neighbors_key
        The entry of uns that names the graph.
    copy
        Whether to change and return a copy.
    **options
        Arguments of ``scanpy.tl.dpt``.

    Raises
    ------
    InvalidArgumentError
        Without a root: scanpy goes on without pseudotime.
    """
    key = "neighbors" if neighbors_key is None else neighbors_key

    def needs(adata: LazyAnnData) -> Needs:
        if "iroot" not in adata.uns:
            message = "dpt needs a root: set adata.uns['iroot'] to the number of a cell"
            raise invalid(message)
        found = ["X_diffmap"] if "X_diffmap" in adata.obsm else []
        return _graph_needs(adata, key, obsm=found, uns=["iroot", "diffmap_evals"])

    return run(adata, "dpt", needs, _tool("dpt", n_dcs, neighbors_key=key, **options), copy)


def paga(
    adata: LazyAnnData,
    groups: str | None = None,
    *,
    use_rna_velocity: bool = False,
    model: str = "v1.2",
    neighbors_key: str | None = None,
    copy: bool = False,
) -> LazyAnnData | None:
    """Find how much groups of cells are connected: PAGA (Wolf 2019).

    Calls ``scanpy.tl.paga`` with the graph and the groups alone.

    Parameters
    ----------
    adata
        The data set; ``uns["paga"]`` is set.
    groups
        The column of obs that has the groups; ``"leiden"`` or ``"louvain"`` by default.
    use_rna_velocity
        Take directions from ``uns["velocity_graph"]``.
    model
        ``"v1.2"`` or ``"v1.0"``.
    neighbors_key
        The entry of uns that names the graph.
    copy
        Whether to change and return a copy.

    Raises
    ------
    UnsupportedError
        Without igraph: ``pip install 'slaf[analysis]'``.
    """
    needed("igraph", "paga")
    key = "neighbors" if neighbors_key is None else neighbors_key

    def needs(adata: LazyAnnData) -> Needs:
        names = [groups] if groups is not None else ["leiden", "louvain"]
        there_are = [name for name in names if name in adata.obs][:1]
        if not there_are:
            raise from_kind("unknown-column", f"no column {' or '.join(names)} in obs for paga")
        adata.strings_to_categoricals()
        uns = ["paga", f"{there_are[0]}_sizes", f"{there_are[0]}_colors"]
        velocity = ["velocity_graph", "velocyto_transitions"] if use_rna_velocity else []
        return _graph_needs(adata, key, obs=there_are, uns=[*uns, *velocity])

    options = {"use_rna_velocity": use_rna_velocity, "model": model}
    call = _tool("paga", groups, neighbors_key=neighbors_key, **options)
    return run(adata, "paga", needs, call, copy)


def harmony_integrate(
    adata: LazyAnnData,
    key: str | Sequence[str],
    *,
    basis: str = "X_pca",
    adjusted_basis: str = "X_pca_harmony",
    **options: Any,
) -> None:
    """Take the effect of batches out of an embedding by Harmony (Korsunsky 2019).

    Calls harmonypy with the embedding and the columns of obs alone, as
    ``scanpy.external.pp.harmony_integrate`` does.

    Parameters
    ----------
    adata
        The data set; ``obsm[adjusted_basis]`` (float64, cells x components) is set.
    key
        One or several columns of obs that tell batches apart.
    basis, adjusted_basis
        The embedding, and where the result goes, in obsm.
    **options
        Arguments of ``harmonypy.run_harmony``.

    Raises
    ------
    InvalidArgumentError
        For cells without a batch, and what else harmonypy refuses.
    UnsupportedError
        Without harmonypy: ``pip install 'slaf[analysis]'``.
    """
    needed("harmonypy", "harmony_integrate")
    keys = [key] if isinstance(key, str) else list(key)

    def call(small: Any) -> None:
        import harmonypy

        embedding = small.obsm[basis].astype(np.float64)
        try:
            found = harmonypy.run_harmony(embedding, small.obs, keys, **options)
        except ValueError as e:
            raise invalid(f"Harmony cannot work with obsm[{basis!r}] and obs{keys}: {e}") from e
        corrected = np.asarray(found.Z_corr, dtype=np.float64)
        # Older versions give components x cells.
        is_turned = corrected.shape != embedding.shape
        small.obsm[adjusted_basis] = corrected.T if is_turned else corrected

    run(adata, "harmony_integrate", lambda _: Needs(obs=keys, obsm=[basis]), call, False)


def _tool(name: str, *args: Any, **options: Any) -> Callable[[Any], None]:
    """A call of a function of ``scanpy.tl`` with all but its AnnData."""

    def call(small: Any) -> None:
        import scanpy

        getattr(scanpy.tl, name)(small, *args, **options)

    return call


def _graph(adata: LazyAnnData, key: str) -> list[str]:
    """Entries of obsp that are the graph which an entry of uns names."""
    if key not in adata.uns:
        raise invalid(f"no uns[{key!r}]: call pp.neighbors first, or give neighbors_key")
    neighbors = adata.uns[key]
    names = [str(neighbors.get(f"{what}_key", what)) for what in ("connectivities", "distances")]
    found = [name for name in names if name in adata.obsp]
    if names[0] not in found:
        raise invalid(f"uns[{key!r}] names obsp[{names[0]!r}], which is not there")
    return found


def _graph_needs(adata: LazyAnnData, key: str, **others: Any) -> Needs:
    return Needs(**{**others, "obsp": _graph(adata, key), "uns": [key, *others.get("uns", ())]})


def _representation(
    adata: LazyAnnData, use_rep: str | None, n_pcs: int | None
) -> tuple[list[str], bool]:
    """The entry of obsm that scanpy would take, and whether it would take X."""
    if use_rep == "X" or (use_rep is None and (n_pcs == 0 or adata.n_vars <= FEW_GENES)):
        return [], True
    name = "X_pca" if use_rep is None else use_rep
    if name not in adata.obsm:
        raise invalid(f"{name!r} is not in obsm: call pp.pca first, or give use_rep")
    return [name], False
