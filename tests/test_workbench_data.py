"""Data by name and by path. Oracle: the arrays and files that the tests made themselves, and the mixtures' moments."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from saddlegan.errors import DataError, InputError
from saddlegan.workbench.data import decoding, pyramid, synthetic
from saddlegan.workbench.data import sources as data
from saddlegan.workbench.data.spec import DataSpec
from saddlegan.workbench.data.tables import TableOptions


def save_images(folder: Path, count: int = 6, size: tuple[int, int] = (5, 4), mode: str = "L") -> np.ndarray:
    rng = np.random.default_rng(0)
    (folder / "sub").mkdir(parents=True, exist_ok=True)
    shape = (size[1], size[0]) if mode == "L" else (size[1], size[0], 3)
    pixels = rng.integers(0, 256, size=(count, *shape), dtype=np.uint8)
    for index, picture in enumerate(pixels):
        Image.fromarray(picture).save(folder / ("sub" if index >= count // 2 else "") / f"{index}.png")
    return pixels


@pytest.mark.parametrize("name", ["ring", "grid", "swiss-roll", "gaussian:4,1,0.25", "gaussian:2,1;1,3"])
def test_synthetic_sources_are_seeded_and_come_back(name: str) -> None:
    found = data.load(name, n_samples=50, random_state=3)
    again = data.load_spec(DataSpec.model_validate_json(found.spec.model_dump_json()))
    assert np.array_equal(found.X, again.X)
    assert found.spec.n_samples == 50
    assert not np.array_equal(found.X, data.load(name, n_samples=50, random_state=4).X)
    assert len(data.load(name).X) == synthetic.DEFAULT_SAMPLES


def test_mixtures_follow_the_protocol() -> None:
    ring, grid = data.load("ring", n_samples=40_000), data.load("grid", n_samples=40_000)
    for found, modes, sd in ((ring, 8, 0.01), (grid, 25, 0.05)):
        assert found.centers is not None
        assert found.centers.shape == (modes, 2)
        assert found.sd == sd
        nearest = np.linalg.norm(found.X[:, None] - found.centers, axis=2)
        label, distance = nearest.argmin(1), nearest.min(1)
        np.testing.assert_allclose(np.bincount(label) / len(label), 1 / modes, rtol=0.12)
        np.testing.assert_allclose((distance**2).mean(), 2 * sd**2, rtol=0.03)
        assert (distance <= 3 * sd).mean() == pytest.approx(1 - np.exp(-4.5), abs=2e-3)
    assert ring.centers is not None
    assert grid.centers is not None
    np.testing.assert_allclose(np.linalg.norm(ring.centers, axis=1), 1.0)
    assert sorted(set(grid.centers.ravel())) == [-4.0, -2.0, 0.0, 2.0, 4.0]


def test_the_gaussian_has_the_covariance_asked_for() -> None:
    found = data.load("gaussian:2,1;1,3", n_samples=200_000)
    np.testing.assert_allclose(np.cov(found.X.T), [[2, 1], [1, 3]], atol=0.04)


def test_digits_are_real_pictures_in_zero_one() -> None:
    digits = data.load("digits")
    assert digits.X.shape == (1797, 64)
    assert (digits.X.min(), digits.X.max()) == (0.0, 1.0)
    assert data.load_spec(digits.spec).spec == digits.spec


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"source": "gaussian:1,x"}, "gaussian:VARIANCES"),
        ({"source": "gaussian:1,2;3"}, "one length"),
        ({"source": "gaussian:1,2;3,4"}, "symmetric"),
        ({"source": "gaussian:1,2;2,1"}, "positive semidefinite"),
        ({"source": "gaussian:-1"}, "positive semidefinite"),
        ({"source": "gaussian:nan"}, "finite symmetric"),
        ({"source": "ring:9"}, "takes no argument"),
        ({"source": "digits", "n_samples": 5}, "read whole"),
        ({"source": "ring", "n_samples": 1}, "at least 2"),
        (
            {"source": "nowhere"},
            "digits, ring, grid, swiss-roll, gaussian, or an existing file or folder; got 'nowhere'",
        ),
        ({"source": "digits", "image_shape": (7, 7)}, "64 values"),
        ({"source": "digits", "image_shape": (8, 8, 2)}, "shape"),
    ],
)
def test_bad_arguments(arguments: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        data.load(**arguments)


def test_a_folder_of_images_keeps_every_byte(tmp_path: Path) -> None:
    pixels = save_images(tmp_path)
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / ".thumbnails").mkdir()
    (tmp_path / ".thumbnails" / "t.png").write_bytes(b"junk")
    found = data.load(tmp_path)
    assert found.X.dtype == np.uint8
    assert found.image_shape == (4, 5)
    assert found.value_range == (0.0, 255.0)
    assert np.array_equal(found.X, pixels.reshape(6, -1))


def test_colour_wins_and_sixteen_bits_keep_their_upper_byte(tmp_path: Path) -> None:
    save_images(tmp_path / "rgb", count=2, mode="RGB")
    deep = np.full((4, 5), 0x8070, dtype=np.uint16)
    Image.fromarray(deep).save(tmp_path / "rgb" / "z.png")
    Image.new("L", (5, 4), 9).save(tmp_path / "rgb" / "a.pgm")
    Image.new("P", (5, 4), 0).save(tmp_path / "rgb" / "b.gif")
    found = data.load(tmp_path / "rgb")
    assert found.image_shape == (4, 5, 3)
    rows = found.X.reshape(-1, 4, 5, 3)
    assert (rows[-1] == 0x80).all()  # sorted last
    grey = data.images.read_folder(tmp_path / "rgb", skip_bad=False)
    assert grey.pixels.shape == (5, 4, 5, 3)
    (tmp_path / "deep").mkdir()
    for name in "xy":
        Image.fromarray(deep).save(tmp_path / "deep" / f"{name}.png")
    assert (data.load(tmp_path / "deep").X == 0x80).all()


def test_an_unreadable_image_is_named_and_skipped_only_on_request(tmp_path: Path) -> None:
    save_images(tmp_path)
    (tmp_path / "bad.png").write_bytes(b"this is no picture")
    whole = (tmp_path / "0.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2 + 8])
    with pytest.raises(DataError, match=r"bad\.png cannot be read \(not an image\).*--skip-bad"):
        data.load(tmp_path)
    (tmp_path / "bad.png").rename(tmp_path / "zbad.png")
    found = data.load(tmp_path, skip_bad=True)
    assert found.skipped == ("zbad.png", "cut.png")
    assert len(found.X) == 6
    assert data.load_spec(found.spec).skipped == found.skipped


def test_folders_that_are_no_data(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no image"):
        data.load(tmp_path)
    (tmp_path / "x.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"no image in .* is readable"):
        data.load(tmp_path, skip_bad=True)
    (tmp_path / "x.png").unlink()
    save_images(tmp_path)
    Image.new("L", (9, 9)).save(tmp_path / "odd.png")
    with pytest.raises(DataError, match=r"one size: 0\.png has 5 x 4, odd\.png 9 x 9"):
        data.load(tmp_path)
    (tmp_path / "one").mkdir()
    Image.new("L", (3, 3)).save(tmp_path / "one" / "a.png")
    with pytest.raises(DataError, match="at least 2 rows"):
        data.load(tmp_path / "one")


X = np.random.default_rng(0).standard_normal((7, 3))


def save(path: Path, array: np.ndarray) -> Path:
    if path.suffix == ".npy":
        np.save(path, array)
    elif path.suffix == ".npz":
        np.savez(path, X=array, labels=np.arange(len(array)))
    elif path.suffix == ".csv":
        pd.DataFrame(array, columns=list("abc")).to_csv(path, index=False)
    else:
        pd.DataFrame(array, columns=list("abc")).to_parquet(path)
    return path


@pytest.mark.parametrize("ending", [".npy", ".npz", ".csv", ".parquet"])
def test_tables_come_back_bit_for_bit(ending: str, tmp_path: Path) -> None:
    found = data.load(save(tmp_path / f"t{ending}", X))
    assert np.array_equal(found.X, X)
    assert found.image_shape is None
    assert Path(found.spec.source).is_absolute()
    assert np.array_equal(data.load_spec(found.spec).X, X)


def test_npy_is_mapped_and_images_are_recognised(tmp_path: Path) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (5, 4, 3, 3), dtype=np.uint8)
    found = data.load(save(tmp_path / "p.npy", pictures))
    assert isinstance(found.X, np.memmap)
    assert found.image_shape == (4, 3, 3)
    assert found.X.shape == (5, 36)
    flat = data.load(save(tmp_path / "f.npy", pictures.reshape(5, -1) / 255.0), image_shape=(4, 3, 3))
    assert flat.value_range == (0.0, 1.0)
    assert data.load_spec(flat.spec).spec == flat.spec
    assert data.load(save(tmp_path / "s.npy", pictures / 127.5 - 1.0)).value_range == (-1.0, 1.0)
    assert data.load(save(tmp_path / "b.npy", X > 0)).X.dtype == np.uint8


def test_csv_without_header_and_changed_files(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("1,2\n3,4\n5,6\n")
    found = data.load(path)
    assert np.array_equal(found.X, [[1, 2], [3, 4], [5, 6]])
    path.write_text("1,2\n3,4\n")
    with pytest.raises(DataError, match=r"has changed: shape \(2, 2\) now, \(3, 2\)"):
        data.load_spec(found.spec)


@pytest.mark.parametrize("ending", [".npy", ".npz", ".csv", ".parquet"])
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda a: np.where(a == a[2, 1], np.nan, a), r"NaN in row 2, column 1"),
        (lambda a: np.where(a == a[6, 0], -np.inf, a), r"infinity in row 6, column 0"),
        (lambda a: a[:1], "at least 2 rows"),
        (lambda a: a[:0], "at least 2 rows|no row of numbers"),
    ],
)
def test_bad_numbers_are_placed(ending: str, spoil, message: str, tmp_path: Path) -> None:
    path = save(tmp_path / f"t{ending}", spoil(X))
    with pytest.raises(DataError, match=message) as caught:
        data.load(path)
    assert path.name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nan_is_found_in_later_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "CHECK_ELEMENTS", 6)
    with pytest.raises(DataError, match=r"NaN in row 5, column 2"):
        data.load(save(tmp_path / "t.npy", np.where(X[5, 2] == X, np.nan, X)))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.arange(5.0), r"shape \(n, d\)"),
        (np.zeros((2, 2, 2, 2, 2)), r"shape \(n, d\)"),
        (np.zeros((0, 4, 4)), "at least 2 rows"),
        (np.zeros((3, 0)), "1 column"),
        (np.array([["a", "b"], ["c", "d"]]), "real numbers, got str"),
        (np.zeros((3, 2), dtype=complex), "real numbers, got complex"),
        (np.zeros((3, 4, 4, 7)), r"\(h, w, 3\)"),
        (np.float64(3.0), r"shape \(n, d\)"),
    ],
)
def test_arrays_that_are_no_data(array: np.ndarray, message: str, tmp_path: Path) -> None:
    np.save(tmp_path / "t.npy", array)
    with pytest.raises(DataError, match=message):
        data.load(tmp_path / "t.npy")


class Trap:
    """Unpickling it would leave a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("ending", [".npy", ".npz"])
