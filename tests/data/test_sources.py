from __future__ import annotations

import gzip
import hashlib
import io
import pickle
import socket
import struct
import subprocess
import sys
import tarfile
import urllib.request

import numpy as np
import pytest
import torch
from torchvision.datasets import CIFAR10, MNIST

from eoc.data import cifar10, digits, mnist
from eoc.errors import InvalidInput, RunFailure

RNG = np.random.default_rng(0)
IDX = {}
for _stem, _count in (("train", 40), ("t10k", 20)):
    _images = RNG.integers(0, 256, (_count, 28, 28), dtype=np.uint8)
    IDX[f"{_stem}-images-idx3-ubyte"] = struct.pack(">4i", 2051, _count, 28, 28) + _images.tobytes()
    IDX[f"{_stem}-labels-idx1-ubyte"] = struct.pack(">2i", 2049, _count) + bytes(i % 10 for i in range(_count))


def idx_folder(root, **changed):
    folder = root / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for name, content in IDX.items():
        (folder / name).write_bytes(changed.get(name.split("-ubyte")[0].replace("-", "_"), content))
    return folder


def cifar_files():
    files = {"batches.meta": {"label_names": list("abcdefghij")}}
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        pixels = RNG.integers(0, 256, (10, 3072), dtype=np.uint8)
        files[name] = {"data": pixels, "labels": list(range(10))}
    return files


@pytest.fixture
def cifar(monkeypatch):
    """Ten images a batch, with checksums to match; returns the archive as bytes and the batches."""
    contents, buffer = cifar_files(), io.BytesIO()
    pickles = {name: pickle.dumps(content) for name, content in contents.items()}
    md5 = {name: hashlib.md5(data).hexdigest() for name, data in pickles.items()}
    monkeypatch.setattr(CIFAR10, "train_list", [[name, md5[name]] for name, _ in CIFAR10.train_list])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", md5["test_batch"]]])
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": md5["batches.meta"]})
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, data in pickles.items():
            info = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    monkeypatch.setattr(CIFAR10, "tgz_md5", hashlib.md5(buffer.getvalue()).hexdigest())
    return buffer.getvalue(), contents


class Response(io.BytesIO):
    def __init__(self, url, data):
        super().__init__(data)
        self.url, self.length = url, len(data)


def serve(monkeypatch, files):
    """Answer requests for addresses that end in one of ``files``."""

    def urlopen(request, *_, **__):
        url = request.full_url
        return Response(url, files[url.rsplit("/", 1)[1]])

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)


# ---------------------------------------------------------------- digits


def rows(inputs):
    return {tuple(row) for row in inputs.round(decimals=4).tolist()}


def test_digits_by_default():
    data = digits()
    assert (data.name, data.classes, data.dim, data.batch_size) == ("digits", 10, 64, None)
    assert (len(data.train_inputs), len(data.test_inputs)) == (1000, 797)
    for inputs, targets, labels in (
        (data.train_inputs, data.train_targets, data.train_labels),
        (data.test_inputs, data.test_targets, data.test_labels),
    ):
        assert torch.allclose(inputs.double().square().sum(1), torch.tensor(64.0).double(), atol=1e-4)
        assert torch.equal(targets.argmax(1), labels)
        assert torch.equal(targets.sum(1), torch.ones(len(labels)))
    # every one of the 1,797 images is used once: the classes add up to scikit-learn's
    total = torch.bincount(data.train_labels) + torch.bincount(data.test_labels)
    assert total.tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert not rows(data.train_inputs) & rows(data.test_inputs)


def test_digits_match_an_independent_computation():
    from sklearn.datasets import load_digits
    from sklearn.neighbors import KNeighborsClassifier

    pixels, labels = load_digits(return_X_y=True)
    data = digits(n_train=500, n_test=1297)
    # the direction of a row identifies its image (up to the small difference between the two means)
    centred = pixels - pixels.mean(0)
    known = KNeighborsClassifier(1).fit(centred / np.linalg.norm(centred, axis=1, keepdims=True), labels)
    assert known.score(data.train_inputs.numpy() / 8.0, data.train_labels.numpy()) > 0.99
    # 1-nearest-neighbour on these inputs is as good as it is known to be on the digits
    learned = KNeighborsClassifier(1).fit(data.train_inputs.numpy(), data.train_labels.numpy())
    assert learned.score(data.test_inputs.numpy(), data.test_labels.numpy()) > 0.95


def test_digits_test_part_does_not_depend_on_n_train_and_follows_its_seed():
    small, large = digits(n_train=50, n_test=300), digits(n_train=1000, n_test=300)
    assert torch.equal(small.test_labels, large.test_labels)
    assert torch.equal(digits(n_train=50, n_test=300).train_inputs, small.train_inputs)
    assert not torch.equal(digits(n_train=50, n_test=300, subset_seed=1).train_inputs, small.train_inputs)


