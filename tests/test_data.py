"""What is taken as data, the split, and every fault a disk, a folder or a server can show.

The fault tests use a small data set of their own whose files and checksums stand in for the
official ones, and a server on the loopback interface; no test reaches a network.
"""

import gzip
import hashlib
import re
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.pool import ThreadPool
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torchvision.datasets import FashionMNIST

from vae_helpers import data
from vae_helpers.data import Data, DataError, DownloadError, Split, load_data, load_fashion_mnist
from vae_helpers.engine import files

PROJECT = Path(__file__).resolve().parent.parent
NAMES = list(data.CONTENT_SHA256)
TRAIN_IMAGES = "train-images-idx3-ubyte"


# --- the door ----------------------------------------------------------------------------------

PIXELS = np.random.RandomState(0).randint(0, 256, (4, 8, 6)).astype(np.uint8)
CLASSES = np.array([2, 0, 1, 2])


@pytest.mark.parametrize(
    "images",
    [
        PIXELS,
        PIXELS.reshape(4, 48),
        PIXELS[:, None],
        PIXELS[..., None],
        PIXELS[:, ::-1][:, ::-1].T.copy().T,  # in another order in memory
        np.frombuffer(PIXELS.tobytes(), np.uint8).reshape(4, 8, 6),  # read-only
        torch.tensor(PIXELS),
        torch.tensor(PIXELS)[:, None],
        torch.tensor(PIXELS).flatten(1),
    ],
    ids=lambda images: f"{type(images).__name__}{tuple(images.shape)}",
)
@pytest.mark.parametrize(
    "labels",
    [CLASSES, CLASSES.tolist(), CLASSES.astype(np.uint8), torch.tensor(CLASSES).int()],
    ids=["array", "list", "bytes", "tensor"],
)
@pytest.mark.filterwarnings("error")
def test_a_split_takes_arrays_and_tensors_of_any_size(images, labels):
    split = Split(images, labels)
    assert split.images.dtype == torch.uint8 and split.labels.dtype == torch.int64
    assert split.images.tolist() == PIXELS.reshape(4, 48).tolist()
    assert split.labels.tolist() == [2, 0, 1, 2]


def test_a_split_does_not_change_with_the_array_it_was_made_of():
    pixels, classes = PIXELS.copy(), CLASSES.copy()
    split = Split(pixels, classes)
    pixels[:], classes[:] = 0, 0
    assert split.images.sum() == PIXELS.sum() and split.labels.tolist() == CLASSES.tolist()


@pytest.mark.parametrize(
    ("images", "labels", "error", "words"),
    [
        (PIXELS / 255, CLASSES, TypeError, r"uint8 .* got float64; .*as_tensor\(255 \* images\)"),
        (torch.rand(4, 9), CLASSES, TypeError, r"got torch.float32; for floats in \[0, 1\]"),
        (PIXELS.astype(object), CLASSES, TypeError, "got object"),
        (PIXELS.tolist(), CLASSES, TypeError, "got list"),
        (None, CLASSES, TypeError, "got NoneType"),
        (PIXELS[0, 0], CLASSES, ValueError, r"\(N, H, W\) .* got \(6,\)"),
        (PIXELS[:0], CLASSES[:0], ValueError, r"N >= 1, got \(0, 8, 6\)"),
        (PIXELS[:, :, :0], CLASSES, ValueError, r"got \(4, 8, 0\)"),
        (np.stack([PIXELS] * 3, axis=-1), CLASSES, ValueError, r"\(4, 8, 6, 3\); pass gray"),
        (PIXELS, CLASSES / 2, TypeError, "labels must be integers.*got float64; .*astype"),
        (PIXELS, CLASSES > 0, TypeError, "got bool"),
        (PIXELS, None, TypeError, "labels must be integers.*got object"),
        (PIXELS, ["2", "0", "1", "2"], TypeError, r"labels\)\.astype\(int\)"),
        (PIXELS, CLASSES[:3], ValueError, r"shape \(4,\), one per image, got \(3,\)"),
        (PIXELS, np.eye(4, dtype=int), ValueError, r"got \(4, 4\); .*argmax\(1\)"),
        (PIXELS, CLASSES - 1, ValueError, "from 0 on, got -1; leave out"),
    ],
)
def test_a_split_refuses_what_it_can_not_hold_with_the_remedy(images, labels, error, words):
    with pytest.raises(error, match=words) as raised:
        Split(images, labels)
    assert "\n" not in str(raised.value)


