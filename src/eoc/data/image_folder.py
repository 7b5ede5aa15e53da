"""Any folder tree of images, ``train/<class>/*`` and ``test/<class>/*``, as a data set."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from eoc.data.dataset import Dataset, Part, Selection
from eoc.data.fetching import data_folder
from eoc.errors import InvalidInput, integer, optional

LAYOUT = "arrange the images as train/<class>/* and test/<class>/*"


def images(
    n_train: int | None = None,
    n_test: int | None = None,
    subset_seed: int = 0,
    target: str = "one_hot",
    batch_size: int | None = None,
    *,
    root: str | os.PathLike[str],
    size: int | None = None,
    channels: int = 3,
) -> Dataset:
    """Load images sorted into class folders; only those that are chosen are decoded.

    Classes are numbered in the alphabetical order of their folders. What is no image file in a class folder is left
    out with a warning, hidden files and folders silently. An input is the image's pixels in the order height, width,
    channel. Transparency is dropped.

    Args:
        n_train: training examples, at least one per class; None takes all.
        n_test: test examples, at least 1; None takes all.
        subset_seed: seed of the stratified choice, at least 0.
        target: ``one_hot``, ``centered`` or ``plus_minus``.
        batch_size: examples in a step, from 1 to ``n_train``; None is the full batch.
        root: folder that holds ``train`` and ``test``.
        size: side in pixels of the square that every image is resized to; None requires equal sizes. At least 1, and
            the inputs must fit into the machine's memory.
        channels: 3 (colour) or 1 (greyscale).

    Raises:
        InvalidInput: if an argument is outside its range, the tree is not as described, the classes of its
            two parts differ, there is only one, or a chosen file is not a readable image.
    """
    selection = Selection(n_train, n_test, subset_seed, target, batch_size)
    optional(integer, "size", size, 1)
    if integer("channels", channels) not in (1, 3):
        raise InvalidInput("channels", channels, "it must be 1 (greyscale) or 3 (colour)")
    path = data_folder(root, must_exist=True)
    classes, test_classes = _classes(path, "train"), _classes(path, "test")
    if classes != test_classes:
        odd = ", ".join(sorted(set(classes) ^ set(test_classes)))
        raise InvalidInput("root", str(root), f"its train and test must hold the same classes, not differ in {odd}")
    if len(classes) < 2:
        raise InvalidInput("root", str(root), f"it has one class, {classes[0]}: at least two are needed")
    decoder = _Decoder(path, size, channels)
    train, test = (_part(path, part, classes, decoder) for part in ("train", "test"))
    _warn_of_left_out(path, classes)
    selection.fits("images", len(classes), len(train.labels), len(test.labels))
    if size is not None:
        _check_memory(size, channels, (n_train or len(train.labels)) + (n_test or len(test.labels)))
    return selection.of("images", len(classes), train, test)


def _check_memory(size: int, channels: int, count: int) -> None:
    """Refuse images whose inputs, in float32, would be larger than all memory there is."""
    needed, there = count * channels * size**2 * 4, _machine_memory()
    if needed > there:
        rule = f"the inputs of {count} images would take {_gigabytes(needed)}, and this machine has {_gigabytes(there)}"
        raise InvalidInput("size", size, f"{rule} of memory: choose a smaller size")


def _machine_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:,.1f} GB"


def _classes(root: Path, part: str) -> list[str]:
    folder = root / part
    if not folder.is_dir():
        raise InvalidInput("root", str(root), f"it has no folder {part}: {LAYOUT}")
    names = sorted(each.name for each in _scanned(root, folder) if each.is_dir())
    if not names:
        raise InvalidInput("root", str(root), f"its folder {part} has no class folders: {LAYOUT}")
    return names


def _part(root: Path, part: str, classes: list[str], decoder: _Decoder) -> Part:
    files: list[str] = []
    numbers: list[int] = []
    for number, name in enumerate(classes):
        found = sorted(each.path for each in _scanned(root, root / part / name) if _is_image_file(each))
        if not found:
            rule = f"{part}/{name} has no image files: put some there ({_endings()})"
            raise InvalidInput("root", str(root), rule)
        files += found
        numbers += [number] * len(found)
    labels = torch.tensor(numbers, dtype=torch.int64)
    return Part(labels, lambda positions: decoder([files[position] for position in positions.tolist()]))


def _warn_of_left_out(root: Path, classes: list[str]) -> None:
    """Say once how many visible files and folders were not taken for examples, and where the first of them lies."""
    left = []
    for part in ("train", "test"):
        left += [each.path for each in _scanned(root, root / part) if not each.is_dir()]
        for name in classes:
            left += [each.path for each in _scanned(root, root / part / name) if not _is_image_file(each)]
    if left:
        rule = f"only files train/<class>/* and test/<class>/* that end in {_endings()} are read"
        warnings.warn(f"left out of dataset.root: {len(left)}, such as {min(left)} ({rule})", stacklevel=2)


def _is_image_file(entry: os.DirEntry[str]) -> bool:
    return entry.is_file() and entry.name.lower().endswith(tuple(_endings().split()))


def _endings() -> str:
    from torchvision.datasets.folder import IMG_EXTENSIONS

    return " ".join(IMG_EXTENSIONS)


def _scanned(root: Path, folder: Path) -> list[os.DirEntry[str]]:
    """What lies in a folder, hidden entries apart."""
    try:
        return [each for each in os.scandir(folder) if not each.name.startswith(".")]
    except OSError as error:
        rule = f"its folder {folder.relative_to(root)} cannot be read ({error.strerror}): make it readable"
        raise InvalidInput("root", str(root), rule) from error


class _Decoder:
    """Decodes image files into rows of pixels, all of the size of the first one that it met."""

    def __init__(self, root: Path, size: int | None, channels: int) -> None:
        self.root, self.size = root, size
        self.mode = "RGB" if channels == 3 else "L"
        self.first: tuple[str, tuple[int, ...]] | None = None

    def __call__(self, files: list[str]) -> UInt8[Tensor, "n dim"]:
        return torch.from_numpy(np.stack([self._row(file) for file in files]))

    def _row(self, file: str) -> np.ndarray:
        pixels = self._pixels(file)
        self.first = self.first or (file, pixels.shape)
        if pixels.shape != self.first[1]:
            (height, width), (other_height, other_width) = pixels.shape[:2], self.first[1][:2]
            rule = f"{file} has {width} × {height} pixels and {self.first[0]} {other_width} × {other_height}"
            raise InvalidInput("size", self.size, f"{rule}: give the size that all images are resized to")
        return pixels.reshape(-1)

    def _pixels(self, file: str) -> np.ndarray:
        from PIL import Image

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Pillow's remarks on odd but readable files
                with Image.open(file) as image:
                    deep = image.mode.startswith(("I", "F"))
                    converted = image.convert(self.mode)
        except Image.DecompressionBombError as error:
            limit = 2 * (Image.MAX_IMAGE_PIXELS or 0)
            rule = f"{file} has more than {limit} pixels, which Pillow does not open: make it smaller or delete it"
            raise InvalidInput("root", str(self.root), rule) from error
        except Exception as error:  # Pillow's decoders raise whatever they trip over
            rule = f"{file} is not an image, is damaged or cannot be opened: replace or delete it"
            raise InvalidInput("root", str(self.root), rule) from error
        if deep:  # Pillow would clip the values silently
            rule = f"{file} has more than 8 bits per channel: convert it to 8 bits"
            raise InvalidInput("root", str(self.root), rule)
        if self.size is not None and converted.size != (self.size, self.size):
            converted = converted.resize((self.size, self.size), Image.Resampling.BILINEAR)
        return np.asarray(converted)
