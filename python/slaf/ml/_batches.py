"""Batches for torch, numpy and Arrow."""

from __future__ import annotations

import functools
import importlib
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from slaf import _slaf
from slaf._errors import from_kind, invalid

if TYPE_CHECKING:
    import torch

KINDS = ("torch", "numpy", "arrow")


class Layout(NamedTuple):
    """What the arrays of Rust are made into."""

    returns: str
    form: str
    width: int
    columns: tuple[str, ...]
    # Rows of a set and cells in it that are no controls; no sets if 0.
    set_rows: int
    set_size: int
    device: str | None
    pin_memory: bool


def load(package: str, needed_for: str) -> Any:
    """Import an optional package.

    Raises
    ------
    UnsupportedError
        If it is not installed; the message says how to install it.
    """
    extras = {"pyarrow": "arrow"}
    try:
        return importlib.import_module(package)
    except ImportError as e:
        name = package.split(".")[0]
        hint = f"install it with `pip install 'slaf[{extras.get(name, name)}]'`"
        message = f"{needed_for} needs {name}: {hint}"
        raise from_kind("unsupported-feature", message) from e


def check(returns: str) -> None:
    """Check the name of a kind of batches, and that its library is there."""
    if returns not in KINDS:
        raise invalid(f"return_tensors={returns!r}; there are {', '.join(KINDS)}")
    if returns == "torch":
        hint = "return_tensors='torch' (or return_tensors='numpy', which needs nothing)"
        load("torch", hint)
    if returns == "arrow":
        load("pyarrow", "return_tensors='arrow'")


def check_place(device: str | torch.device | None, pin_memory: bool) -> None:
    """Check that tensors can go where they should: at once, not with the first batch.

    Raises
    ------
    UnsupportedError
        If torch has no such device here.
    """
    if device is None and not pin_memory:
        return
    torch = load("torch", "device= or pin_memory=")
    try:
        _placed(torch.empty(1), device, pin_memory)
    # As torch says it, which depends on the device.
    except (AssertionError, NotImplementedError, RuntimeError) as e:
        what = "pin_memory=True" if device is None else f"device={str(device)!r}"
        reason = str(e).splitlines()[0]
        message = f"{what} does not work here: {reason}; leave it out to get tensors of the CPU"
        raise from_kind("unsupported-feature", message) from e


def arrays(native: Any, layout: Layout) -> dict[str, Any]:
    """Name the arrays of a batch: numpy's, and for a sparse ``x`` CSR arrays."""
    cells, data = native.cells, native.data
    batch: dict[str, Any] = {}
    if layout.form == "tokens":
        shape = (len(cells), data.length)
        batch["input_ids"] = data.input_ids.reshape(shape)
        batch["attention_mask"] = data.attention_mask.reshape(shape)
        if data.values is not None:
            batch["values"] = data.values.reshape(shape)
    elif layout.form == "dense":
        batch["x"] = data.values.reshape(len(cells), layout.width)
    else:
        batch["x"] = data
    if native.measured is not None:
        batch["measured"] = native.measured.reshape(len(cells), layout.width)
    batch["cell_ids"] = cells
    if native.sources is not None:
        batch["source_ids"] = native.sources.astype(np.int64)
    if layout.set_rows:
        batch["is_control"] = np.arange(len(cells)) % layout.set_rows >= layout.set_size
    batch.update(zip(layout.columns, native.columns, strict=True))
    return batch


def convert(native: Any, layout: Layout) -> Any:
    """Make the batch that the user gets."""
    batch = arrays(native, layout)
    n = len(batch["cell_ids"])
    if layout.returns == "torch":
        return _torch(batch, (n, layout.width), layout)
    if layout.returns == "arrow":
        return _arrow(batch)
    if layout.form == "sparse":
        batch["x"] = _scipy(batch["x"], (n, layout.width))
    return batch


def _scipy(parts: _slaf.SparseRows, shape: tuple[int, int]) -> Any:
    import scipy.sparse as sp

    arrays = (parts.data, parts.indices, parts.indptr)
    matrix = sp.csr_matrix(arrays, shape=shape)
    matrix.has_sorted_indices = True
    matrix.has_canonical_format = True
    return matrix


def _torch(batch: dict[str, Any], shape: tuple[int, int], layout: Layout) -> dict[str, Any]:
    import torch

    def tensor(array: npt.NDArray[Any]) -> Any:
        # Zero-copy: torch keeps the array, and with it Rust's memory.
        return _placed(torch.from_numpy(array), layout.device, layout.pin_memory)

    _expect_beta()
    result = {}
    for key, value in batch.items():
        if not isinstance(value, _slaf.SparseRows):
            result[key] = tensor(value)
            continue
        crow, col, values = map(tensor, (value.indptr, value.indices, value.data))
        # Rust promises what torch would check.
        result[key] = torch.sparse_csr_tensor(crow, col, values, size=shape, check_invariants=False)
    return result


def _placed(tensor: torch.Tensor, device: str | torch.device | None, pin: bool) -> torch.Tensor:
    if pin:
        tensor = tensor.pin_memory()
    return tensor if device is None else tensor.to(device, non_blocking=True)


@functools.cache
def _expect_beta() -> None:
    """Let torch say, once and to nobody, that its CSR layout is in beta."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.sparse_csr_tensor([0, 0], [], [], size=(1, 1), check_invariants=False)


def _arrow(batch: dict[str, Any]) -> Any:
    import pyarrow as pa

    columns: dict[str, Any] = {}
    for key, value in batch.items():
        if isinstance(value, _slaf.SparseRows):
            for name, flat in [("x_indices", value.indices), ("x_values", value.data)]:
                columns[name] = pa.ListArray.from_arrays(pa.array(value.indptr), pa.array(flat))
        elif value.ndim == 2:
            columns[key] = pa.FixedSizeListArray.from_arrays(
                pa.array(value.reshape(-1)), value.shape[1]
            )
        else:
            columns[key] = pa.array(value)
    return pa.record_batch(columns)