@pytest.mark.parametrize(
    ("n_train", "n_test", "sizes"), [(None, None, (1000, 797)), (1500, None, (1500, 297)), (None, 97, (1700, 97))]
)
def test_digits_null_is_the_rest(n_train, n_test, sizes):
    data = digits(n_train=n_train, n_test=n_test)
    assert (len(data.train_labels), len(data.test_labels)) == sizes


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"n_train": 1001}, r"n_train=1001 .* n_test takes 797, .* integer from 10 to 1000, or null"),
        ({"n_train": 9}, r"n_train=9 .* 10 classes"),
        ({"n_train": 0}, r"n_train=0 .* at least 1"),
        ({"n_train": None, "n_test": 1788}, r"n_test=1788 .* from 1 to 1787"),
        ({"n_test": 1790}, r"n_test=1790 .* training takes at least 10, .* from 1 to 1787, or null"),
        ({"n_test": 0}, r"n_test=0 .* at least 1"),
        ({"subset_seed": -1}, r"subset_seed=-1 .* at least 0"),
        ({"target": "soft"}, r"target=soft .* one_hot, centered, plus_minus"),
        ({"batch_size": 0}, r"batch_size=0 .* at least 1"),
        ({"batch_size": 1001}, r"batch_size=1001 .* n_train is 1000, .* from 1 to 1000, or null for the full batch"),
        ({"n_train": 50, "batch_size": 51}, r"batch_size=51 .* n_train is 50, .* from 1 to 50"),
    ],
)
def test_digits_refusals(arguments, sentence):
    with pytest.raises(InvalidInput, match=sentence):
        digits(**arguments)


