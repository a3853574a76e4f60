"""Pictures of a report, as SVG that stands for itself. Many points are drawn as an image in it."""

from __future__ import annotations

import io
import unicodedata
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

_Floats = npt.NDArray[Any]

#: Cells that pictures show at most.
MOST_POINTS = 50_000
#: Groups that are told apart by a colour; more repeat them.
_STYLE: dict[Any, Any] = {
    # Names of genes and clusters are texts, whatever signs they have.
    "text.parse_math": False,
    "svg.fonttype": "path",
    "svg.hashsalt": "slaf",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.edgecolor": "#888",
    "xtick.color": "#444",
    "ytick.color": "#444",
}
_BLUE, _GREY, _RED = "#2b6ca3", "#b8bec6", "#c4442b"


def sample(n: int) -> npt.NDArray[np.int64]:
    """The cells that are shown of ``n``: all, or so many that are drawn with the seed 0."""
    if n <= MOST_POINTS:
        return np.arange(n)
    return np.sort(np.random.default_rng(0).choice(n, MOST_POINTS, replace=False))


def _svg(size: tuple[float, float], draw: Callable[[Any], None]) -> bytes:
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        # A font lacks some of the signs that names have.
        warnings.simplefilter("ignore", UserWarning)
        figure = Figure(figsize=size, layout="constrained", dpi=130)
        FigureCanvasSVG(figure)
        draw(figure)
        file = io.BytesIO()
        figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()


def _is_xml(sign: str) -> bool:
    return sign.isprintable() or (unicodedata.category(sign) in ("Zs", "Cf", "Co"))


def _short(text: str, most: int = 18) -> str:
    # XML has no place for control characters, lone surrogates and what is no character.
    text = "".join(c if _is_xml(c) else "\ufffd" for c in text)
    return text if len(text) <= most else text[: most - 1] + "…"


def violins(
    metrics: Sequence[tuple[str, _Floats]],
    groups: Sequence[tuple[str, npt.NDArray[np.bool_]]],
    bounds: Sequence[Sequence[float]],
) -> bytes:
    """A panel for each metric with a violin for each group, and lines at the bounds."""

    def draw(figure: Any) -> None:
        axes = figure.subplots(1, len(metrics), squeeze=False)[0]
        for axis, (name, values), lines in zip(axes, metrics, bounds, strict=True):
            parts = [values[mask] for _, mask in groups]
            parts = [part[np.isfinite(part)] for part in parts]
            there = [(i, part) for i, part in enumerate(parts) if len(part)]
            if there:
                drawn = axis.violinplot(
                    [part for _, part in there], [i for i, _ in there], widths=0.85,
                    showextrema=False, showmedians=True,
                )  # fmt: skip
                for body in drawn["bodies"]:
                    body.set(facecolor=_BLUE, alpha=0.55, edgecolor=_BLUE)
                drawn["cmedians"].set(color="#123")
            finite = values[np.isfinite(values)]
            for line in lines:
                # Bounds far outside of what there is would flatten it.
                if len(finite) and finite.min() <= line <= finite.max():
                    axis.axhline(line, color=_RED, linewidth=0.9, linestyle="--")
            axis.set_title(name)
            names = [_short(group, 12) for group, _ in groups]
            axis.set_xticks(range(len(groups)), names if len(groups) > 1 else [""], rotation=60)
            axis.set_ylim(bottom=min(0.0, float(finite.min())) if len(finite) else 0.0)

    width = max(2.0, min(1.2 + 0.3 * len(groups), 6.0))
    return _svg((min(width * len(metrics), 14), 2.9), draw)


def variable_genes(
    x: _Floats, y: _Floats, chosen: npt.NDArray[np.bool_], labels: tuple[str, str], log: bool
) -> bytes:
    """Genes by mean and dispersion, those that are chosen in colour."""

    def draw(figure: Any) -> None:
        axis = figure.subplots()
        for mask, color, name in ((~chosen, _GREY, "others"), (chosen, _BLUE, "highly variable")):
            axis.scatter(
                x[mask], y[mask], s=4, color=color, linewidths=0, rasterized=True,
                label=f"{name} ({int(mask.sum()):,})",
            )  # fmt: skip
        if log:
            axis.set_xscale("log")
            _plain_numbers(axis.xaxis)
        axis.set(xlabel=labels[0], ylabel=labels[1])
        axis.legend(frameon=False, markerscale=2.5, loc="upper right")

    return _svg((5.2, 3.6), draw)


def _plain_numbers(axis: Any) -> None:
    """Numbers beside a logarithmic axis without the formulas that are switched off."""
    from matplotlib.ticker import LogLocator

    for which, subs in (("major", (1.0,)), ("minor", (2.0, 5.0))):
        getattr(axis, f"set_{which}_locator")(LogLocator(subs=subs))
        getattr(axis, f"set_{which}_formatter")(lambda value, _: f"{value:g}")


