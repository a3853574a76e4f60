"""Batches of cells for training, made by threads of Rust."""

from __future__ import annotations

from slaf.ml._stream import Stream

__all__ = ["SLAFDataLoader"]


class SLAFDataLoader(Stream):
    """Batches of cells for training: read, decoded, shuffled and tokenized by threads of Rust.

    Iterating gives one dictionary for each batch. The order is a function of (seed, epoch,
    position) alone: an epoch is the same from a fresh process, after other epochs, and after one
    that was left early. Iterating again gives the next epoch; :meth:`set_epoch` chooses one.

    Parameters
    ----------
    slaf_array
        The store: a :class:`slaf.SLAFArray`, its path, or a lazy AnnData of it, whose cells, genes
        and version are taken (``cell_ids`` stay row numbers of the store); or several. Of several,
        ``x`` has the genes that all have in common by name, and the tokenizer of the first is
        matched to the genes of each.
    tokenizer_type
        ``"geneformer"``, ``"scgpt"``, or ``None`` for raw batches.
    tokenizer
        A tokenizer in place of `tokenizer_type`; or a function that makes a batch from a raw one
        (a dictionary of numpy arrays, with ``x`` as ``scipy.sparse.csr_matrix``).
    batch_size
        Cells of a batch, of one rank.
    max_genes, vocab_size, n_expression_bins
        Of the tokenizer that `tokenizer_type` makes: tokens in a row, where the vocabulary is cut,
        and (scGPT) bins.
    raw_mode
        Give expression values and no tokens.
    n_epochs
        Epochs of one iteration.
    seed
        Keys all chance.
    shuffle
        ``"full"``: every order is equally likely. ``"block"``: runs of `block_size` neighbours are
        read together, and the cells of about `window` cells are shuffled with each other.
        ``True``: full on a local disk, block on an object store. ``False``: stored order.
    drop_last
        Leave out the last cells where they are fewer than a batch for each rank.
    where
        A condition of SQL on ``cells``: only these cells. A missing number is NULL.
    obs_columns
        Columns of obs that come with each batch under their names. Texts and categoricals are
        encoded (int64, see :attr:`codes`); numbers come as int64, float32, float64 or bool.
    cells
        A selector, as in :meth:`slaf.SLAFArray.get_submatrix`: only these cells.
    split
        Only one part of the data, see :class:`slaf.ml.samplers.Split`.
    sampler
        Another choice of cells than each once: see :mod:`slaf.ml.samplers`.
    codes
        Tables of labels for columns of `obs_columns`, such as :attr:`codes` of the loader that
        trained the model.
    unknown_code
        The code of missing labels and of those that are in no table.
    genes
        A selector of genes: only these columns of ``x``, in this order.
    gene_order
        The order of the columns of ``x``. ``"var"``: that of var, or of `genes`. ``"stored"``: that
        in which the (first) store has them, most cells first, which spares the loader to renumber
        them; :attr:`gene_ids` names them in the same order. A model takes either, as long as it is
        the same one.
    layer
        The layer to read in place of X.
    normalize
        Scale each cell to this sum: ``x / (total / normalize)`` in float32, as
        ``scanpy.pp.normalize_total``. The total is that over all genes, also if `genes` are
        chosen.
    log1p
        Take ``log(1 + x)``, after scaling, as ``scanpy.pp.log1p``.
    dense
        Give ``x`` as a dense matrix.
    dtype
        The type of ``x``: float32, float64, or the stored type. By default the stored one if it is
        floating-point, and otherwise float32; counts above 2^24, which float32 cannot hold, are an
        error.
    return_tensors
        ``"torch"``; ``"numpy"``: arrays, and ``x`` as ``scipy.sparse.csr_matrix``; ``"arrow"``:
        one ``pyarrow.RecordBatch``.
    rank, world_size
        Which of how many processes this is; by default as torch.distributed says, where it is
        initialised. Ranks take the batches of one order in turns.
    uneven
        The last cells, where they are fewer than a batch for each rank: ``"pad"`` repeats up to
        ``world_size - 1`` cells from the beginning of the epoch, so that all ranks have equally
        many batches of the same size; ``"uneven"`` repeats none, and one rank may have one batch
        less.
    block_size, window
        Of the block shuffle: 16 cells on a disk, 64 on an object store, and 65,536.
    memory
        Bytes that packed rows and finished batches may take, about.
    device
        Copy tensors to this device, without waiting for the copy if `pin_memory` is set.
    pin_memory
        Put tensors into pinned memory first.
    verify
        As in :class:`slaf.SLAFArray`: ``"first-touch"`` compares each file with its hash before
        something of it is read.
    measured
        Raw batches tell which genes of ``x`` were measured in each cell, as ``measured``. In the
        others ``x`` is 0, as that is what is stored of genes that a source does not have (see
        :meth:`slaf.SLAFArray.sources`): a loss leaves them out by the mask.

    Raises
    ------
    InvalidArgumentError
        For arguments that do not go together or do not exist, and for a lazy AnnData whose X, or
        whose columns of obs that are used, were changed in memory.
    UnknownNameError
        For a column, layer or gene that is not there.
    UnsupportedError
        If torch or pyarrow is needed and not installed.

    Notes
    -----
    Keys of a batch of `b` cells: ``cell_ids`` (int64, [b]: row numbers), ``source_ids`` (int64,
    [b]: the store, if there are several), and the obs columns. With tokens: ``input_ids`` (int64,
    [b, L]), ``attention_mask`` (bool, [b, L]) and, for scGPT, ``values`` (float32, [b, L]). Raw:
    ``x``, a sparse CSR tensor of shape [b, genes] with int32 indices, or a dense one, and
    ``measured`` (bool, [b, genes]), if it was asked for. With
    :class:`slaf.ml.samplers.Sets` also ``is_control`` (bool, [b]); with `n_epochs` above 1 also
    ``epoch``, a number (not in Arrow batches).

    Examples
    --------
    >>> from slaf import SLAFArray
    >>> from slaf.ml import SLAFDataLoader
    >>> array = SLAFArray(store_path)
    >>> loader = SLAFDataLoader(array, raw_mode=True, batch_size=4, obs_columns=["batch"],
    ...                         return_tensors="numpy")
    >>> [batch["x"].shape for batch in loader]
    [(4, 4), (2, 4)]
    >>> loader.codes
    {'batch': ['b1', 'b2', 'unused']}
    >>> loader
    SLAFDataLoader(6 cells x 4 genes, full shuffle, 2 batches of 4, seed 0)
    """
