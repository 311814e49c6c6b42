"""Datasets: which can be learned from, and what is said of the others."""

import io
import os
import zipfile

import numpy as np
import pyarrow as pa
import pytest
from attrs import evolve
from pyarrow import parquet

from arena_core.domain.errors import Rejected, TooLarge
from arena_core.entrypoints.recipes import dataset_files
from arena_core.entrypoints.recipes.datasets import Choice, load, split
from arena_core.entrypoints.recipes.measures import fit

ROWS = 24


def table(**columns):
    numbers = {
        "width": np.arange(ROWS, dtype=float) / 7,
        "height": np.arange(ROWS)[::-1].copy(),
    }
    return numbers | columns | {"kind": np.array(["cat", "dog"] * (ROWS // 2))}


def csv(columns):
    lines = [",".join(columns)]
    lines += [",".join(map(str, row)) for row in zip(*columns.values(), strict=True)]
    return "\n".join(lines).encode()


def packed(**arrays):
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def parquet_of(columns):
    stream = io.BytesIO()
    parquet.write_table(pa.table(columns), stream)
    return stream.getvalue()


@pytest.fixture
def read(tmp_path):
    def read(name, data, **choice):
        (tmp_path / name).write_bytes(data)
        return load(Choice(name, **choice), tmp_path)

    return read


@pytest.fixture
def refused(read):
    """Say what is wrong, in a sentence that may be shown to anybody."""

    def refused(name, data, error=Rejected, **choice):
        with pytest.raises(Rejected) as caught:
            read(name, data, **choice)
        assert type(caught.value) is error
        sentence = str(caught.value)
        assert sentence.endswith(".")
        assert not set(sentence) & set("[]\n\0\x1b")
        assert len(sentence) < 500
        assert caught.value.field in ("source.name", "config.target", "config.task")
        return sentence

    return refused


# --- what can be learned from ------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "task", "shape", "width"),
    [
        ("breast_cancer", "classification", (30,), 2),
        ("diabetes", "regression", (10,), 1),
        ("digits", "classification", (8, 8), 10),
        ("iris", "classification", (4,), 3),
        ("wine", "classification", (13,), 3),
    ],
)
def test_what_is_shipped_needs_no_folder(name, task, shape, width):
    dataset = load(Choice(name), None)
    assert (dataset.task, dataset.shape, dataset.width) == (task, shape, width)
    assert dataset.inputs.dtype == np.float32
    assert dataset.sha256 == load(Choice(name), None).sha256


def test_the_same_table_is_the_same_in_csv_and_in_parquet(read):
    one, other = read("a.csv", csv(table())), read("a.parquet", parquet_of(table()))
    assert one.columns == other.columns == ("width", "height")
    assert one.classes == other.classes == ("cat", "dog")
    assert np.array_equal(one.inputs, other.inputs)
    assert np.array_equal(one.targets, [0, 1] * (ROWS // 2))
    assert np.array_equal(one.targets, other.targets)
    assert one.sha256 != other.sha256


def test_the_last_column_is_learned_unless_another_is_named(read):
    dataset = read("a.csv", csv(table()), target="width")
    assert dataset.task == "regression"
    assert dataset.columns == ("height", "kind=cat", "kind=dog")
    assert np.allclose(dataset.targets, np.arange(ROWS) / 7)


def test_a_column_of_words_is_a_number_for_each_word(read):
    colours = np.array(["red", "blue", "green"] * (ROWS // 3))
    dataset = read("a.csv", csv(table(colour=colours)))
    assert dataset.columns[2:] == ("colour=blue", "colour=green", "colour=red")
    assert np.array_equal(dataset.inputs[0, 2:], [0, 0, 1])
    assert (dataset.inputs[:, 2:].sum(axis=1) == 1).all()


def test_truths_are_words(read):
    truths = pa.array([True, False] * (ROWS // 2))
    dataset = read("a.parquet", parquet_of({"x": np.arange(ROWS), "ok": truths}))
    assert dataset.classes == ("no", "yes")
    assert list(dataset.targets[:2]) == [1, 0]


def test_a_few_whole_numbers_are_classes_and_many_are_numbers(read):
    few, many = np.arange(ROWS) % 3, np.arange(ROWS)
    x = np.ones((ROWS, 2))
    assert read("a.npz", packed(x=x, y=few)).task == "classification"
    assert read("a.npz", packed(x=x, y=many)).task == "regression"
    assert read("a.npz", packed(x=x, y=few), task="regression").task == "regression"
    told = read("a.npz", packed(x=x, y=many), task="classification")
    assert len(told.classes) == ROWS


@pytest.mark.parametrize("shape", [(5, 5), (5, 4, 3)])
def test_images_come_with_and_without_channels(read, shape):
    pixels = np.zeros((ROWS, *shape), np.uint8)
    dataset = read("a.npz", packed(x=pixels, y=np.arange(ROWS) % 2))
    assert dataset.shape == shape
    assert dataset.columns == ()


def test_a_split_is_that_of_the_rows_and_leaves_none_out():
    dataset = load(Choice("iris"), None)
    one, same = (split(dataset, 0.2) for _ in range(2))
    assert (len(one.train), len(one.validation)) == (120, 30)
    assert np.array_equal(one.validation.inputs, same.validation.inputs)
    rows = np.concatenate([one.train.inputs, one.validation.inputs])
    assert np.array_equal(np.sort(rows, axis=0), np.sort(dataset.inputs, axis=0))
    assert {0, 1, 2} == set(one.train.targets) == set(one.validation.targets)


def test_what_is_held_back_stays_so_in_any_order_and_in_a_larger_share():
    dataset = load(Choice("iris"), None)
    mixed = np.random.default_rng(1).permutation(150)
    other = evolve(
        dataset, inputs=dataset.inputs[mixed], targets=dataset.targets[mixed]
    )
    held, still, more = (
        set(map(bytes, split(data, share).validation.inputs))
        for data, share in [(dataset, 0.2), (other, 0.2), (dataset, 0.4)]
    )
    assert held == still
    assert held < more


def test_rows_that_are_alike_are_not_all_held_back_or_none():
    inputs = np.repeat(np.eye(4, dtype=np.float32), 25, axis=0)
    alike = evolve(
        load(Choice("iris"), None), inputs=inputs, targets=np.arange(100) // 25
    )
    parts = split(alike, 0.3)
    assert {0, 1, 2, 3} == set(parts.train.targets) == set(parts.validation.targets)


def test_how_well_answers_fit_is_an_accuracy_or_r2():
    sure = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]])
    assert fit("classification", sure, np.array([0, 1, 1])) == pytest.approx(2 / 3)
    numbers = np.array([1.0, 2.0, 3.0])
    assert fit("regression", numbers[:, None], numbers) == 1
    assert fit("regression", np.full((3, 1), 2.0), numbers) == 0
    assert fit("regression", np.full((3, 1), 9.0), numbers) < 0
    assert fit("regression", np.ones((3, 1)), np.ones(3)) == 1


# --- what cannot -------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["../a.csv", "/etc/passwd", ".a.csv", "b/a.csv", "b\\a.csv", "C:a.csv", "a\0.csv"],
)
def test_a_name_is_no_path(refused_name, name):
    assert "plain name" in refused_name(name)


@pytest.fixture
def refused_name(tmp_path):
    inside = tmp_path / "datasets"
    (inside / "b").mkdir(parents=True)
    for place in (tmp_path / "a.csv", inside / ".a.csv", inside / "b" / "a.csv"):
        place.write_bytes(csv(table()))
    (inside / "linked.csv").symlink_to(tmp_path / "a.csv")
    (inside / "folder.csv").mkdir()

    def refused_name(name):
        with pytest.raises(Rejected) as caught:
            load(Choice(name), inside)
        assert str(tmp_path) not in str(caught.value)
        return str(caught.value)

    return refused_name


@pytest.mark.parametrize("name", ["missing.csv", "linked.csv", "folder.csv"])
def test_only_a_file_in_the_folder_itself_is_read(refused_name, name):
    assert "There is no dataset" in refused_name(name)


def test_without_a_folder_the_operator_is_told_how_to_name_one():
    with pytest.raises(Rejected, match=r"digits.*set ARENA_DATASETS"):
        load(Choice("mine.csv"), None)


def test_a_file_of_another_kind_is_refused(refused):
    assert ".parquet" in refused("a.txt", csv(table()))


def test_a_file_over_the_limit_is_not_read(tmp_path):
    with (tmp_path / "a.csv").open("wb") as file:
        os.truncate(file.fileno(), dataset_files.MOST_BYTES + 1)
    with pytest.raises(TooLarge, match="use fewer rows"):
        load(Choice("a.csv"), tmp_path)


def test_a_target_that_is_not_there_is_answered_with_those_that_are(refused):
    sentence = refused("a.csv", csv(table()), target="colour")
    assert "colour" in sentence
    assert "width, height, kind" in sentence


@pytest.mark.parametrize("name", ["iris", "a.npz"])
def test_a_target_is_a_column_of_a_table(refused, name):
    data = packed(x=np.eye(ROWS), y=np.arange(ROWS) % 2)
    assert "leave config.target out" in refused(name, data, target="x0")


def test_what_is_not_a_number_is_no_class(refused):
    labels = np.arange(ROWS) % 2 * 1.0
    labels[3] = np.nan
    data = packed(x=np.eye(ROWS), y=labels)
    assert "row 4" in refused("a.npz", data, task="classification")


def test_what_is_missing_is_named_by_row_and_column(refused):
    data = csv(table()).replace(b"1.0,16", b",16")
    assert data != csv(table())
    assert "Row 8 has nothing in the column width" in refused("a.csv", data)


@pytest.mark.parametrize("number", ["nan", "inf"])
def test_a_number_that_is_not_finite_is_named_by_its_row(refused, number):
    widths = np.arange(ROWS, dtype=float)
    widths[5] = float(number)
    assert "Row 6" in refused("a.npz", packed(x=widths[:, None], y=np.arange(ROWS) % 2))
    assert "row 6" in refused("a.npz", packed(x=np.ones((ROWS, 1)), y=widths))


def test_a_few_rows_are_too_few(refused):
    few = {name: values[:19] for name, values in table().items()}
    assert "19 rows: give at least 20" in refused("a.csv", csv(few))


def test_one_class_is_none_to_tell_apart(refused):
    assert "1 classes" in refused("a.csv", csv(table() | {"kind": ["cat"] * ROWS}))


def test_a_regression_does_not_learn_words(refused):
    assert "words" in refused("a.csv", csv(table()), task="regression")


def test_a_column_of_names_is_nothing_to_learn_from(refused):
    names = [f"row {n}" for n in range(120)]
    data = csv({"name": names, "x": range(120), "y": [0, 1] * 60})
    assert "120 different words" in refused("a.csv", data)


def test_a_column_of_texts_is_nothing_to_learn_from(refused):
    assert "texts" in refused("a.csv", csv(table(text=["long" * 60] * ROWS)))


def test_dates_are_refused_by_name(refused):
    days = [f"2024-01-{day + 1:02}" for day in range(ROWS)]
    assert "The column day holds values of the type" in refused(
        "a.csv", csv(table(day=days))
    )


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n\n\n",
        b"\0" * 1000,
        b"a,b\n1,2\n3\n",
        b"a,b\n" + b"\xff\xfe,1\n" * ROWS,
        b"only\n" + b"1\n" * ROWS,
        b"a,a,b\n" + b"1,2,3\n" * ROWS,
        b"a,,b\n" + b"1,2,3\n" * ROWS,
        b",".join(b"c%d" % n for n in range(10_001)) + b"\n" + b"1," * 10_000 + b"1\n",
        b'a,b\n"' + b"x" * 2_000_000,
        b"a\x1b[31m,a\x1b[31m,b\n" + b"1,2,3\n" * ROWS,
        b"PK\x05\x06" + bytes(18),
        b"x" * 300 + b",b\n" + b"1,2\n" * ROWS,
    ],
)
@pytest.mark.parametrize("name", ["a.csv", "a.npz", "a.parquet"])
def test_hostile_files_are_refused_in_a_sentence(refused, name, data):
    refused(
        name, data, TooLarge if data.count(b"c") > 9_000 and "csv" in name else Rejected
    )


def test_a_parquet_file_is_not_read_if_it_says_that_it_is_huge(refused):
    data = parquet_of({f"c{n}": [1] for n in range(10_001)})
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    # Whoever reads the columns finds them damaged.
    damaged = data[:4] + bytes(footer - 4) + data[footer:]
    assert "10001 columns" in refused("a.parquet", damaged, TooLarge)


def test_a_word_that_is_missing_is_no_word(refused):
    data = csv(table(ground=["wet"] * 3 + [""] + ["dry"] * 20))
    assert "Row 4 has nothing in the column ground" in refused("a.csv", data)


class _Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder):
        self._folder = str(folder)

    def __reduce__(self):
        return (os.mkdir, (self._folder,))


def test_a_pickle_in_an_archive_is_not_opened(refused, tmp_path):
    trap = np.array([_Trap(tmp_path / "opened")] * ROWS, dtype=object)
    assert "x and y" in refused("a.npz", packed(x=np.ones((ROWS, 1)), y=trap))
    assert not (tmp_path / "opened").exists()


@pytest.mark.parametrize(
    "arrays",
    [
        {"x": np.ones((ROWS, 2))},
        {"x": np.ones(ROWS), "y": np.ones(ROWS)},
        {"x": np.ones((ROWS, 0)), "y": np.ones(ROWS)},
        {"x": np.full((ROWS, 2), "a"), "y": np.ones(ROWS)},
        {"x": np.ones((ROWS, 2)), "y": np.ones(ROWS - 1)},
        {"x": np.ones((ROWS, 2)), "y": np.ones((ROWS, 2))},
        {"x": np.ones((ROWS, 2)), "y": np.ones(ROWS, complex)},
    ],
)
def test_arrays_that_are_no_examples_are_refused(refused, arrays):
    assert "array" in refused("a.npz", packed(**arrays))


def test_an_archive_that_unpacks_to_too_much_is_not_unpacked(refused):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("x.npy", b"")
    data = bytearray(stream.getvalue())
    size = data.rindex(b"PK\x01\x02") + 24
    data[size : size + 4] = (0x7FFFFFFF).to_bytes(4, "little")
    assert "unpacked" in refused("a.npz", bytes(data), TooLarge)


def test_an_array_that_claims_more_than_there_is_takes_no_memory(refused):
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (10000000000000, 9), }"
    npy = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("x.npy", npy)
        archive.writestr("y.npy", npy)
    assert "x and y" in refused("a.npz", stream.getvalue())