def test_data_are_three_splits_of_images_of_one_size_and_a_name_for_every_class():
    split, smaller = Split(PIXELS, CLASSES), Split(PIXELS[:, 1:], CLASSES)
    for train, test, names, error, words in [
        (split, split.images, "abc", TypeError, "test must be a Split, got Tensor; pass Split"),
        (split, smaller, "abc", ValueError, "48 pixels in train, 42 in test; resize"),
        (smaller, smaller, "ab", ValueError, "got 2 names and label 2 in train; add names"),
    ]:
        with pytest.raises(error, match=words):
            Data("x", train, train, test, tuple(names))
    assert Data("x", split, split, split, tuple("abc")).checksum
    with pytest.raises(ValueError, match='"auto", "real" or "stand-in", got True'):
        load_data(True)


def test_first_of_each_class_takes_the_classes_that_are_there():
    split = Split(torch.arange(6, dtype=torch.uint8)[:, None], torch.tensor([7, 2, 7, 0, 2, 0]))
    firsts = split.first_of_each_class()
    assert firsts.labels.tolist() == [0, 2, 7] and firsts.images.flatten().tolist() == [3, 1, 0]


def test_float_batches_are_the_floats_piece_by_piece(tiny_data):
    batches = list(tiny_data.train.float_batches(128))
    assert [len(batch) for batch in batches] == [128] * 4 + [88]
    assert torch.equal(torch.cat(batches), tiny_data.train.floats())