def test_pickles_are_never_loaded(ending: str, tmp_path: Path) -> None:
    path, sprung = tmp_path / f"t{ending}", tmp_path / "sprung"
    trap = np.array([[Trap(sprung)], [Trap(sprung)]], dtype=object)
    if ending == ".npy":
        np.save(path, trap, allow_pickle=True)
    else:
        np.savez(path, X=trap)
    with pytest.raises(DataError, match="never loaded"):
        data.load(path)
    path.write_bytes(pickle.dumps(Trap(sprung)))
    with pytest.raises(DataError, match="never loaded"):
        data.load(path)
    assert not sprung.exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.npy", b"", "cannot be read as npy"),
        ("t.npy", b"\x93NUMPY\x01\x00v\x00{'descr': '<f8', 'fortran_order': False, 'shape': (9", "cannot be read"),
        ("t.npz", b"PK\x03\x04 cut", "cannot be read as npz"),
        ("t.csv", b"", "no row"),
        ("t.csv", b"a,b\n", "no row"),
        ("t.csv", b"a,b\n1,2\n3,4,5\n", "cannot be read as csv"),
        ("t.csv", b"a,b\n1,2,3\n4,5,6\n", "names 2 columns in its first line, but its rows have 3"),
        ("t.csv", b"a,label\n1,cat\n2,dog\n", "column 'label' holds 'cat'"),
        ("t.csv", b"a,b\n1,2\n3,\n", "NaN in row 1, column 1"),
        ("t.csv", b"\xff\xfe\x00", "cannot be read as csv"),
        ("t.parquet", b"PAR1", "cannot be read as parquet"),
        ("t.xls", b"PK", "must end in .npy, .npz, .csv, .tsv, .parquet"),
    ],
)
def test_damaged_files_are_named(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        data.load(tmp_path / name)
    assert name in str(caught.value)


def test_npz_keys(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", only=X)
    assert np.array_equal(data.load(tmp_path / "a.npz").X, X)
    np.savez(tmp_path / "b.npz", left=X, right=X)
    with pytest.raises(DataError, match="holds left, right; name the data array one of"):
        data.load(tmp_path / "b.npz")
    np.savez(tmp_path / "c.npz", X=X, images=X)
    with pytest.raises(DataError, match="X and images, and any of them may be the data"):
        data.load(tmp_path / "c.npz")
    np.savez(tmp_path / "d.npz", X=X, labels=np.arange(len(X)))
    (said,) = data.load(tmp_path / "d.npz").notes
    assert said == "read the array 'X'; 'labels' holds the rows' labels, and is no column"
    np.savez(tmp_path / "e.npz", X=X, kind=np.arange(len(X)), extra=X)
    found = data.load(tmp_path / "e.npz")
    assert found.notes == ("read the array 'X', left out 'kind', 'extra'",)
    (said,) = data.labelled(found, "kind").notes
    assert said == "read the array 'X'; 'kind' holds the rows' labels, and is no column; left out 'extra'"
    np.savez(tmp_path / "f.npz", X=X, y=np.array([{}] * len(X)), allow_pickle=True)
    assert data.load(tmp_path / "f.npz").notes == ("read the array 'X', left out 'y'",)


FLOATS = np.array([[0.5, 1.25, -2.0], [3.5, 0.0, 1e-3], [7.25, 2.5, 4.0], [1.5, -1.0, 0.25]])
ABC = ("a", "b", "c")


def written(path: Path, columns: list | None = None, **how: Any) -> None:
    pd.DataFrame(FLOATS, columns=columns).to_csv(path, **{"index": False, **how})


def rows_of(text: str) -> str:
    """The rows with something before and between: `text` is a separator."""
    return "".join(text.join(map(str, row)) + "\n" for row in FLOATS)


def quoted(path: Path) -> None:
    lines = (",".join(f'"{v}"'.replace(".", ",") for v in row) for row in FLOATS)
    path.write_text("a,b,c\n" + "\n".join(lines) + "\n")


def numbered(path: Path) -> None:
    path.write_text("a b c\n" + "".join(f"{i} {line}\n" for i, line in enumerate(rows_of(" ").splitlines(), 1)))


# what people save, and what is read: writer, names of the columns, a word of the notes
LAYOUTS: dict[str, tuple[Any, tuple[str, ...] | None, str]] = {
    "names": (lambda p: written(p, list("abc")), ABC, ""),
    "numbers as names": (lambda p: written(p), ("0", "1", "2"), "names the columns"),
    "years as names": (lambda p: written(p, [1999, 2000, 2001]), ("1999", "2000", "2001"), "names the columns"),
    "index column": (lambda p: written(p, list("abc"), index=True), ABC, "left out the first column"),
    "R's write.table": (numbered, ABC, "spaces"),
    "no names": (lambda p: written(p, header=False), None, ""),
    "semicolons": (lambda p: written(p, list("abc"), sep=";"), ABC, "semicolons"),
    "tabs": (lambda p: written(p, list("abc"), sep="\t"), ABC, "tabs"),
    "spaces": (lambda p: written(p, list("abc"), sep=" "), ABC, "spaces"),
    "decimal commas": (lambda p: written(p, list("abc"), sep=";", decimal=","), ABC, "decimal mark is a comma"),
    "quoted decimal commas": (quoted, ABC, "decimal mark is a comma"),
    "latin-1": (lambda p: written(p, ["é", "b", "c"], encoding="latin-1"), ("é", "b", "c"), "latin-1"),
    "utf-16": (lambda p: written(p, list("abc"), encoding="utf-16"), ABC, "utf-16"),
    "byte order mark": (lambda p: written(p, list("abc"), encoding="utf-8-sig"), ABC, ""),
    "blank lines": (lambda p: p.write_text("\na,b,c\n\n" + rows_of(",").replace("\n", "\n\n")), ABC, ""),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_text_files_are_read_as_they_were_meant(name: str, tmp_path: Path) -> None:
    write, columns, word = LAYOUTS[name]
    write(tmp_path / "t.csv")
    found = data.load(tmp_path / "t.csv")
    np.testing.assert_array_equal(found.X, FLOATS)
    assert found.spec.columns == columns
    assert word in " ".join(found.notes)
    assert data.load_spec(found.spec).notes == found.notes


def test_the_reader_does_what_it_is_told(tmp_path: Path) -> None:
    written(tmp_path / "t.csv")
    told = data.load(tmp_path / "t.csv", table=TableOptions(header="no"))
    np.testing.assert_array_equal(told.X, [[0, 1, 2], *FLOATS])
    assert told.spec.columns is None
    assert data.load_spec(told.spec).X.shape == (5, 3)
    np.savez(tmp_path / "t.npz", X=X)
    with pytest.raises(DataError, match="belong to text files"):
        data.load(tmp_path / "t.npz", table=TableOptions(sep=";"))


# files that may mean two things, or hold what no solver can use: content, the words that name place and remedy
REFUSED = {
    "counting names over whole numbers": ("0,1,2\n3,4,5\n6,7,9\n", "may name the columns or be data.*header=yes or"),
    "one decimal comma a row": ("x\n1,5\n2,5\n", "names 1 columns in its first line, but its rows have 2"),
    "keys beyond 2**53": ("a,key\n1,9007199254740993\n2,9007199254740995\n", "'key' holds whole numbers beyond 2"),
    "dates": ("a,day\n1,2020-01-01\n2,2020-01-02\n", "'day' holds '2020-01-01'"),
    "a dash for missing in the first row": ("-,1.5\n2,2.5\n", "NaN in row 0, column 0"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_text_files_that_are_refused(name: str, tmp_path: Path) -> None:
    content, words = REFUSED[name]
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(DataError, match=words):
        data.load(tmp_path / "t.csv")


def test_columns_of_other_kinds(tmp_path: Path) -> None:
    table = pd.DataFrame({"yes": [True, False, True], "n": pd.array([1, 2, 3], dtype="Int64"), "x": [0.5, 1.5, 2.5]})
    for path, save_table in ((tmp_path / "t.csv", "to_csv"), (tmp_path / "t.parquet", "to_parquet")):
        getattr(table, save_table)(path, index=False)
        np.testing.assert_array_equal(data.load(path).X, [[1, 1, 0.5], [0, 2, 1.5], [1, 3, 2.5]])
    table.assign(n=pd.array([1, None, 3], dtype="Int64")).to_parquet(tmp_path / "gap.parquet")
    with pytest.raises(DataError, match="NaN in row 1, column 1"):
        data.load(tmp_path / "gap.parquet")
    table.assign(day=pd.date_range("2020-01-01", periods=3)).to_parquet(tmp_path / "day.parquet")
    with pytest.raises(DataError, match="'day' holds dates"):
        data.load(tmp_path / "day.parquet")


def test_what_a_table_does_not_need_is_pointed_out(tmp_path: Path) -> None:
    pd.DataFrame({"id": [0, 1, 2, 3], "same": 7.5, "x": [1.0, 3.0, 2.0, 5.0]}).to_csv(tmp_path / "t.csv", index=False)
    notes = " ".join(data.load(tmp_path / "t.csv").notes)
    assert "'id' counts the rows; pass index=yes" in notes
    assert "the same value in every row of: same" in notes
    assert data.load(tmp_path / "t.csv", table=TableOptions(index="yes")).spec.columns == ("same", "x")


def test_pictures_stand_upright(tmp_path: Path) -> None:
    picture = Image.fromarray(np.arange(20, dtype=np.uint8).reshape(4, 5))
    exif = Image.Exif()
    exif[0x0112] = 6  # held sideways
    picture.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "a.png", exif=exif)
    picture.save(tmp_path / "b.png")
    found = data.load(tmp_path)
    assert found.image_shape == (4, 5)
    np.testing.assert_array_equal(found.X[0], found.X[1])


@pytest.mark.parametrize(("largest", "shift"), [(255, 0), (4095, 4), (65535, 8)])
def test_deep_pictures_are_scaled_by_the_range_that_they_use(largest: int, shift: int, tmp_path: Path) -> None:
    deep = np.linspace(0, largest, 20).astype(np.uint16).reshape(4, 5)
    Image.fromarray(deep).save(tmp_path / "a.png")
    Image.fromarray(deep // 2).save(tmp_path / "b.png")
    found = data.load(tmp_path)
    np.testing.assert_array_equal(found.X[0].reshape(4, 5), deep >> shift)
    np.testing.assert_array_equal(found.X[1].reshape(4, 5), (deep // 2) >> shift)
    assert bool(found.notes) == (shift > 0)
    recipe = decoding.Recipe((4,), grey=True, crop=None, bits=8 + shift)
    decoded = decoding.decode([str(tmp_path / "a.png")], recipe)
    np.testing.assert_array_equal(decoded.levels[0][0, :, :, 0], (deep >> shift)[:, :4])


def test_only_pictures_are_opened_whatever_their_ending_says(tmp_path: Path) -> None:
    save_images(tmp_path)
    sprung = tmp_path / "sprung"
    program = f"({sprung}) (w) file closefile\nshowpage\n%%EOF\n"
    (tmp_path / "z.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 5 4\n" + program)
    with pytest.raises(DataError, match=r"z\.png cannot be read \(not an image\)"):
        data.load(tmp_path)
    assert not sprung.exists()
    (tmp_path / "z.png").unlink()
    (tmp_path / "photo.heic").write_bytes(b"x")
    assert "photo.heic" in data.load(tmp_path).notes[0]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_among_the_pictures_is_named_and_not_waited_for(tmp_path: Path) -> None:
    save_images(tmp_path)
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(DataError, match=r"pipe\.png cannot be read \(no ordinary file\)"):
        data.load(tmp_path)
    with pytest.raises(DataError, match=r"pipe\.png.*no ordinary file"):
        pyramid.build(tmp_path, resolutions=(4,), cache=tmp_path / "cache")
