"""The loader with torch: tensors, workers, ranks, Lightning and Ray."""

import json
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from loading import N_CELLS, cells_of, made, stored

import slaf
from slaf.ml import SLAFDataLoader, Split

torch = pytest.importorskip("torch", reason="torch is not installed")

pytestmark = [
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore:This DataLoader will create 4 worker:UserWarning"),
    # Of torchdata, with this release of torch.
    pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning"),
]


@pytest.fixture(scope="module")
def adata():
    return made()


@pytest.fixture(scope="module")
def array(tmp_path_factory, adata):
    return stored(tmp_path_factory.mktemp("torch"), adata)


def test_sparse_tensors(array, adata):
    X = torch.from_numpy(adata.X.toarray())
    weights = torch.linspace(-1, 1, X.shape[1])[:, None]
    for batch in SLAFDataLoader(array, raw_mode=True, batch_size=9, obs_columns=["line"]):
        x = batch["x"]
        assert x.layout == torch.sparse_csr
        torch._validate_sparse_csr_tensor_args(
            x.crow_indices(), x.col_indices(), x.values(), x.shape
        )
        expected = X[batch["cell_ids"]]
        assert torch.equal(x.to_dense(), expected)
        torch.testing.assert_close(x @ weights, expected @ weights)
        assert batch["line"].dtype == torch.int64


def test_tensors_share_the_memory_of_rust(array):
    loader = SLAFDataLoader(array, raw_mode=True, return_tensors="numpy")
    from slaf._boundary import Shard
    from slaf.ml import _batches

    native = loader._plan.batches(0, 0, 0, Shard()).next()
    layout = loader._plan.layout._replace(returns="torch")
    batch = _batches.convert(native, layout)
    assert batch["x"].values().data_ptr() == native.data.data.ctypes.data
    assert batch["cell_ids"].data_ptr() == native.cells.ctypes.data


def test_the_snippet(array):
    dataloader = SLAFDataLoader(
        slaf_array=array,
        tokenizer_type="geneformer",
        batch_size=32,
        max_genes=2048,
        vocab_size=50000,
    )
    n = 0
    for batch in dataloader:
        input_ids = batch["input_ids"]
        attention_mask = batch["attention_mask"]
        cell_ids = batch["cell_ids"]
        assert input_ids.shape == attention_mask.shape == (len(cell_ids), 2048)
        assert (input_ids.dtype, attention_mask.dtype) == (torch.int64, torch.bool)
        assert ((input_ids != 0) == attention_mask).all()
        n += len(cell_ids)
    assert n == N_CELLS


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "cuda"}, "device='cuda' does not work here"),
        ({"pin_memory": True}, "pin_memory=True does not work here"),
        ({"device": "gpu"}, "device='gpu' does not work here"),
    ],
    ids=str,
)
def test_a_device_that_is_not_there(array, options, message):
    with pytest.raises(slaf.UnsupportedError, match=message) as caught:
        SLAFDataLoader(array, raw_mode=True, **options)
    assert caught.value.kind == "unsupported-feature"


@pytest.mark.parametrize("options", [{"return_tensors": "numpy"}, {"tokenizer": dict}], ids=str)
def test_a_device_for_what_is_no_tensor(array, options):
    with pytest.raises(slaf.InvalidArgumentError, match="are for the tensors"):
        SLAFDataLoader(array, device="cpu", **options)


def test_a_device(array):
    batch = next(iter(SLAFDataLoader(array, raw_mode=True, device="meta")))
    assert batch["x"].device.type == batch["cell_ids"].device.type == "meta"


def test_import_without_torch(array):
    code = """
        import sys
        sys.modules["torch"] = None
        import slaf
        from slaf.ml import SLAFDataLoader
        array = slaf.SLAFArray(sys.argv[1])
        print(len(list(SLAFDataLoader(array, return_tensors="numpy"))))
        for make in (lambda: SLAFDataLoader(array), lambda: __import__("slaf.ml.datasets")):
            try:
                make()
            except slaf.UnsupportedError as e:
                print(e)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), array.path],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    n, first, second = done.stdout.splitlines()
    assert n == "4"
    assert "pip install 'slaf[torch]'" in first
    assert "pip install 'slaf[torch]'" in second


@pytest.mark.parametrize("context", ["fork", "spawn"])
@pytest.mark.parametrize("workers", [0, 2, 4])
def test_torch_workers(array, context, workers):
    from slaf.ml.datasets import SLAFDataset

    dataset = SLAFDataset(array, max_genes=5, batch_size=8)
    # The parent has used the store, and its threads, before workers are made.
    expected = list(SLAFDataLoader(array, max_genes=5, batch_size=8))
    loader = torch.utils.data.DataLoader(
        dataset,
        batch_size=None,
        num_workers=workers,
        multiprocessing_context=context if workers else None,
    )
    found = list(loader)
    assert len(found) == len(loader) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        for key, value in theirs.items():
            assert torch.equal(ours[key], value), key


@pytest.mark.parametrize("workers", [0, 2])
def test_stateful_data_loader(array, workers):
    stateful = pytest.importorskip("torchdata.stateful_dataloader")
    from slaf.ml.datasets import SLAFDataset

    def loader():
        dataset = SLAFDataset(array, max_genes=5, batch_size=8)
        return stateful.StatefulDataLoader(dataset, batch_size=None, num_workers=workers)

    expected = cells_of(loader())
    first = loader()
    iterator = iter(first)
    before = [next(iterator) for _ in range(5)]
    state = first.state_dict()
    second = loader()
    second.load_state_dict(state)
    np.testing.assert_array_equal(cells_of(before + list(second)), expected)


DDP = """
    import json, sys
    import torch.distributed as dist
    from slaf import SLAFArray
    from slaf.ml import SLAFDataLoader
    rank, path, rendezvous = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    dist.init_process_group("gloo", f"file://{rendezvous}", rank=rank, world_size=2)
    loader = SLAFDataLoader(SLAFArray(path), raw_mode=True, batch_size=8)
    cells = []
    for batch in loader:
        # Hangs if ranks have different numbers of batches.
        dist.barrier()
        cells.append(batch["cell_ids"].tolist())
    print(json.dumps([len(loader), cells]))
    dist.destroy_process_group()
