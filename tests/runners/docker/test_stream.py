"""Streams cut into pieces, over connections of all kinds."""

from __future__ import annotations

import contextlib
import itertools
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llem.runners.docker.stream import STDERR, STDOUT, Demultiplexer, Stream
from tests.builders import UNHURRIED

BLOCKS = st.lists(st.tuples(st.sampled_from([STDOUT, STDERR]), st.binary(max_size=40)))


def block(kind: int, data: bytes) -> bytes:
    return bytes([kind, 0, 0, 0]) + len(data).to_bytes(4, "big") + data


def joined(pieces: list[tuple[int, bytes]]) -> dict[int, bytes]:
    found = {STDOUT: b"", STDERR: b""}
    for kind, data in pieces:
        found[kind] += data
    return found


@UNHURRIED
@given(BLOCKS, st.lists(st.integers(0, 400)))
def test_wherever_the_bytes_are_cut_the_streams_are_the_same(
    blocks: list[tuple[int, bytes]], cuts: list[int]
) -> None:
    data = b"".join(block(*each) for each in blocks)
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    demultiplexer = Demultiplexer()
    pieces = [
        piece
        for first, last in itertools.pairwise(places)
        for piece in demultiplexer.feed(data[first:last])
    ]
    assert joined(pieces) == joined(blocks)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and a certificate of its own."""
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    subject = ["-subj", "/CN=localhost", "-days", "2", "-nodes"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", *subject]
    subprocess.run(
        [*command, "-keyout", str(path), "-out", f"{path}.crt"], check=True, capture_output=True
    )
    path.write_text(path.read_text() + Path(f"{path}.crt").read_text())
    return path


@pytest.fixture(params=["unix", "tcp", "tls"])
def ends(
    request: pytest.FixtureRequest, certificate: Path
) -> Iterator[tuple[Stream, socket.socket]]:
    """A stream, and the daemon's end of it."""
    if request.param == "unix":
        ours, theirs = socket.socketpair()
    else:
        with socket.create_server(("127.0.0.1", 0)) as server:
            ours = socket.create_connection(server.getsockname())
            theirs, _ = server.accept()
    if request.param == "tls":
        ours, theirs = encrypted(ours, theirs, certificate)
    stream = Stream(ours)
    with theirs:
        theirs.settimeout(30)
        yield stream, theirs
        stream.close()


def encrypted(
    ours: socket.socket, theirs: socket.socket, certificate: Path
) -> tuple[socket.socket, socket.socket]:
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(certificate)
    asking = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    asking.check_hostname = False
    asking.verify_mode = ssl.CERT_NONE
    found: list[socket.socket] = []
    shaking = threading.Thread(
        target=lambda: found.append(serving.wrap_socket(theirs, server_side=True))
    )
    shaking.start()
    wrapped = asking.wrap_socket(ours)
    shaking.join()
    return wrapped, found[0]


def test_both_directions(ends: tuple[Stream, socket.socket]) -> None:
    stream, theirs = ends
    assert stream.send(b"a request\n") is True
    assert theirs.recv(100) == b"a request\n"
    theirs.sendall(block(STDOUT, b"a frame\n"))
    assert stream.receive(10) == [(STDOUT, b"a frame\n")]


def test_a_wait_in_vain_ends_in_time(ends: tuple[Stream, socket.socket]) -> None:
    stream, _ = ends
    begun = time.monotonic()
    assert stream.receive(0.05) is None
    assert time.monotonic() - begun < 10
    assert not stream.ended


def test_more_than_one_read_takes_is_all_there(ends: tuple[Stream, socket.socket]) -> None:
    stream, theirs = ends
    data = bytes(range(256)) * 4096
    sending = threading.Thread(
        target=lambda: theirs.sendall(block(STDOUT, data) + block(STDERR, b"log"))
    )
    sending.start()
    pieces: list[tuple[int, bytes]] = []
    while sum(len(piece) for _, piece in pieces) < len(data) + 3:
        # What a TLS connection has decrypted already is not seen at its socket.
        taken = stream.receive(10)
        assert taken
        pieces += taken
    sending.join()
    assert joined(pieces) == {STDOUT: data, STDERR: b"log"}


def test_a_large_request_arrives_while_something_is_read(
    ends: tuple[Stream, socket.socket],
) -> None:
    stream, theirs = ends
    data = b"x" * 3_000_000
    sent: list[bool] = []
    sending = threading.Thread(target=lambda: sent.append(stream.send(data)))
    sending.start()
    theirs.sendall(block(STDOUT, b"meanwhile"))
    assert stream.receive(10) == [(STDOUT, b"meanwhile")]
    count = 0
    while count < len(data):
        count += len(theirs.recv(1 << 16))
    sending.join()
    assert sent == [True]


def test_output_is_read_after_the_end_of_the_input(ends: tuple[Stream, socket.socket]) -> None:
    stream, theirs = ends
    stream.end_input()
    assert theirs.recv(100) == b""
    theirs.sendall(block(STDERR, b"the last words"))
    assert stream.receive(10) == [(STDERR, b"the last words")]


def test_the_end_of_the_output_is_told_for_good(ends: tuple[Stream, socket.socket]) -> None:
    stream, theirs = ends
    theirs.close()
    assert stream.receive(10) == []
    assert stream.ended
    assert stream.receive(10) == []


def test_writing_to_nobody_is_no_error(ends: tuple[Stream, socket.socket]) -> None:
    stream, theirs = ends
    theirs.close()
    assert stream.send(b"x" * 3_000_000) is False
    stream.close()
    assert stream.send(b"more") is False
    stream.end_input()


def test_a_request_nobody_takes_ends_with_the_output(ends: tuple[Stream, socket.socket]) -> None:
    stream, theirs = ends
    begun = time.monotonic()
    theirs.sendall(block(STDERR, b"no such program"))
    # As a daemon does when a process ended: it reads no more, and closes one direction only.
    if isinstance(theirs, ssl.SSLSocket):
        theirs.settimeout(0)
        with contextlib.suppress(ssl.SSLWantReadError):
            theirs.unwrap()
    socket.socket.shutdown(theirs, socket.SHUT_WR)
    assert stream.send(b"x" * 30_000_000) is False
    assert time.monotonic() - begun < 20
    assert stream.receive(10) == [(STDERR, b"no such program")]
    assert stream.receive(10) == []


class Slow(socket.socket):
    """A connection whose writes take until they are let through."""

    def __init__(self, other: socket.socket) -> None:
        super().__init__(fileno=other.detach())
        self.begun, self.let_through = threading.Event(), threading.Event()

    def send(self, data: Any, flags: int = 0) -> int:
        self.begun.set()
        assert self.let_through.wait(30)
        return super().send(data, flags)


def test_a_connection_is_not_closed_beneath_a_write() -> None:
    # The next one to be opened may get its number, and then what is still to be written.
    ours, theirs = socket.socketpair()
    raw = Slow(ours)
    stream = Stream(raw)
    writing = threading.Thread(target=stream.send, args=[b"beat"])
    writing.start()
    assert raw.begun.wait(30)
    closing = threading.Thread(target=stream.close)
    closing.start()
    closing.join(0.2)
    assert raw.fileno() != -1
    raw.let_through.set()
    writing.join()
    closing.join()
    assert raw.fileno() == -1
    with theirs:
        assert theirs.recv(100) == b"beat"
        assert theirs.recv(100) == b""
