"""The extension module: see the package for the documentation."""

from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias, final

import numpy as np
import numpy.typing as npt

__all__ = [
    "DEBUG_BUILD",
    "ArrowStream",
    "Batches",
    "Dataset",
    "Loader",
    "Sampler",
    "TemporaryFolder",
    "Tokenizer",
    "__version__",
    "_encode_row",
    "cli_main",
    "convert",
    "error_kinds",
    "query_memory",
    "split_points",
]

__version__: str
DEBUG_BUILD: bool

_Rows: TypeAlias = tuple[int, int] | npt.NDArray[np.int64] | None
# (name, values, mask, categories)
_Column: TypeAlias = tuple[
    str,
    npt.NDArray[Any] | list[str | None],
    npt.NDArray[np.bool_] | None,
    npt.NDArray[Any] | list[str | None] | None,
]
_Progress: TypeAlias = Callable[[str, int, int], object]

@final
class TemporaryFolder:
    def __new__(cls, folder: str | PathLike[str] | None) -> TemporaryFolder: ...
    def __enter__(self) -> TemporaryFolder: ...
    def __exit__(self, *error: object) -> None: ...
    @property
    def path(self) -> Path: ...
    def put(self, entry: str | PathLike[str], path: str | PathLike[str], replace: bool) -> None: ...

def output_path(path: str | PathLike[str], replace: bool) -> Path: ...
def local_path(path: str) -> Path | None: ...

@final
class ArrowStream:
    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object: ...
    def __iter__(self) -> ArrowStream: ...
    def __next__(self) -> ArrowStream: ...

@final
class Dataset:
    def __new__(
        cls, uri: str, version: int | None, storage_options: dict[str, str], first_touch: bool
    ) -> Dataset: ...
    @property
    def uri(self) -> str: ...
    @property
    def version(self) -> int: ...
    @property
    def shape(self) -> tuple[int, int]: ...
    def versions(self) -> list[tuple[int, int, str, int, int]]: ...
    def info(self) -> tuple[str, str]: ...
    def load_frames(self) -> None: ...
    def frames_loaded(self) -> bool: ...
    def frame(self, of: str) -> ArrowStream: ...
    def frame_rows(self, of: str, rows: _Rows) -> ArrowStream: ...
    def names(self, of: str, rows: _Rows) -> ArrowStream: ...
    def columns(
        self, of: str, columns: list[str] | None, rows: _Rows, names: bool = True
    ) -> list[_Column]: ...
    def raw_columns(self) -> list[_Column] | None: ...
    def frame_info(self, of: str) -> tuple[str | None, list[tuple[str, str, bool]]] | None: ...
    def resolve(self, of: str, names: list[str]) -> npt.NDArray[np.int64]: ...
    def matrices(self) -> list[tuple[str, str, str, str, tuple[int, int], int]]: ...
    def arrays(self) -> list[tuple[str, str]]: ...
    def extra_elements(self) -> list[str]: ...
    def extras(self) -> bytes | None: ...
    def read(
        self, slot: str, name: str, rows: _Rows, cols: _Rows
    ) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint32], npt.NDArray[Any]]: ...
    def array(self, of: str, name: str, rows: _Rows) -> tuple[npt.NDArray[Any], int]: ...
    def nnz_per_cell(self) -> npt.NDArray[np.uint32]: ...
    def query(
        self,
        sql: str,
        params: Any,
        timeout: float | None,
        tables: list[tuple[str, Any]] = ...,
        dialect: str = "slaf",
    ) -> ArrowStream: ...
    def query_stream(
        self,
        sql: str,
        params: Any,
        timeout: float | None,
        tables: list[tuple[str, Any]] = ...,
        dialect: str = "slaf",
    ) -> ArrowStream: ...
    def tables(self) -> list[str]: ...
    def scan(self, table: str, columns: list[str], rows: _Rows, cols: _Rows) -> ArrowStream: ...
    def export(
        self,
        path: str | PathLike[str],
        format: str,
        overwrite: bool,
        compression: bool,
        progress: _Progress | None,
    ) -> None: ...

