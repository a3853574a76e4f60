"""The extension module: see the package for the documentation."""

from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias, final

import numpy as np
import numpy.typing as npt

from slaf._boundary import (
    AddOptions,
    AppendOptions,
    Comparison,
    ConvertOptions,
    GrowOptions,
    LoaderOptions,
    LoaderSource,
    Question,
    Request,
    RewriteOptions,
    Shard,
    Stored,
)
from slaf._store import Key
from slaf.integrations._plan import Step

__all__ = [
    "DEBUG_BUILD",
    "LEAST_MEMORY",
    "ArrayInfo",
    "ArrowStream",
    "Batch",
    "Batches",
    "Cancel",
    "Column",
    "ColumnInfo",
    "Csr",
    "Dataset",
    "DenseRows",
    "Distributed",
    "FrameInfo",
    "Gram",
    "Hits",
    "Lanczos",
    "Leading",
    "Loader",
    "MatrixInfo",
    "Measured",
    "Nearest",
    "Pieces",
    "Principal",
    "RankSums",
    "Running",
    "Sampler",
    "SparseRows",
    "Stats",
    "Summary",
    "TemporaryFolder",
    "TokenRows",
    "Tokenizer",
    "VersionInfo",
    "__version__",
    "_encode_row",
    "add",
    "append",
    "cli_main",
    "compute_csr",
    "compute_stored",
    "connectivities",
    "convert",
    "convert_part",
    "convert_with_workers",
    "create_index",
    "delete_cells",
    "diff",
    "drop_index",
    "drop_slots",
    "error_kinds",
    "find_version",
    "gc",
    "gram_csr",
    "gram_stored",
    "index_report",
    "keeps_zeros",
    "leading_csr",
    "leading_stored",
    "local_path",
    "nearest_others",
    "newest_version",
    "optimize",
    "output_path",
    "pieces_stored",
    "query_memory",
    "rank_sums_csr",
    "rank_sums_stored",
    "rankings",
    "reduce_csr",
    "reduce_stored",
    "rename",
    "rollback",
    "search",
    "serve",
    "split_points",
    "start_logging",
    "tag",
    "untag",
    "work_stored",
]

__version__: str
DEBUG_BUILD: bool
LEAST_MEMORY: int

_Rows: TypeAlias = tuple[int, int] | npt.NDArray[np.int64] | None
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
class Cancel:
    def __new__(cls) -> Cancel: ...
    def cancel(self) -> None: ...

@final
class Csr:
    def __new__(
        cls, data: npt.NDArray[Any], indices: npt.NDArray[Any], indptr: npt.NDArray[Any]
    ) -> Csr: ...
    @property
    def data(self) -> npt.NDArray[Any]: ...
    @property
    def indices(self) -> npt.NDArray[Any]: ...
    @property
    def indptr(self) -> npt.NDArray[Any]: ...

@final
class Column:
    def __new__(
        cls,
        name: str,
        values: npt.NDArray[Any] | list[str | None],
        mask: npt.NDArray[np.bool_] | None = None,
        categories: npt.NDArray[Any] | list[str | None] | None = None,
    ) -> Column: ...
    @property
    def name(self) -> str: ...
    @property
    def values(self) -> npt.NDArray[Any] | list[str | None]: ...
    @property
    def mask(self) -> npt.NDArray[np.bool_] | None: ...
    @property
    def categories(self) -> npt.NDArray[Any] | list[str | None] | None: ...

@final
class ColumnInfo:
    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def ordered(self) -> bool: ...

@final
class FrameInfo:
    def __new__(cls, index_name: str | None, columns: list[ColumnInfo]) -> FrameInfo: ...
    @property
    def index_name(self) -> str | None: ...
    @property
    def columns(self) -> list[ColumnInfo]: ...

@final
class ArrayInfo:
    @property
    def of(self) -> str: ...
    @property
    def name(self) -> str: ...

