"""tiledbsoma-ml over an experiment: `tiledbsoma_loader.py STORE TASK BATCH CELLS`."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator

import tiledbsoma
from tiledbsoma_ml import ExperimentDataset, experiment_dataloader
from timing import measure

# Cells that are read together: its default for blocks.
BLOCK = {"raw": 1, "raw-block": 64}


def main() -> None:
    """Times one task."""
    warnings.simplefilter("ignore")
    path, task, batch, cells = sys.argv[1:]
    with (
        tiledbsoma.Experiment.open(path) as experiment,
        experiment.axis_query(measurement_name="RNA") as query,
    ):
        data = ExperimentDataset(
            query,
            layer_name="data",
            batch_size=int(batch),
            shuffle=True,
            shuffle_chunk_size=BLOCK[task],
            return_sparse_X=True,
        )

        def epoch() -> Iterator[int]:
            for x, _obs in experiment_dataloader(data):
                yield x.shape[0]

        measure(epoch, int(cells) or None, warm_up=True)


if __name__ == "__main__":
    main()