@final
class Tokenizer:
    @staticmethod
    def geneformer(
        dataset: Dataset,
        version: str,
        length: int,
        tokens: dict[str, int] | str | PathLike[str] | None,
        medians: dict[str, float] | str | PathLike[str] | None,
        vocab_size: int,
        column: str | None,
    ) -> Tokenizer: ...
    @staticmethod
    def scgpt(
        dataset: Dataset,
        length: int,
        vocab: dict[str, int] | str | PathLike[str] | None,
        vocab_size: int,
        n_bins: int,
        binning: str,
        pad_value: float,
        cls_value: float,
        sampling: bool,
        column: str | None,
    ) -> Tokenizer: ...
    @staticmethod
    def composed(
        dataset: Dataset,
        description: str,
        vocab: dict[str, int] | str | PathLike[str] | None,
        vocab_size: int,
        medians: dict[str, float] | str | PathLike[str] | None,
        column: str | None,
    ) -> Tokenizer: ...
    @staticmethod
    def load(dataset: Dataset, path: str | PathLike[str], column: str | None) -> Tokenizer: ...
    @staticmethod
    def from_json(dataset: Dataset, json: str, column: str | None) -> Tokenizer: ...
    def to_json(self) -> str: ...
    def save(self, path: str | PathLike[str]) -> None: ...
    @property
    def length(self) -> int: ...
    def description(self) -> str: ...
    def vocab_info(self) -> str: ...
    def decode(self, tokens: list[int]) -> list[str]: ...
    def tokenize(
        self, dataset: Dataset, cells: _Rows, seed: int, epoch: int
    ) -> tuple[
        npt.NDArray[np.int64],
        npt.NDArray[np.bool_],
        npt.NDArray[np.float32] | None,
        npt.NDArray[np.int64],
    ]: ...

_Pool: TypeAlias = tuple[int, int] | npt.NDArray[np.int64]
_Shard: TypeAlias = tuple[int, int, int, int]

@final
class Sampler:
    @staticmethod
    def cover(cells: _Pool, shuffle: bool, block: int, window: int, seed: int) -> Sampler: ...
    @staticmethod
    def weighted(
        cells: _Pool, weights: npt.NDArray[np.float64], n: int, replacement: bool, seed: int
    ) -> Sampler: ...
    @staticmethod
    def mixture(parts: list[tuple[Sampler, float]], n: int, seed: int) -> Sampler: ...
    @staticmethod
    def sets(
        groups: list[tuple[_Pool, int]],
        controls: list[_Pool],
        set_size: int,
        n_controls: int,
        seed: int,
    ) -> Sampler: ...
    def __len__(self) -> int: ...
    def cells(self, epoch: int, start: int, stop: int) -> npt.NDArray[np.int64]: ...

@final
class Loader:
    def __new__(
        cls,
        sources: list[tuple[Tokenizer | None, _Rows, list[npt.NDArray[Any]]]],
        sampler: Sampler,
        matrix: tuple[str, str],
        form: str,
        batch_size: int,
        remainder: str,
        dtype: str | None,
        target_sum: float | None,
        log1p: bool,
        seed: int,
        memory: int,
    ) -> Loader: ...
    def epoch(
        self, datasets: list[Dataset], epoch: int, start: int, skip: int, shard: _Shard
    ) -> Batches: ...
    def n_batches(self, datasets: list[Dataset], start: int, skip: int, shard: _Shard) -> int: ...
    def consumed(self, datasets: list[Dataset], start: int, world: int, batches: int) -> int: ...

@final
class Batches:
    def next(
        self,
    ) -> (
        tuple[
            npt.NDArray[np.int64],
            npt.NDArray[np.uint32] | None,
            tuple[Any, ...],
            list[npt.NDArray[Any]],
        ]
        | None
    ): ...
    def stats(self) -> str: ...

def split_points(keys: npt.NDArray[np.uint64], seed: int) -> npt.NDArray[np.float64]: ...
def error_kinds() -> list[str]: ...
def query_memory() -> int: ...
def cli_main(args: Sequence[str]) -> int: ...
def convert(
    inputs: Sequence[str | PathLike[str]],
    output: str,
    *,
    overwrite: bool,
    allow_loss: bool,
    by_gene: bool,
    memory: int | None,
    join: str,
    source_column: str | None,
    fill_layers: bool,
    genome: str | None,
    feature_type: str | None,
    modality: str | None,
    genes_in_rows: bool | None,
    durability: str,
    storage_options: dict[str, str],
    progress: _Progress | None,
) -> tuple[str, str]: ...

_Csr: TypeAlias = tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint32], npt.NDArray[Any]]
_Stored: TypeAlias = tuple[str, str, _Rows, _Rows]
_Steps: TypeAlias = list[tuple[str, str, Any, Any]]

def compute_stored(dataset: Dataset, stored: _Stored, steps: _Steps) -> _Csr: ...
def reduce_stored(
    dataset: Dataset, stored: _Stored, steps: _Steps, request: dict[str, Any]
) -> dict[str, Any]: ...
def compute_csr(matrix: _Csr, n_cols: int, steps: _Steps) -> _Csr: ...
def reduce_csr(
    matrix: _Csr, n_cols: int, steps: _Steps, request: dict[str, Any]
) -> dict[str, Any]: ...
def keeps_zeros(op: str, numbers: npt.NDArray[Any]) -> bool: ...
def _encode_row(columns: npt.NDArray[np.uint32], values: npt.NDArray[Any]) -> bytes: ...
