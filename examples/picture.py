"""Draw the picture of the README: cells of blood by type, and by three genes, from a store.

    python examples/picture.py docs/pbmc.svg

The data set is the one of `demo.py` (10x PBMC 68k, reduced to 700 cells, from scanpy).
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
from demo import pbmc

from slaf.data import SLAFConverter
from slaf.integrations import read_slaf

GENES = ["CD79A", "NKG7", "CST3"]
# Okabe and Ito's colours, which people with colour blindness tell apart, and tints of them.
COLOURS = ["#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2"]
COLOURS += ["#d55e00", "#cc79a7", "#999999", "#7fcdbb", "#8c6bb1"]
SIZE, GAP, TOP = 200, 16, 24


def shades(values: np.ndarray) -> list[str]:
    """Grey for none, through orange to dark red for the highest value."""
    low, middle, high = (np.array(c) for c in [(224, 224, 224), (239, 138, 60), (128, 0, 38)])
    share = (values / values.max()).round(1)[:, None]
    rgb = np.where(
        share < 0.5, low + (middle - low) * 2 * share, middle + (high - middle) * (2 * share - 1)
    )
    return [f"#{r:02x}{g:02x}{b:02x}" for r, g, b in rgb.round().astype(int)]


def panel(title: str, place: np.ndarray, colours: list[str], left: int) -> str:
    # A path for each colour is half as long as a circle for each cell.
    cells: dict[str, str] = {}
    for (x, y), colour in zip(place, colours, strict=True):
        cells[colour] = cells.get(colour, "") + f"M{x:.0f} {y:.0f}h0"
    dots = "".join(f'<path stroke="{c}" d="{d}"/>' for c, d in cells.items())
    name = f'<text x="{SIZE / 2}" y="-8" text-anchor="middle">{title}</text>'
    dots = f'<g stroke-width="4" stroke-linecap="round">{dots}</g>'
    return f'<g transform="translate({left} {TOP})">{name}{dots}</g>\n'


def main(target: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="slaf-picture-") as folder:
        store = Path(folder) / "pbmc.slaf"
        SLAFConverter().convert(pbmc(), store)
        adata = read_slaf(store)
        labels = adata.obs["bulk_labels"].astype("category")
        umap = adata.obsm["X_umap"]
        raw = adata.raw[:, GENES].X.compute().toarray()
    low, high = umap.min(axis=0), umap.max(axis=0)
    place = (umap - low) / (high - low) * (SIZE - 8) + 4
    place[:, 1] = SIZE - place[:, 1]
    kinds = [COLOURS[code] for code in labels.cat.codes]
    panels = [("cell type", kinds), *((g, shades(raw[:, i])) for i, g in enumerate(GENES))]
    drawn = "".join(
        panel(title, place, colours, i * (SIZE + GAP)) for i, (title, colours) in enumerate(panels)
    )
    legend = "".join(
        f'<g transform="translate({5 + 212 * (i % 4)} {TOP + SIZE + 24 + 20 * (i // 4)})">'
        f'<circle r="4" fill="{COLOURS[i]}"/><text x="9" y="4">{name}</text></g>\n'
        for i, name in enumerate(labels.cat.categories)
    )
    width, height = len(panels) * (SIZE + GAP) - GAP, TOP + SIZE + 80
    target.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="12">\n'
        f"<title>UMAP of {len(place)} blood cells by type, {', '.join(GENES)}</title>\n"
        f'<rect width="100%" height="100%" fill="#fff"/>\n{drawn}{legend}</svg>\n'
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
