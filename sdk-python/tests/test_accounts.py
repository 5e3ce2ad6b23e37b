"""A client against a real server: what becomes of the logs, and what the account says of them."""

from __future__ import annotations

from typing import Any

import pytest
import vectors
from clients import HOUR, client_of
from server import PATIENCE, Refuse, Reject, Server, serving

from logweir import Client

CASES = vectors.load("accounts")["cases"]


def told(server: Server, answer: Any) -> None:
    if "too_large_over" in answer:
        server.records_max = answer["too_large_over"]
    elif "reject" in answer:
        server.answers.append(Reject(answer["reject"]))
    elif "store_then_refuse" in answer:
        server.answers.append(Refuse(**answer["store_then_refuse"], stores=True))
    else:
        server.answers.append(Refuse(**answer["refuse"]))


def emit(client: Client, logs: Any) -> None:
    number = 0
    for group in logs:
        for _ in range(group["count"]):
            client.emit(group["level"], f"log {number}")
            number += 1


@pytest.mark.parametrize("case", CASES, ids=vectors.names(CASES))
def test_account(case: Any) -> None:
    settings = dict(case["settings"])
    is_paused = settings.pop("is_paused", False)
    with serving() as server:
        for answer in case["answers"]:
            told(server, answer)
        given = {"batch_delay": HOUR, "in_flight": 1, **settings}
        with client_of(server.endpoint, **given) as client:
            if is_paused:
                # The sending thread takes nothing in without the lock.
                with client.shared.queue.lock:
                    emit(client, case["emit"])
            else:
                emit(client, case["emit"])
            client.flush(PATIENCE)
            check_stats(client, case["stats"])
            check_server(server, client, case)


def check_stats(client: Client, expected: Any) -> None:
    stats = client.stats()
    assert {name: getattr(stats, name) for name in expected} == expected
    assert stats.emitted == stats.sent + stats.rejected + sum(stats.dropped.values())


def check_server(server: Server, client: Client, case: Any) -> None:
    messages = server.messages
    assert len(messages) == len(set(messages)) == case["stored"]
    if case["attempts"] is not None:
        assert len(server.attempts) == case["attempts"]
    if case["account"] is not None:
        assert client._worker is not None
        account = server.last_account(client._worker._batcher.producer_id)
        dropped = {drop.reason: drop.count for drop in account.dropped}
        found = {"emitted": account.emitted, "dropped": dropped, "rejected": account.rejected}
        assert found == case["account"]
    accounts = [
        server.last_account(producer)
        for producer in {batch.producer.producer_id for batch in server.stored.values()}
    ]
    told_of = sum(
        account.rejected + sum(drop.count for drop in account.dropped if drop.reason != "moved")
        for account in accounts
    )
    moved = sum(drop.count for a in accounts for drop in a.dropped if drop.reason == "moved")
    emitted = sum(account.emitted for account in accounts) - moved
    assert emitted == len(messages) + told_of
