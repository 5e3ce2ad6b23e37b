"""A server that answers OK to Logweir's and OpenTelemetry's batches, and counts nothing but bytes.

python bench/sink.py      prints its port, and serves until it is killed
"""

from __future__ import annotations

from concurrent import futures
from typing import Any

import grpc

# An empty message is a whole answer of either service.
OK = b""


class Sink(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Takes any unary call."""

    def service(self, details: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(lambda request, context: OK)


def main() -> None:
    server = grpc.server(futures.ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((Sink(),))
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    main()
