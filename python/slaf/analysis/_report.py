"""The report of an analysis: one file of HTML with pictures in it, and nothing from outside."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from slaf._errors import from_kind, invalid
from slaf._numbers import path_text
from slaf.analysis import _pictures as pictures
from slaf.analysis._digest import digest
from slaf.analysis._lineage import Names, Record, Stored, records
from slaf.analysis._parameters import Parameters
from slaf.analysis._planning import signatures_of, target_of
from slaf.analysis._quality import TOP, symbols_of
from slaf.analysis._steps import STEPS, Context
from slaf.analysis._summary import found_text
from slaf.integrations.anndata import LazyAnnData

#: Genes of each cluster in the dot plot, and in the table.
_DOT_GENES, _TABLE_GENES = 3, 10
#: Clusters in the dot plot, and markers that are shown on the layout.
_MOST_CLUSTERS, _MOST_MARKERS = 30, 12
#: Batches that are shown one by one.
_MOST_BATCHES = 40
#: Genes that are read at once for the dot plot.
_AT_ONCE = 16

_CSS = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #1c2530; margin: 0 auto; max-width: 1080px;
       padding: 1.5rem 1.25rem 4rem; background: #fff; }
h1 { font-size: 1.6rem; margin: 0 0 .2rem; } h2 { font-size: 1.15rem; margin: 2.4rem 0 .6rem;
     padding-bottom: .25rem; border-bottom: 1px solid #dde3ea; }
p.lead { color: #55606c; margin: 0; overflow-wrap: anywhere; }
.tiles { display: flex; flex-wrap: wrap; gap: .8rem; margin: 1.2rem 0; }
.tile { border: 1px solid #dde3ea; border-radius: 8px; padding: .5rem .9rem; min-width: 7.5rem; }
.tile b { display: block; font-size: 1.3rem; } .tile span { color: #55606c; font-size: .85rem; }
table { border-collapse: collapse; font-size: .88rem; margin: .6rem 0; }
th, td { text-align: left; padding: .22rem .8rem .22rem 0; border-bottom: 1px solid #edf0f4;
         vertical-align: top; overflow-wrap: anywhere; }
th { color: #55606c; font-weight: 600; } td.n, th.n { text-align: right;
     font-variant-numeric: tabular-nums; white-space: nowrap; }
figure { margin: .8rem 0; } figure img { max-width: 100%; height: auto; }
figcaption { color: #55606c; font-size: .85rem; max-width: 60rem; }
.row { display: flex; flex-wrap: wrap; gap: 1.5rem; align-items: flex-start; }
.row > * { flex: 1 1 20rem; min-width: 0; } .scroll { overflow-x: auto; }
ul.notes { color: #7a4a00; font-size: .9rem; } code { font-size: .9em; overflow-wrap: anywhere; }
"""


def write_report(
    store: Any,
    out: str | os.PathLike[str],
    *,
    key_added: str | None = None,
    overwrite: bool = False,
    storage_options: Mapping[str, str] | None = None,
) -> None:
    """Write the report of an analysis that was done.

    Parameters
    ----------
    store, out, key_added, overwrite, storage_options
        As in :func:`slaf.analysis.analyze`.

    Raises
    ------
    NotFoundError
        If the store was not analysed as far as components, or lacks what a report shows.
    ConflictError
        If cells, genes or results were changed since. Clusters may have got other names, which the
        report takes.
    UnsupportedError
        Without matplotlib: ``pip install 'slaf[analysis]'``.
    """
    from slaf.integrations.scanpy._light import needed

    needed("matplotlib", "the report of an analysis")
    file = free_file(out, overwrite)
    target = target_of(store, storage_options, key_added)
    write_page(file, target.open(), target.names)


