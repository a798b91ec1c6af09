"""Fashion-MNIST as tensors in memory: 55,000 training, 5,000 validation and 10,000 test images.

Nothing is used unverified: the content of each of the four files must have its known SHA-256.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import os
import shutil
import socket
import sys
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from http.client import HTTPException
from pathlib import Path
from urllib.error import URLError

import numpy as np
import torch

from .engine.guards import check_positive_int, check_seed, check_type
from .synthetic import draw_garments

CLASS_NAMES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
VALIDATION_SIZE = 5_000
STAND_IN = "synthetic stand-in"
CONTENT_SHA256 = {  # of the four IDX files, uncompressed
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
LARGEST_FILE = 47_040_016  # bytes, uncompressed
IDX_MAGIC = {b"\0\0\x08\x03": "images", b"\0\0\x08\x01": "labels"}
MISSING = "is missing"


class DataError(RuntimeError):
    """The data set can not be used; the message says which file, why, and what to do."""


class DownloadError(DataError):
    """Files are missing and no server delivered them; nothing on disk is wrong."""


@dataclass(frozen=True)
class Split:
    """images: uint8 (N, pixels) in 0..255; labels: int64 (N,), the classes counted from 0.

    Raises TypeError for another type or dtype, ValueError for another shape or a negative label.
    """

    images: torch.Tensor
    labels: torch.Tensor

    def __post_init__(self):
        for name, dtype in [("images", torch.uint8), ("labels", torch.int64)]:
            value = getattr(self, name)
            if not isinstance(value, torch.Tensor) or value.dtype != dtype:
                got = value.dtype if isinstance(value, torch.Tensor) else type(value).__name__
                remedy = "; for floats in [0, 1] pass (255 * images).round().to(torch.uint8)"
                raise TypeError(f"{name} must be a {str(dtype).removeprefix('torch.')} tensor, "
                                f"got {got}{remedy if name == 'images' else ''}")  # fmt: skip
        if self.images.dim() != 2 or 0 in self.images.shape:
            raise ValueError(f"images must have shape (N, pixels) with N, pixels >= 1, got "
                             f"{tuple(self.images.shape)}; pass images.flatten(1)")  # fmt: skip
        if self.labels.shape != self.images.shape[:1]:
            raise ValueError(f"labels must have shape ({len(self.images)},), one per image, got "
                             f"{tuple(self.labels.shape)}")  # fmt: skip
        if (lowest := int(self.labels.min())) < 0:
            raise ValueError(f"labels must be class numbers from 0 on, got {lowest}")

    def __len__(self) -> int:
        return len(self.images)

    def floats(self) -> torch.Tensor:
        """The images as float32 (N, 784) in [0, 1]."""
        return self.images.float().div_(255)

    def float_batches(self, size: int = 1_000) -> Iterator[torch.Tensor]:
        """The images as in `floats`, `size` at a time: never all of them in memory."""
        for batch in self.images.split(size):
            yield batch.float().div_(255)

    def take(self, indices) -> Split:
        """The images and labels at `indices`."""
        return Split(self.images[indices], self.labels[indices])

    def first_of_each_class(self) -> Split:
        """Ten images, the first of each class in the order of the labels."""
        firsts = [int((self.labels == label).nonzero()[0]) for label in range(len(CLASS_NAMES))]
        return self.take(torch.tensor(firsts))


@dataclass(frozen=True)
class Data:
    """The three splits, the name of the data set and the SHA-256 of all its pixels and labels.

    Raises TypeError for anything but three `Split`s, ValueError if their images differ in size.
    note: why this is a stand-in; empty for Fashion-MNIST itself.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    note: str = ""

    def __post_init__(self):
        check_type(self.name, str, "name")
        for name in ("train", "validation", "test"):
            split = check_type(getattr(self, name), Split, name)
            if split.images.shape[1] != self.train.images.shape[1]:
                raise ValueError(
                    f"all images must have as many pixels as the training images "
                    f"({self.train.images.shape[1]}), those of {name} have {split.images.shape[1]}"
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


def split_train_validation(
    images: torch.Tensor, labels: torch.Tensor, validation_size: int = VALIDATION_SIZE
) -> tuple[Split, Split]:
    """A fixed, stratified split: validation_size / 10 images of each class, the same every time.

    RandomState's stream is frozen by NumPy, so the split is the same on every version.
    """
    per_class, rest = divmod(validation_size, len(CLASS_NAMES))
    counts = torch.bincount(labels, minlength=len(CLASS_NAMES))
    if rest or per_class < 1 or int(counts.min()) <= per_class:
        raise ValueError(
            f"validation_size must be a multiple of {len(CLASS_NAMES)} that leaves every class "
            f"training images (class counts {counts.tolist()}), got {validation_size}"
        )
    random = np.random.RandomState(0)
    chosen = np.zeros(len(labels), dtype=bool)
    for label in range(len(CLASS_NAMES)):
        members = np.flatnonzero(labels.numpy() == label)
        chosen[random.choice(members, per_class, replace=False)] = True
    everything = Split(images, labels)
    return everything.take(torch.from_numpy(~chosen)), everything.take(torch.from_numpy(chosen))


def load_data(source: str = "auto", root: str | Path = "data", timeout: float = 30) -> Data:
    """The data of the study: "real" (Fashion-MNIST), "stand-in", or "auto".

    "auto" takes Fashion-MNIST and falls back to the stand-in only when files are missing and
    every download failed; `note` of the result then holds the reason. Files that are there but
    wrong and can not be replaced raise DataError in "auto" too.
    """
    if source not in ("auto", "real", "stand-in"):
        raise ValueError(f'source must be "auto", "real" or "stand-in", got {source!r}')
    if source == "stand-in":
        return load_stand_in()
    try:
        return load_fashion_mnist(root, timeout)
    except DownloadError as error:
        if source == "real":
            raise
        return replace(load_stand_in(), note=str(error))


def load_stand_in(
    train_size: int = 10_000, validation_size: int = 1_000, test_size: int = 2_000, seed: int = 0
) -> Data:
    """Drawn garments in the place of Fashion-MNIST, named so; the same seed, the same images.

    Raises TypeError or ValueError for a wrong size or seed.
    """
    check_seed(seed)
    sizes = {"train_size": train_size, "validation_size": validation_size, "test_size": test_size}
    splits = [
        Split(*draw_garments(check_positive_int(size, name), 3 * seed + part))
        for part, (name, size) in enumerate(sizes.items())
    ]
    return Data(STAND_IN, *splits, note="the stand-in was asked for")


def load_fashion_mnist(root: str | Path = "data", timeout: float = 30) -> Data:
    """Fashion-MNIST from `root`/FashionMNIST/raw, downloaded there by torchvision if need be.

    The files are read here, not by torchvision's loader, which takes extracted files unverified
    and can not read from a folder without write permission. Each is the `.gz` or, failing that, the
    extracted file, whichever has the known content; if one has neither, torchvision downloads the
    four `.gz` (checking their md5) to a temporary folder beside, from where they are moved into
    place. So a wrong or damaged file is replaced by a good one, a reader never sees half a
    file, and two processes can load at once.

    timeout: seconds without an answer from the server before giving up.
    Raises DownloadError when files are missing and can not be downloaded, DataError when a file is
    wrong and can not be replaced or when `root` is not writable.
    """
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not timeout > 0:
        raise ValueError(f"timeout must be a number of seconds > 0, got {timeout!r}")
    folder = Path(root) / "FashionMNIST" / "raw"
    contents, problems = _read_all(folder)
    if problems:
        failure = DataError("the downloaded files have an unexpected content")
        try:
            _download(folder, timeout)
        except DataError as error:
            failure = error
        contents, problems = _read_all(folder)
        if problems:
            raise _explain(folder, problems, failure) from failure
    train_images, train_labels, test_images, test_labels = map(_parse_idx, contents)
    train, validation = split_train_validation(
        train_images.flatten(1), train_labels.long(), VALIDATION_SIZE
    )
    test = Split(test_images.flatten(1), test_labels.long())
    return Data("Fashion-MNIST", train, validation, test)


def _read_all(folder: Path) -> tuple[list[bytes], dict[str, str]]:
    """The verified contents in the order of CONTENT_SHA256, and file name -> what is wrong."""
    contents, problems = [], {}
    for name in CONTENT_SHA256:
        found = {}
        for file_name in (f"{name}.gz", name):
            content, problem = _read(folder / file_name, name)
            if not problem:
                contents.append(content)
                break
            if problem != MISSING:
                found[file_name] = problem
        else:
            problems.update(found or {f"{name}.gz": MISSING})
    return contents, problems


def _read(path: Path, name: str) -> tuple[bytes, str]:
    """The uncompressed content of `path`, and why it is not the official one ("" if it is)."""
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
            content = file.read(LARGEST_FILE + 1)
    except FileNotFoundError:
        return b"", MISSING
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        return b"", f"can not be read as the official file ({reason})"
    if hashlib.sha256(content).hexdigest() == CONTENT_SHA256[name]:
        return content, ""
    expected = "images" if "images" in name else "labels"
    found = IDX_MAGIC.get(content[:4])
    if found is None:
        return b"", f"holds no {expected} (it begins with {content[:12]!r})"
    if found != expected:
        return b"", f"holds {found} in the place of {expected}"
    return b"", f"holds damaged {expected} or another data set's (MNIST's files have these names)"


def _parse_idx(content: bytes) -> torch.Tensor:
    """The uint8 tensor of a verified IDX file: magic, big-endian sizes, values."""
    rank = content[3]
    sizes = np.frombuffer(content, ">i4", rank, offset=4)
    values = np.frombuffer(content, np.uint8, offset=4 + 4 * rank)
    return torch.from_numpy(values.reshape(sizes).copy())


def _download(folder: Path, timeout: float) -> None:
    """Let torchvision bring the four .gz files into `folder`, each moved there once verified.

    Files already there with the right md5 are kept. Raises DownloadError when the network or the
    server is at fault, DataError when `folder` is.
    """
    from torchvision.datasets import FashionMNIST
    from torchvision.datasets.utils import check_integrity

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".download-") as temporary:
            raw = Path(temporary, "FashionMNIST", "raw")
            raw.mkdir(parents=True)
            for file_name, md5 in FashionMNIST.resources:
                if check_integrity(folder / file_name, md5):
                    shutil.copyfile(folder / file_name, raw / file_name)
            try:
                with _socket_timeout(timeout), _quiet_unless_terminal():
                    FashionMNIST(temporary, download=True)
            finally:
                for file_name, md5 in FashionMNIST.resources:
                    if check_integrity(raw / file_name, md5):
                        os.replace(raw / file_name, folder / file_name)
    except (RuntimeError, TimeoutError, ConnectionError, URLError, HTTPException) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DownloadError(f"the download failed ({reason})") from error
    except OSError as error:
        raise DataError(f"nothing can be written there ({error.strerror})") from error


def _explain(folder: Path, problems: dict[str, str], failure: DataError) -> DataError:
    """The one error for files that are missing or wrong and could not be replaced."""
    from torchvision.datasets import FashionMNIST

    only_missing = set(problems.values()) == {MISSING}
    found = ", ".join(f"{name} {problem}" for name, problem in problems.items())
    if only_missing and len(problems) == len(CONTENT_SHA256):
        found = "its files are not there"
    files = ", ".join(f"{name} (md5 {md5})" for name, md5 in FashionMNIST.resources)
    kind = DownloadError if only_missing and isinstance(failure, DownloadError) else DataError
    return kind(
        f"Fashion-MNIST can not be loaded from {folder}: {found}, and {failure}; "
        f"put the official files there by hand: {files}"
    )


@contextlib.contextmanager
def _socket_timeout(seconds: float):
    """torchvision sets no timeout of its own, so a server that hangs would hang us."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _quiet_unless_terminal():
    """torchvision's progress bar only on a terminal, never in a notebook's saved output."""
    if sys.stderr.isatty():
        return contextlib.nullcontext()
    return contextlib.redirect_stderr(io.StringIO())
