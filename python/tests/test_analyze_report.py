"""The report of an analysis: its numbers, what it refers to, and how a browser shows it."""

import base64
import re
import shutil
import subprocess
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest
from test_analyze import QUICK, counts, stored

import slaf
from slaf.analysis import _pictures, analyze, open_analyzed, write_report
from slaf.integrations import pp, read_slaf

pytest.importorskip("scanpy")
pytest.importorskip("igraph")
pytest.importorskip("matplotlib")


class Page(HTMLParser):
    """The tables of a page, by their ids, its pictures, and all tags."""

    def __init__(self, text):
        super().__init__()
        self.tables, self.images, self.tags, self.attributes = {}, [], [], []
        self._rows = self._cell = None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs.items()]
        if tag == "table":
            self._rows = self.tables.setdefault(attrs["id"], [])
        elif tag == "tr":
            self._rows.append([])
        elif tag in ("td", "th"):
            self._cell = ""
        elif tag == "img":
            self.images.append(attrs)

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self._rows[-1].append(self._cell)
            self._cell = None

    def handle_data(self, data):
        if self._cell is not None:
            self._cell += data


@pytest.fixture(scope="module")
def analysed(tmp_path_factory):
    """A store and its report; markers of one kind have hostile names."""
    folder = tmp_path_factory.mktemp("report")
    adata = counts()
    names = adata.var_names.to_numpy(dtype=object).copy()
    names[-2:] = "last", "but one"
    # Genes of which one kind of cells has more.
    names[[20, 35, 50]] = '<script>alert("1")</script>', "$x_{1", "a&b'c"
    adata.var_names = names
    path = stored(adata, folder / "<b>a.slaf")
    analyze(path, out=folder / "report.html", batch_key="donor", harmony=False, n_comps=10)
    return path, folder / "report.html"


@pytest.fixture(scope="module")
def page(analysed):
    return Page(analysed[1].read_text(encoding="utf-8"))


def test_its_numbers(analysed, page):
    adata = read_slaf(analysed[0])
    obs, var = adata.obs, adata.var
    kept = {row[0]: row[1] for row in page.tables["cells-kept"][1:]}
    assert kept["in the store"] == str(adata.n_obs)
    assert kept["pass"] == str(int(obs["passes_qc"].sum()))
    for reason in obs["qc_reason"].dropna().astype(str).str.split("; ").explode().unique():
        n = obs["qc_reason"].astype(str).str.split("; ").map(lambda r, x=reason: x in r).sum()
        assert kept[f"rejected: {reason}"] == str(n)
    clusters = {row[0]: row[1:] for row in page.tables["clusters"][1:]}
    sizes = obs["leiden"].value_counts()
    assert clusters == {k: [str(n), f"{100 * n / sizes.sum():.1f}"] for k, n in sizes.items()}
    batches = {row[0]: row[1:] for row in page.tables["batches"][1:]}
    for donor, part in obs.groupby("donor", observed=True):
        assert batches[donor] == [str(len(part)), str(int(part["passes_qc"].sum()))]
    # Shares of cells, from the counts.
    part = open_analyzed(analysed[0])
    X, labels = part.X.toarray(), part.obs["leiden"].astype(str).to_numpy()
    assert page.tables["markers"][0][:3] == ["cluster", "name", "score"]
    for cluster, gene, *_, inside, others in page.tables["markers"][1:]:
        values = X[:, part.var_names.get_loc(gene)] > 0
        assert inside == f"{100 * values[labels == cluster].mean():.0f}"
        assert others == f"{100 * values[labels != cluster].mean():.0f}"
    lineage = {row[0]: row for row in page.tables["lineage"][1:]}
    for step, record in adata.uns["slaf_analyze"].items():
        assert lineage[step][2:4] == [str(record["input_version"]), str(record["version"])]
    assert ["n_comps", "pca", "10"] in page.tables["parameters"]
    assert str(int(var["highly_variable"].sum())) in analysed[1].read_text(encoding="utf-8")


def test_it_needs_nothing_from_outside(page):
    assert not {"script", "link", "iframe", "object", "b>a.slaf"} & set(page.tags)
    for tag, name, value in page.attributes:
        assert not name.startswith("on"), (tag, name)
        if name in ("src", "href"):
            assert value.startswith("data:image/svg+xml;base64,")
    # Violins, genes, components, two layouts, markers, dots.
    assert len(page.images) == 7
    for image in page.images:
        svg = base64.b64decode(image["src"].split(",")[1]).decode()
        assert "<script" not in svg
        links = re.findall(r'(?:href|src)="([^"]*)"', svg)
        assert all(link.startswith(("#", "data:image/png;base64,")) for link in links)