def free_file(out: str | os.PathLike[str], overwrite: bool) -> Path:
    path = path_text("out", out)
    file = Path(path)
    if not path or "\0" in path:
        raise invalid(f"out is the path of a file, not {path!r}")
    if not os.path.isdir(file.absolute().parent):
        raise from_kind("not-found", "no such folder", str(file.absolute().parent))
    if os.path.exists(file) and not os.path.isfile(file):
        message = "the report would be a file, and this is a folder or device: name a file"
        raise from_kind("invalid-argument", message, str(file))
    if os.path.lexists(file) and not overwrite:
        message = "there is a file already: replace it with --overwrite (overwrite=True)"
        raise from_kind("already-exists", message, str(file))
    beside = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        # What permissions and file systems allow is known by trying.
        beside.touch()
        beside.unlink()
    except OSError as e:
        kind = "permission-denied" if isinstance(e, PermissionError) else "io"
        what = f"the report cannot be written there: {e.strerror or e}"
        raise from_kind(kind, what, str(file)) from e
    return file


def write_page(file: Path, stored: Stored, names: Names) -> None:
    """Write the page; the file is there when it is complete."""
    known = records(stored.uns, names, stored.store.path)
    if not known.keys() >= {"qc", "filter", "normalize", "hvg", "pca"}:
        what = "the store has no analysis as far as components: run slaf analyze first"
        raise from_kind("not-found", what, stored.store.path)
    page = _Page(stored, names, known).text()
    beside = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        beside.write_text(page, encoding="utf-8", errors="replace")
        os.replace(beside, file)
    except OSError as e:
        raise from_kind("io", f"cannot be written: {e.strerror or e}", str(file)) from e
    finally:
        beside.unlink(missing_ok=True)


def _figure(svg: bytes, about: str) -> str:
    # As an image, so that nothing in it can run, and names of its parts do not meet others.
    data = base64.b64encode(svg).decode("ascii")
    alt = escape(about, quote=True)
    image = f'<img alt="{alt}" src="data:image/svg+xml;base64,{data}">'
    return f"<figure>{image}<figcaption>{escape(about)}</figcaption></figure>"


