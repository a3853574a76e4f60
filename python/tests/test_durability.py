"""What is acknowledged survives a power loss: all that a commit names is synced before it.

`record.c` is preloaded into a process and lists its writes, syncs and links, in order. A power loss
takes what was not synced, at worst all of it; so the order of the list is what is tested.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

HERE = Path(__file__).parent

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="preloads a library")

CONVERT = """
SLAFConverter(durability={durability!r}).convert(r"{folder}/a.h5ad", r"{folder}/a.slaf")
"""
GROW = """
array = SLAFArray(r"{folder}/a.slaf")
array.append(r"{folder}/a.h5ad")
array.add_obs({{"more": list(range(120)), "kind": ["x", "y"] * 60}})
array.add_embedding("X_pca", np.zeros((120, 2), "f4"))
array.rename("obs/more", "most")
array.rollback(2)
"""


@pytest.fixture(scope="module")
def recorder(tmp_path_factory):
    library = tmp_path_factory.mktemp("record") / "record.so"
    command = ["cc", "-shared", "-fPIC", "-o", library, HERE / "record.c", "-ldl"]
    subprocess.run(command, check=True, timeout=60)
    return library


def recorded(recorder, folder, code):
    """The steps of the code: written (W) and synced (S), each with inode and path; linked (N)."""
    log = folder / "record"
    imports = "import numpy as np; from slaf import SLAFArray; from slaf.data import SLAFConverter"
    environment = {**os.environ, "LD_PRELOAD": str(recorder), "RECORD_TO": str(log)}
    command = [sys.executable, "-c", imports + code]
    subprocess.run(command, check=True, timeout=300, env=environment)
    return [tuple(line.split("\t")) for line in log.read_text().splitlines()]


def made(folder):
    rng = np.random.default_rng(2)
    X = sp.random(60, 30, 0.3, "csr", "f4", rng=rng)
    obs = pd.DataFrame({"batch": pd.Categorical(["u", "v"] * 30)}, [f"c{i}" for i in range(60)])
    adata = ad.AnnData(X, obs, pd.DataFrame(index=[f"g{i}" for i in range(30)]))
    adata.uns["what"] = {"a": 1}
    adata.write_h5ad(folder / "a.h5ad")


def commits(steps):
    """The root manifests, with the steps that name them."""
    # The first try of a name may find that there is no folder.
    named = {Path(path): at for at, (what, _, path) in enumerate(steps) if what == "N"}
    return {p: at for p, at in named.items() if p.parent.parts[-2:] == ("_slaf", "versions")}


def exposed(steps, store):
    """What a power loss right after a commit could take of its version."""
    found = []

    def done(what, field, value):
        return [
            at for at, step in enumerate(steps) if step[0] == what and step[field] == str(value)
        ]

    for version, commit in commits(steps).items():
        if not any(at > commit for at in done("S", 2, version.parent)):
            found.append(f"the name of {version}")
        files = json.loads(version.read_text())["files"]
        for path in [*(store / f["path"] for f in files), version]:
            inode = path.stat().st_ino
            written = [at for at in done("W", 1, inode) if at < commit]
            assert written, path
            synced = [at for at in done("S", 1, inode) if max(written) < at < commit]
            if not synced:
                found.append(str(path))
            elif path != version:
                # It was synced under its name, and then the folder with the name.
                named = [at for at in synced if steps[at][2] == str(path)]
                if not any(min(named) < at < commit for at in done("S", 2, path.parent)):
                    found.append(f"the name of {path}")
    return found


def test_what_a_conversion_commits_is_synced(recorder, tmp_path):
    made(tmp_path)
    steps = recorded(recorder, tmp_path, CONVERT.format(folder=tmp_path, durability="full"))
    assert len(commits(steps)) == 1
    assert exposed(steps, tmp_path / "a.slaf") == []


def test_what_changes_commit_is_synced(recorder, tmp_path):
    made(tmp_path)
    recorded(recorder, tmp_path, CONVERT.format(folder=tmp_path, durability="full"))
    steps = recorded(recorder, tmp_path, GROW.format(folder=tmp_path))
    assert len(commits(steps)) == 6
    assert exposed(steps, tmp_path / "a.slaf") == []


def test_without_durability_nothing_is_waited_for(recorder, tmp_path):
    made(tmp_path)
    steps = recorded(recorder, tmp_path, CONVERT.format(folder=tmp_path, durability="os"))
    assert exposed(steps, tmp_path / "a.slaf") != []
