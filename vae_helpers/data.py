"""Fashion-MNIST as tensors in memory: 55,000 training, 5,000 validation and 10,000 test images.

Nothing is used unverified: the content of each of the four files must have its known SHA-256.
"""

from __future__ import annotations

import gzip
import hashlib
import multiprocessing
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from http.client import HTTPException
from multiprocessing.pool import ThreadPool
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import torch
from torch.nn.functional import interpolate, pad

from .engine.files import write_atomic
from .engine.guards import check_choice

CLASS_NAMES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
VALIDATION_SIZE = 5_000
STAND_IN = "scikit-learn digits, a stand-in for Fashion-MNIST"
MIRROR = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
OF_TORCHVISION = "of a torchvision data set d Split(d.data, d.targets)"
TIMEOUT = 10  # seconds without an answer from the server before giving up
CONTENT_SHA256 = {  # of the four IDX files, uncompressed
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}


class DataError(RuntimeError):
    """The data set can not be used; the message says which file, why, and what to do."""


class DownloadError(DataError):
    """Files are missing and the server did not deliver them; nothing on disk is wrong."""


# what a file or a server that is not as it should be makes Python raise
UNUSABLE = (OSError, EOFError, zlib.error, HTTPException, ValueError, DataError)


@dataclass(frozen=True)
class Split:
    """Images and their classes: uint8 (N, pixels) in 0..255 and int64 (N,), counted from 0.

    images: uint8, a tensor or a NumPy array (which is copied), gray and of any size: (N, pixels),
    (N, H, W) or (N, 1, H, W), kept as (N, pixels). labels: N integers as a tensor, array or list.
    Of a torchvision data set `d` pass `Split(d.data, d.targets)`.

    Raises TypeError for another type or dtype, ValueError for another shape or a negative label.
    """

    images: torch.Tensor
    labels: torch.Tensor = None  # left out, it is refused below, with what to pass

    def __post_init__(self):
        images = _checked_images(self.images)
        object.__setattr__(self, "images", images)  # the class is frozen
        object.__setattr__(self, "labels", _checked_labels(self.labels, len(images)))

    def __len__(self) -> int:
        return len(self.images)

    def floats(self) -> torch.Tensor:
        """The images as float32 (N, pixels) in [0, 1]."""
        return self.images.float().div_(255)

    def float_batches(self, size: int = 1_000) -> Iterator[torch.Tensor]:
        """The images as in `floats`, `size` at a time: never all of them in memory."""
        for batch in self.images.split(size):
            yield batch.float().div_(255)

    def take(self, indices) -> Split:
        """The images and labels at `indices`."""
        return Split(self.images[indices], self.labels[indices])

    def first_of_each_class(self) -> Split:
        """The first image of every class that is there, in the order of the labels."""
        firsts = [int((self.labels == label).nonzero()[0]) for label in self.labels.unique()]
        return self.take(torch.tensor(firsts))


def _checked_images(images) -> torch.Tensor:
    dtype = getattr(images, "dtype", type(images).__name__)
    if str(dtype) not in ("torch.uint8", "uint8"):
        raise TypeError(
            f"images must be uint8 in 0..255, as a tensor or array, got {dtype}; for floats in "
            f"[0, 1] pass torch.as_tensor(255 * images).round().byte(), {OF_TORCHVISION}"
        )
    gray = images.ndim in (2, 3) or images.ndim == 4 and 1 in (images.shape[1], images.shape[3])
    if not gray or 0 in images.shape:
        raise ValueError(
            "images must have shape (N, pixels), (N, H, W) or (N, 1, H, W) with N >= 1, got "
            f"{tuple(images.shape)}; pass gray ones, a single one as images[None]"
        )
    if not isinstance(images, torch.Tensor):
        images = torch.tensor(np.ascontiguousarray(images))
    return images.flatten(1)