def test_wrong_types_are_refused_in_a_sentence():
    # in a process of its own: here the annotations are enforced before the function can speak
    script = """
from eoc.data import digits, mnist
from eoc.errors import InvalidInput
for load, arguments in ((digits, {"n_train": "many"}), (digits, {"n_test": 2.5}), (digits, {"batch_size": True}),
                        (digits, {"target": 3}), (mnist, {"root": None}), (mnist, {"root": ""})):
    try:
        load(**arguments)
    except InvalidInput as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    said = done.stdout.splitlines()
    assert [line.split("=")[0] for line in said] == ["n_train", "n_test", "batch_size", "target", "root", "root"]


# ---------------------------------------------------------------- MNIST


def test_mnist_reads_what_is_there(tmp_path, requests):
    idx_folder(tmp_path)
    data = mnist(root=tmp_path)
    assert (data.name, data.classes, data.dim) == ("mnist", 10, 784)
    assert (len(data.train_inputs), len(data.test_inputs)) == (40, 20)
    pixels = np.frombuffer(IDX["train-images-idx3-ubyte"][16:], np.uint8).reshape(40, 784).astype(float)
    centred = pixels - pixels.mean(0)
    expected = centred / np.linalg.norm(centred, axis=1, keepdims=True) * 28.0
    order = np.lexsort(data.train_inputs.numpy().T)
    assert np.allclose(data.train_inputs.numpy()[order], expected[np.lexsort(expected.T)], atol=1e-4)
    assert torch.bincount(data.train_labels).tolist() == [4] * 10
    assert requests == []


def test_mnist_centres_with_the_chosen_training_examples(tmp_path):
    idx_folder(tmp_path)
    data = mnist(n_train=20, n_test=10, root=str(tmp_path), subset_seed=4)
    pixels = np.frombuffer(IDX["train-images-idx3-ubyte"][16:], np.uint8).reshape(40, 784).astype(float)
    from eoc.data import stratified

    labels = torch.arange(40) % 10
    chosen = stratified(labels, 20, 4)
    centred = pixels[chosen] - pixels[chosen].mean(0)
    expected = centred / np.linalg.norm(centred, axis=1, keepdims=True) * 28.0
    assert np.allclose(data.train_inputs.numpy(), expected, atol=1e-4)
    assert torch.equal(data.train_labels, labels[chosen])


def test_mnist_downloads_silently_and_once(tmp_path, monkeypatch, capfd):
    archives = {f"{name}.gz": gzip.compress(content) for name, content in IDX.items()}
    resources = [(name, hashlib.md5(archives[name]).hexdigest()) for name, _ in MNIST.resources]
    monkeypatch.setattr(MNIST, "resources", resources)
    serve(monkeypatch, archives)
    first = mnist(root=tmp_path / "new")
    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: pytest.fail("a second download"))
    assert torch.equal(mnist(root=tmp_path / "new").train_inputs, first.train_inputs)
    assert sorted(path.name for path in (tmp_path / "new/MNIST/raw").iterdir()) == sorted(IDX)
    assert capfd.readouterr() == ("", "")


def test_mnist_takes_the_next_mirror_and_waits_for_none_for_ever(tmp_path, monkeypatch):
    archives = {f"{name}.gz": gzip.compress(content) for name, content in IDX.items()}
    resources = [(name, hashlib.md5(archives[name]).hexdigest()) for name, _ in MNIST.resources]
    monkeypatch.setattr(MNIST, "resources", resources)
    monkeypatch.setattr(MNIST, "mirrors", ["https://gone.example/", "https://there.example/"])
    socket.setdefaulttimeout(None)
    waits = []

    def urlopen(request, *_, **__):
        waits.append(socket.getdefaulttimeout())
        if "gone" in request.full_url or "slow" in request.full_url:
            raise TimeoutError("timed out")
        return Response(request.full_url, archives[request.full_url.rsplit("/", 1)[1]])

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    assert len(mnist(root=tmp_path / "one").train_labels) == 40
    monkeypatch.setattr(MNIST, "mirrors", ["https://slow.example/"])
    with pytest.raises(RunFailure, match=r"cannot be downloaded \(timed out\): connect"):
        mnist(root=tmp_path / "two")
    assert set(waits) == {30.0}
    assert socket.getdefaulttimeout() is None  # as it was


def test_mnist_unpacks_archives_that_were_put_there(tmp_path, monkeypatch, requests):
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    resources = []
    for name, _ in MNIST.resources:
        (folder / name).write_bytes(gzip.compress(IDX[name[:-3]]))
        resources.append((name, hashlib.md5((folder / name).read_bytes()).hexdigest()))
    monkeypatch.setattr(MNIST, "resources", resources)
    assert len(mnist(root=tmp_path).train_labels) == 40
    assert requests == []


def test_mnist_without_a_network_says_what_to_put_where(tmp_path, capfd):
    folder = idx_folder(tmp_path)
    (folder / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(RunFailure) as caught:
        mnist(root=tmp_path)
    said = str(caught.value)
    assert f"MNIST is not complete in {tmp_path} and cannot be downloaded (Name or service not known)" in said
    assert "put t10k-labels-idx1-ubyte.gz from https://" in said
    assert f"into {folder}" in said
    assert "train-images" not in said
    assert "\n" not in said
    assert sorted(path.name for path in folder.iterdir()) == sorted(set(IDX) - {"t10k-labels-idx1-ubyte"})
    assert capfd.readouterr() == ("", "")


def test_mnist_download_with_a_wrong_checksum_is_not_used(tmp_path, monkeypatch):
    serve(monkeypatch, {name: b"a login page" for name, _ in MNIST.resources})
    with pytest.raises(RunFailure, match=r"cannot be downloaded \(File not found or corrupted\): connect"):
        mnist(root=tmp_path / "new" / "root")
    assert list(tmp_path.iterdir()) == []  # what was made for it is gone
    tmp_path.joinpath("MNIST").mkdir()
    with pytest.raises(RunFailure, match="cannot be downloaded"):
        mnist(root=tmp_path)
    assert list(tmp_path.rglob("*")) == [tmp_path / "MNIST"]


IMAGES = IDX["train-images-idx3-ubyte"]


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        (
            {"train_images_idx3": IMAGES[:-5]},
            r"train-images-idx3-ubyte is truncated, damaged, unreadable or not an idx file",
        ),
        ({"train_images_idx3": b""}, r"train-images-idx3-ubyte is truncated"),
        (
            {"train_images_idx3": b"\x89PNG" + IMAGES[4:]},
            r"train-images-idx3-ubyte is truncated, damaged, unreadable or not",
        ),
        ({"train_images_idx3": IDX["train-labels-idx1-ubyte"]}, r"train-images-idx3-ubyte is truncated, damaged"),
        ({"t10k_labels_idx1": IDX["train-labels-idx1-ubyte"]}, r"t10k-images.* one label each: delete both"),
        (
            {"train_labels_idx1": struct.pack(">2i", 2049, 40) + bytes(range(40))},
            r"images of the ten digits with one label each",
        ),
        (
            {"train_images_idx3": struct.pack(">4i", 2051, 40, 14, 56) + IMAGES[16:]},
            r"are not 28 × 28 images",
        ),
    ],
)
def test_mnist_files_that_are_not_what_they_say(tmp_path, changed, sentence):
    idx_folder(tmp_path, **changed)
    with pytest.raises(InvalidInput, match=sentence) as caught:
        mnist(root=tmp_path)
    assert caught.value.key == "root"
    assert str(caught.value).startswith(f"root={tmp_path} is not possible: ")


def test_root_may_begin_at_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    idx_folder(tmp_path / "data")
    assert len(mnist(root="~/data").train_labels) == 40


def test_root_that_is_a_file_or_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInput, match="it is a file"):
        mnist(root=tmp_path / "file")
    with pytest.raises(InvalidInput, match=r"root=.* cannot be stored there \(Not a directory\)"):
        mnist(root=tmp_path / "file" / "below")

    def denied(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.mkdir", denied)
    with pytest.raises(InvalidInput, match=r"\(Permission denied\): choose a folder that is writable"):
        cifar10(root=tmp_path / "locked")


# ---------------------------------------------------------------- CIFAR-10


def test_cifar10_unpacks_its_archive(tmp_path, cifar, requests):
    archive, contents = cifar
    (tmp_path / CIFAR10.filename).write_bytes(archive)
    data = cifar10(root=tmp_path, target="centered", batch_size=8)
    assert (data.name, data.classes, data.dim, data.batch_size) == ("cifar10", 10, 3072, 8)
    assert (len(data.train_inputs), len(data.test_inputs)) == (50, 10)
    pixels = np.concatenate([contents[f"data_batch_{i}"]["data"] for i in range(1, 6)]).astype(float)
    test = contents["test_batch"]["data"] - pixels.mean(0)
    test = test.reshape(10, 3, 32, 32).transpose(0, 2, 3, 1).reshape(10, 3072)
    expected = test / np.sqrt((test**2).mean(1, keepdims=True))
    assert np.allclose(data.test_inputs.numpy(), expected[data.test_labels], atol=1e-4)
    for targets in (data.train_targets, data.test_targets):
        assert torch.allclose(targets.sum(1), torch.zeros(len(targets)), atol=1e-6)
        assert torch.allclose(targets.amax(1), torch.tensor(0.9))
    assert requests == []


def test_cifar10_downloads_silently_and_once(tmp_path, monkeypatch, cifar, capfd):
    serve(monkeypatch, {CIFAR10.filename: cifar[0]})
    first = cifar10(root=tmp_path / "new")
    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: pytest.fail("a second download"))
    assert torch.equal(cifar10(root=tmp_path / "new").train_inputs, first.train_inputs)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["cifar-10-batches-py"]
    assert capfd.readouterr() == ("", "")


def test_cifar10_replaces_what_is_damaged(tmp_path, monkeypatch, cifar):
    (tmp_path / CIFAR10.filename).write_bytes(cifar[0][:100])  # as a download that was cut off
    serve(monkeypatch, {CIFAR10.filename: cifar[0]})
    assert len(cifar10(root=tmp_path).train_labels) == 50
    for damaged in ("data_batch_2", "test_batch", "batches.meta"):
        (tmp_path / "cifar-10-batches-py" / damaged).write_bytes(b"")
        assert len(cifar10(root=tmp_path).train_labels) == 50


def test_cifar10_never_opens_a_file_with_a_wrong_checksum(tmp_path, cifar):
    class Payload:
        def __reduce__(self):
            return (pytest.fail, ("a pickle of unknown origin was opened",))

    (tmp_path / CIFAR10.filename).write_bytes(cifar[0])
    cifar10(root=tmp_path)
    (tmp_path / CIFAR10.filename).unlink()
    (tmp_path / "cifar-10-batches-py" / "data_batch_3").write_bytes(pickle.dumps(Payload()))
    with pytest.raises(
        RunFailure, match=r"CIFAR-10 is not complete .* put cifar-10-python.tar.gz from https://.* into"
    ):
        cifar10(root=tmp_path)


def test_files_that_may_not_be_read(tmp_path, monkeypatch, cifar):
    (tmp_path / CIFAR10.filename).write_bytes(cifar[0])
    cifar10(root=tmp_path)
    idx_folder(tmp_path)

    def denied(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", denied)
    with pytest.raises(InvalidInput, match=r"root=.*/cifar-10-batches-py cannot be read: make it readable"):
        cifar10(root=tmp_path)
    with pytest.raises(InvalidInput, match=r"root=.*train-images-idx3-ubyte is truncated, damaged, unreadable or not"):
        mnist(root=tmp_path)


def test_more_than_there_is(tmp_path):
    idx_folder(tmp_path)
    with pytest.raises(InvalidInput, match=r"n_train=41 .* mnist has 40 training examples .* from 10 to 40, or null"):
        mnist(n_train=41, root=tmp_path)
    with pytest.raises(InvalidInput, match=r"n_test=21 .* mnist has 20 test examples, .* from 1 to 20, or null"):
        mnist(n_test=21, root=tmp_path)


@pytest.mark.parametrize(("source", "there"), [(mnist, 60_000), (cifar10, 50_000)])
def test_more_than_there_is_is_refused_before_a_download(source, there, tmp_path):
    for asked in ({"n_train": there + 1}, {"n_test": 10_001}, {"batch_size": there + 1}):
        with pytest.raises(InvalidInput, match=f"{next(iter(asked))}="):
            source(**asked, root=tmp_path / "nothing")