@final
class MatrixInfo:
    @property
    def slot(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def encoding(self) -> str: ...
    @property
    def dtype(self) -> str: ...
    @property
    def shape(self) -> tuple[int, int]: ...
    @property
    def nnz(self) -> int: ...

@final
class VersionInfo:
    @property
    def version(self) -> int: ...
    @property
    def created(self) -> int: ...
    @property
    def operation(self) -> str: ...
    @property
    def n_cells(self) -> int: ...
    @property
    def n_genes(self) -> int: ...
    @property
    def tags(self) -> list[str]: ...

@final
class Measured: ...

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
    def write_id(self) -> str: ...
    @property
    def shape(self) -> tuple[int, int]: ...
    def verify(self, quick: bool) -> list[tuple[str, str]]: ...
    def io_stats(self) -> tuple[list[int], int, int, int, float]: ...
    def versions(self) -> list[VersionInfo]: ...
    def info(self) -> tuple[str, str]: ...
    def load_frames(self) -> None: ...
    def frames_loaded(self) -> bool: ...
    def frame(self, of: str) -> ArrowStream: ...
    def frame_rows(self, of: str, rows: _Rows, columns: list[str] | None = None) -> ArrowStream: ...
    def names(self, of: str, rows: _Rows) -> ArrowStream: ...
    def columns(
        self, of: str, columns: list[str] | None, rows: _Rows, names: bool = True
    ) -> list[Column]: ...
    def raw_columns(self) -> list[Column] | None: ...
    def frame_info(self, of: str) -> FrameInfo | None: ...
    def resolve(self, of: str, names: list[str]) -> npt.NDArray[np.int64]: ...
    def rows_named(self, of: str, name: str) -> npt.NDArray[np.int64]: ...
    def stored_genes(self) -> npt.NDArray[np.int64]: ...
    def matrices(self) -> list[MatrixInfo]: ...
    def arrays(self) -> list[ArrayInfo]: ...
    def extra_elements(self) -> list[str]: ...
    def extras(self) -> bytes | None: ...
    def read(self, key: Key, rows: _Rows, cols: _Rows) -> Csr: ...
    def triplets(self, key: Key, rows: _Rows, cols: _Rows, by_gene: bool) -> ArrowStream: ...
    def triplets_of_cell(self, key: Key, name: str, cols: _Rows) -> ArrowStream: ...
    def values_where_measured(self, genes: _Rows) -> ArrowStream: ...
    def source_table(self) -> ArrowStream: ...
    def measured_table(self, genes: _Rows) -> ArrowStream: ...
    def measured_of(self, cells: _Rows, genes: _Rows) -> Measured | None: ...
    def measured_mask(self, cells: _Rows, genes: _Rows) -> npt.NDArray[np.bool_]: ...
    def gene_statistics(self, key: Key, genes: _Rows, measured: bool) -> ArrowStream: ...
    def array(self, of: str, name: str, rows: _Rows) -> DenseRows: ...
    def nnz_per_cell(self) -> npt.NDArray[np.uint32]: ...
    def nnz_per_gene(self) -> npt.NDArray[np.uint64] | None: ...
    def query(
        self,
        sql: str,
        params: Any,
        timeout: float | None,
        tables: list[tuple[str, Any]],
        dialect: str,
        measured: bool,
        cancel: Cancel | None = None,
    ) -> ArrowStream: ...
    def rows_where(self, of: str, condition: str) -> npt.NDArray[np.uint64]: ...
    def query_stream(
        self,
        sql: str,
        params: Any,
        timeout: float | None,
        tables: list[tuple[str, Any]],
        dialect: str,
        measured: bool,
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
    def filter(
        self,
        condition: str,
        output: str,
        options: ConvertOptions,
        progress: _Progress | None,
    ) -> tuple[str, str]: ...

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
    def tokenize(self, dataset: Dataset, cells: _Rows, seed: int, epoch: int) -> Batch: ...

_Pool: TypeAlias = tuple[int, int] | npt.NDArray[np.int64]

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
        cls, sources: list[LoaderSource], sampler: Sampler, options: LoaderOptions
    ) -> Loader: ...
    def epoch(
        self, datasets: list[Dataset], epoch: int, start: int, skip: int, shard: Shard
    ) -> Batches: ...
    def n_batches(self, datasets: list[Dataset], start: int, skip: int, shard: Shard) -> int: ...
    def consumed(self, datasets: list[Dataset], start: int, world: int, batches: int) -> int: ...

@final
class SparseRows:
    @property
    def data(self) -> npt.NDArray[Any]: ...
    @property
    def indices(self) -> npt.NDArray[np.int32]: ...
    @property
    def indptr(self) -> npt.NDArray[np.int32]: ...

@final
class DenseRows:
    @property
    def values(self) -> npt.NDArray[Any]: ...
    @property
    def width(self) -> int: ...

@final
class TokenRows:
    @property
    def input_ids(self) -> npt.NDArray[np.int64]: ...
    @property
    def attention_mask(self) -> npt.NDArray[np.bool_]: ...
    @property
    def values(self) -> npt.NDArray[np.float32] | None: ...
    @property
    def length(self) -> int: ...

@final
class Batch:
    @property
    def cells(self) -> npt.NDArray[np.int64]: ...
    @property
    def sources(self) -> npt.NDArray[np.uint32] | None: ...
    @property
    def data(self) -> SparseRows | DenseRows | TokenRows: ...
    @property
    def measured(self) -> npt.NDArray[np.bool_] | None: ...
    @property
    def columns(self) -> list[npt.NDArray[Any]]: ...

@final
class Batches:
    def next(self) -> Batch | None: ...
    def stats(self) -> str: ...

def split_points(keys: npt.NDArray[np.uint64], seed: int) -> npt.NDArray[np.float64]: ...
def error_kinds() -> list[str]: ...
def query_memory() -> int: ...
def start_logging(wanted: str | None) -> None: ...
def cli_main(args: Sequence[str]) -> int: ...
def convert(
    inputs: Sequence[str | PathLike[str]],
    output: str,
    options: ConvertOptions,
    progress: _Progress | None,
) -> tuple[str, str]: ...
def convert_with_workers(
    inputs: Sequence[str | PathLike[str]],
    output: str,
    options: ConvertOptions,
    part_cells: int | None,
    workers: int,
    progress: _Progress | None,
) -> tuple[str, str]: ...
def convert_part(task: bytes) -> bytes: ...
def serve() -> None: ...

@final
class Distributed:
    def __new__(
        cls,
        inputs: Sequence[str | PathLike[str]],
        output: str,
        options: ConvertOptions,
        part_cells: int | None,
        progress: _Progress | None,
    ) -> Distributed: ...
    @property
    def cells(self) -> list[int]: ...
    def shown(self, part: int) -> str: ...
    def task(self, part: int) -> bytes: ...
    def finish(self, results: Sequence[bytes], progress: _Progress | None) -> tuple[str, str]: ...
    def abandon(self) -> None: ...

# The new version, and a report as text and as JSON.
_Told: TypeAlias = tuple[int, str, str]

def add(
    store: str,
    file: str | PathLike[str],
    options: AddOptions,
    grow: GrowOptions,
    progress: _Progress | None,
) -> _Told: ...
def append(
    store: str,
    sources: Sequence[str],
    options: AppendOptions,
    grow: GrowOptions,
    progress: _Progress | None,
) -> _Told: ...
def delete_cells(
    store: str,
    condition: str,
    options: RewriteOptions,
    grow: GrowOptions,
    progress: _Progress | None,
) -> _Told: ...
def optimize(
    store: str,
    force: bool,
    options: RewriteOptions,
    grow: GrowOptions,
    progress: _Progress | None,
) -> _Told: ...
def create_index(
    store: str,
    of: str,
    key: str,
    metric: str,
    kind: str,
    grow: GrowOptions,
    progress: _Progress | None,
) -> _Told: ...
def drop_index(store: str, of: str, key: str, metric: str | None, grow: GrowOptions) -> _Told: ...
def drop_slots(store: str, names: Sequence[str], grow: GrowOptions) -> _Told: ...
def rename(store: str, slot: str, new: str, grow: GrowOptions) -> _Told: ...
def rollback(store: str, to: int, grow: GrowOptions) -> _Told: ...
def tag(store: str, name: str, version: int | None, grow: GrowOptions) -> int: ...
def untag(store: str, name: str, grow: GrowOptions) -> int: ...
def find_version(
    store: str, tag: str | None, time: int | None, storage_options: dict[str, str]
) -> int: ...
def newest_version(store: str, grow: GrowOptions) -> int: ...
def diff(
    store: str, versions: tuple[int, int], storage_options: dict[str, str]
) -> tuple[str, str]: ...
def gc(store: str, older_than: float, dry_run: bool, grow: GrowOptions) -> tuple[str, str]: ...

@final
class Stats:
    @property
    def nonzero(self) -> npt.NDArray[np.uint32]: ...
    @property
    def positive(self) -> npt.NDArray[np.uint32]: ...
    @property
    def nan(self) -> npt.NDArray[np.uint32]: ...
    @property
    def fractional(self) -> npt.NDArray[np.uint32]: ...
    @property
    def sum(self) -> npt.NDArray[Any] | None: ...
    @property
    def square(self) -> npt.NDArray[np.float64]: ...
    @property
    def min(self) -> npt.NDArray[Any]: ...
    @property
    def max(self) -> npt.NDArray[Any]: ...

@final
class Running:
    @property
    def stored(self) -> npt.NDArray[np.uint32]: ...
    @property
    def mean(self) -> npt.NDArray[np.float64]: ...
    @property
    def square(self) -> npt.NDArray[np.float64]: ...

@final
class Summary:
    def __new__(
        cls,
        rows: Stats,
        columns: Stats,
        top: npt.NDArray[np.float64],
        dot: npt.NDArray[np.float64],
        left: npt.NDArray[np.float64],
        running: Running | None,
    ) -> Summary: ...
    @property
    def rows(self) -> Stats: ...
    @property
    def columns(self) -> Stats: ...
    @property
    def top(self) -> npt.NDArray[np.float64]: ...
    @property
    def dot(self) -> npt.NDArray[np.float64]: ...
    @property
    def left(self) -> npt.NDArray[np.float64]: ...
    @property
    def running(self) -> Running | None: ...

@final
class RankSums:
    @property
    def rank_sums(self) -> npt.NDArray[np.float64]: ...
    @property
    def sums(self) -> npt.NDArray[np.float64]: ...
    @property
    def nonzero(self) -> npt.NDArray[np.uint32]: ...
    @property
    def ties(self) -> npt.NDArray[np.float64]: ...
    @property
    def nan(self) -> int | None: ...
    @property
    def is_counts(self) -> bool: ...

def compute_stored(dataset: Dataset, stored: Stored, steps: Sequence[Step]) -> Csr: ...
def reduce_stored(
    dataset: Dataset, stored: Stored, steps: Sequence[Step], request: Request
) -> Summary: ...
def compute_csr(matrix: Csr, n_cols: int, steps: Sequence[Step]) -> Csr: ...
def reduce_csr(matrix: Csr, n_cols: int, steps: Sequence[Step], request: Request) -> Summary: ...
def rank_sums_stored(
    dataset: Dataset, stored: Stored, steps: Sequence[Step], comparison: Comparison
) -> RankSums: ...
def rank_sums_csr(
    matrix: Csr, n_cols: int, steps: Sequence[Step], comparison: Comparison
) -> RankSums: ...

@final
class Gram:
    @property
    def sums(self) -> npt.NDArray[np.float64]: ...
    @property
    def squares(self) -> npt.NDArray[np.float64]: ...
    def principal(
        self,
        k: int,
        centring: str | None = None,
        factors: npt.NDArray[np.float64] | None = None,
    ) -> Principal: ...

@final
class Leading:
    @property
    def values(self) -> npt.NDArray[np.float64]: ...
    @property
    def vectors(self) -> npt.NDArray[np.float64]: ...
    @property
    def residuals(self) -> npt.NDArray[np.float64]: ...
    @property
    def converged(self) -> bool: ...

@final
class Lanczos:
    def __new__(cls, n_cols: int, k: int) -> Lanczos: ...
    @property
    def block(self) -> npt.NDArray[np.float64]: ...
    def take(self, images: npt.NDArray[np.float64]) -> Leading | None: ...

@final
class Principal:
    @property
    def values(self) -> npt.NDArray[np.float64]: ...
    @property
    def vectors(self) -> npt.NDArray[np.float64]: ...
    @property
    def squares(self) -> npt.NDArray[np.float64]: ...

@final
class Nearest:
    @property
    def k(self) -> int: ...
    @property
    def rows(self) -> npt.NDArray[np.uint32]: ...
    @property
    def distances(self) -> npt.NDArray[np.float64]: ...
    @property
    def recall(self) -> float | None: ...

@final
class Hits:
    @property
    def starts(self) -> npt.NDArray[np.int64]: ...
    @property
    def rows(self) -> npt.NDArray[np.uint32]: ...
    @property
    def distances(self) -> npt.NDArray[np.float64]: ...

def search(
    dataset: Dataset,
    of: str,
    key: str,
    query: npt.NDArray[np.float64] | _Rows,
    dims: int,
    k: int,
    metric: str,
    among: _Rows,
    exclude_self: bool,
) -> Hits: ...
def index_report(
    dataset: Dataset, of: str, key: str, metric: str | None, queries: int, k: int
) -> tuple[str, str]: ...
def rankings(
    dataset: Dataset, of: str, key: str, rows: _Rows, k: int, metric: str
) -> ArrowStream: ...

@final
class Pieces:
    @property
    def waiting(self) -> list[list[int]]: ...
    def take(self, result: bytes) -> None: ...
    def finish(self) -> Summary | Gram | npt.NDArray[np.float64] | RankSums: ...

def pieces_stored(
    dataset: Dataset,
    stored: Stored,
    steps: Sequence[Step],
    question: Question,
    workers: int,
) -> Pieces: ...
def work_stored(
    dataset: Dataset,
    stored: Stored,
    steps: Sequence[Step],
    question: Question,
    piece: Sequence[int],
) -> bytes: ...
def gram_stored(dataset: Dataset, stored: Stored, steps: Sequence[Step]) -> Gram: ...
def gram_csr(matrix: Csr, n_cols: int, steps: Sequence[Step]) -> Gram: ...
def leading_stored(
    dataset: Dataset,
    stored: Stored,
    steps: Sequence[Step],
    means: npt.NDArray[np.float64],
    factors: npt.NDArray[np.float64],
    k: int,
) -> Leading: ...
def leading_csr(
    matrix: Csr,
    n_cols: int,
    steps: Sequence[Step],
    means: npt.NDArray[np.float64],
    factors: npt.NDArray[np.float64],
    k: int,
) -> Leading: ...
def nearest_others(
    values: npt.NDArray[Any], dims: int, k: int, metric: str, exact: bool | None
) -> Nearest: ...
def connectivities(
    rows: npt.NDArray[np.uint32], distances: npt.NDArray[np.float64], k: int
) -> Csr: ...
def keeps_zeros(op: str, numbers: npt.NDArray[Any]) -> bool: ...
def _encode_row(columns: npt.NDArray[np.uint32], values: npt.NDArray[Any]) -> bytes: ...
