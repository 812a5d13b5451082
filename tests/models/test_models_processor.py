from __future__ import annotations

from pathlib import Path
from typing import Any

import models_tiny
import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoImageProcessor, AutoTokenizer, PreTrainedTokenizerFast

from luthier.errors import DataError, ModelError, SettingError
from luthier.models import processor, source
from luthier.models.pixels import as_rgb


@pytest.fixture
def text(tiny: Any) -> processor.TextProcessor:
    loaded = processor.load(tiny("bert"), "text")
    assert isinstance(loaded, processor.TextProcessor)
    return loaded


def test_baked_in_length_and_padding_are_undone(text: processor.TextProcessor) -> None:
    long = "the cat sat on a mat " * 3
    assert [len(row) for row in text.encode([long, "cat", ""])] == [20, 3, 2]
    assert text.lengths([long, "cat", ""]).tolist() == [20, 3, 2]
    assert text.pad_id == 1


def test_length_is_the_models_own_limit(text: processor.TextProcessor, tiny: Any) -> None:
    long = ["the cat " * 100]
    assert text.max_length == 40 and len(text.encode(long)[0]) == 40
    assert len(text.encode(long, 7)[0]) == 7 and len(text.encode(long, 999)[0]) == 40
    assert text.lengths(long).tolist() == [202]
    # These count positions from after the padding's, so two of them are never used.
    assert processor.load(tiny("roberta"), "text").max_length == 38  # type: ignore[union-attr]
    with pytest.raises(SettingError, match="max_length"):
        text.encode(long, 2)


@pytest.mark.parametrize("kind", models_tiny.TEXT)
def test_longest_text_fits_the_model(tiny: Any, kind: str) -> None:
    from luthier.models import network
    from luthier.recipe import Recipe

    reader = processor.load(tiny(kind), "text")
    assert isinstance(reader, processor.TextProcessor)
    ids = torch.from_numpy(reader.encode(["the cat " * 100])[0]).long()[None]
    net = network.build(tiny(kind), Recipe(model=kind), level="example", num_outputs=2, seed=0)
    assert bool(torch.isfinite(net(input_ids=ids, attention_mask=torch.ones_like(ids))).all())


def test_encoding_equals_the_tokenizers(text: processor.TextProcessor, tiny: Any) -> None:
    original = AutoTokenizer.from_pretrained(tiny("bert").path)
    texts = ["the cats sat", "a RED bird", "unknownword"]
    for row, said in zip(text.encode(texts), texts, strict=True):
        assert row.dtype == np.int32
        assert row.tolist() == original(said, padding=False)["input_ids"]


def test_words_keep_their_index(text: processor.TextProcessor) -> None:
    ids, index = text.encode_words([["the", "cats", "", "sat"], [], ["dog"] * 99], max_length=10)
    assert index[0].tolist() == [-1, 0, 1, 1, 3, -1] and len(ids[0]) == 6
    assert index[1].tolist() == [-1, -1]
    assert len(ids[2]) == 10 and index[2].tolist() == [-1, *range(8), -1]
    assert ids[0].dtype == index[0].dtype == np.int32


@pytest.mark.parametrize("nested", [False, True])
def test_byte_level_words_begin_with_a_space(tmp_path: Path, nested: bool) -> None:
    folder = models_tiny.write("roberta", tmp_path / "m")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = Tokenizer(
        models.BPE({token: i for i, token in enumerate([*models_tiny.SPECIAL, *alphabet])}, [])
    )
    step = pre_tokenizers.ByteLevel(add_prefix_space=False)
    pieces.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(), step]) if nested else step
    pieces.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=pieces, pad_token="[PAD]", unk_token="[UNK]")
    fast.save_pretrained(folder)
    reader = processor.load(source.find(str(folder), "text"), "text")
    assert isinstance(reader, processor.TextProcessor)
    ids, index = reader.encode_words([["ab", "c"]])
    assert index[0].tolist() == [0, 0, 0, 1, 1]
    assert reader.tokenizer.convert_ids_to_tokens(ids[0].tolist()) == ["Ġ", "a", "b", "Ġ", "c"]
    assert len(reader.encode(["ab"])[0]) == 2
    (tmp_path / "saved").mkdir()
    reader.save(tmp_path / "saved", words=True)
    again = AutoTokenizer.from_pretrained(tmp_path / "saved")(["ab", "c"], is_split_into_words=True)[
        "input_ids"
    ]
    assert again == ids[0].tolist()


def test_saved_tokenizer_cuts_where_training_did(text: processor.TextProcessor, tmp_path: Path) -> None:
    text.save(tmp_path, 9)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert again.model_max_length == 9 and text.max_length == 40
    assert again("the cat")["input_ids"] == text.encode(["the cat"])[0].tolist()