def _checked_labels(labels, n: int) -> torch.Tensor:
    classes = np.asarray(labels)
    if classes.dtype.kind not in "iu":
        raise TypeError(
            f"labels must be integers, each image's class counted from 0, got {classes.dtype}; "
            "for integers stored otherwise pass np.asarray(labels).astype(int)"
        )
    if classes.shape != (n,):
        raise ValueError(
            f"labels must have shape ({n},), one per image, got {classes.shape}; "
            "for one-hot labels pass labels.argmax(1)"
        )
    if (lowest := int(classes.min())) < 0:
        raise ValueError(
            f"labels must be class numbers from 0 on, got {lowest}; leave out images without class"
        )
    return torch.from_numpy(classes.astype(np.int64))


@dataclass(frozen=True)
class Data:
    """Three splits, the name of the data set, and the name of each class in order of the labels.

    Raises TypeError for anything but three `Split`s, ValueError if their images differ
    in size or a label has no name. note: why this is a stand-in; empty for Fashion-MNIST itself.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    class_names: tuple[str, ...]
    note: str = ""

    def __post_init__(self):
        for name in ("train", "validation", "test"):
            split = getattr(self, name)
            if not isinstance(split, Split):
                raise TypeError(
                    f"{name} must be a Split, got {type(split).__name__}; "
                    f"pass Split(images, labels), {OF_TORCHVISION}"
                )
            if split.images.shape[1] != self.train.images.shape[1]:
                raise ValueError(
                    f"images must be of one size: {self.train.images.shape[1]} pixels in train, "
                    f"{split.images.shape[1]} in {name}; resize or crop them"
                )
            if (highest := int(split.labels.max())) >= len(self.class_names):
                raise ValueError(
                    f"class_names must name every label from 0 on, got {len(self.class_names)} "
                    f"names and label {highest} in {name}; add names, or count the labels from 0"
                )

    @property
    def is_stand_in(self) -> bool:
        return self.name == STAND_IN

    @cached_property
    def checksum(self) -> str:
        """SHA-256 of all pixels and labels."""
        digest = hashlib.sha256()
        for split in (self.train, self.validation, self.test):
            digest.update(split.images.numpy().tobytes())
            digest.update(split.labels.numpy().tobytes())
        return digest.hexdigest()


def split_off(everything: Split, size: int) -> tuple[Split, Split]:
    """(the rest, `size` images, as many of each class); stratified and the same every time.

    RandomState's stream is frozen by NumPy, so the split is the same on every version.
    """
    random, classes = np.random.RandomState(0), int(everything.labels.max()) + 1
    chosen = np.zeros(len(everything), dtype=bool)
    for label in range(classes):
        members = np.flatnonzero(everything.labels.numpy() == label)
        chosen[random.choice(members, size // classes, replace=False)] = True
    return everything.take(torch.from_numpy(~chosen)), everything.take(torch.from_numpy(chosen))


def load_data(source: str = "auto", root: str | Path = "data") -> Data:
    """The data of the study: "real" (Fashion-MNIST), "stand-in", or "auto".

    "auto" takes Fashion-MNIST and falls back to the stand-in only when files are missing and
    can not be downloaded; `note` of the result then says why, without naming a folder of this
    machine. Files that are there but wrong and can not be replaced raise DataError in "auto" too.
    """
    if check_choice(source, ("auto", "real", "stand-in"), "source") == "stand-in":
        return load_stand_in()
    try:
        return load_fashion_mnist(root)
    except DownloadError as error:
        if source == "real":
            raise
        return load_stand_in(f"Fashion-MNIST is not in the data folder and {_why(error.__cause__)}")


def load_stand_in(note: str = "the stand-in was asked for") -> Data:
    """The 1,797 handwritten digits (8x8) that come with scikit-learn, enlarged to 28x28.

    Split into 1,197 training, 200 validation and 400 test images, the same every time.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    small = torch.from_numpy(digits.images).float()[:, None] / 16
    large = pad(interpolate(small, size=(24, 24), mode="bicubic").clamp(0, 1), (2, 2, 2, 2))
    rest, test = split_off(Split((255 * large).round().byte(), digits.target), 400)
    train, validation = split_off(rest, 200)
    return Data(STAND_IN, train, validation, test, tuple("0123456789"), note)