def variance_ratio(ratio: _Floats) -> bytes:
    """The share of the variance that each component explains."""

    def draw(figure: Any) -> None:
        axis = figure.subplots()
        axis.plot(np.arange(1, len(ratio) + 1), 100 * ratio, ".-", color=_BLUE, linewidth=1)
        axis.set(xlabel="component", ylabel="% of variance", yscale="log")
        _plain_numbers(axis.yaxis)

    return _svg((4.4, 3.6), draw)


def _colors(n: int) -> list[Any]:
    import matplotlib

    names = ("tab10",) if n <= 10 else ("tab20", "tab20b", "tab20c")
    maps: list[Any] = [matplotlib.colormaps[name] for name in names]
    palette = [color for one in maps for color in one.colors]
    return [palette[i % len(palette)] for i in range(n)]


def _size(n: int) -> float:
    """The area of a point, so that many stay apart and few are seen."""
    return float(np.clip(30_000 / max(n, 1), 0.6, 14))


def groups_on(points: _Floats, codes: _Floats, names: Sequence[str], axes: str) -> bytes:
    """Cells in two dimensions, coloured by their groups, which are named in their middle."""

    def draw(figure: Any) -> None:
        axis = figure.subplots()
        colors = np.array([*_colors(len(names)), to_rgb(_GREY)])
        axis.scatter(
            points[:, 0], points[:, 1], s=_size(len(points)), c=colors[codes], linewidths=0,
            rasterized=True,
        )  # fmt: skip
        for code, name in enumerate(names):
            inside = points[codes == code]
            handle = axis.scatter([], [], s=30, color=colors[code], label=_short(name))
            if len(inside) and len(names) <= 40:
                middle = np.median(inside, axis=0)
                axis.annotate(
                    _short(name), middle, ha="center", va="center", fontsize=9,
                    bbox={"boxstyle": "round,pad=0.15", "fc": "white", "ec": "none", "alpha": 0.7},
                )  # fmt: skip
            del handle
        _bare(axis, axes)
        if len(names) <= 40:
            columns = 1 + (len(names) - 1) // 18
            axis.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5), ncols=columns)

    from matplotlib.colors import to_rgb

    return _svg((6.2, 4.6), draw)


def values_on(points: _Floats, values: Sequence[tuple[str, _Floats]], axes: str) -> bytes:
    """A panel for each list of values; cells with high ones lie on top."""
    columns = min(4, len(values))
    rows = -(-len(values) // columns)

    def draw(figure: Any) -> None:
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        for axis in panels[len(values) :]:
            axis.set_axis_off()
        for axis, (name, of_cells) in zip(panels, values, strict=False):
            order = np.argsort(of_cells, kind="stable")
            drawn = axis.scatter(
                points[order, 0], points[order, 1], s=_size(len(points)) * 0.6, c=of_cells[order],
                cmap="viridis", linewidths=0, rasterized=True,
            )  # fmt: skip
            axis.set_title(_short(name))
            _bare(axis, axes)
            figure.colorbar(drawn, ax=axis, shrink=0.7, aspect=14)

    return _svg((3.1 * columns, 2.6 * rows), draw)


def _bare(axis: Any, name: str) -> None:
    axis.set(xticks=[], yticks=[], xlabel=f"{name} 1", ylabel=f"{name} 2")


def dots(genes: Sequence[str], groups: Sequence[str], means: _Floats, shares: _Floats) -> bytes:
    """A dot for each group and gene: its area is the share of cells, its colour the mean.

    Parameters
    ----------
    genes, groups
        Names of columns and rows.
    means
        groups x genes, between 0 and 1 in each gene.
    shares
        groups x genes, between 0 and 1.
    """

    def draw(figure: Any) -> None:
        axis = figure.subplots()
        y, x = np.mgrid[: len(groups), : len(genes)]
        drawn = axis.scatter(
            x.ravel(), y.ravel(), s=(shares.ravel() * 110), c=means.ravel(), cmap="Reds",
            vmin=0, vmax=1, edgecolors="#999", linewidths=0.4,
        )  # fmt: skip
        axis.set_xticks(range(len(genes)), [_short(g) for g in genes], rotation=90)
        axis.set_yticks(range(len(groups)), [_short(g) for g in groups])
        axis.set(ylim=(len(groups) - 0.4, -0.6), xlim=(-0.7, len(genes) - 0.3), ylabel="cluster")
        figure.colorbar(drawn, ax=axis, shrink=0.6, label="mean (scaled)", pad=0.01)
        sizes = [
            axis.scatter([], [], s=110 * s, color="#999", label=f"{s:.0%}") for s in (0.25, 0.5, 1)
        ]
        axis.legend(
            handles=sizes, frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=3,
            title="cells with counts", title_fontsize=8,
        )  # fmt: skip

    size = (min(2.6 + 0.21 * len(genes), 18), min(2.2 + 0.26 * len(groups), 14))
    return _svg(size, draw)
