"""bionemo-scdl over its own memory-mapped arrays: `scdl_loader.py STORE TASK BATCH CELLS`.

`scdl_loader.py --build H5AD STORE` makes the arrays.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator

from bionemo.scdl.io.single_cell_memmap_dataset import SingleCellMemMapDataset
from bionemo.scdl.util.torch_dataloader_utils import collate_sparse_matrix_batch
from timing import measure
from torch.utils.data import DataLoader


def main() -> None:
    """Builds the arrays, or times one task."""
    warnings.simplefilter("ignore")
    if sys.argv[1] == "--build":
        source, target = sys.argv[2:]
        SingleCellMemMapDataset(target, h5ad_path=source, use_X_not_raw=True).save()
        return
    path, _task, batch, cells = sys.argv[1:]
    data = SingleCellMemMapDataset(path)

    def epoch() -> Iterator[int]:
        # In this process: with workers each batch is pickled.
        loader = DataLoader(
            data, batch_size=int(batch), shuffle=True, collate_fn=collate_sparse_matrix_batch
        )
        for x in loader:
            yield x.shape[0]

    measure(epoch, int(cells) or None, warm_up=True)


if __name__ == "__main__":
    main()