def load_fashion_mnist(root: str | Path = "data") -> Data:
    """Fashion-MNIST from `root`/FashionMNIST/raw, downloaded there if need be.

    Each file is the `.gz` or, failing that, the extracted file, whichever has the known content.
    If neither has, the `.gz` is downloaded and takes its place in one step once verified: a
    reader never sees half a file, and two processes can load at once.

    Raises DownloadError when files are missing and can not be downloaded, DataError when a file is
    wrong and can not be replaced, OSError when `root` is not writable.
    """
    folder = Path(root).absolute() / "FashionMNIST" / "raw"
    contents, faults = {}, {}  # of each name: what is in the file, or what is wrong with it
    for name in CONTENT_SHA256:
        try:
            contents[name] = _read(folder, name)
        except (FileNotFoundError, DataError) as fault:
            faults[name] = fault
    for name in list(faults):
        try:
            packed = _fetch(f"{MIRROR}{name}.gz")
            contents[name] = _verified(gzip.decompress(packed), name)
        except UNUSABLE as error:
            wrong = any(isinstance(fault, DataError) for fault in faults.values())
            raise (DataError if wrong else DownloadError)(
                f"Fashion-MNIST can not be loaded from {folder}: "
                f"{', '.join(map(str, faults.values()))}, and {_why(error)}; "
                f"put the official files there by hand, from {MIRROR}"
            ) from error
        write_atomic(folder / f"{name}.gz", packed)
        del faults[name]
    pixels, labels, test_pixels, test_labels = (contents[name] for name in CONTENT_SHA256)
    train, validation = split_off(_split(pixels, labels), VALIDATION_SIZE)
    return Data("Fashion-MNIST", train, validation, _split(test_pixels, test_labels), CLASS_NAMES)


def _read(folder: Path, name: str) -> bytes:
    """The official content of a stored file, packed or not.

    Raises FileNotFoundError if neither is there, DataError if what is there can not be used.
    """
    faults = []
    for path in (folder / f"{name}.gz", folder / name):
        try:
            content = path.read_bytes()
            return _verified(gzip.decompress(content) if path.suffix else content, name)
        except FileNotFoundError:
            continue
        except UNUSABLE as error:
            faults.append(f"{path.name} can not be used ({error})")
    if faults:
        raise DataError(", ".join(faults))
    raise FileNotFoundError(f"{name}.gz is missing")


def _verified(content: bytes, name: str) -> bytes:
    """The content of a file, which must be the official one; else DataError."""
    if hashlib.sha256(content).hexdigest() != CONTENT_SHA256[name]:
        raise DataError("damaged, or another data set's: MNIST's files have the same names")
    return content


def _fetch(url: str) -> bytes:
    """The body at `url`; TimeoutError once nothing has come for TIMEOUT seconds.

    Opened in a thread of its own, as looking up a server's name obeys no timeout.
    """
    with ThreadPool(1) as pool:
        try:
            opened = pool.apply_async(urlopen, [url], {"timeout": TIMEOUT}).get(TIMEOUT)
        except multiprocessing.TimeoutError:
            raise TimeoutError("timed out") from None
    with opened as response:
        return response.read()


def _why(error: Exception) -> str:
    return f"the download failed ({' '.join(str(error).split())})"


def _split(images: bytes, labels: bytes) -> Split:
    """The split in two verified IDX files, whose values stand behind 16 and 8 bytes of sizes."""
    pixels = np.frombuffer(images, np.uint8, offset=16).reshape(-1, 28, 28)
    return Split(pixels, np.frombuffer(labels, np.uint8, offset=8))
