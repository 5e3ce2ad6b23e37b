"""A worker of Celery that logs each task, with its queue in a folder.

celery -A tasks worker      with TASKS_FOLDER
"""

from __future__ import annotations

import logging
import os
from typing import Any

from celery import Celery, signals

import logweir

FOLDER = os.environ["TASKS_FOLDER"]
application = Celery("tasks", broker="filesystem://")
application.conf.update(
    broker_transport_options={
        "data_folder_in": FOLDER,
        "data_folder_out": FOLDER,
        "control_folder": f"{FOLDER}/control",
    },
    worker_hijack_root_logger=False,
)
client = logweir.Client(service="tasks")
logger = logging.getLogger("shop.tasks")
logger.setLevel(logging.INFO)
logger.addHandler(logweir.Handler(client))


@application.task(name="tasks.work", ignore_result=True)
def work(number: int) -> None:
    logger.info("task %d", number)
    with open(f"{FOLDER}/done.{number}", "w"):
        pass


@signals.worker_ready.connect
def ready(**named: Any) -> None:
    with open(f"{FOLDER}/ready", "w"):
        pass
