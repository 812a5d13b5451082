"""Folders of images and sounds, and images in memory."""

from __future__ import annotations

import pandas as pd
import pytest
from PIL import Image

from luthier.data import check, clean, read
from luthier.errors import DataError


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def draw(path, shade=0, mode="L"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (6, 5), shade if mode == "L" else (shade,) * 3).save(path)
    return path


def image_check(dataset):
    return check(dataset, input="image", target="label", kind="image", target_kind="class")


def test_folder_a_class(tmp_path):
    draw(tmp_path / "cat/b.png")
    draw(tmp_path / "cat/deep/a.png")
    draw(tmp_path / "dog/c.JPG")
    (tmp_path / "dog/notes.txt").write_text("x")
    (tmp_path / ".hidden").mkdir()
    dataset = read(tmp_path)
    frame = dataset.splits["train"]
    assert (dataset.modality, dataset.root) == ("image", tmp_path)
    assert frame.image.tolist() == ["cat/b.png", "cat/deep/a.png", "dog/c.JPG"]
    assert frame.label.tolist() == ["cat", "cat", "dog"]
    assert "1 files" in dataset.notes[0]


def test_split_folders(tmp_path):
    for split in ("train", "valid", "test"):
        draw(tmp_path / split / "cat" / "a.png")
    (tmp_path / "docs").mkdir()
    dataset = read(tmp_path)
    assert list(dataset.splits) == ["train", "validation", "test"]
    assert dataset.splits["validation"].image[0] == "valid/cat/a.png"
    draw(tmp_path / "dev/cat/a.png")
    with pytest.raises(DataError, match="two validation splits"):
        read(tmp_path)


def test_a_class_called_train_is_a_class(tmp_path):
    for name in ("train", "car", "plane"):
        draw(tmp_path / name / "a.png")
    assert set(read(tmp_path).splits["train"].label) == {"train", "car", "plane"}


def test_metadata(tmp_path):
    draw(tmp_path / "images/a.png")
    draw(tmp_path / "images/b.png")
    (tmp_path / "metadata.csv").write_text(
        "file_name,label,split\nimages/a.png,x,train\nimages/b.png,y,test\n"
    )
    dataset = read(tmp_path)
    assert dataset.splits["test"].image.tolist() == ["images/b.png"]


@pytest.mark.parametrize(
    "name",
    ["../secret.png", "/etc/secret.png", "a/../../secret.png", "..\\secret.png", "C:\\x.png", "link.png"],
)
def test_metadata_may_not_leave_the_folder(tmp_path, name):
    secret = draw(tmp_path / "secret.png")
    folder = tmp_path / "data"
    draw(folder / "a.png")
    (folder / "link.png").symlink_to(secret)
    (folder / "metadata.csv").write_text(f"file_name,label\na.png,x\n{name},y\n")
    with pytest.raises(DataError, match=r"row 3.*outside"):
        read(folder)


def test_a_table_of_image_names_may_not_leave_its_folder_either(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("image,label\n../../x.png,a\n")
    with pytest.raises(DataError, match=r"row 2.*outside"):
        read(path)
    draw(tmp_path / "a.png")
    path.write_text("path,label\na.png,a\n")
    assert read(path).modality == "image"


def test_links_out_of_a_class_folder_are_left_out(tmp_path):
    secret = draw(tmp_path / "secret.png")
    draw(tmp_path / "data/cat/a.png")
    (tmp_path / "data/cat/b.png").symlink_to(secret)
    dataset = read(tmp_path / "data")
    assert len(dataset.splits["train"]) == 1 and "link out" in dataset.notes[0]


def test_audio_folder(tmp_path):
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        (tmp_path / split / "metadata.csv").write_text("file_name,label,speaker\na.wav,one,ann\n")
    dataset = read(tmp_path)
    assert dataset.modality == "audio"
    assert dataset.splits["test"].audio.tolist() == ["test/a.wav"]


def test_images_beside_masks_are_no_classes(tmp_path):
    draw(tmp_path / "images/a.png")
    draw(tmp_path / "masks/a.png")
    with pytest.raises(DataError, match="masks"):
        read(tmp_path)


def test_broken_images_are_named_and_dropped(tmp_path):
    draw(tmp_path / "cat/good.png", 10)
    draw(tmp_path / "dog/good.png", 20)
    whole = draw(tmp_path / "cat/cut.png", 30).read_bytes()
    (tmp_path / "cat/cut.png").write_bytes(whole[:50])
    (tmp_path / "cat/empty.jpg").write_bytes(b"")
    (tmp_path / "dog/postscript.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    dataset = read(tmp_path)
    findings = image_check(dataset)
    broken = next(one for one in findings if one.code == "broken-image")
    assert broken.severity == "warning" and len(broken.rows) == 3
    assert "cat/cut.png" in broken.message and "dog/postscript.png (not an image)" in broken.message
    assert sorted(clean(dataset, findings).splits["train"].image) == ["cat/good.png", "dog/good.png"]


def test_decompression_bombs_are_not_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr("luthier.data.images.MAX_PIXELS", 20)
    draw(tmp_path / "cat/a.png")
    draw(tmp_path / "dog/a.png")
    findings = image_check(read(tmp_path))
    assert [one.code for one in findings if one.severity == "error"] == ["nothing-left"]
    assert any("6 x 5 pixels" in one.message for one in findings)


def test_equal_pixels_are_a_leak_in_whatever_file(tmp_path):
    draw(tmp_path / "train/cat/a.png", 7)
    draw(tmp_path / "train/dog/a.png", 9)
    draw(tmp_path / "test/cat/other_name.bmp", 7, "RGB")
    draw(tmp_path / "test/dog/b.png", 8)
    leaks = [one for one in image_check(read(tmp_path)) if one.code == "leak"]
    assert [(one.split, one.rows) for one in leaks] == [("test", [1])]


def test_images_in_memory_become_files(tmp_path):
    pictures = [Image.new("RGB", (4, 4), (shade, 0, 0)) for shade in (1, 2, 1)]
    dataset = read(pd.DataFrame({"picture": pictures, "label": ["a", "b", "a"]}))
    assert dataset.modality == "image"
    names = dataset.splits["train"].image
    assert names[0] == names[2] != names[1]
    assert Image.open(dataset.root / names[1]).getpixel((0, 0)) == (2, 0, 0)


def test_missing_files_are_found_by_the_check(tmp_path):
    draw(tmp_path / "a.png")
    (tmp_path / "metadata.csv").write_text("file_name,label\na.png,x\nb.png,y\n,x\n")
    broken = [one for one in image_check(read(tmp_path)) if one.code == "broken-image"]
    assert broken[0].rows == [3, 4] and "no such file" in broken[0].message
