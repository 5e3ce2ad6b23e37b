"""Those who wait for a flush are answered, whatever happens meanwhile."""

from __future__ import annotations

import pytest

from logweir.delivery.queue import QueueBounds
from logweir.delivery.shared import Command, Shared
from logweir.delivery.wait import Waiters


def test_a_fault_while_one_is_answered_loses_nobody_who_waits() -> None:
    shared = Shared(QueueBounds(1, 1))
    faults = [RuntimeError("no")]

    def tell_account(now: float) -> None:
        if faults:
            raise faults.pop()

    waiters = Waiters(shared, tell_account)
    commands = [Command(deadline=10.0, closes=False) for _ in range(3)]
    shared.commands.extend(commands)
    waiters.accept_commands(1.0)
    with pytest.raises(RuntimeError):
        waiters.reply(1.0)
    waiters.reply(2.0)
    assert all(command.replied.is_set() for command in commands)
