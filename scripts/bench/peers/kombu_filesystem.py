"""kombu's filesystem transport: a consumer that acknowledges, in `drain_events`."""

from __future__ import annotations

import os
from typing import Any

import kombu  # type: ignore[import-not-found]

from bench.peers import contract


class Kombu:
    """One queue in one directory."""

    def __init__(self, directory: str) -> None:
        control = f"{directory}/control"
        os.makedirs(control, exist_ok=True)
        self._connection = kombu.Connection(
            "filesystem://",
            transport_options={
                "data_folder_in": directory,
                "data_folder_out": directory,
                "control_folder": control,
            },
        )
        self._queue = kombu.Queue("bench", routing_key="bench")
        self._producer = kombu.Producer(self._connection.channel())

    def put(self, data: bytes) -> None:
        """Commit a message."""
        self._producer.publish(
            data.decode(),
            exchange=self._queue.exchange,
            routing_key="bench",
            declare=[self._queue],
            serializer="json",
        )

    def serve(self, notes: contract.Notes) -> None:
        """Consume until all have come."""

        def callback(body: str, message: Any) -> None:
            notes.handle(contract.moment_in(body.encode()))
            message.ack()

        with kombu.Consumer(self._connection, [self._queue], callbacks=[callback]):
            while not notes.full:
                self._connection.drain_events()


if __name__ == "__main__":
    contract.main(Kombu)
