"""The handler contract of the conformance suite, written with pynumaflow's asynchronous servers."""

import os
import sys

from pynumaflow.batchmapper import BatchMapAsyncServer
from pynumaflow.mapper import MapAsyncServer
from pynumaflow.mapstreamer import MapStreamAsyncServer
from pynumaflow.sourcer import SourceAsyncServer

from maps import map_batch, map_stream, map_unary
from source import SilentSource, Source


def server(kind: str, **paths: str):
    match kind:
        case "map-unary":
            return MapAsyncServer(map_unary, **paths)
        case "map-batch":
            return BatchMapAsyncServer(map_batch, **paths)
        case "map-stream":
            return MapStreamAsyncServer(map_stream, **paths)
        case "source":
            silent = os.environ.get("CONFORMANCE_DEFAULTS") == "1"
            return SourceAsyncServer(SilentSource() if silent else Source(), **paths)
        case _:
            print(f"CONFORMANCE_KIND is {kind!r}, which this peer does not serve", file=sys.stderr)
            sys.exit(3)


if __name__ == "__main__":
    # What the environment does not set is the SDK's to decide.
    paths = {"sock_path": "CONFORMANCE_SOCKET", "server_info_file": "CONFORMANCE_SERVER_INFO"}
    paths = {name: os.environ[variable] for name, variable in paths.items() if variable in os.environ}
    server(os.environ.get("CONFORMANCE_KIND", ""), **paths).start()
