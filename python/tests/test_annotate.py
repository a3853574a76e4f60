"""Tables that the command line adds to a store."""

import gzip

import pandas as pd
import pytest
from processes import run_slaf

import slaf
from slaf import SLAFArray

TEXT = "cell_id,label\ncell2,a\ncell0,b\n"
LABELS = ["b", None, "a", None, None, None]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("plain.csv", TEXT.encode()),
        ("marked.csv", b"\xef\xbb\xbf" + TEXT.encode()),
        ("windows.csv", TEXT.replace("\n", "\r\n").encode()),
        ("packed.csv.gz", gzip.compress(TEXT.encode())),
        ("tabs.TSV", TEXT.replace(",", "\t").encode()),
        ("packed.tsv.gz", gzip.compress(b"\xef\xbb\xbf" + TEXT.replace(",", "\t").encode())),
    ],
)
def test_tables_as_programs_write_them(growing_path, tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    done = run_slaf("annotate", growing_path, tmp_path / name, "--on", "cell_id")
    assert (done.returncode, done.stderr) == (0, "")
    assert SLAFArray(growing_path).obs["label"].to_list() == LABELS


@pytest.mark.parametrize(
    ("header", "kind"),
    [
        ("cell_id,a/b", "invalid-argument"),
        ("cell_id,", "invalid-argument"),
        ("cell_id,_index", "invalid-argument"),
        ("cell_id,.", "invalid-argument"),
        ("cell_id,a\0b", "invalid-argument"),
        ("cell_id;label", "unknown-column"),
        ("cell,label", "unknown-column"),
        (None, "malformed-input"),
    ],
)
def test_names_that_a_column_cannot_have_are_refused(growing_path, tmp_path, header, kind):
    table = tmp_path / "table.csv"
    if header is None:
        table.touch()
    else:
        table.write_text(f"{header}\n" + ("cell2;7\n" if ";" in header else "cell2,7\n"))
    done = run_slaf("annotate", growing_path, table, "--on", "cell_id")
    assert done.returncode == 1
    assert done.stderr.endswith(f"[{kind}]\n")
    assert SLAFArray(growing_path).version == 1


def test_a_damaged_table_is_named_once(growing_path, tmp_path):
    table = tmp_path / "table.csv.gz"
    for content in (gzip.compress(TEXT.encode())[:-9], b"\x1f\x8bnothing"):
        table.write_bytes(content)
        done = run_slaf("annotate", growing_path, table, "--on", "cell_id")
        assert done.returncode == 1
        assert done.stderr.count("table.csv.gz") == 1
        assert "[malformed-input]" in done.stderr
    done = run_slaf("annotate", growing_path, tmp_path / "none.csv", "--on", "cell_id")
    assert done.stderr.count("none.csv") == 1
    assert "[not-found]" in done.stderr


def test_rows_that_are_named_in_another_order_are_refused(growing_path, tmp_path):
    table = tmp_path / "table.csv"
    names = [f"cell{i}" for i in range(6)]
    frame = pd.DataFrame({"cell_id": names, "n": range(6)})
    frame[::-1].to_csv(table, index=False)
    done = run_slaf("annotate", growing_path, table)
    assert done.returncode == 1
    assert 'row 0 of the table is of "cell5", and of the store of "cell0"' in done.stderr
    assert "--on cell_id" in done.stderr
    assert SLAFArray(growing_path).version == 1
    frame.to_csv(table, index=False)
    assert run_slaf("annotate", growing_path, table).returncode == 0
    obs = SLAFArray(growing_path).obs
    assert obs["n"].to_list() == list(range(6))
    assert obs["obs:cell_id"].to_list() == names


def test_names_of_several_cells_are_of_nobody(growing_path, tmp_path, original):
    path = growing_path
    SLAFArray(path).append(original, allow_loss=True)
    table = tmp_path / "table.csv"
    table.write_text(TEXT)
    done = run_slaf("annotate", path, table, "--on", "cell_id")
    assert done.returncode == 1
    assert done.stderr.endswith("[ambiguous-name]\n")
    with pytest.raises(slaf.UnknownNameError) as error:
        SLAFArray(path).add_obs(pd.read_csv(table), on="cell_id")
    assert error.value.kind == "ambiguous-name"
    assert SLAFArray(path).version == 2
    # Values of another column may come often.
    table.write_text("batch,site\nb1,Ulm\nb2,Bern\n")
    assert run_slaf("annotate", path, table, "--on", "batch").returncode == 0
    twice = [*original.obs["batch"], *original.obs["batch"]]
    places = {"b1": "Ulm", "b2": "Bern"}
    assert SLAFArray(path).obs["site"].to_list() == [places[batch] for batch in twice]