def _table(
    head: Sequence[str], rows: Iterable[Sequence[Any]], numbers: Sequence[int], name: str
) -> str:
    """A table of texts; the columns of ``numbers`` are aligned to the right."""

    def cells(tag: str, row: Sequence[Any]) -> str:
        return "".join(
            f"<{tag}{' class=n' if i in numbers else ''}>{escape(str(value))}</{tag}>"
            for i, value in enumerate(row)
        )

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return (
        f'<div class="scroll"><table id="{name}"><thead><tr>{cells("th", head)}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _number(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


class _Page:
    """The parts of a page."""

    def __init__(self, stored: Stored, names: Names, known: Mapping[str, Record]):
        self.stored, self.names, self.known = stored, names, known
        self.adata: LazyAnnData = stored.adata
        self.found = {name: record.found for name, record in known.items()}
        values = {k: v for r in known.values() for k, v in r.parameters.items()}
        self.p = Parameters(**values)
        self.points_key = "X_umap" if "umap" in known else "X_pca"
        self._check()
        self.labels = self._labels()
        self.symbols = symbols_of(self.adata, self.p.symbols)[0]
        self.part = Context(self.adata, self.p, names).analyzed()
        self.shown = pictures.sample(self.part.n_obs)
        n = f"{len(self.shown):,} of {self.part.n_obs:,} cells, drawn at random with the seed 0"
        self.of = "" if len(self.shown) == self.part.n_obs else f" Shown are {n}."

    def _check(self) -> None:
        """Refuse a store that the records do not describe any more."""
        stored, key = self.stored, self.p.batch_key
        again = "run slaf analyze again"

        def refuse(kind: str, what: str) -> NoReturn:
            raise from_kind(kind, what, stored.store.path)

        if any(record.shape != stored.adata.shape for record in self.known.values()):
            refuse("conflict", f"cells or genes were added or removed since the analysis: {again}")
        if key is not None and key not in stored.adata.obs:
            refuse("not-found", f"obs/{key} is gone, which the analysis was made with")
        if self.known["qc"].signature != signatures_of(stored, self.p)["qc"]:
            refuse("conflict", f"counts or names were changed since the analysis: {again}")
        for step, record in self.known.items():
            for slot in filter(self._shows, record.writes):
                if not stored.has(slot):
                    refuse("not-found", f"{slot} is gone, which the report shows: {again}")
                is_renamed = step == "clusters" and self._renamed() is not None
                if not is_renamed and not stored.is_same(slot, record):
                    refuse(
                        "conflict",
                        f"{slot} was changed since slaf analyze made it in version "
                        f"{record.version}: rename or drop it, and {again}",
                    )

    def _shows(self, slot: str) -> bool:
        shown = {f"obsm/{self.points_key}", "uns/rank_genes_groups"}
        hidden = {"obs/doublet_score", "obs/predicted_doublet"}
        if slot in map(self.names.slot, hidden):
            return False
        return slot.startswith(("obs/", "var/")) or slot in map(self.names.slot, shown)

    def _renamed(self) -> list[str] | None:
        """The names of clusters, in their order, that somebody gave them; None if none did."""
        import pandas as pd

        column = self.adata.obs[self.names("leiden")]
        sizes: Any = list(self.found["clusters"]["sizes"])
        if not isinstance(column.dtype, pd.CategoricalDtype):
            return None
        given = [str(name) for name in column.cat.categories]
        if given == sizes or len(set(given)) != len(sizes):
            return None
        was = pd.Series(pd.Categorical.from_codes(column.cat.codes, sizes))
        record = self.known["clusters"]
        is_same = digest(was) == record.writes[self.names.slot("obs/leiden")]
        return given if is_same else None

    def _labels(self) -> dict[str, str]:
        """What clusters are called now, by the names that the analysis gave them."""
        if "clusters" not in self.known:
            return {}
        sizes = list(self.found["clusters"]["sizes"])
        return dict(zip(sizes, self._renamed() or sizes, strict=True))

    def text(self) -> str:
        """The page."""
        title = f"slaf analyze: {Path(self.stored.store.path.rstrip('/')).name}"
        parts = [
            f"<h1>{escape(title)}</h1>",
            f'<p class="lead">{escape(self.stored.store.path)}, version '
            f"{self.stored.store.version}</p>",
            self._tiles(),
            self._notes(),
            "<h2>Quality control</h2>",
            self._quality(),
            "<h2>Variable genes and components</h2>",
            f'<div class="row">{self._hvg()}{self._pca()}</div>',
        ]
        if "clusters" in self.known:
            parts += ["<h2>Clusters</h2>", self._clusters()]
        if self.found.get("markers", {}).get("n_groups"):
            parts += ["<h2>Markers</h2>", self._markers()]
        parts += ["<h2>Parameters</h2>", self._parameters(), "<h2>Lineage</h2>", self._lineage()]
        # What a page could load or run is forbidden, too.
        policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
        return (
            f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
            f'<meta name="viewport" content="width=device-width"><title>{escape(title)}</title>'
            f"<style>{_CSS}</style></head>\n<body>\n" + "\n".join(parts) + "\n</body></html>\n"
        )

    def _tiles(self) -> str:
        f = self.found
        tiles = [
            (f["filter"]["n_cells"], "cells in the store"),
            (f["normalize"]["n_cells"], "cells analysed"),
            (f["filter"]["n_genes_kept"], "genes kept"),
            (f["hvg"]["n_genes"], "variable genes"),
            (f["pca"]["n_comps"], "components"),
        ]
        if "clusters" in f:
            tiles.append((len(f["clusters"]["sizes"]), "clusters"))
        cells = (f'<div class="tile"><b>{n:,}</b><span>{what}</span></div>' for n, what in tiles)
        return f'<div class="tiles">{"".join(cells)}</div>'

    def _notes(self) -> str:
        notes = [
            f"{s.title}: {n}" for s in STEPS for n in self.found.get(s.name, {}).get("notes", [])
        ]
        if not notes:
            return ""
        return f'<ul class="notes">{"".join(f"<li>{escape(n)}</li>" for n in notes)}</ul>'

    # Quality control

    def _quality(self) -> str:
        found = self.found["filter"]
        rows = [["in the store", found["n_cells"]]]
        rows += [[f"rejected: {reason}", n] for reason, n in found["reasons"].items()]
        rows.append(["pass", found["n_passed"]])
        if "doublets" in self.found and self.p.doublets:
            rows.append(["rejected: doublets", self.found["doublets"]["n_doublets"]])
        rows.append(["analysed", self.found["normalize"]["n_cells"]])
        kept = _table(["cells", "number"], [[a, _number(b)] for a, b in rows], [1], "cells-kept")
        bounds = [
            [b["reason"], b["batch"] or "all", _number(b["low"]), _number(b["high"])]
            for b in found["bounds"][: 8 * _MOST_BATCHES]
        ]
        outside = _table(
            ["rejected for", "cells of", "below", "from / above"], bounds, [2, 3], "bounds"
        )
        more = "<p>A cell may be rejected for several reasons.</p>"
        batches = ""
        if "batches" in found:
            of_batch = [[name, _number(n), _number(k)] for name, n, k in found["batches"]]
            batches = _table(
                ["batch", "cells", "pass"], of_batch[:_MOST_BATCHES], [1, 2], "batches"
            )
            if len(of_batch) > _MOST_BATCHES:
                batches += f"<p>and {len(of_batch) - _MOST_BATCHES:,} more batches</p>"
        return f'<div class="row"><div>{kept}{more}{batches}</div>{outside}</div>{self._violins()}'

    def _violins(self) -> str:
        obs = self.adata.obs
        rows = pictures.sample(self.adata.n_obs)
        wanted = {
            "counts": "total_counts",
            "genes": "n_genes_by_counts",
            f"% of top {TOP} genes": f"pct_counts_in_top_{TOP}_genes",
            "% mitochondrial": "pct_counts_mt",
            "% ribosomal": "pct_counts_ribo",
        }
        written = self.known["qc"].writes
        there = {k: m for k, m in wanted.items() if self.names.slot(f"obs/{m}") in written}
        metrics = [(k, obs[self.names(m)].to_numpy()[rows]) for k, m in there.items()]
        groups = [("all", np.ones(len(rows), dtype=bool))]
        key = self.p.batch_key
        if key is not None and 1 < len(self.found["filter"]["batches"]) <= _MOST_BATCHES:
            batches = obs[key].astype(str).to_numpy()[rows]
            groups = [(name, batches == name) for name, _, _ in self.found["filter"]["batches"]]
        lines = [
            [b[end] for b in self.found["filter"]["bounds"] for end in ("low", "high")
             if b["metric"] == m and b[end] is not None and len(groups) == 1]
            for m in there.values()
        ]  # fmt: skip
        shown = ""
        if len(rows) < self.adata.n_obs:
            n = f"{len(rows):,} of {self.adata.n_obs:,} cells"
            shown = f" Shown are {n}, drawn at random with the seed 0."
        about = "Metrics of all cells of the store, those that are rejected included." + shown
        if len(groups) == 1:
            about += " Dashed: bounds of the filters, where they lie within what there is."
        return _figure(pictures.violins(metrics, groups, lines), about)

    # Genes and components

    def _hvg(self) -> str:
        var, names = self.adata.var, self.names
        genes = var[names("passes_qc")].to_numpy(dtype=bool)
        chosen = var[names("highly_variable")].to_numpy(dtype=bool)[genes]
        is_v3 = self.p.flavor.startswith("seurat_v3")
        column = "variances_norm" if is_v3 else "dispersions_norm"
        x = var[names("means")].to_numpy()[genes]
        y = var[names(column)].to_numpy()[genes].astype(np.float64)
        labels = ("mean", "variance, normalised" if is_v3 else "dispersion, normalised")
        if not is_v3:
            labels = ("mean of logarithms" if self.p.flavor == "seurat" else "mean", labels[1])
        # Only what is above 0 has a place on a logarithmic axis.
        picture = pictures.variable_genes(x, y, chosen, labels, log=is_v3 and bool((x > 0).all()))
        return _figure(picture, f"Variable genes, by {self.p.flavor}.")

    def _pca(self) -> str:
        ratio = np.asarray(self.found["pca"]["variance_ratio"])
        about = f"Variance of the components: {100 * ratio.sum():.1f} % in all {len(ratio)}."
        return _figure(pictures.variance_ratio(ratio), about)

    # Clusters and markers

    def _points(self) -> tuple[Any, str] | None:
        """Places of the cells that are shown, and of which axes; None if there is one axis."""
        points = np.asarray(self.part.obsm[self.names(self.points_key)])[self.shown, :2]
        name = "UMAP" if self.points_key == "X_umap" else "component"
        return None if points.shape[1] < 2 else (points, name)

    def _layouts(self) -> list[str]:
        """Cells by cluster and by batch."""
        placed = self._points()
        if placed is None:
            return []
        key, (points, axes) = self.p.batch_key, placed
        wanted = [(self.names("leiden"), "Clusters of cells.")]
        wanted += [] if key is None else [(key, f"Batches ({key}).")]
        figures = []
        for name, about in wanted:
            labels = self.part.obs[name].astype("category").cat
            codes, names = labels.codes.to_numpy()[self.shown], [str(c) for c in labels.categories]
            picture = pictures.groups_on(points, codes, names, axes)
            figures.append(_figure(picture, f"{about}{self.of}"))
        return figures

    def _clusters(self) -> str:
        n = self.part.n_obs
        rows = [
            [self.labels[name], _number(size), f"{100 * size / n:.1f}"]
            for name, size in self.found["clusters"]["sizes"].items()
        ]
        table = _table(["cluster", "cells", "%"], rows, [1, 2], "clusters")
        return f'<div class="row">{"".join([*self._layouts(), table])}</div>'

    def _markers(self) -> str:
        found = self.adata.uns[self.names("rank_genes_groups")]
        groups = list(found["names"].dtype.names)
        genes_of = self.part.var_names
        # A name that several genes have says of none what it is.
        repeated = {str(name) for name in genes_of[genes_of.duplicated()]}
        place = {str(name): i for i, name in enumerate(genes_of)}
        genes_kept = self.adata.var[self.names("passes_qc")].to_numpy(dtype=bool)
        symbols = self.symbols[genes_kept]

        def shown(gene: str) -> str:
            return gene if gene in repeated else str(symbols[place[gene]])

        top = {g: [str(name) for name in found["names"][g]] for g in groups}
        placed = self._points()
        alone = {g: [gene for gene in top[g] if gene not in repeated] for g in groups}
        first = list(dict.fromkeys(alone[g][0] for g in groups if alone[g]))[:_MOST_MARKERS]
        about = f"The first marker of each cluster, logarithms of normalised counts.{self.of}"
        if len(first) < len(groups):
            about += f" The first {len(first)} markers of {len(groups)} clusters."
        parts = []
        if first and placed is not None:
            values = self._values(self.shown, [place[gene] for gene in first])
            panels = [(shown(gene), values[:, i]) for i, gene in enumerate(first)]
            points, axes = placed
            parts.append(_figure(pictures.values_on(points, panels, axes), about))
        dots = groups[:_MOST_CLUSTERS]
        genes = list(dict.fromkeys(gene for g in dots for gene in alone[g][:_DOT_GENES]))
        if genes:
            means, shares = self._by_cluster([place[gene] for gene in genes], dots)
            span = np.ptp(means, axis=0)
            scaled = (means - means.min(axis=0)) / np.where(span > 0, span, 1)
            about = (
                f"The first {_DOT_GENES} markers of each cluster: the share of its cells with "
                "counts (area), and their mean, from the least to the largest of the clusters "
                "shown (colour)."
            )
            if len(dots) < len(groups):
                about += f" The first {len(dots)} of {len(groups)} clusters."
            names = [self.labels[g] for g in dots]
            picture = pictures.dots([shown(g) for g in genes], names, scaled, shares)
            parts.append(_figure(picture, about))

        def percent(slot: str, group: str, gene: str) -> str:
            return "–" if gene in repeated else f"{100 * found[slot][group][gene]:.0f}"

        rows = []
        for group in groups:
            for i, gene in enumerate(top[group][:_TABLE_GENES]):
                rows.append([
                    self.labels[group], shown(gene), gene,
                    *(f"{found[slot][group][i]:.3g}" for slot in
                      ("scores", "logfoldchanges", "pvals_adj")),
                    percent("pts", group, gene), percent("pts_rest", group, gene),
                ])  # fmt: skip
        head = ["cluster", "gene", "name", "score", "log2 fold", "p adjusted", "% in", "% others"]
        if all(row[1] == row[2] for row in rows):
            head, rows = [head[0], *head[2:]], [[row[0], *row[2:]] for row in rows]
        numbers = list(range(len(head) - 5, len(head)))
        return "".join(parts) + _table(head, rows, numbers, "markers")

    def _values(self, cells: Any, genes: Sequence[int]) -> Any:
        X = self.part[cells, list(genes)].X
        assert X is not None
        return X.toarray()

    def _by_cluster(self, genes: Sequence[int], groups: Sequence[str]) -> tuple[Any, Any]:
        """Means and shares of cells with counts, groups x genes; a few genes are read at a time."""
        import scipy.sparse as sp

        labels = self.part.obs[self.names("leiden")].cat
        of_code = {str(name): code for code, name in enumerate(labels.categories)}
        codes = labels.codes.to_numpy()
        groups = [self.labels[g] for g in groups]
        rows = np.full(len(of_code) + 1, -1)
        rows[[of_code[g] for g in groups]] = np.arange(len(groups))
        row = rows[codes]
        cells = np.flatnonzero(row >= 0)
        one_hot = sp.csr_matrix(
            (np.ones(len(cells)), (row[cells], cells)), shape=(len(groups), len(codes))
        )
        sizes = np.asarray(one_hot.sum(axis=1))
        means, shares = [], []
        for start in range(0, len(genes), _AT_ONCE):
            X = self.part[:, list(genes[start : start + _AT_ONCE])].X
            assert X is not None
            block = X.tocsr()
            means.append((one_hot @ block).toarray())
            block.data = (block.data != 0).astype(np.float64)
            shares.append((one_hot @ block).toarray())
        return np.hstack(means) / sizes, np.hstack(shares) / sizes

    # What was done

    def _parameters(self) -> str:
        rows = [
            [name, step.name, json.dumps(value, ensure_ascii=False)]
            for step in STEPS
            if step.name in self.known
            for name, value in self.known[step.name].parameters.items()
        ]
        return _table(["parameter", "step", "value"], rows, [], "parameters")

    def _lineage(self) -> str:
        rows = []
        for step in STEPS:
            if step.name in self.known:
                r = self.known[step.name]
                told = found_text(step.name, r)
                rows.append([
                    step.name, r.function, r.input_version, r.version, ", ".join(sorted(r.writes)),
                    told, f"{r.seconds:.1f}", r.made, r.slaf_version,
                ])  # fmt: skip
        head = ["step", "function", "read", "made", "slots", "found", "seconds", "time", "slaf"]
        return _table(head, rows, [2, 3, 6], "lineage")
