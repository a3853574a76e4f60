"""Every code block of README and of the documentation runs as written, paths aside."""

import os
import pickle
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from slaf.data import SLAFConverter

ROOT = Path(__file__).parents[2]
DOCUMENTS = [p for p in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))] if p.is_file()]
FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>[^\n]*)\n(?P<code>.*?)^(?P=indent)```$", re.M | re.S
)

# What a block has that cannot be here, and what is here in its place.
SUBSTITUTIONS = {
    "s3://bucket/counts.slaf --storage-option aws_region=eu-west-1": "counts.slaf",
    ', storage_options={"aws_region": "eu-west-1"}': "",
    "s3://bucket/": "",
    # Targets are looked up, not built again.
    "make ": f"make -n -C {ROOT} ",
    # Messages would be those of all tests after it.
    'slaf.logging.start("debug")': 'slaf.logging.start("off")',
    "n_workers=4": "n_workers=2, dashboard_address=None",
    # Fewer genes than in an atlas.
    "n_top_genes=2000": "n_top_genes=100",
    "--preset pbmc": "--preset pbmc --min-genes 50",
    'preset="pbmc"': 'preset="pbmc", min_genes=50',
}
# Outputs and logs: nothing to run.
NOT_CODE = {"text"}


def blocks(document):
    return [
        (
            m["language"],
            textwrap.dedent(m["code"]),
            document.read_text()[: m.start()].count("\n") + 1,
        )
        for m in FENCE.finditer(document.read_text())
    ]


def cells(n, seed):
    """Cells of blood with genes by symbol."""
    rng = np.random.default_rng(seed)
    symbols = ["CD3D", "CD3E", "MS4A1", "MT-CO1", "MT-ND1", *(f"GENE{i}" for i in range(525))]
    X = rng.negative_binomial(1, 0.2, (n, len(symbols))).astype(np.float32)
    X[:, 5:] *= rng.random((n, 525)) < 0.4
    obs = pd.DataFrame(
        {
            "cell_type": pd.Categorical(rng.choice(["T cells", "B cells"], n)),
            "batch": rng.choice(["b1", "b2", "batch1"], n),
            "donor": rng.choice(["d1", "d2"], n),
            "total_counts": X.sum(axis=1),
            "n_genes": (X > 0).sum(axis=1),
        },
        index=[f"cell{seed}-{i}" for i in range(n)],
    )
    var = pd.DataFrame({"gene_ids": [f"ENSG{i:011}" for i in range(len(symbols))]}, index=symbols)
    return ad.AnnData(sp.csr_matrix(X), obs, var)


def write_10x(adata, folder):
    folder.mkdir()
    lines = ["%%MatrixMarket matrix coordinate integer general"]
    X = adata.X.T.tocoo()
    lines.append(f"{X.shape[0]} {X.shape[1]} {X.nnz}")
    lines += [f"{r + 1} {c + 1} {int(v)}" for r, c, v in zip(X.row, X.col, X.data, strict=True)]
    (folder / "matrix.mtx").write_text("\n".join(lines) + "\n")
    (folder / "barcodes.tsv").write_text("".join(f"{n}\n" for n in adata.obs_names))
    genes = zip(adata.var["gene_ids"], adata.var_names, strict=True)
    (folder / "genes.tsv").write_text("".join(f"{i}\t{n}\n" for i, n in genes))


def place(folder):
    """Make what the blocks find beside them."""
    adata = cells(90, 0)
    for name in ("input", "pbmc", "counts"):
        adata.write_h5ad(folder / f"{name}.h5ad")
    # The file that `convert` is shown with; its content tells the format.
    (folder / "counts.h5ad").rename(folder / "counts.h5")
    for name in ("donor1", "donor2"):
        write_10x(cells(20, int(name[-1])), folder / name)
    (folder / "samples").mkdir()
    for i in range(2):
        cells(20, i).write_h5ad(folder / "samples" / f"{i}.h5ad")
    for name in ("large_dataset", "atlas", "pbmc"):
        SLAFConverter().convert(folder / "pbmc.h5ad", folder / f"{name}.slaf")
    # Nobody has looked at these yet.
    raw = adata.copy()
    del raw.obs["total_counts"]
    SLAFConverter().convert_anndata(raw, folder / "pbmc3k.slaf")
    tokens = {"<pad>": 0, "<mask>": 1, **{g: i + 2 for i, g in enumerate(adata.var["gene_ids"])}}
    medians = dict.fromkeys(adata.var["gene_ids"], 2.0)
    for name, table in {"token_dictionary": tokens, "gene_median_dictionary": medians}.items():
        (folder / f"{name}.pkl").write_bytes(pickle.dumps(table))
    return adata


def forget_output(code, folder):
    """Remove the stores that a block makes: another one may have shown the same conversion."""
    for name in ("pbmc.slaf", "output.slaf"):
        if re.search(rf"convert\b.*\b{name}", code):
            shutil.rmtree(folder / name, ignore_errors=True)


def substituted(code):
    for written, here in SUBSTITUTIONS.items():
        code = code.replace(written, here)
    return code


def run(command, folder):
    tools = str(Path(sys.executable).parent)
    path = os.pathsep.join([tools, os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("document", DOCUMENTS, ids=[d.name for d in DOCUMENTS])
def test_blocks_run(document, tmp_path, monkeypatch, request):
    found = blocks(document)
    if not found:
        return
    for package in ("scanpy", "torch", "distributed", "duckdb"):
        if any(package in written for _, written, _ in found):
            pytest.importorskip(package)
    if document.name == "slafdb.md":
        made_by_slafdb = request.getfixturevalue("shared_data") / "reference_small_v05.slaf"
        shutil.copytree(made_by_slafdb, tmp_path / "old.slaf")
    monkeypatch.chdir(tmp_path)
    names = {"adata": place(tmp_path), "__name__": "snippet"}
    for language, written, line in found:
        code = substituted(written)
        where = f"{document.name}:{line}"
        forget_output(code, tmp_path)
        if language == "bash":
            run(["bash", "-euo", "pipefail", "-c", code], tmp_path)
        elif language == "python" and "__main__" in code:
            (tmp_path / "script.py").write_text(code)
            run([sys.executable, "script.py"], tmp_path)
        elif language == "python":
            exec(compile(code, where, "exec"), names)
        elif language == "rust,no_run":
            # It is part of an example that `cargo test` compiles.
            compiled = (ROOT / "crates/slaf/src/lib.rs").read_text()
            examples = {line.removeprefix("//! ") for line in compiled.splitlines()}
            assert set(filter(None, code.splitlines())) <= examples, where
        else:
            assert language in NOT_CODE, f"{where}: how does a block of {language!r} run?"


@pytest.mark.parametrize("document", DOCUMENTS, ids=[d.name for d in DOCUMENTS])
def test_every_block_is_found(document):
    fences = re.findall(r"^ *```", document.read_text(), re.M)
    assert len(fences) == 2 * len(blocks(document))