@pytest.mark.parametrize("missing", ["text", "image"])
def test_missing_files_are_named(tmp_path: Path, missing: Any) -> None:
    folder = models_tiny.write("bert" if missing == "text" else "vit", tmp_path / "m")
    found = source.find(str(folder), missing)
    for name in ("tokenizer.json", "tokenizer_config.json", "preprocessor_config.json"):
        (folder / name).unlink(missing_ok=True)
    with pytest.raises(ModelError, match="cannot be loaded"):
        processor.load(found, missing)


def pictures(seed: int = 0) -> list[Image.Image]:
    random = np.random.default_rng(seed)
    sizes = [(40, 60), (60, 40), (32, 32), (100, 50)]
    return [Image.fromarray(random.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in sizes]


@pytest.mark.parametrize("kind", models_tiny.IMAGE)
@pytest.mark.parametrize("size", [None, 48])
def test_pixels_equal_the_transformers_processors(
    tiny: Any, tmp_path: Path, kind: str, size: int | None
) -> None:
    reader = processor.load(tiny(kind), "image")
    assert isinstance(reader, processor.ImageProcessor)
    assert reader.image_size == models_tiny.SIDE
    pixels = reader.encode(pictures(), size)
    side = size or models_tiny.SIDE
    assert pixels.shape == (4, 3, side, side) and pixels.dtype == np.uint8
    reader.save(tmp_path, size)
    original = AutoImageProcessor.from_pretrained(tmp_path if size else tiny(kind).path, backend="pil")
    expected = original(pictures(), return_tensors="pt")["pixel_values"]
    actual = reader.normalise(torch.from_numpy(pixels))
    assert actual.dtype == torch.float32
    torch.testing.assert_close(actual, expected, atol=1e-6, rtol=1e-6)
    assert reader.image_size == models_tiny.SIDE and reader.encode([]).shape == (0, 3, 32, 32)


def test_resize_and_crop_keep_their_proportion(tiny: Any, tmp_path: Path) -> None:
    reader = processor.load(tiny("mobilenet_v2"), "image")
    reader.save(tmp_path, 64)  # type: ignore[arg-type]
    saved = AutoImageProcessor.from_pretrained(tmp_path, backend="pil")
    assert (saved.size["shortest_edge"], saved.crop_size["height"], saved.crop_size["width"]) == (72, 64, 64)


def test_a_processor_that_keeps_shapes_is_made_square(tmp_path: Path) -> None:
    folder = models_tiny.write("mobilenet_v2", tmp_path / "m")
    settings = (folder / "preprocessor_config.json").read_text()
    (folder / "preprocessor_config.json").write_text(
        settings.replace('"do_center_crop": true', '"do_center_crop": false')
    )
    reader = processor.load(source.find(str(folder), "image"), "image")
    assert isinstance(reader, processor.ImageProcessor)
    assert reader.encode(pictures()).shape == (4, 3, 36, 36)


def test_other_kinds_of_picture(tmp_path: Path) -> None:
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert np.array_equal(np.asarray(as_rgb(grey)), np.repeat(grey[..., None], 3, axis=2))
    deep = grey.astype(np.uint16) * 256 + 17
    Image.fromarray(deep).save(tmp_path / "deep.png")
    for picture in (tmp_path / "deep.png", deep, deep.astype(np.int32)):
        assert np.array_equal(np.asarray(as_rgb(picture))[..., 1], grey)
    assert np.array_equal(np.asarray(as_rgb(grey.astype(np.float32) / 255))[..., 0], grey)
    clear = np.zeros((4, 4, 4), dtype=np.uint8)
    clear[:2] = [10, 20, 30, 255]
    result = np.asarray(as_rgb(clear))
    assert result[0, 0].tolist() == [10, 20, 30] and result[3, 3].tolist() == [255, 255, 255]
    palette = Image.fromarray(grey).convert("P")
    palette.info["transparency"] = 0
    assert (
        as_rgb(palette).mode
        == as_rgb(Image.new("1", (3, 3))).mode
        == as_rgb(Image.new("CMYK", (3, 3))).mode
        == "RGB"
    )


def test_a_cameras_rotation_is_obeyed(tmp_path: Path) -> None:
    upright = Image.new("RGB", (20, 10))
    exif = upright.getexif()
    exif[0x0112] = 6
    upright.save(tmp_path / "turned.jpg", exif=exif)
    assert as_rgb(tmp_path / "turned.jpg").size == (10, 20)


def test_pictures_that_do_not_decode(tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(
        tmp_path / "a.png"
    )
    (tmp_path / "cut.png").write_bytes((tmp_path / "a.png").read_bytes()[:500])
    (tmp_path / "text.png").write_text("not a picture")
    for name in ("cut.png", "text.png", "none.png"):
        with pytest.raises(DataError, match=name):
            as_rgb(tmp_path / name)
