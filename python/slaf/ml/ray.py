"""The loader for Ray Data: the same batches, made by the workers of a cluster."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from slaf._boundary import Shard
from slaf._errors import invalid
from slaf.ml import _sources
from slaf.ml._batches import load
from slaf.ml._stream import Stream

if TYPE_CHECKING:
    import ray.data as ray_data

_ray_data = load("ray.data", "slaf.ml.ray")
_datasource = load("ray.data.datasource", "slaf.ml.ray")

__all__ = ["SLAFDatasource", "read_slaf"]


class SLAFDatasource(_datasource.Datasource):  # type: ignore[misc, name-defined]
    """One epoch as a data source of Ray: its read tasks take the batches in turns.

    Parameters
    ----------
    slaf_array
        The store. Workers open it themselves: its path must be one that they reach.
    epoch
        Which epoch.
    **options
        Of :class:`slaf.ml.dataloaders.SLAFDataLoader`; `return_tensors` is ``"arrow"``. Each batch
        of the loader becomes one block of Ray, a row for each cell.
    """

    def __init__(self, slaf_array: _sources.One, *, epoch: int = 0, **options: Any):
        if options.setdefault("return_tensors", "arrow") != "arrow":
            raise invalid("blocks of Ray are Arrow tables: leave out return_tensors=")
        self._stream = Stream(slaf_array, **options)
        self._epoch = epoch

    def get_name(self) -> str:
        """Give the name that Ray shows."""
        return "SLAF"

    def estimate_inmemory_data_size(self) -> int | None:
        """Tell that the size is not known."""
        return None

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, *_: Any, **__: Any
    ) -> list[Any]:
        """Share the batches among read tasks."""
        plan, epoch = self._stream._plan, self._epoch
        rank, world = self._stream._ranks()
        n = max(1, min(parallelism, plan.n_batches(0, 0, Shard(rank, world))))
        tasks = []
        for worker in range(n):
            shard = Shard(rank, world, worker, n)
            rows = plan.n_batches(0, 0, shard) * plan.batch_size

            def read(shard: Shard = shard) -> Iterator[Any]:
                import pyarrow as pa

                running = plan.batches(epoch, 0, 0, shard)
                while (native := running.next()) is not None:
                    yield pa.Table.from_batches([plan.convert(native)])

            metadata = _metadata(rows)
            tasks.append(_datasource.ReadTask(read, metadata))
        return tasks


def _metadata(rows: int) -> Any:
    block = load("ray.data.block", "slaf.ml.ray")
    names = set(getattr(block.BlockMetadata, "__dataclass_fields__", {}))
    fields = {"num_rows": rows, "size_bytes": None, "input_files": None, "exec_stats": None}
    # Ray < 2.48 has the schema here.
    if "schema" in names:
        fields["schema"] = None
    return block.BlockMetadata(**fields)


def read_slaf(slaf_array: _sources.One, *, epoch: int = 0, **options: Any) -> ray_data.Dataset:
    """Give one epoch as a ``ray.data.Dataset``.

    Parameters are those of :class:`SLAFDatasource`.
    """
    source = SLAFDatasource(slaf_array, epoch=epoch, **options)
    dataset: ray_data.Dataset = _ray_data.read_datasource(source)
    return dataset
