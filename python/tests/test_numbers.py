"""Numbers and types that no loader can take are refused by name, and end nothing."""

import json
import math

import numpy as np
import pytest
from loading import N_CELLS, made, stored

import slaf
from slaf import SLAFArray
from slaf.integrations import read_slaf
from slaf.ml import Balanced, Mixture, Sets, SLAFDataLoader, Split, Weighted

ABSURD = [
    -1,
    -(2**63),
    2**62,
    2**63,
    2**64,
    2**70,
    True,
    1.5,
    math.nan,
    math.inf,
    "7",
    None,
    [],
    b"1",
]


@pytest.fixture(scope="module")
def array(tmp_path_factory):
    return stored(tmp_path_factory.mktemp("numbers"), made())


def raw(array, **options):
    return SLAFDataLoader(array, raw_mode=True, return_tensors="numpy", **options)


def refused(call, name):
    with pytest.raises(slaf.InvalidArgumentError) as caught:
        call()
    assert name in str(caught.value), caught.value
    assert caught.value.kind == "invalid-argument"


# What a name may be in spite of being in the list.
FINE = {"memory": [2**62], "seed": [2**62], "unknown_code": [-1, -(2**63), 2**62]}


@pytest.mark.parametrize(
    "name",
    [
        "batch_size",
        "n_epochs",
        "seed",
        "memory",
        "max_genes",
        "vocab_size",
        "n_expression_bins",
        "unknown_code",
    ],
)
def test_wrong_numbers_are_named(array, name):
    for value in ABSURD:
        if not any(value is fine or value == fine for fine in FINE.get(name, [])):
            refused(lambda value=value: raw(array, **{name: value}), name)


@pytest.mark.parametrize("value", [v for v in ABSURD if v is not None])
def test_wrong_ranks_are_named(array, value):
    refused(lambda: raw(array, rank=0, world_size=value), "world_size")
    if value is not True:
        refused(lambda: raw(array, rank=value, world_size=2), "rank")
    refused(lambda: raw(array, shuffle="block", block_size=value), "block_size")
    refused(lambda: raw(array, shuffle="block", window=value), "window")
    if value not in (2**62, 2**63, 2**64, 2**70, 1.5):
        refused(lambda: raw(array, normalize=value), "normalize")
    refused(lambda: raw(array, sampler=Weighted("depth", n=value)), "n of the sampler")
    refused(lambda: raw(array, sampler=Balanced("line", n=value)), "n of the sampler")
    refused(lambda: raw(array, sampler=Mixture([1], n=value)), "n of the sampler")
    refused(lambda: raw(array, sampler=Sets("drug", "control", set_size=value)), "set_size")
    refused(lambda: raw(array, sampler=Sets("drug", "control", n_controls=value)), "n_controls")
    if value != 2**62:
        refused(lambda: raw(array, split=Split(seed=value)), "seed of the split")
    loader = raw(array)
    refused(lambda: loader.set_epoch(value), "epoch")
    refused(lambda: loader.shuffle_report(epoch=value), "epoch")


def test_many_ranks_work(array):
    loader = raw(array, rank=2**20 - 1, world_size=2**20)
    assert len(loader) == 1
    assert [len(b["cell_ids"]) for b in loader] == [1]
    assert len(raw(array, batch_size=2**31 - 2)) == 1
    refused(lambda: next(iter(raw(array, sampler=Mixture([1], n=2**40)))), "mixture")


def test_other_wrong_types_are_named(array):
    for name, value in [("dtype", "float99"), ("dtype", object()), ("obs_columns", "line")]:
        refused(lambda name=name, value=value: raw(array, **{name: value}), name)
    refused(lambda: raw(array, sampler=Weighted(["a"] * N_CELLS)), "weights")
    refused(lambda: raw(array, sampler=Mixture(["a"])), "proportions")
    refused(lambda: raw(array, split=Split(fractions={"train": "much"})), "fractions")


@pytest.mark.parametrize("field", ["epoch", "end_epoch", "start", "skip"])
def test_absurd_positions_of_states_are_refused(array, field):
    loader = raw(array, batch_size=8)
    for _ in zip(range(3), loader, strict=False):
        pass
    state = loader.state_dict()
    beyond = {"start": [N_CELLS + 1], "skip": [N_CELLS + 1], "end_epoch": [0, state["epoch"]]}
    for value in [*ABSURD, float(state[field]), *beyond.get(field, [])]:
        refused(lambda value=value: loader.load_state_dict({**state, field: value}), field)
    # A refused state changes nothing.
    assert loader.state_dict() == state
    refused(lambda: loader.load_state_dict({k: v for k, v in state.items() if k != field}), field)
    loader.load_state_dict(json.loads(json.dumps(state)))


def test_numpy_numbers_are_numbers(array):
    options = {"batch_size": np.int32(8), "seed": np.uint64(5), "n_epochs": np.int8(2)}
    found = [b["cell_ids"].tolist() for b in raw(array, **options)]
    expected = [b["cell_ids"].tolist() for b in raw(array, batch_size=8, seed=5, n_epochs=2)]
    assert found == expected


@pytest.mark.parametrize("open_store", [SLAFArray, read_slaf])
def test_opening_with_wrong_types(array, open_store):
    for version in [0, -1, 2**64, 1.0, True]:
        refused(lambda version=version: open_store(array.path, version=version), "version")
    # A text is a tag.
    for version in [2**63, "1"]:
        with pytest.raises(slaf.NotFoundError):
            open_store(array.path, version=version)
    for path in [None, 7, object()]:
        refused(lambda path=path: open_store(path), "path of a store")
    for options in [["a"], "a=b", {"aws_region": 7}, {7: "x"}]:
        refused(
            lambda options=options: open_store(array.path, storage_options=options), "dict of texts"
        )
    refused(lambda: open_store(array.path, verify=True), "verify")