def test_every_substitution_is_of_something():
    everything = "".join(code for d in DOCUMENTS for _, code, _ in blocks(d))
    for written in SUBSTITUTIONS:
        assert written in everything


@pytest.mark.filterwarnings("ignore")
def test_what_the_query_of_the_readme_gives(tmp_path):
    from slaf import SLAFArray

    adata = place(tmp_path)
    (code,) = (c for _, c, _ in blocks(ROOT / "README.md") if "slaf_array.query(" in c)
    names = {}
    exec(code.replace("s3://bucket", str(tmp_path)), names)
    results = names["results"]
    obs = adata.obs
    some = obs[(obs.batch == "batch1") & obs.cell_type.isin(["T cells", "B cells"])]
    means = some.groupby("cell_type", observed=True).total_counts.mean()
    means = means.sort_values(ascending=False)
    assert results["cell_type"].to_list() == means.index.to_list()
    assert results["avg_counts"].to_list() == pytest.approx(means.to_list())
    assert isinstance(names["slaf_array"], SLAFArray)


@pytest.mark.filterwarnings("ignore")
def test_what_the_lazy_anndata_of_the_readme_gives(tmp_path):
    adata = place(tmp_path)
    (code,) = (c for _, c, _ in blocks(ROOT / "README.md") if "first_ten_cells" in c)
    names = {}
    exec(code.replace("s3://bucket", str(tmp_path)), names)
    expected = adata[adata.obs.cell_type == "T cells", :][:10, :].X
    np.testing.assert_array_equal(names["expression"].toarray(), expected.toarray())


def test_both_imports_of_the_store(store_path):
    import slaf
    from slaf import SLAFArray

    assert slaf.SLAFArray is SLAFArray
    assert slaf.SLAFArray(store_path).shape == (6, 4)
