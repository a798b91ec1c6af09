"""Data loading: the split, the checksums, and every fault a disk, a folder or a server can show.

The fault tests use a small data set of their own whose files and checksums stand in for the
official ones, and a server on the loopback interface; no test reaches a network.
"""

import functools
import gzip
import hashlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.datasets import FashionMNIST

from vae_helpers import data
from vae_helpers.data import DataError, DownloadError, load_data, load_fashion_mnist

PROJECT = Path(__file__).resolve().parent.parent
NAMES = list(data.CONTENT_SHA256)
OFFICIAL = dict(data.CONTENT_SHA256)
TRAIN_IMAGES = "train-images-idx3-ubyte"


# --- the split ---------------------------------------------------------------------------------


def numbered(labels):
    """One image per label that carries its own index in its first two pixels."""
    images = torch.zeros(len(labels), 784, dtype=torch.uint8)
    index = torch.arange(len(labels))
    images[:, 0], images[:, 1] = index // 256, index % 256
    return images


def indices(split):
    return split.images[:, 0].long() * 256 + split.images[:, 1].long()


@functools.cache
def full_split():
    labels = torch.arange(60_000) % 10
    labels = labels[torch.from_numpy(np.random.RandomState(7).permutation(60_000))]
    return labels, *data.split_train_validation(numbered(labels), labels)


def test_split_is_a_partition_and_keeps_images_with_their_labels():
    labels, train, validation = full_split()
    assert (len(train), len(validation)) == (55_000, 5_000)
    everything = torch.cat([indices(train), indices(validation)])
    assert torch.equal(everything.sort().values, torch.arange(60_000))
    for split in (train, validation):
        assert torch.equal(split.labels, labels[indices(split)])


def test_split_is_stratified():
    _, train, validation = full_split()
    assert torch.bincount(validation.labels).tolist() == [500] * 10
    assert torch.bincount(train.labels).tolist() == [5_500] * 10


def test_split_is_fixed():
    _, _, validation = full_split()
    digest = hashlib.sha256(indices(validation).numpy().astype("<i8").tobytes()).hexdigest()
    assert digest == "7ff73285105b70b2e6ac1fafd35ab0f10ea83e7b08e35d981c060f3fa882b0d4"


@pytest.mark.parametrize("size", [0, -10, 15, 60_000, 70_000])
def test_split_refuses_a_size_that_can_not_be_stratified(size):
    labels = torch.arange(60_000) % 10
    with pytest.raises(ValueError, match=f"multiple of 10.*got {size}"):
        data.split_train_validation(torch.zeros(60_000, 1, dtype=torch.uint8), labels, size)


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


