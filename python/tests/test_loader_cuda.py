"""Batches on a GPU. Without one these tests are skipped."""

import numpy as np
import pytest
from loading import N_CELLS, cells_of, made, stored

from slaf import UnsupportedError
from slaf.ml import SLAFDataLoader

torch = pytest.importorskip("torch", reason="torch is not installed")
if not torch.cuda.is_available():
    pytest.skip("no GPU that torch can use", allow_module_level=True)

OPTIONS = [
    {"raw_mode": True},
    {"raw_mode": True, "dense": True, "normalize": 1e4, "log1p": True},
    {"raw_mode": True, "genes": []},
    {"tokenizer_type": "geneformer", "max_genes": 8},
    {"tokenizer_type": "scgpt", "max_genes": 8},
]


@pytest.fixture(scope="module")
def array(tmp_path_factory):
    return stored(tmp_path_factory.mktemp("cuda"), made())


def loader(array, **options):
    return SLAFDataLoader(array, batch_size=9, obs_columns=["line", "depth", "good"], **options)


def assert_same(there, here):
    assert there.keys() == here.keys()
    for key, value in here.items():
        assert there[key].device.type == "cuda"
        assert there[key].layout == value.layout
        assert there[key].dtype == value.dtype
        a, b = (t.to_dense() if t.layout == torch.sparse_csr else t for t in (there[key], value))
        assert torch.equal(a.cpu(), b)


@pytest.mark.parametrize("pin_memory", [False, True])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_batches_are_those_of_the_cpu(array, options, pin_memory):
    there = list(loader(array, device="cuda", pin_memory=pin_memory, **options))
    for a, b in zip(there, loader(array, **options), strict=True):
        assert_same(a, b)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_pinned_memory(array, options):
    for a, b in zip(
        loader(array, pin_memory=True, **options), loader(array, **options), strict=True
    ):
        for key, value in a.items():
            parts = [value]
            if value.layout == torch.sparse_csr:
                parts = [value.crow_indices(), value.col_indices(), value.values()]
                assert torch.equal(value.to_dense(), b[key].to_dense())
            else:
                assert torch.equal(value, b[key])
            assert all(part.is_pinned() for part in parts if part.numel())


@pytest.mark.parametrize("pin_memory", [False, True])
def test_copies_wait_behind_a_busy_stream(array, pin_memory):
    """Memory may not be used again before it is copied."""
    sums, n = {}, 0
    busy = loader(
        array, raw_mode=True, dense=True, n_epochs=8, device="cuda", pin_memory=pin_memory
    )
    for batch in busy:
        torch.cuda._sleep(20_000_000)
        sums[n] = batch["x"].sum(dim=1), batch["cell_ids"]
        n += len(batch["cell_ids"])
    assert n == 8 * N_CELLS
    totals = made().X.sum(axis=1).A1
    for got, cells in sums.values():
        np.testing.assert_allclose(got.cpu().numpy(), totals[cells.cpu().numpy()])


def test_state_goes_between_devices(array):
    there = loader(array, raw_mode=True, device="cuda", pin_memory=True)
    batches = iter(there)
    seen = [next(batches)["cell_ids"].cpu() for _ in range(3)]
    here = loader(array, raw_mode=True)
    here.load_state_dict(there.state_dict())
    rest = cells_of(here)
    assert sorted([*np.concatenate(seen), *rest]) == list(range(N_CELLS))


def test_a_device_that_is_not_there(array):
    with pytest.raises(UnsupportedError, match="device='cuda:99' does not work here"):
        loader(array, raw_mode=True, device="cuda:99")