def test_split_is_a_fixed_stratified_partition_that_keeps_images_with_their_labels():
    labels = np.random.RandomState(7).permutation(60_000) % 10
    index = torch.arange(60_000)
    images = torch.stack([index // 256, index % 256], dim=1).to(torch.uint8)
    parts = data.split_off(Split(images, labels), 5_000)
    found = [part.images[:, 0].long() * 256 + part.images[:, 1].long() for part in parts]
    assert torch.equal(torch.cat(found).sort().values, index)
    for part, indices, per_class in zip(parts, found, (5_500, 500), strict=True):
        assert part.labels.tolist() == labels[indices].tolist()
        assert torch.bincount(part.labels).tolist() == [per_class] * 10
    digest = hashlib.sha256(found[1].numpy().astype("<i8").tobytes()).hexdigest()
    assert digest == "7ff73285105b70b2e6ac1fafd35ab0f10ea83e7b08e35d981c060f3fa882b0d4"


# --- a small "official" data set and a server --------------------------------------------------


def idx(array) -> bytes:
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.astype(np.uint8).tobytes()


def make_files(seed) -> dict[str, bytes]:
    """The four .gz of a data set of 40 training and 20 test images."""
    random = np.random.RandomState(seed)
    files = {}
    for part, n in (("train", 40), ("t10k", 20)):
        files[f"{part}-images-idx3-ubyte"] = idx(random.randint(0, 256, (n, 28, 28)))
        files[f"{part}-labels-idx1-ubyte"] = idx(random.permutation(np.arange(n) % 10))
    return {f"{name}.gz": gzip.compress(files[name], mtime=0) for name in NAMES}


GOOD, OTHER = make_files(0), make_files(1)  # OTHER has the same names and shapes, as MNIST has


def extracted(files):
    return {name[:-3]: gzip.decompress(body) for name, body in files.items()}


class Mirror(ThreadingHTTPServer):
    """Serves GOOD; `answer(handler, body)` may do something else."""

    daemon_threads, block_on_close = True, False

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer, self.requests, self.released = send, [], threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}/"

    def handle_error(self, request, client_address):
        """A client that hangs up early is part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        name = self.path.strip("/")
        self.server.requests.append(name)
        self.server.answer(self, GOOD[name])

    def log_message(self, *args):
        pass


def send(handler, body, status=200, length=None):
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(body) if length is None else length))
    handler.end_headers()
    handler.wfile.write(body)


def send_error(status):
    return lambda handler, body: handler.send_error(status)


def hang_in_the_body(handler, body):
    send(handler, body[: len(body) // 2], length=len(body))
    handler.wfile.flush()
    handler.server.released.wait(60)


@pytest.fixture
def mirror(monkeypatch):
    """The small data set takes the official one's place, the server the official server's."""
    server = Mirror()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
    contents = {name: gzip.decompress(GOOD[f"{name}.gz"]) for name in NAMES}
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    monkeypatch.setattr(data, "CONTENT_SHA256", hashes)
    monkeypatch.setattr(data, "VALIDATION_SIZE", 20)
    monkeypatch.setattr(data, "TIMEOUT", 0.3)
    monkeypatch.setattr(data, "MIRROR", server.url)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield server
    server.released.set()
    server.shutdown()
    server.server_close()


def raw(root) -> Path:
    return Path(root) / "FashionMNIST" / "raw"


def put(root, files) -> Path:
    raw(root).mkdir(parents=True, exist_ok=True)
    for name, body in files.items():
        (raw(root) / name).write_bytes(body)
    return raw(root)


def assert_good(loaded):
    """The loaded tensors are those of GOOD, read here without any code of the package."""
    assert (loaded.name, loaded.note, loaded.is_stand_in) == ("Fashion-MNIST", "", False)
    files = {name: body[16 if "images" in name else 8 :] for name, body in extracted(GOOD).items()}
    images, labels = (files[name] for name in NAMES[:2])
    assert loaded.test.images.numpy().tobytes() == files[NAMES[2]]
    assert loaded.test.labels.tolist() == list(files[NAMES[3]])
    assert [len(loaded.train), len(loaded.validation)] == [20, 20]
    assert {(images[784 * i : 784 * (i + 1)], labels[i]) for i in range(40)} == {
        (image.numpy().tobytes(), int(label))
        for split in (loaded.train, loaded.validation)
        for image, label in zip(split.images, split.labels, strict=True)
    }


def assert_only_whole_files(root):
    """No temporary file left, and no .gz that is not the official one."""
    assert not [p for p in Path(root).rglob("*") if p.is_file() and not p.name.startswith("t")]
    assert all(path.read_bytes() == GOOD[path.name] for path in raw(root).glob("*.gz"))


# --- what is downloaded, kept and repaired -----------------------------------------------------


@pytest.mark.parametrize("have", [0, 3, 4])
def test_only_missing_files_are_requested(mirror, tmp_path, have, capfd):
    put(tmp_path, dict(list(GOOD.items())[:have]))
    assert_good(load_fashion_mnist(tmp_path))
    assert mirror.requests == list(GOOD)[have:]
    assert sorted(p.name for p in raw(tmp_path).iterdir()) == sorted(GOOD)
    assert capfd.readouterr() == ("", "")


def test_extracted_files_are_enough_but_not_believed(mirror, tmp_path):
    put(tmp_path / "a", extracted(GOOD))
    put(tmp_path / "b", GOOD | extracted(OTHER))
    theirs = FashionMNIST(tmp_path / "b")  # torchvision takes any
    assert Split(theirs.data, theirs.targets).images.shape == (40, 784)
    with pytest.raises(TypeError, match=r"got FashionMNIST; .* set d Split\(d.data, d.targets\)"):
        Split(theirs)
    for root in (tmp_path / "a", tmp_path / "b"):
        assert_good(load_fashion_mnist(root))
    assert mirror.requests == []


def damaged(change):
    return {**GOOD, f"{TRAIN_IMAGES}.gz": change(GOOD[f"{TRAIN_IMAGES}.gz"])}


WRONG_FILES = {  # what lies in the folder, and what the message must say of it
    "truncated gz": (damaged(lambda b: b[:9000]), "end-of-stream"),
    "flipped bits": (damaged(lambda b: b[:10] + bytes([b[10] | 6]) + b[11:]), "invalid block type"),
    "HTML for gz": (damaged(lambda b: b"<!DOCTYPE html>"), "Not a gzipped file"),
    "another data set": (OTHER, "another data set's"),
    "one of four": ({f"{NAMES[3]}.gz": b"wrong"}, "images.* is missing, .*labels.* can not be"),
    "extracted, cut": ({n: b[:500] for n, b in extracted(GOOD).items()}, "damaged"),
}


@pytest.mark.parametrize("fault", WRONG_FILES)
def test_wrong_files_are_replaced_or_named_and_left(mirror, tmp_path, fault):
    files, message = WRONG_FILES[fault]
    folder = put(tmp_path, files)
    mirror.answer = send_error(404)
    for source in ("real", "auto"):
        with pytest.raises(DataError, match=message) as caught:
            load_data(source, tmp_path)
        assert not isinstance(caught.value, DownloadError)
        assert_helpful(caught.value, folder)
        assert TRAIN_IMAGES in str(caught.value).split("by hand")[0]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files
    mirror.answer = send
    assert_good(load_fashion_mnist(tmp_path))
    assert_only_whole_files(tmp_path)


def assert_helpful(error, folder):
    """One sentence, with the absolute folder and where the files are to be had."""
    message = str(error)
    assert "\n" not in message and f"from {folder.absolute()}: " in message
    assert message.endswith(f"put the official files there by hand, from {data.MIRROR}")


# --- servers -----------------------------------------------------------------------------------

NO_ANSWER = {"no name server": "timed out", "nobody listens": "refused"}
SERVER_FAULTS = {
    "HTML": (lambda h, body: send(h, b"<!DOCTYPE html><title>Log in</title>"), "Not a gzipped"),
    "truncated": (lambda h, body: send(h, body[:900], length=len(body)), "IncompleteRead"),
    "another data set": (lambda h, body: send(h, OTHER[h.path.strip("/")]), "another data set's"),
    "hangs in the body": (hang_in_the_body, "timed out"),
}


@pytest.mark.parametrize("fault", [*SERVER_FAULTS, *NO_ANSWER])
def test_server_faults(mirror, tmp_path, fault, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with socket.socket() as unused, monkeypatch.context() as patch:
        if fault in SERVER_FAULTS:
            mirror.answer, message = SERVER_FAULTS[fault]
        else:
            message = NO_ANSWER[fault]
            unused.bind(("127.0.0.1", 0))  # bound, not listening: connections are refused
            patch.setattr(data, "MIRROR", f"http://127.0.0.1:{unused.getsockname()[1]}/")
            if fault == "no name server":  # a wait that no timeout of a socket ends
                patch.setattr(socket, "getaddrinfo", lambda *args: mirror.released.wait(60))
        with pytest.raises(DownloadError, match=message) as caught:
            load_fashion_mnist()
        assert_helpful(caught.value, raw("data"))
        loaded = load_data()
    assert not list(tmp_path.iterdir()) and len(mirror.requests) in (0, 2), "one file, each time"
    assert_stand_in(loaded)
    assert re.search(message, loaded.note)
    mirror.answer = send
    assert_good(load_fashion_mnist())


def assert_stand_in(loaded):
    """A stand-in that says so, in one short sentence that can be printed and kept anywhere."""
    assert loaded.is_stand_in and loaded.note
    assert loaded.name == "scikit-learn digits, a stand-in for Fashion-MNIST"
    assert len(loaded.note) < 150 and "\n" not in loaded.note
    assert "/" not in loaded.note and "\\" not in loaded.note


def test_files_received_before_the_fault_are_kept(mirror, tmp_path):
    last = list(GOOD)[-1]
    mirror.answer = lambda handler, body: (
        handler.send_error(404) if body == GOOD[last] else send(handler, body)
    )
    with pytest.raises(DownloadError, match=f"raw: {last} is missing, and"):
        load_fashion_mnist(tmp_path)
    assert sorted(p.name for p in raw(tmp_path).iterdir()) == sorted(set(GOOD) - {last})


# --- folders and processes ---------------------------------------------------------------------


def test_a_folder_that_can_not_be_written_is_named(mirror, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(DataError, match="can not be used .*Not a directory"):
        mirror.answer = send_error(404)
        load_data("auto", tmp_path / "file")
    mirror.answer = send

    def refuse(*args, **kwargs):  # by chmod a folder would not refuse root
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(files.os, "fsync", refuse)
    for source in ("real", "auto"):
        with pytest.raises(OSError, match="idx3-ubyte.gz .* can not be written: Permission"):
            load_data(source, tmp_path)
    put(tmp_path, GOOD)
    assert_good(load_fashion_mnist(tmp_path))


def test_two_loads_at_once(mirror, tmp_path, monkeypatch):
    def send_when_both_have_asked(handler, body):
        deadline = time.monotonic() + 60
        while len(mirror.requests) < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        send(handler, body)

    mirror.answer = send_when_both_have_asked
    monkeypatch.setattr(data, "TIMEOUT", 60)
    with ThreadPool(2) as pool:
        for loaded in pool.map(load_fashion_mnist, [tmp_path] * 2):
            assert_good(loaded)
    assert_only_whole_files(tmp_path)


# --- the stand-in, the real files -------------------------------------------------------------


def test_stand_in_is_scikit_learns_digits_and_touches_neither_server_nor_disk(mirror, tmp_path):
    loaded = load_data("stand-in", tmp_path)
    assert_stand_in(loaded)
    assert mirror.requests == [] and not list(tmp_path.iterdir())
    splits = (loaded.train, loaded.validation, loaded.test)
    assert [len(s) for s in splits] == [1_197, 200, 400]
    assert loaded.class_names == tuple("0123456789")
    assert loaded.checksum == data.load_stand_in().checksum
    digits = load_digits()
    pictures = torch.cat([s.images for s in splits]).reshape(-1, 28, 28)
    small = pictures[:, 3:27:3, 3:27:3].flatten(1) / 255 * 16  # the middle of each 3 x 3 pixels
    original = torch.cdist(small, torch.from_numpy(digits.data).float()).argmin(dim=1)
    assert len(original.unique()) == 1_797, "every digit is in one split, once"
    labels = torch.cat([s.labels for s in splits])
    assert labels.tolist() == digits.target[original.numpy()].tolist()


def test_real_data():
    if not all((raw(PROJECT / "data") / f"{name}.gz").exists() for name in NAMES):
        pytest.skip("Fashion-MNIST is not in data/ (make report, or data/README.md, puts it there)")
    loaded = load_fashion_mnist(PROJECT / "data")
    splits = (loaded.train, loaded.validation, loaded.test)
    assert [len(split) for split in splits] == [55_000, 5_000, 10_000]
    assert all(len(torch.bincount(split.labels).unique()) == 1 for split in splits), "balanced"
    assert loaded.class_names == tuple(FashionMNIST.classes)
    assert loaded.checksum == "967ad1bf9aa3e35508c576bc95411f5e979eeadc9c78dff438c6a82e92ab90dc"


def test_the_page_on_the_data_names_the_official_files():
    assert [f"{name}.gz" for name in NAMES] == [name for name, _ in FashionMNIST.resources]
    assert data.MIRROR in FashionMNIST.mirrors
    page = (PROJECT / "data" / "README.md").read_text(encoding="utf-8")
    assert all(f"| `{name}` | `{md5}` |" in page for name, md5 in FashionMNIST.resources)
