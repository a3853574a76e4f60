"""Random AnnData objects."""

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

INTEGERS = ["u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8"]
MATRIX_DTYPES = ["bool", *INTEGERS, "f4", "f8"]
TEXT = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=5)
# Names that trip whoever builds paths, SQL or system columns of them.
NAMES = st.sampled_from(
    [
        "a",
        "A",
        "cell_id",
        "gene_id",
        "cell_integer_id",
        "n_genes",
        "total_counts",
        "rank",
        "value",
        "x.y",
        "..",
        "a b",
        'quo"te',
        "it's",
        "Ünï",
        "🧬",
        "select",
        "0",
        "X",
        "c0",
        "n" * 300,
    ]
)


def names(size, prefix):
    unique = st.lists(TEXT.map(lambda t: prefix + t), min_size=size, max_size=size, unique=True)
    return unique.map(lambda names: pd.Index(names, dtype=object))


@st.composite
def matrices(draw, rows, cols):
    dtype = np.dtype(draw(st.sampled_from(MATRIX_DTYPES)))
    dense = draw(hnp.arrays(dtype, (rows, cols), fill=st.just(dtype.type(0))))
    form = draw(st.sampled_from(["csr", "csc", "dense"]))
    if form == "dense":
        return dense
    # The mask, not the value, says what is stored: zeros may be explicit.
    stored = draw(hnp.arrays(bool, (rows, cols))) | (dense != 0)
    at = np.nonzero(stored)
    coo = sp.coo_matrix((dense[at], at), shape=dense.shape)
    return coo.tocsr() if form == "csr" else coo.tocsc()


@st.composite
def columns(draw, n):
    kind = draw(st.sampled_from(["number", "text", "categorical", "nullable"]))
    if kind == "number":
        return draw(hnp.arrays(draw(st.sampled_from([*MATRIX_DTYPES, "f2"])), n))
    if kind == "text":
        return np.array(draw(st.lists(TEXT, min_size=n, max_size=n)), dtype=object)
    if kind == "categorical":
        values = draw(st.sampled_from([TEXT, st.integers(-9, 9), st.booleans()]))
        categories = draw(st.lists(values, min_size=1, max_size=5, unique=True))
        codes = draw(hnp.arrays(np.int8, n, elements=st.integers(-1, len(categories) - 1)))
        return pd.Categorical.from_codes(codes, categories, ordered=draw(st.booleans()))
    mask = draw(hnp.arrays(bool, n))
    which = draw(st.sampled_from(["boolean", "string", *INTEGERS]))
    if which == "boolean":
        return pd.arrays.BooleanArray(draw(hnp.arrays(bool, n)), mask)
    if which == "string":
        texts = draw(st.lists(TEXT, min_size=n, max_size=n))
        values = [pd.NA if m else t for t, m in zip(texts, mask, strict=True)]
        return pd.array(values, dtype="string")
    return pd.arrays.IntegerArray(draw(hnp.arrays(which, n)), mask)


@st.composite
def frames(draw, n, prefix):
    index = draw(names(n, prefix))
    index.name = draw(st.sampled_from([None, "barcode"]))
    data = {name: draw(columns(n)) for name in draw(st.lists(NAMES, max_size=4, unique=True))}
    return pd.DataFrame(data, index=index)


@st.composite
def beside(draw, n, index):
    """An entry of obsm or varm."""
    kind = draw(st.sampled_from(["array", "array", "sparse", "frame", "cube"]))
    width = draw(st.integers(0 if kind == "array" else 1, 3))
    if kind == "array":
        return draw(hnp.arrays(draw(st.sampled_from(MATRIX_DTYPES)), (n, width)))
    if kind == "sparse":
        return sp.csr_matrix(draw(hnp.arrays("f4", (n, width), elements=st.integers(0, 3))))
    if kind == "frame":
        return pd.DataFrame({"p": draw(hnp.arrays("f8", n)), "q": np.arange(n)}, index=index)
    return draw(hnp.arrays("i4", (n, width, 2)))


def trees():
    leaves = st.one_of(
        st.integers(-(2**62), 2**62),
        # NaN is no number like itself to anndata's comparison; it has a test of its own.
        st.floats(allow_nan=False),
        st.booleans(),
        TEXT,
        hnp.arrays(st.sampled_from(["i4", "f8", "bool"]), hnp.array_shapes(max_dims=2, max_side=3)),
        st.lists(TEXT, min_size=1, max_size=3).map(lambda t: np.array(t, dtype=object)),
        st.just(sp.csr_matrix(np.eye(2, dtype="f4"))),
        st.just(pd.DataFrame({"k": [1, 2], "c": pd.Categorical(["u", "v"])}, index=["i", "j"])),
    )
    keys = st.sampled_from(["neighbors", "params", "pca", "a b", "Ünï", "x_colors"])
    return st.recursive(leaves, lambda t: st.dictionaries(keys, t, max_size=3), max_leaves=5)


@st.composite
def anndatas(draw):
    n, m = draw(st.integers(0, 12)), draw(st.integers(0, 9))
    keys = st.lists(NAMES, max_size=2, unique=True)
    obs, var = draw(frames(n, "c")), draw(frames(m, "g"))
    adata = ad.AnnData(
        X=draw(st.none() | matrices(n, m)) if n and m else draw(matrices(n, m)),
        obs=obs,
        var=var,
        layers={k: draw(matrices(n, m)) for k in draw(keys)},
        obsm={k: draw(beside(n, obs.index)) for k in draw(keys)},
        varm={k: draw(beside(m, var.index)) for k in draw(keys)},
        obsp={k: draw(matrices(n, n)) for k in draw(keys)},
        varp={k: draw(matrices(m, m)) for k in draw(keys)},
        uns=draw(st.dictionaries(st.sampled_from(["log1p", "u v", "hvg"]), trees(), max_size=2)),
    )
    if draw(st.booleans()):
        m_raw = draw(st.integers(1, 12))
        adata.raw = ad.AnnData(X=draw(matrices(n, m_raw)), var=draw(frames(m_raw, "r")))
    return adata