class Mirror(ThreadingHTTPServer):
    """Serves `files`; `answer(handler, body)` may do something else."""

    daemon_threads, block_on_close = True, False

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files, self.answer, self.requests = dict(GOOD), send, []
        self.released = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}/"

    def handle_error(self, request, client_address):
        """A client that hangs up early is part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        name = self.path.strip("/")
        self.server.requests.append(name)
        self.server.answer(self, self.server.files[name])

    def log_message(self, *args):
        pass


def send(handler, body, status=200, length=None):
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(body) if length is None else length))
    handler.end_headers()
    handler.wfile.write(body)


def send_error(status):
    return lambda handler, body: handler.send_error(status)


def send_page(handler, body):
    send(handler, b"<!DOCTYPE html><title>Log in to the campus network</title>")


def send_half(handler, body):
    send(handler, body[: len(body) // 2], length=len(body))


def hang(handler, body):
    handler.server.released.wait(60)


def hang_in_the_body(handler, body):
    send(handler, body[: len(body) // 2], length=len(body))
    handler.wfile.flush()
    handler.server.released.wait(60)


def refuse_and_hang_up(handler, body):
    handler.connection.close()


@pytest.fixture
def mirror(monkeypatch):
    """The small data set takes the official one's place, the server the official server's."""
    server = Mirror()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
    for name, value in official_values(server.url).items():
        owner = FashionMNIST if name in ("resources", "mirrors") else data
        monkeypatch.setattr(owner, name, value)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield server
    server.released.set()
    server.shutdown()
    server.server_close()


def official_values(url):
    return {
        "CONTENT_SHA256": {
            name: hashlib.sha256(gzip.decompress(GOOD[f"{name}.gz"])).hexdigest() for name in NAMES
        },
        "VALIDATION_SIZE": 20,
        "resources": [(name, hashlib.md5(body).hexdigest()) for name, body in GOOD.items()],
        "mirrors": [url],
    }


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
    test_images = np.frombuffer(gzip.decompress(GOOD["t10k-images-idx3-ubyte.gz"])[16:], np.uint8)
    test_labels = list(gzip.decompress(GOOD["t10k-labels-idx1-ubyte.gz"])[8:])
    assert np.array_equal(loaded.test.images.numpy(), test_images.reshape(20, 784))
    assert loaded.test.labels.tolist() == test_labels
    train = gzip.decompress(GOOD["train-images-idx3-ubyte.gz"])[16:]
    labels = gzip.decompress(GOOD["train-labels-idx1-ubyte.gz"])[8:]
    pairs = {(train[784 * i : 784 * (i + 1)], labels[i]) for i in range(40)}
    splits = (loaded.train, loaded.validation)
    assert pairs == {pair for split in splits for pair in image_label_pairs(split)}
    assert [len(s) for s in splits] == [20, 20]
    for split in (*splits, loaded.test):
        assert split.images.dtype == torch.uint8 and split.labels.dtype == torch.int64


def image_label_pairs(split):
    images = [image.tobytes() for image in split.images.numpy()]
    return zip(images, split.labels.tolist(), strict=True)


def assert_only_whole_files(root):
    """No temporary folder left, and no .gz that is not the official one."""
    assert not list(Path(root).rglob(".download-*"))
    for path in raw(root).glob("*.gz"):
        assert path.read_bytes() == GOOD[path.name]


# --- what is downloaded, kept and repaired -----------------------------------------------------


def test_download_into_an_empty_folder(mirror, tmp_path):
    assert_good(load_fashion_mnist(tmp_path))
    assert_only_whole_files(tmp_path)
    assert sorted(p.name for p in raw(tmp_path).iterdir()) == sorted(GOOD)


def test_nothing_is_requested_when_the_files_are_there(mirror, tmp_path):
    put(tmp_path, GOOD)
    assert_good(load_fashion_mnist(tmp_path))
    assert mirror.requests == []


def test_only_missing_files_are_requested(mirror, tmp_path):
    put(tmp_path, {name: GOOD[name] for name in list(GOOD)[:3]})
    assert_good(load_fashion_mnist(tmp_path))
    assert set(mirror.requests) == {list(GOOD)[3]}


def test_extracted_official_files_are_enough(mirror, tmp_path):
    put(tmp_path, {name[:-3]: gzip.decompress(body) for name, body in GOOD.items()})
    assert_good(load_fashion_mnist(tmp_path))
    assert mirror.requests == []


def test_stale_extracted_files_beside_good_ones_are_not_read(mirror, tmp_path):
    put(tmp_path, GOOD)
    put(tmp_path, {name[:-3]: gzip.decompress(body) for name, body in OTHER.items()})
    assert FashionMNIST(tmp_path).data.shape == (40, 28, 28), "torchvision takes them unverified"
    assert_good(load_fashion_mnist(tmp_path))
    assert mirror.requests == []


def swapped(files):
    images, labels = f"{TRAIN_IMAGES}.gz", "train-labels-idx1-ubyte.gz"
    return {**files, images: files[labels], labels: files[images]}


def damaged(change):
    return {**GOOD, f"{TRAIN_IMAGES}.gz": change(GOOD[f"{TRAIN_IMAGES}.gz"])}


def flip_a_bit(body):
    return body[:2000] + bytes([body[2000] ^ 4]) + body[2001:]


WRONG_FILES = {  # what lies in the folder, and what the message must say of it
    "truncated gz": (damaged(lambda b: b[:9000]), "end-of-stream"),
    "empty gz": (damaged(lambda b: b""), "holds no images"),
    "flipped bit": (damaged(flip_a_bit), "can not be read as the official file"),
    "HTML for gz": (damaged(lambda b: b"<!DOCTYPE html>"), "Not a gzipped file"),
    "not gzipped": (damaged(gzip.decompress), "Not a gzipped file"),
    "another data set": (OTHER, "another data set's"),
    "swapped": (swapped(GOOD), "holds labels in the place of images"),
    "extracted, other": (
        {name[:-3]: gzip.decompress(body) for name, body in OTHER.items()},
        "another data set's",
    ),
    "extracted, cut": (
        {name[:-3]: gzip.decompress(body)[:500] for name, body in GOOD.items()},
        "damaged images",
    ),
}


@pytest.mark.parametrize("fault", WRONG_FILES)
def test_wrong_files_are_replaced(mirror, tmp_path, fault):
    put(tmp_path, WRONG_FILES[fault][0])
    assert_good(load_fashion_mnist(tmp_path))
    assert_only_whole_files(tmp_path)


@pytest.mark.parametrize("source", ["real", "auto"])
@pytest.mark.parametrize("fault", WRONG_FILES)
def test_wrong_files_that_can_not_be_replaced_are_named(mirror, tmp_path, fault, source):
    files, message = WRONG_FILES[fault]
    folder = put(tmp_path, files)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    mirror.answer = send_error(404)
    with pytest.raises(DataError, match=message) as caught:
        load_data(source, tmp_path)
    assert not isinstance(caught.value, DownloadError)
    assert_helpful(caught.value, folder)
    assert TRAIN_IMAGES in str(caught.value).split("by hand")[0]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def assert_helpful(error, folder):
    """One sentence, with the folder and the four files to be put there."""
    message = str(error)
    assert "\n" not in message and str(folder) in message and "by hand" in message
    for name, md5 in FashionMNIST.resources:
        assert f"{name} (md5 {md5})" in message


# --- servers -----------------------------------------------------------------------------------

SERVER_FAULTS = {
    "403": (send_error(403), "403"),
    "404": (send_error(404), "404"),
    "500": (send_error(500), "500"),
    "HTML": (send_page, "corrupted"),
    "truncated": (send_half, "corrupted"),
    "hangs": (hang, "timed out"),
    "hangs in the body": (hang_in_the_body, "timed out"),
    "hangs up": (refuse_and_hang_up, "the download failed"),
}


@pytest.mark.parametrize("fault", SERVER_FAULTS)
def test_server_faults(mirror, tmp_path, fault):
    mirror.answer, message = SERVER_FAULTS[fault]
    before = socket.getdefaulttimeout()
    started = time.monotonic()
    with pytest.raises(DownloadError, match=message) as caught:
        load_fashion_mnist(tmp_path, timeout=0.3)
    assert time.monotonic() - started < 5
    assert_helpful(caught.value, raw(tmp_path))
    assert_only_whole_files(tmp_path)
    assert socket.getdefaulttimeout() == before
    mirror.answer = send
    assert_good(load_fashion_mnist(tmp_path))


def test_no_server_at_all(mirror, tmp_path, monkeypatch):
    with socket.socket() as unused:  # bound, not listening: connections are refused
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/"
        monkeypatch.setattr(FashionMNIST, "mirrors", [url])
        with pytest.raises(DownloadError, match="refused"):
            load_fashion_mnist(tmp_path)


def test_files_received_before_the_fault_are_kept(mirror, tmp_path):
    last = list(GOOD)[-1]
    mirror.answer = lambda handler, body: (
        handler.send_error(404) if body == GOOD[last] else send(handler, body)
    )
    with pytest.raises(DownloadError, match=f"{last} is missing"):
        load_fashion_mnist(tmp_path)
    assert sorted(p.name for p in raw(tmp_path).iterdir()) == sorted(set(GOOD) - {last})


def test_nothing_is_printed(mirror, tmp_path, capfd):
    load_fashion_mnist(tmp_path)
    assert capfd.readouterr() == ("", "")


# --- folders and processes ---------------------------------------------------------------------


def test_folder_without_write_permission(mirror, tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryDirectory", refuse)
    for source in ("real", "auto"):
        with pytest.raises(DataError, match="nothing can be written there") as caught:
            load_data(source, tmp_path)
        assert not isinstance(caught.value, DownloadError)
        assert_helpful(caught.value, raw(tmp_path))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root writes anywhere")
def test_folder_really_without_write_permission(mirror, tmp_path):
    put(tmp_path, {})
    folders = [raw(tmp_path), raw(tmp_path).parent]
    try:
        for folder in folders:
            folder.chmod(0o555)
        with pytest.raises(DataError, match="nothing can be written there"):
            load_fashion_mnist(tmp_path)
    finally:
        for folder in folders:
            folder.chmod(0o755)


def test_read_only_folder_with_the_files(mirror, tmp_path):
    folder = put(tmp_path, GOOD)
    folder.chmod(0o555)
    try:
        assert_good(load_fashion_mnist(tmp_path))
        assert sorted(p.name for p in folder.iterdir()) == sorted(GOOD), "nothing is extracted"
    finally:
        folder.chmod(0o755)


def test_a_file_where_the_folder_should_be(mirror, tmp_path):
    (tmp_path / "data").write_text("not a folder")
    with pytest.raises(DataError, match="nothing can be written there"):
        load_fashion_mnist(tmp_path / "data")


CHILD = """
import json, sys
from torchvision.datasets import FashionMNIST
from vae_helpers import data
values = json.loads(sys.argv[1])
for name, value in values.items():
    setattr(FashionMNIST if name in ("resources", "mirrors") else data, name, value)
