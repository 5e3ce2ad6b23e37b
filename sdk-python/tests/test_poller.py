"""Waiting where there is little to wait with."""

from __future__ import annotations

import errno
import os
import select
import socket
from typing import Any

import pytest

from logweir.delivery.poller import Poller


def test_without_poll_and_without_sockets_it_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    real = select.select

    def select_as_windows(*given: Any) -> Any:
        if not any(given[:3]):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return real(*given)

    def no_file_is_free() -> Any:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.delattr(select, "poll")
    monkeypatch.setattr(select, "select", select_as_windows)
    poller = Poller()
    with monkeypatch.context() as without_files:
        without_files.setattr(socket, "socketpair", no_file_is_free)
        assert poller.wait((), 0.001) == {}
    poller.wake()
    assert poller.wait((), 3_600) == {}
    poller.close()
