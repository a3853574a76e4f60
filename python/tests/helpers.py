"""Comparisons that are stricter than anndata's."""

import numpy as np
import scipy.sparse as sp
from anndata.tests.helpers import assert_equal


def assert_same_matrix(a, b):
    """Same encoding, type, shape, stored positions, and bits of the values."""
    assert type(a) is type(b)
    assert a.dtype == b.dtype
    assert a.shape == b.shape
    if not sp.issparse(a):
        assert np.ascontiguousarray(a).tobytes() == np.ascontiguousarray(b).tobytes()
        return
    a, b = a.sorted_indices(), b.sorted_indices()
    np.testing.assert_array_equal(a.indptr, b.indptr)
    np.testing.assert_array_equal(a.indices, b.indices)
    assert a.data.tobytes() == b.data.tobytes()


def assert_same(a, b):
    """Equal by anndata's measure, and the matrices bit by bit."""
    assert_equal(a, b)
    assert (a.X is None) == (b.X is None)
    pairs = [] if a.X is None else [(a.X, b.X)]
    for slot in ("layers", "obsp", "varp"):
        ours, theirs = getattr(a, slot), getattr(b, slot)
        # AnnData 0.13 has X among the layers, under None.
        names = [k for k in ours if k is not None]
        assert sorted(names) == sorted(k for k in theirs if k is not None)
        pairs += [(ours[k], theirs[k]) for k in names]
    if b.raw is not None:
        pairs.append((a.raw.X, b.raw.X))
    for ours, theirs in pairs:
        assert_same_matrix(ours, theirs)
    for ours, theirs in [(a.obs, b.obs), (a.var, b.var)]:
        assert list(ours.dtypes) == list(theirs.dtypes)
        assert ours.index.name == theirs.index.name