print("started", flush=True)
sys.stdin.readline()
print(data.load_fashion_mnist(sys.argv[2]).checksum)
"""


def start_child(mirror, root):
    values = json.dumps(official_values(mirror.url))
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, values, str(root)], cwd=PROJECT, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def wait_until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def go(child):
    child.stdin.write("\n")
    child.stdin.flush()


def test_a_killed_process_then_two_at_once(mirror, tmp_path):
    killed, other = children = [start_child(mirror, tmp_path) for _ in range(2)]
    try:
        assert [child.stdout.readline() for child in children] == ["started\n"] * 2
        mirror.answer = hang_in_the_body
        go(killed)
        wait_until(lambda: list(Path(tmp_path).rglob(f".download-*/**/{TRAIN_IMAGES}.gz")))
        killed.kill()
        killed.wait()
        assert not list(raw(tmp_path).iterdir()), "nothing half-written where files are read"

        mirror.requests.clear()
        mirror.answer = send_once_two_have_asked
        go(other)
        here = load_fashion_mnist(tmp_path)
        out, err = other.communicate(timeout=60)
    finally:
        for child in children:
            child.kill()
            child.communicate()
    assert other.returncode == 0, err
    assert_good(here)
    assert out == f"{here.checksum}\n"


def send_once_two_have_asked(handler, body):
    """Holds a process's first request until the other process has sent one too."""
    wait_until(lambda: len(handler.server.requests) >= 2)
    send(handler, body)


