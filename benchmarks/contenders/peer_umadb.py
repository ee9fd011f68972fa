"""UmaDB, with the server that its wheel brings: an append is conditional on no event with the stream's tag."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import umadb

from benchmarks.contenders.raw import packed
from benchmarks.samples import new_id


class UmaDb:
    """A server of its own, in a directory; a client for each thread."""

    def __init__(self, directory: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address: tuple[str, int] = probe.getsockname()
        listen = "{}:{}".format(*self.address)
        command = [str(Path(sys.executable).with_name("umadb")), "--listen", listen, "--db-path", str(directory)]
        self._server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.reach_through(self.address[1])
        for _ in range(100):
            try:
                self._client().head()
            except Exception:  # noqa: BLE001 it is starting
                time.sleep(0.1)
            else:
                return
        raise RuntimeError("the server of UmaDB does not answer")

    def reach_through(self, port: int) -> None:
        """Use this port of the machine from now on."""
        self._url = f"http://127.0.0.1:{port}"
        self._local = threading.local()

    def _client(self) -> umadb.Client:
        if not hasattr(self._local, "client"):
            self._local.client = umadb.Client(self._url)
        client: umadb.Client = self._local.client
        return client

    def append(self, count: int) -> None:
        tag = new_id()
        events = [umadb.Event("LineAdded", packed(number), [tag]) for number in range(count)]
        nothing_yet = umadb.AppendCondition(umadb.Query([umadb.QueryItem(tags=[tag])]))
        self._client().append(events, nothing_yet)

    def close(self) -> None:
        self._server.terminate()
        self._server.wait()