def test_names_are_texts(analysed, page):
    text = analysed[1].read_text(encoding="utf-8")
    assert "<script" not in text
    genes = {row[1] for row in page.tables["markers"]}
    assert {'<script>alert("1")</script>', "$x_{1", "a&b'c"} <= genes
    assert "d <1>" in {row[0] for row in page.tables["batches"]}


def test_many_cells_are_sampled_and_the_report_says_so(analysed, tmp_path, monkeypatch):
    monkeypatch.setattr(_pictures, "MOST_POINTS", 50)
    write_report(analysed[0], tmp_path / "few.html")
    text = (tmp_path / "few.html").read_text(encoding="utf-8")
    n = int(read_slaf(analysed[0]).obs["leiden"].notna().sum())
    assert f"Shown are 50 of {n} cells, drawn at random with the seed 0." in text
    assert "Shown are 50 of 240 cells" in text
    # What is counted is all of them.
    whole, few = (Page(p) for p in (analysed[1].read_text(encoding="utf-8"), text))
    assert whole.tables == few.tables
    write_report(analysed[0], tmp_path / "again.html")
    assert (tmp_path / "again.html").read_text(encoding="utf-8") == text
    assert len(_pictures.sample(10)) == 10


def test_a_report_without_layout_and_clusters(tmp_path):
    path = stored(counts(), tmp_path / "a.slaf")
    analyze(path, clusters=False, out=tmp_path / "r.html", **QUICK)
    page = Page((tmp_path / "r.html").read_text(encoding="utf-8"))
    assert "clusters" not in page.tables
    with pytest.raises(slaf.AlreadyExistsError, match="--overwrite"):
        analyze(path, out=tmp_path / "r.html", **QUICK)
    analyze(path, out=tmp_path / "r.html", overwrite=True, **QUICK)
    page = Page((tmp_path / "r.html").read_text(encoding="utf-8"))
    assert any("component" in image["alt"].lower() for image in page.images)
    assert len(page.tables["clusters"]) > 2
    with pytest.raises(slaf.NotFoundError, match="no such folder"):
        analyze(path, out=tmp_path / "no" / "r.html", **QUICK)


def test_a_store_without_analysis_has_no_report(tmp_path):
    path = stored(counts(), tmp_path / "a.slaf")
    with pytest.raises(slaf.NotFoundError, match="run slaf analyze first"):
        write_report(path, tmp_path / "r.html")
    assert not (tmp_path / "r.html").exists()


def test_names_that_repeat_are_not_mixed_up(tmp_path):
    adata = counts()
    names = adata.var_names.to_numpy(dtype=object).copy()
    names[[21, 40]] = "twice"
    adata.var_names = names
    path = stored(adata, tmp_path / "a.slaf")
    analyze(path, out=tmp_path / "r.html", **QUICK)
    page = Page((tmp_path / "r.html").read_text(encoding="utf-8"))
    rows = [row for row in page.tables["markers"] if row[1] == "twice"]
    assert all(row[-2:] == ["–", "–"] for row in rows)


def test_names_with_control_characters_are_drawn():
    points = np.random.default_rng(0).normal(size=(9, 2))
    names = ["a\x07b\x00", "\ufffe", "\ud800", "--", "-->\x1b[31m"]
    svg = _pictures.groups_on(points, np.arange(9) % 5, names, "UMAP")
    ElementTree.fromstring(svg)


def test_a_report_where_all_names_repeat(tmp_path):
    adata = counts()
    adata.var_names = [f"g{i // 2}" for i in range(adata.n_vars)]
    path = stored(adata, tmp_path / "a.slaf")
    analyze(path, out=tmp_path / "r.html", **QUICK)
    page = Page((tmp_path / "r.html").read_text(encoding="utf-8"))
    assert all(row[-2:] == ["–", "–"] for row in page.tables["markers"][1:])


@pytest.fixture
def changed(tmp_path, analysed):
    path = tmp_path / "a.slaf"
    shutil.copytree(analysed[0], path)
    return path


def test_clusters_with_other_names_have_them_in_the_report(changed, tmp_path, page):
    column = read_slaf(changed).obs["leiden"]
    names = [f"type {c}" for c in column.cat.categories]
    renamed = column.cat.rename_categories(names)
    slaf.SLAFArray(changed).add_obs({"leiden": renamed}, overwrite=True)
    write_report(changed, tmp_path / "r.html")
    other = Page((tmp_path / "r.html").read_text(encoding="utf-8"))
    for table in ("clusters", "markers"):
        rows = [[f"type {row[0]}", *row[1:]] for row in page.tables[table][1:]]
        assert other.tables[table][1:] == rows


