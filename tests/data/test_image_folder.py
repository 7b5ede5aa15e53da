from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from eoc.data import image_folder, images
from eoc.errors import InvalidInput

RNG = np.random.default_rng(0)


def save(path, shape=(4, 5, 3), pixels=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = RNG.integers(0, 256, shape, dtype=np.uint8) if pixels is None else pixels
    Image.fromarray(pixels).save(path)
    return pixels.astype(float).reshape(-1)


@pytest.fixture
def tree(tmp_path):
    """Three classes, six training and two test images each; returns the root and the pixels by part."""
    pixels = {
        part: {name: [save(tmp_path / part / name / f"{i}.png") for i in range(count)] for name in ("c", "a", "b")}
        for part, count in (("train", 6), ("test", 2))
    }
    return tmp_path, pixels


def normalized(rows, mean):
    centred = np.stack(rows) - mean
    return centred / np.sqrt((centred**2).mean(1, keepdims=True))


def in_order(matrix):
    return matrix[np.lexsort(matrix.T)]


def test_every_image_with_its_class(tree):
    root, pixels = tree
    (root / "train" / ".hidden").mkdir()
    for unseen in (".thumbnails/0.png", ".0.png"):
        save(root / "train" / "a" / unseen)
    data = images(root=root)
    assert (data.name, data.classes, data.dim) == ("images", 3, 60)
    mean = np.mean([row for rows in pixels["train"].values() for row in rows], axis=0)
    for label, name in enumerate("abc"):
        for part, inputs, labels in (
            ("train", data.train_inputs, data.train_labels),
            ("test", data.test_inputs, data.test_labels),
        ):
            expected = normalized(pixels[part][name], mean)
            assert np.allclose(in_order(inputs[labels == label].numpy()), in_order(expected), atol=1e-5)


def test_only_the_chosen_images_are_decoded(tree, monkeypatch):
    opened = []
    decode = image_folder._Decoder._pixels
    monkeypatch.setattr(image_folder._Decoder, "_pixels", lambda self, file: opened.append(file) or decode(self, file))
    data = images(n_train=9, n_test=3, root=str(tree[0]), batch_size=4)
    assert len(opened) == len(set(opened)) == 12
    assert torch.bincount(data.train_labels).tolist() == [3, 3, 3]
    assert torch.bincount(data.test_labels).tolist() == [1, 1, 1]
    assert data.batch_size == 4


def test_greyscale_and_size(tmp_path):
    # constant images: resizing keeps them, and the grey value of (r, g, b) is 0.299 r + 0.587 g + 0.114 b
    for part in ("train", "test"):
        for name, colour, shape in (("x", (200, 0, 0), (8, 9, 3)), ("y", (0, 200, 0), (3, 3, 3))):
            save(tmp_path / part / name / "0.png", pixels=np.broadcast_to(np.uint8(colour), shape).copy())
    (train, test) = image_folder._Decoder(tmp_path, 2, 1), image_folder._Decoder(tmp_path, 2, 3)
    assert train([str(tmp_path / "train/x/0.png")]).tolist() == [[60] * 4]
    assert test([str(tmp_path / "train/y/0.png")]).tolist() == [[0, 200, 0] * 4]
    grey, colour = images(root=tmp_path, size=2, channels=1), images(root=tmp_path, size=2)
    assert (grey.dim, colour.dim) == (4, 12)
    # two constant greys, 60 and 117: centred ∓28.5, scaled to norm² 4
    assert torch.allclose(grey.test_inputs[grey.test_labels == 0], -torch.ones(1, 4))
    assert torch.allclose(grey.test_inputs[grey.test_labels == 1], torch.ones(1, 4))


def test_a_smaller_image_is_a_mean_of_the_pixels(tmp_path):
    save(tmp_path / "0.png", pixels=np.array([[0, 200], [80, 120]], dtype=np.uint8))
    assert image_folder._Decoder(tmp_path, 1, 1)([str(tmp_path / "0.png")]).tolist() == [[100]]


def test_the_choice_does_not_depend_on_the_order_in_which_a_disk_lists_files(tree, monkeypatch):
    first, scandir = images(root=tree[0], n_train=6), os.scandir
    for order in (lambda each: each.name, lambda each: -ord(each.name[0])):
        monkeypatch.setattr("os.scandir", lambda path, order=order: sorted(scandir(path), key=order))
        assert torch.equal(images(root=tree[0], n_train=6).train_inputs, first.train_inputs)


def refused(root, sentence, **arguments):
    with pytest.raises(InvalidInput, match=sentence) as caught:
        images(root=root, **arguments)
    assert "\n" not in str(caught.value)
    return caught.value.key


def test_settings_out_of_range(tree):
    root, _ = tree
    assert refused(root, "integer of at least 1", size=0) == "size"
    assert refused(root, r"1 \(greyscale\) or 3", channels=2) == "channels"
    assert refused(root, "18 training examples of 3 classes, .* from 3 to 18", n_train=19) == "n_train"
    assert refused(root, "from 3 to 18", n_train=2) == "n_train"


def test_a_size_for_which_there_is_not_enough_memory(tree, monkeypatch):
    sentence = r"the inputs of 24 images would take 2,880.0 GB, and this machine has .* GB of memory: choose a smaller"
    monkeypatch.setattr(image_folder, "_machine_memory", lambda: 10**12)
    assert refused(tree[0], sentence, size=100000) == "size"
    assert refused(tree[0], "integer of at least 1", size=-1) == "size"
    needed = (9 + 3) * 3 * 10**2 * 4
    monkeypatch.setattr(image_folder, "_machine_memory", lambda: needed)
    assert images(root=tree[0], size=10, n_train=9, n_test=3).dim == 300
    monkeypatch.setattr(image_folder, "_machine_memory", lambda: needed - 1)
    assert refused(tree[0], "the inputs of 12 images would take", size=10, n_train=9, n_test=3) == "size"


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="Linux says it there")
def test_the_memory_of_the_machine():
    lines = Path("/proc/meminfo").read_text().splitlines()
    said = next(int(line.split()[1]) for line in lines if line.startswith("MemTotal"))
    assert image_folder._machine_memory() == pytest.approx(1024 * said, rel=1e-6)


