"""A plain service with the same models: FastAPI around ``zeshel link``, one text after the other, without batches.

python -m bench.serve.plain STORE MODE CANDIDATES PORT
"""

from __future__ import annotations

import json
import sys
import tempfile
import threading
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI

from bench.serve.inputs import KB
from zeshel_tasks.commands.link_setup import Linking
from zeshel_tasks.link_files.counts import LinkedCounts


def create_app(linking: Linking) -> FastAPI:
    """Return the application. FastAPI runs the function in threads, which take turns with the models."""
    app, turn = FastAPI(), threading.Lock()

    @app.get("/readyz")
    def ready() -> None:
        pass

    @app.post("/v1/link")
    def link(body: dict[str, Any]) -> list[Any]:
        lines = [json.dumps(document).encode() for document in body["documents"]]
        with turn:
            return [json.loads(next(linking.lines(BytesIO(line), "body", LinkedCounts()))) for line in lines]

    return app


def main(arguments: Sequence[str]) -> None:
    """Serve."""
    store, mode, candidates, port = arguments
    with tempfile.TemporaryDirectory(prefix="plain-") as cache:
        settings = {"mode": mode, "candidates": candidates}
        linking = Linking(store, None, KB, settings, Path(cache))
        next(linking.lines(BytesIO(b'{"text": "[[warm]] up"}'), "body", LinkedCounts()))
        uvicorn.run(create_app(linking), port=int(port), log_level="warning")


if __name__ == "__main__":
    main(sys.argv[1:])