@pytest.mark.parametrize(
    ("change", "error", "what"),
    [
        (lambda s: s.delete_cells("cell_integer_id < 9"), slaf.ConflictError, "cells or genes"),
        (lambda s: s.append(counts()[:5], allow_loss=True), slaf.ConflictError, "cells or genes"),
        (lambda s: s.drop("obs/leiden"), slaf.NotFoundError, "obs/leiden is gone"),
        (lambda s: s.drop("var/passes_qc"), slaf.NotFoundError, "var/passes_qc is gone"),
        (lambda s: s.rename("obs/size_factor", "f"), slaf.NotFoundError, "obs/size_factor is gone"),
        (lambda s: s.drop("obs/donor"), slaf.NotFoundError, "obs/donor is gone"),
        (
            lambda s: s.add_obs({"total_counts": np.ones(240)}, overwrite=True),
            slaf.ConflictError,
            "obs/total_counts was changed",
        ),
        (
            lambda s: s.set_uns("rank_genes_groups", 5, overwrite=True),
            slaf.ConflictError,
            "uns/rank_genes_groups was changed",
        ),
    ],
)
def test_a_store_that_was_changed_has_no_report(changed, tmp_path, change, error, what):
    change(slaf.SLAFArray(changed))
    with pytest.raises(error, match=what):
        write_report(changed, tmp_path / "r.html")


def test_cells_that_were_analysed_after_changes(changed):
    slaf_array = slaf.SLAFArray(changed)
    more = counts()[:5, :3].copy()
    more.var_names = ["new 0", "new 1", "new 2"]
    before = open_analyzed(changed)
    slaf_array.append(more, allow_loss=True, allow_disjoint=True)
    after = open_analyzed(changed)
    assert list(after.obs_names) == list(before.obs_names)
    assert list(after.var_names) == list(before.var_names)
    slaf_array.drop("obs/size_factor")
    with pytest.raises(slaf.NotFoundError, match="obs/size_factor is gone: run slaf analyze"):
        open_analyzed(changed)


def test_a_browser_shows_it(analysed, tmp_path):
    browser = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    if browser is None:
        pytest.skip("no Chromium is installed")
    picture = tmp_path / "page.png"
    done = subprocess.run(
        [
            browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
            f"--user-data-dir={tmp_path / 'profile'}", f"--screenshot={picture}",
            "--window-size=1100,5200", "--virtual-time-budget=5000", analysed[1].as_uri(),
        ],
        capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert picture.exists(), done.stderr
    from matplotlib.image import imread

    pixels = imread(picture)[..., :3]
    # It is drawn all the way down, and has colours.
    assert pixels.shape[:2] == (5200, 1100)
    lines = (pixels.min(axis=2) < 0.9).any(axis=1)
    assert lines[:3000].mean() > 0.5
    assert (np.ptp(pixels, axis=2) > 0.3).sum() > 5000


def test_a_single_component_has_no_layout(tmp_path):
    path, out = stored(counts(), tmp_path / "a.slaf"), tmp_path / "report.html"
    analyze(path, out=out, n_comps=1, umap=False, batch_key="donor", harmony=False)
    page = Page(out.read_text(encoding="utf-8"))
    captions = " ".join(image["alt"] for image in page.images)
    assert "Clusters of cells" not in captions
    assert "Variance of the components" in captions
    assert len(page.tables["clusters"]) > 1


def test_few_cells_of_two_batches(tmp_path):
    pytest.importorskip("harmonypy")
    few = counts()[34:46].copy()
    assert few.obs["donor"].nunique() == 2
    how = {"batch_key": "donor", "mads": None, "mads_mt": None, "max_pct_mt": None, "min_cells": 1}
    path = stored(few, tmp_path / "a.slaf")
    report = analyze(path, out=tmp_path / "report.html", umap=False, n_comps=4, **how)
    assert report.n_analyzed == 12
    adata = read_slaf(path)
    assert np.isfinite(adata.obsm["X_pca_harmony"]).all()
    adata.obs["donor"] = adata.obs["donor"].where(np.arange(12) > 0)
    with pytest.raises(slaf.InvalidArgumentError, match=r"Harmony .* missing"):
        pp.harmony_integrate(adata, "donor")