def test_a_tree_that_is_not_one(tree):
    root, _ = tree
    assert refused(root / "nowhere", "there is no such folder") == "root"
    assert refused(root / "train" / "a" / "0.png", "it is a file") == "root"
    assert refused(root / "train", "it has no folder train: arrange the images as train/<class>/") == "root"
    (root / "empty" / "train").mkdir(parents=True)
    assert refused(root / "empty", "its folder train has no class folders: arrange") == "root"


def test_a_tree_that_may_not_be_read(tree, monkeypatch):
    def denied(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.scandir", denied)
    assert refused(tree[0], r"its folder train cannot be read \(Permission denied\)") == "root"


def test_classes_that_differ_or_are_empty_or_single(tree):
    root, _ = tree
    save(root / "test" / "d" / "0.png")
    assert refused(root, "the same classes, not differ in d") == "root"
    (root / "test" / "b").rename(root / "b")
    assert refused(root, "the same classes, not differ in b, d") == "root"  # as many of them
    (root / "b").rename(root / "test" / "b")
    (root / "train" / "d").mkdir()
    (root / "train" / "d" / "page.html").write_text("<html>")
    assert refused(root, r"train/d has no image files: put some there \(.jpg") == "root"
    for part in ("train", "test"):
        save(root / "one" / part / "only" / "0.png")
    assert refused(root / "one", "it has one class, only: at least two") == "root"


def test_an_image_that_is_too_large_for_pillow_is_not_called_damaged(tree, monkeypatch):
    root, _ = tree
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 9)  # 4 × 5 pixels are more than twice as many
    assert refused(root, r"\.png has more than 18 pixels, which Pillow does not open: make it smaller") == "root"


def test_files_that_are_not_images(tree):
    root, _ = tree
    victim = root / "test" / "b" / "1.png"
    whole = victim.read_bytes()
    for content in (b"", b"<html>not found</html>", whole[: len(whole) // 2]):
        victim.write_bytes(content)
        assert refused(root, r"test/b/1.png is not an image, is damaged or cannot be opened") == "root"
    Image.fromarray(RNG.integers(0, 2**16, (4, 5), dtype=np.uint16)).save(victim)
    assert refused(root, r"test/b/1.png has more than 8 bits per channel: convert") == "root"
    victim.unlink()
    for kind in (np.int32, np.float32):
        Image.fromarray(RNG.integers(0, 1000, (4, 5)).astype(kind)).save(victim.with_suffix(".tif"))
        assert refused(root, r"test/b/1.tif has more than 8 bits per channel: convert") == "root"


def test_sizes_that_differ_need_a_common_size(tree):
    root, _ = tree
    save(root / "test" / "b" / "2.png", shape=(4, 6, 3))
    assert refused(root, r"2.png has 6 × 4 pixels and .* 5 × 4: give the size") == "size"
    assert images(root=root, size=4).dim == 48


def test_what_is_left_out_is_said(tree):
    root, _ = tree
    (root / "test" / "b" / "notes.txt").write_text("not an image, and not named like one")
    with pytest.warns(UserWarning, match=r"^left out of dataset.root: 1, such as .*/test/b/notes.txt \(only"):
        images(root=root)
    save(root / "train" / "a" / "folder.png" / "0.png")
    save(root / "train" / "loose.png")
    save(root / "train" / "c" / "6.gif")
    (root / "train" / "b" / "itself").symlink_to(".")
    with pytest.warns(UserWarning, match=r": 5, such as .*/test/b/notes.txt \(.* \.jpg .* are read\)$"):
        data = images(root=root)
    assert (len(data.train_labels), len(data.test_labels)) == (18, 6)


def test_endings_in_capitals_count(tree):
    folder = tree[0] / "train" / "a"
    (folder / "0.png").rename(folder / "0.PNG")
    assert len(images(root=tree[0]).train_labels) == 18


def test_the_class_that_may_not_be_read_is_named_with_its_part(tree, monkeypatch):
    scandir = os.scandir

    def denied(path):
        if Path(path) == tree[0] / "train" / "b":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr("os.scandir", denied)
    assert refused(tree[0], r"its folder train/b cannot be read \(Permission denied\)") == "root"