"""


def test_two_ranks_of_gloo(array, tmp_path):
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(DDP)]
    arguments = [array.path, str(tmp_path / "rendezvous")]
    ranks = [
        subprocess.Popen(
            [*command, str(rank), *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    found = []
    for process in ranks:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        found.append(json.loads(out.splitlines()[-1]))
    assert found[0][0] == found[1][0] == len(found[0][1]) == len(found[1][1]) == 7
    seen = np.concatenate([np.concatenate(cells) for _, cells in found])
    assert len(seen) == N_CELLS + 1
    assert set(seen) == set(range(N_CELLS))
    # The ranks take the batches of one order in turns.
    whole = cells_of(SLAFDataLoader(array, raw_mode=True, batch_size=8))
    np.testing.assert_array_equal(found[0][1][0], whole[:8])
    np.testing.assert_array_equal(found[1][1][0], whole[8:16])


@pytest.mark.filterwarnings("ignore")
def test_lightning(array, tmp_path):
    lightning = pytest.importorskip("lightning", reason="lightning is not installed")
    from slaf.ml.lightning import SLAFDataModule

    class Model(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(23, 1)
            self.seen = {"train": [], "val": []}

        def step(self, batch, part):
            self.seen[part] += batch["cell_ids"].tolist()
            return self.layer(batch["x"]).square().mean()

        def training_step(self, batch, _):
            return self.step(batch, "train")

        def validation_step(self, batch, _):
            return self.step(batch, "val")

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 1e-6)

    fractions = {"train": 3, "val": 1}
    data = SLAFDataModule(array, Split("train", fractions), raw_mode=True, dense=True, batch_size=8)
    model = Model()
    trainer = lightning.Trainer(
        max_epochs=2, accelerator="cpu", default_root_dir=tmp_path, use_distributed_sampler=False,
        logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0,
    )  # fmt: skip
    trainer.fit(model, data)
    expected = {
        part: sorted(cells_of(SLAFDataLoader(array, raw_mode=True, split=Split(part, fractions))))
        for part in fractions
    }
    n = len(expected["train"])
    assert sorted(model.seen["train"][:n]) == sorted(model.seen["train"][n:]) == expected["train"]
    assert model.seen["train"][:n] != model.seen["train"][n:]
    assert model.seen["val"] == expected["val"] * 2
    state = data.state_dict()
    again = SLAFDataModule(
        array, Split("train", fractions), raw_mode=True, dense=True, batch_size=8
    )
    again.load_state_dict(state)
    assert again.state_dict() == state


@pytest.mark.filterwarnings("ignore")
def test_ray(array, adata):
    ray = pytest.importorskip("ray", reason="ray is not installed")
    pytest.importorskip("pyarrow")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    try:
        from slaf.ml.ray import read_slaf

        dataset = read_slaf(array, raw_mode=True, batch_size=8, obs_columns=["line"], epoch=1)
        rows = dataset.take_all()
    finally:
        ray.shutdown()
    loader = SLAFDataLoader(array, raw_mode=True, batch_size=8)
    loader.set_epoch(1)
    expected = cells_of(loader)
    assert sorted(r["cell_ids"] for r in rows) == sorted(expected)
    X = adata.X.toarray()
    for row in rows:
        dense = np.zeros(X.shape[1], np.float32)
        dense[row["x_indices"]] = row["x_values"]
        np.testing.assert_array_equal(dense, X[row["cell_ids"]])
        assert row["line"] == adata.obs.line.cat.codes.iloc[row["cell_ids"]]


def test_datasets_have_no_device(array):
    from slaf.ml.datasets import SLAFDataset

    with pytest.raises(slaf.InvalidArgumentError):
        SLAFDataset(array, raw_mode=True, device="cpu")
