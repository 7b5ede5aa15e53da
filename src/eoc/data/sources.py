"""The named data sets: scikit-learn's digits, MNIST, CIFAR-10."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from jaxtyping import Shaped
from torch import Tensor

from eoc.data.dataset import Dataset, Part, Selection, within
from eoc.data.fetching import data_folder, fetch
from eoc.data.subsets import stratified
from eoc.errors import InvalidInput

# torchvision and scikit-learn are imported where they are used: each takes a second that other data sets save


def digits(
    n_train: int | None = 1000,
    n_test: int | None = 797,
    subset_seed: int = 0,
    target: str = "one_hot",
    batch_size: int | None = None,
) -> Dataset:
    """Load scikit-learn's 1,797 handwritten digits (8×8 pixels, 10 classes), which needs no network.

    They are one pool: the test examples are drawn first, by a stratified seeded choice, and the training
    examples from what is left; so the test examples do not depend on ``n_train`` when ``n_test`` is given.

    Args:
        n_train: training examples, from 10 to 1,796; None is all that ``n_test`` leaves.
        n_test: test examples, from 1 to 1,787; None is all that ``n_train`` leaves (797 with both None).
        subset_seed: seed of the choice, at least 0.
        target: ``one_hot``, ``centered`` or ``plus_minus``.
        batch_size: examples in a step, from 1 to ``n_train``; None is the full batch.

    Raises:
        InvalidInput: if an argument is outside its range.
    """
    selection = Selection(n_train, n_test, subset_seed, target, batch_size)
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images, labels = torch.from_numpy(bunch.data), torch.from_numpy(bunch.target)
    total = len(labels)
    if n_train is None and n_test is None:
        n_train = 1000
    taken = n_test or 1
    pool = f"digits has {total} examples of 10 classes for training and testing together"
    within("n_test", n_test, 1, total - 10, f"{pool}, and training takes at least 10", "the rest")
    remedy = "; a smaller n_test leaves more" if n_test else ""
    within("n_train", n_train, 10, total - taken, f"{pool}, and n_test takes {taken}", "the rest", remedy)
    testing = stratified(labels, total - (n_train or 0) if n_test is None else n_test, subset_seed)
    is_left = torch.ones(total, dtype=torch.bool)
    is_left[testing] = False
    left = is_left.nonzero()[:, 0]
    train, test = (_part(images[chosen], labels[chosen]) for chosen in (left, testing))
    return selection.of("digits", 10, train, test)


def mnist(
    n_train: int | None = None,
    n_test: int | None = None,
    subset_seed: int = 0,
    target: str = "one_hot",
    batch_size: int | None = None,
    *,
    root: str | os.PathLike[str],
) -> Dataset:
    """Load MNIST (28×28 grey pixels, 10 classes, 60,000 and 10,000 examples).

    Args:
        n_train: training examples, at least 10; None takes all.
        n_test: test examples, at least 1; None takes all.
        subset_seed: seed of the stratified choice, at least 0.
        target: ``one_hot``, ``centered`` or ``plus_minus``.
        batch_size: examples in a step, from 1 to ``n_train``; None is the full batch.
        root: folder that holds ``MNIST/raw``, torchvision's layout; what is missing there is downloaded.

    Raises:
        InvalidInput: if an argument is outside its range, or a file under ``root`` is not what its name says.
        RunFailure: if the files are not there and cannot be downloaded.
    """
    selection = Selection(n_train, n_test, subset_seed, target, batch_size)
    selection.fits("mnist", 10, 60_000, 10_000)  # before anything is downloaded
    from torchvision.datasets import MNIST

    path = data_folder(root)
    folder = path / "MNIST" / "raw"
    missing = [(name, md5) for name, md5 in MNIST.resources if not (folder / name).with_suffix("").is_file()]
    remedy = f"put {', '.join(name for name, _ in missing)} from {MNIST.mirrors[0]} into {folder}"
    for name, md5 in missing:
        fetch("MNIST", path, folder, name, md5, [mirror + name for mirror in MNIST.mirrors], remedy)
    train, test = (_idx_pair(path, folder, stem) for stem in ("train", "t10k"))
    return selection.of("mnist", 10, train, test)


def cifar10(
    n_train: int | None = None,
    n_test: int | None = None,
    subset_seed: int = 0,
    target: str = "one_hot",
    batch_size: int | None = None,
    *,
    root: str | os.PathLike[str],
) -> Dataset:
    """Load CIFAR-10 (32×32 colour pixels, 10 classes, 50,000 and 10,000 examples).

    Args:
        n_train: training examples, at least 10; None takes all.
        n_test: test examples, at least 1; None takes all.
        subset_seed: seed of the stratified choice, at least 0.
        target: ``one_hot``, ``centered`` or ``plus_minus``.
        batch_size: examples in a step, from 1 to ``n_train``; None is the full batch.
        root: folder that holds ``cifar-10-batches-py`` or its archive; what is missing or damaged there is
            downloaded. The files are pickles: none is opened before its checksum has been verified.

    Raises:
        InvalidInput: if an argument is outside its range, or the files cannot be read.
        RunFailure: if the files are not there and cannot be downloaded.
    """
    selection = Selection(n_train, n_test, subset_seed, target, batch_size)
    selection.fits("cifar10", 10, 50_000, 10_000)  # before anything is downloaded
    from torchvision.datasets import CIFAR10
    from torchvision.datasets.utils import check_integrity

    path = data_folder(root)
    expected = [*CIFAR10.train_list, *CIFAR10.test_list, [CIFAR10.meta["filename"], CIFAR10.meta["md5"]]]
    folder = path / CIFAR10.base_folder
    with _reading(path, folder):
        lacking = [folder / name for name, md5 in expected if not check_integrity(folder / name, md5)]
        damaged = [file for file in lacking if file.exists()]
    if lacking:
        remedy = f"put {CIFAR10.filename} from {CIFAR10.url} into {path}"
        fetch("CIFAR-10", path, path, CIFAR10.filename, CIFAR10.tgz_md5, [CIFAR10.url], remedy, damaged)
    with _reading(path, folder), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the pickles are older than the numpy that reads them
        loaded = [CIFAR10(str(path), train=is_train) for is_train in (True, False)]
    train, test = (_part(torch.from_numpy(each.data).flatten(1), torch.tensor(each.targets)) for each in loaded)
    return selection.of("cifar10", 10, train, test)


@contextmanager
def _reading(root: Path, folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError) as error:
        rule = f"{folder} cannot be read: make it readable, or delete it, so that it is downloaded again"
        raise InvalidInput("root", str(root), rule) from error


def _part(pixels: Shaped[Tensor, "n dim"], labels: Shaped[Tensor, " n"]) -> Part:
    return Part(labels, lambda positions: pixels[positions])


def _idx_pair(root: Path, folder: Path, stem: str) -> Part:
    from torchvision.datasets.mnist import read_image_file, read_label_file

    image_file, label_file = folder / f"{stem}-images-idx3-ubyte", folder / f"{stem}-labels-idx1-ubyte"
    images, labels = _idx(root, image_file, read_image_file), _idx(root, label_file, read_label_file)
    right_shape = images.shape[1:] == (28, 28) and len(images) == len(labels)
    if not right_shape or labels.unique().tolist() != list(range(10)):
        rule = f"{image_file} and {label_file.name} are not 28 × 28 images of the ten digits with one label each"
        raise InvalidInput("root", str(root), f"{rule}: delete both, so that they are downloaded again")
    return _part(images.flatten(1), labels)


def _idx(root: Path, file: Path, read: Callable[[str], Tensor]) -> Tensor:
    try:
        return read(str(file))
    # all of these come out of torchvision's reader, which meets a wrong header with assert and index
    except (AssertionError, KeyError, TypeError, ValueError, RuntimeError, OSError) as error:
        rule = f"{file} is truncated, damaged, unreadable or not an idx file: delete it, so that it is downloaded again"
        raise InvalidInput("root", str(root), rule) from error
