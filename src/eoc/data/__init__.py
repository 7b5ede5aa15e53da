"""Data sets as tensors in memory: sources, stratified subsets, preprocessing, target coding, batches."""

from eoc.data.batches import Batches, chunks
from eoc.data.dataset import Dataset
from eoc.data.image_folder import images
from eoc.data.preprocessing import TARGETS, encode, normalize
from eoc.data.sources import cifar10, digits, mnist
from eoc.data.subsets import stratified

__all__ = [
    "TARGETS",
    "Batches",
    "Dataset",
    "chunks",
    "cifar10",
    "digits",
    "encode",
    "images",
    "mnist",
    "normalize",
    "stratified",
]
