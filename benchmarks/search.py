"""Times search by similarity: slaf over a store, and brute force of numpy, scikit-learn and FAISS.

    python search.py --cells 1000000 --dims 50 [--cache ~/.cache/slaf/bench]

- top10: the 10 nearest of one cell, of a different one each time;
- labels: the 10,000 nearest of one cell, and the fraction of each of 12 labels among them;
- batch: the 10 nearest of 1,000 cells at once.

The data is cells around 40 centres, float32. slaf reads it from a store, which is made if it is not
there; the peers have it in memory before they are timed, as slaf has it after its first search,
which is a column of its own. `slaf-index` is the same store with an index, which is printed with
its seconds and its report. Every library is a process of its own, on all cores.
FAISS (`IndexFlatL2`) and Lance have environments of their own, made when they are asked for:
`lance` is a flat scan, `lance-ivf` IVF_FLAT of sqrt(n) lists, of which 20 are searched, `lance-pq`
IVF_PQ, the best 10 k of 50 lists re-ranked; building an index is not timed with the queries, but
printed. Neighbours are compared with those of numpy in float64: `recall` is the part of the 10
nearest that is among them.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

LANCE = ["lance", "lance-ivf", "lance-pq"]
LIBRARIES = ["slaf", "slaf-index", "numpy", "sklearn", "faiss", *LANCE]
STORES = {"slaf", "slaf-index"}
PACKAGES = {"faiss": ("faiss-cpu>=1.9", "numpy")} | dict.fromkeys(LANCE, ("pylance", "numpy"))
QUERIES, LABELS, MANY = 1000, 12, 10_000


def generate(n: int, dims: int, path: Path) -> None:
    """Points and labels, as one file each."""
    import numpy as np

    random = np.random.default_rng(0)
    centres = random.normal(0, 4, (40, dims))
    kind = random.integers(0, 40, n)
    points = np.lib.format.open_memmap(path / "points.npy", "w+", np.float32, (n, dims))
    for start in range(0, n, 100_000):
        part = kind[start : start + 100_000]
        points[start : start + 100_000] = centres[part] + random.normal(size=(len(part), dims))
    points.flush()
    np.save(path / "labels.npy", kind % LABELS)
    np.save(path / "queries.npy", random.choice(n, QUERIES, replace=False))


def make_store(path: Path) -> None:
    """The points as a store with one gene."""
    import anndata as ad
    import numpy as np
    import pandas as pd
    import scipy.sparse as sp

    from slaf.data import SLAFConverter

    points = np.load(path / "points.npy", mmap_mode="r")
    n = len(points)
    labels = pd.Categorical.from_codes(
        np.load(path / "labels.npy"), [f"type {i}" for i in range(LABELS)]
    )
    adata = ad.AnnData(
        sp.csr_matrix((np.ones(n, np.float32), np.zeros(n, np.int32), np.arange(n + 1)), (n, 1)),
        obs=pd.DataFrame({"label": labels}, index=pd.RangeIndex(n).astype(str)),
        obsm={"X_pca": np.asarray(points)},
    )
    SLAFConverter().convert_anndata(adata, str(path / "store.slaf"))


def numpy_search(points: Any) -> Callable[[Any, int], Any]:
    """Products of blocks in float32, and a partition of each row."""
    import numpy as np

    norms = (points**2).sum(1)

    def search(queries: Any, k: int) -> Any:
        found = []
        for start in range(0, len(queries), 100):
            scores = norms - 2 * queries[start : start + 100] @ points.T
            near = np.argpartition(scores, k - 1, axis=1)[:, :k]
            order = np.take_along_axis(scores, near, 1).argsort(1, kind="stable")
            found.append(np.take_along_axis(near, order, 1))
        return np.concatenate(found)

    return search


def lance_search(points: Any, path: Path, kind: str) -> Callable[[Any, int], Any]:
    """A Lance data set of the points, with an index of its own if it has none."""
    import lance
    import numpy as np
    import pyarrow as pa

    n, dims = points.shape
    at = path / f"{kind}.lance"
    if not at.exists():
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(points.reshape(-1)), dims)
        table = pa.table({"row": np.arange(n), "vector": vectors})
        dataset = lance.write_dataset(table, str(at), max_rows_per_file=1 << 20)
        started = time.perf_counter()
        if kind != "lance":
            lists = {"num_partitions": int(n**0.5)}
            pq = {"num_sub_vectors": dims // 2} if kind == "lance-pq" else {}
            index = "IVF_PQ" if kind == "lance-pq" else "IVF_FLAT"
            dataset.create_index("vector", index, metric="l2", **lists, **pq)
        print(f"{kind}: index built in {time.perf_counter() - started:.1f} s", file=sys.stderr)
    dataset = lance.dataset(str(at))
    options = {"lance": {"use_index": False}, "lance-ivf": {"nprobes": 20}}
    options["lance-pq"] = {"nprobes": 50, "refine_factor": 10}

    def one(query: Any, k: int) -> Any:
        nearest = {"column": "vector", "q": query, "k": k, **options[kind]}
        return dataset.to_table(columns=["row"], nearest=nearest)["row"].to_numpy()

    return lambda queries, k: np.stack([one(query, k) for query in queries])


def opened(library: str, path: Path) -> Any:
    """The store, or a copy of it with an index, which is made if it is not there."""
    import shutil

    from slaf import SLAFArray

    if library == "slaf":
        return SLAFArray(str(path / "store.slaf"), load_metadata=False)
    copy = path / "indexed.slaf"
    if not copy.exists():
        shutil.copytree(path / "store.slaf", copy)
        array = SLAFArray(str(copy), load_metadata=False)
        started = time.perf_counter()
        array.create_index("X_pca", kind="ivf")
        print(f"slaf-index: built in {time.perf_counter() - started:.1f} s", file=sys.stderr)
        print(array.index_report("X_pca"), file=sys.stderr)
    return SLAFArray(str(copy), load_metadata=False)


def searcher(library: str, path: Path) -> Callable[[Any, int], Any]:
    """A function that gives the numbers of the k nearest rows of each of some rows."""
    import numpy as np

    if library in STORES:
        array = opened(library, path)
        include = ["cell_integer_id"]

        def by_slaf(cells: Any, k: int) -> Any:
            found = array.nearest(cells, k, include=include)
            return found["cell_integer_id"].to_numpy().reshape(len(cells), k)

        return by_slaf
    points = np.load(path / "points.npy")
    if library == "numpy":
        search = numpy_search(points)
    elif library in LANCE:
        search = lance_search(points, path, library)
    elif library == "sklearn":
        from sklearn.neighbors import NearestNeighbors

        brute = NearestNeighbors(algorithm="brute", n_jobs=-1).fit(points)

        def search(queries: Any, k: int) -> Any:
            return brute.kneighbors(queries, k, return_distance=False)
    else:
        import faiss

        index = faiss.IndexFlatL2(points.shape[1])
        index.add(points)

        def search(queries: Any, k: int) -> Any:
            return index.search(queries, k)[1]

    return lambda cells, k: search(points[cells], k)


def fractions(library: str, path: Path, search: Callable[[Any, int], Any]) -> Callable[[Any], Any]:
    """A function that gives the fractions of the labels among the many nearest of a cell."""
    import numpy as np

    if library in STORES:
        array = opened(library, path)
        return lambda cells: array.neighbors_summary(cells, "label", MANY)
    labels = np.load(path / "labels.npy")
    return lambda cells: np.bincount(labels[search(cells, MANY)[0]], minlength=LABELS) / MANY


def child(library: str, path: Path, runs: int) -> None:
    """Times a library; prints what it took."""
    import numpy as np

    cells = np.load(path / "queries.npy")
    search = searcher(library, path)

    def timed(work: Callable[[Any], Any], parts: list[Any]) -> list[float]:
        seconds = []
        for part in parts:
            started = time.perf_counter()
            work(part)
            seconds.append(time.perf_counter() - started)
        return sorted(seconds)

    first = timed(lambda part: search(part, 10), [cells[:1]])
    singles = [cells[i : i + 1] for i in range(1, 2 * runs + 1)]
    top10 = timed(lambda part: search(part, 10), singles)
    by_label = fractions(library, path, search)
    by_label(cells[:1])
    labels = timed(by_label, singles[:runs])
    batch = timed(lambda part: search(part, 10), [cells] * max(runs // 3, 1))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    points = np.load(path / "points.npy", mmap_mode="r")
    # After the peak was taken.
    right = 0
    for cell in cells[:20]:
        squared = ((points - points[cell].astype(np.float64)) ** 2).sum(1)
        right += len(set(np.argsort(squared, kind="stable")[:10]) & set(search([cell], 10)[0]))
    times = {"first": first, "top10": top10, "labels": labels, "batch": batch}
    report = {task: 1e3 * found[len(found) // 2] for task, found in times.items()}
    print(json.dumps({**report, "peak_mib": peak, "recall": right / 200}))


def interpreter(library: str, cache: Path) -> str:
    """The Python that has a library: this one, or one of its own."""
    if library not in PACKAGES:
        return sys.executable
    venv = cache / library.partition("-")[0] / "venv"
    python = venv / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
        subprocess.run(
            [str(python), "-m", "pip", "install", "--quiet", *PACKAGES[library]], check=True
        )
    return str(python)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=1_000_000)
    parser.add_argument("--dims", type=int, default=50)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--library", action="append", choices=LIBRARIES)
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "slaf" / "bench")
    parser.add_argument("--child", choices=LIBRARIES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    path = args.cache / f"search-{args.cells}x{args.dims}"
    if args.child:
        child(args.child, path, args.runs)
        return
    if not (path / "queries.npy").exists():
        path.mkdir(parents=True, exist_ok=True)
        generate(args.cells, args.dims, path)
    libraries = args.library or LIBRARIES
    if not STORES.isdisjoint(libraries) and not (path / "store.slaf").exists():
        make_store(path)
    columns = ["first", "top10", "labels", "batch"]
    print("| library | " + " | ".join(f"{c}, ms" for c in columns) + " | peak, MiB | recall |")
    print("|---|" + "--:|" * 6)
    for library in libraries:
        command = [interpreter(library, args.cache), __file__, "--child", library]
        sizes = ["--cells", args.cells, "--dims", args.dims, "--runs", args.runs]
        command += map(str, [*sizes, "--cache", args.cache])
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            print(f"| {library} | {(done.stderr.strip().splitlines() or ['failed'])[-1]} |")
            continue
        print(done.stderr, end="", file=sys.stderr)
        found = json.loads(done.stdout.splitlines()[-1])
        times = " | ".join(f"{found[column]:,.1f}" for column in columns)
        row = f"| {library} | {times} | {found['peak_mib']:,.0f} | {found['recall']:.3f} |"
        print(row, flush=True)


if __name__ == "__main__":
    main()
