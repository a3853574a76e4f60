"""Train a small transformer to guess masked genes of real blood cells, on a CPU in minutes.

    pip install 'slaf[torch]' matplotlib && pip install --no-deps scanpy
    python examples/train_masked_genes.py --output masked-genes

Cells are rows of genes by rank, as in Geneformer. The data is what comes with scanpy (10x PBMC
68k, reduced: 700 cells, log-normalised), or any file that `slaf convert` reads. Writes the losses
as `loss.csv` and `loss.png`. In the middle of an epoch the run is saved; afterwards it is resumed
from there by a second loader and model, which must come to the same losses.
"""

from __future__ import annotations

import argparse
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import anndata as ad
import matplotlib
import torch
from torch import nn

from slaf import SLAFArray
from slaf.data import SLAFConverter
from slaf.ml import GeneformerTokenizer, SLAFDataLoader, Split

matplotlib.use("Agg")
import matplotlib.pyplot as plt

LENGTH = 64
MASKED = 0.15
IGNORED = -100
FRACTIONS = {"train": 0.85, "val": 0.15}


class MaskedGenes(nn.Module):
    """A transformer encoder over ranked genes."""

    def __init__(self, vocab_size: int, width: int = 64, layers: int = 2, heads: int = 4):
        super().__init__()
        self.genes = nn.Embedding(vocab_size, width, padding_idx=0)
        self.ranks = nn.Embedding(LENGTH, width)
        # The embeddings are the output layer as well: small, so that first guesses are even.
        nn.init.normal_(self.genes.weight, std=0.02)
        nn.init.normal_(self.ranks.weight, std=0.02)
        layer = nn.TransformerEncoderLayer(
            width, heads, 4 * width, dropout=0.0, batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)
        self.bias = nn.Parameter(torch.zeros(vocab_size))

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Give the logits of the genes at each place."""
        ranks = torch.arange(ids.shape[1], device=ids.device)
        x = self.genes(ids) + self.ranks(ranks)
        x = self.norm(self.encoder(x, src_key_padding_mask=~mask))
        return x @ self.genes.weight.T + self.bias


def masked(batch: dict[str, Any], mask_token: int, key: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Hide some genes; which ones depends on the key alone."""
    ids, there = batch["input_ids"], batch["attention_mask"]
    generator = torch.Generator().manual_seed(key)
    chosen = (torch.rand(ids.shape, generator=generator) < MASKED).to(ids.device) & there
    return ids.masked_fill(chosen, mask_token), ids.masked_fill(~chosen, IGNORED)


class Training:
    """Everything that a checkpoint holds."""

    def __init__(self, array: SLAFArray, tokenizer: GeneformerTokenizer, epochs: int, device: str):
        torch.manual_seed(0)
        info = tokenizer.get_vocab_info()
        self.mask_token = info["special_tokens"]["<mask>"]
        self.device = device
        self.model = MaskedGenes(info["vocab_size"]).to(device)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3, weight_decay=0.01)
        options: dict[str, Any] = {"tokenizer": tokenizer, "batch_size": 32, "device": device}
        self.train = SLAFDataLoader(
            array, split=Split("train", FRACTIONS), n_epochs=epochs, drop_last=True, **options
        )
        self.val = SLAFDataLoader(array, split=Split("val", FRACTIONS), shuffle=False, **options)
        self.step = 0

    def loss(self, batch: dict[str, Any], key: int) -> torch.Tensor:
        """Give the cross-entropy of the hidden genes."""
        inputs, targets = masked(batch, self.mask_token, key)
        logits = self.model(inputs, batch["attention_mask"])
        return nn.functional.cross_entropy(
            logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED
        )

    def validate(self) -> float:
        """Give the mean loss of the validation cells, always with the same genes hidden."""
        self.model.eval()
        self.val.set_epoch(0)
        with torch.no_grad():
            losses = [float(self.loss(batch, key)) for key, batch in enumerate(self.val)]
        self.model.train()
        return sum(losses) / len(losses)

    def run(self, save_at: int | None = None, path: Path | None = None) -> list[float]:
        """Train to the end; gives the loss of each step."""
        losses = []
        for batch in self.train:
            loss = self.loss(batch, 1_000_000 + self.step)
            self.optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            self.step += 1
            losses.append(float(loss.detach()))
            if self.step == save_at and path is not None:
                self.save(path)
        return losses

    def save(self, path: Path) -> None:
        """Write a checkpoint, also in the middle of an epoch."""
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "loader": self.train.state_dict(),
            "step": self.step,
        }
        torch.save(state, path)

    def load(self, path: Path) -> None:
        """Go on where a checkpoint was written."""
        state = torch.load(path, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.train.load_state_dict(state["loader"])
        self.step = state["step"]


def pbmc() -> ad.AnnData:
    """Give the data set of the installed scanpy, with all of its genes."""
    for file in metadata.files("scanpy") or []:
        if file.name == "10x_pbmc68k_reduced.h5ad":
            return ad.read_h5ad(str(file.locate())).raw.to_adata()
    raise SystemExit("scanpy is not installed: pip install --no-deps scanpy")


def draw(losses: list[float], before: float, after: float, path: Path) -> None:
    """Save the picture of the losses."""
    figure, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
    axes.plot(losses, color="0.8", linewidth=0.8, label="training, each batch")
    window = 20
    smooth = [
        sum(losses[max(0, i - window) : i + 1]) / len(losses[max(0, i - window) : i + 1])
        for i in range(len(losses))
    ]
    axes.plot(smooth, color="tab:blue", label=f"training, mean of {window} batches")
    ends = [0, len(losses) - 1]
    axes.plot(ends, [before, after], "o", color="tab:orange", label="validation")
    axes.set(xlabel="step", ylabel="cross-entropy of masked genes (nats)")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main() -> None:
    """Train, save, resume, compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--input", type=Path, help="a file that slaf converts")
    parser.add_argument("--output", type=Path, default=Path("masked-genes"))
    parser.add_argument("--epochs", type=int, default=20)
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    store = args.output / "cells.slaf"
    converter = SLAFConverter(overwrite=True)
    if args.input is None:
        converter.convert_anndata(pbmc(), store)
    else:
        converter.convert(args.input, store)
    array = SLAFArray(store)
    tokenizer = GeneformerTokenizer(array, max_genes=LENGTH)
    device = "cuda" if torch.cuda.is_available() else "cpu"

    training = Training(array, tokenizer, args.epochs, device)
    print(training.train)
    begin = time.perf_counter()
    before = training.validate()
    per_epoch = len(training.train) // args.epochs
    # In the middle of an epoch.
    half = args.epochs // 2 * per_epoch + per_epoch // 2
    checkpoint = args.output / "checkpoint.pt"
    losses = training.run(half, checkpoint)
    after = training.validate()
    print(
        f"validation loss {before:.3f} -> {after:.3f} nats in {time.perf_counter() - begin:.0f} s"
    )
    print(training.train.stats())

    resumed = Training(array, tokenizer, args.epochs, device)
    resumed.load(checkpoint)
    again = resumed.run()
    differences = [abs(a - b) for a, b in zip(again, losses[half:], strict=True)]
    print(f"resumed at step {half}: {len(again)} losses, largest difference {max(differences):.2g}")
    if max(differences) > 1e-4:
        raise SystemExit("the resumed run came to other losses")

    (args.output / "loss.csv").write_text(
        "step,loss\n" + "".join(f"{i},{loss:.6f}\n" for i, loss in enumerate(losses))
    )
    draw(losses, before, after, args.output / "loss.png")


if __name__ == "__main__":
    main()