# --- load_data, the stand-in, arguments --------------------------------------------------------


def test_auto_falls_back_to_the_stand_in_and_says_why(mirror, tmp_path, recwarn):
    mirror.answer = send_error(403)
    loaded = load_data("auto", tmp_path)
    assert loaded.is_stand_in and loaded.name == "synthetic stand-in"
    assert "403" in loaded.note and "by hand" in loaded.note
    assert not recwarn.list
    with pytest.raises(DownloadError, match="403"):
        load_data("real", tmp_path)


def test_auto_takes_the_real_data_when_it_can(mirror, tmp_path):
    put(tmp_path, GOOD)
    assert_good(load_data("auto", tmp_path))


def test_stand_in_on_request_touches_neither_server_nor_disk(mirror, tmp_path):
    loaded = load_data("stand-in", tmp_path)
    assert loaded.is_stand_in and loaded.note
    assert mirror.requests == [] and not list(tmp_path.iterdir())


def test_stand_in_sizes_splits_and_seed():
    loaded = data.load_stand_in(120, 40, 50, seed=1)
    assert [len(s) for s in (loaded.train, loaded.validation, loaded.test)] == [120, 40, 50]
    rows = torch.cat([loaded.train.images, loaded.validation.images, loaded.test.images])
    assert len(rows.unique(dim=0)) == 210, "no image is in two splits"
    assert loaded.checksum == data.load_stand_in(120, 40, 50, seed=1).checksum
    assert loaded.checksum != data.load_stand_in(120, 40, 50, seed=2).checksum
    with pytest.raises(ValueError, match="test_size must be at least 1"):
        data.load_stand_in(10, 10, 0)


def test_arguments(tmp_path):
    with pytest.raises(ValueError, match='source must be "auto", "real" or "stand-in", got \'x\''):
        load_data("x", tmp_path)
    for timeout in (0, -1, float("nan"), "30", None):
        with pytest.raises(ValueError, match="timeout must be"):
            load_fashion_mnist(tmp_path, timeout)


# --- the real files ----------------------------------------------------------------------------


def real_root():
    if not all((raw(PROJECT / "data") / f"{name}.gz").exists() for name in NAMES):
        pytest.skip("Fashion-MNIST is not in data/ (make report, or data/README.md, puts it there)")
    return PROJECT / "data"


def test_real_data():
    loaded = load_fashion_mnist(real_root())
    splits = (loaded.train, loaded.validation, loaded.test)
    assert [len(split) for split in splits] == [55_000, 5_000, 10_000]
    for split in splits:
        assert len(torch.bincount(split.labels).unique()) == 1, "balanced classes"
    assert tuple(FashionMNIST.classes) == data.CLASS_NAMES
    assert loaded.checksum == "967ad1bf9aa3e35508c576bc95411f5e979eeadc9c78dff438c6a82e92ab90dc"


def test_checksums_are_those_of_the_files_torchvision_verifies():
    root = real_root()
    for name, md5 in FashionMNIST.resources:
        body = (raw(root) / name).read_bytes()
        assert hashlib.md5(body).hexdigest() == md5
        assert hashlib.sha256(gzip.decompress(body)).hexdigest() == OFFICIAL[name[:-3]]
        assert len(gzip.decompress(body)) <= data.LARGEST_FILE


def test_float_batches_are_the_floats_piece_by_piece(tiny_data):
    batches = list(tiny_data.train.float_batches(128))
    assert [len(batch) for batch in batches] == [128] * 4 + [88]
    assert torch.equal(torch.cat(batches), tiny_data.train.floats())
