"""Constant load on the HTTP service, from a pod: python service_load.py SERVICE KB PORT FILE

Four clients link a text, with a new connection for each request, and a line of FILE says how each request went. They
connect to the ready addresses of the Service, which the API server announces, as the proxy of a node does: the cluster
under test may have no such proxy. A request whose connection breaks is sent again.
"""

import http.client
import itertools
import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

CLIENTS, PAUSE, RETRY, TIMEOUT = 4, 0.1, 0.05, 60.0  # seconds
ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
TEXT = "They saw the Ember and Zorblax ."
MENTIONS = [{"start": TEXT.index(name), "end": TEXT.index(name) + len(name)} for name in ("Ember", "Zorblax")]


class Endpoints:
    """The ready addresses of a Service, followed in a thread."""

    def __init__(self, service: str) -> None:
        self._service, self._addresses, self._turn = service, list[str](), itertools.count()
        threading.Thread(target=self._follow, daemon=True).start()

    def next(self) -> str:
        """Returns the addresses in turns, and waits until there is one."""
        while not (addresses := self._addresses):
            time.sleep(RETRY)
        return addresses[next(self._turn) % len(addresses)]

    def _follow(self) -> None:
        while True:
            try:
                for event in self._events():
                    subsets = event["object"].get("subsets", [])
                    self._addresses = [found["ip"] for part in subsets for found in part.get("addresses", [])]
            except httpx.TransportError:
                time.sleep(RETRY)

    def _events(self) -> Iterator[dict[str, Any]]:
        """A watch begins with the present state, and the server ends it after some minutes."""
        server = f"https://{os.environ['KUBERNETES_SERVICE_HOST']}:{os.environ['KUBERNETES_SERVICE_PORT']}"
        namespace = (ACCOUNT / "namespace").read_text()
        with (
            httpx.Client(
                verify=str(ACCOUNT / "ca.crt"), trust_env=False, timeout=httpx.Timeout(10, read=None)
            ) as client,
            client.stream(
                "GET",
                f"{server}/api/v1/namespaces/{namespace}/endpoints",
                params={"watch": "true", "fieldSelector": f"metadata.name={self._service}"},
                headers={"Authorization": f"Bearer {(ACCOUNT / 'token').read_text()}"},
            ) as answer,
        ):
            answer.raise_for_status()
            yield from map(json.loads, answer.iter_lines())


def ask(address: str, port: int, body: str) -> tuple[int, dict[str, Any]]:
    """Links the text. Returns the status and the answer."""
    connection = http.client.HTTPConnection(address, port, timeout=TIMEOUT)
    try:
        connection.request("POST", "/v1/link", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def request(endpoints: Endpoints, port: int, body: str) -> dict[str, Any]:
    """Sends a request until it is answered. Returns how that went."""
    start, errors = time.time(), []
    while True:
        address = endpoints.next()
        try:
            status, answer = ask(address, port, body)
        except (OSError, http.client.HTTPException) as error:
            errors.append(f"{address}: {error!r}")
            time.sleep(RETRY)
            continue
        line = {"start": start, "end": time.time(), "pod": address, "status": status, "errors": errors}
        if status != 200:
            return line | {"answer": answer}
        (document,) = answer["documents"]
        found = [candidate["id"] for candidate in document["links"][1]["candidates"]]
        return line | {"linked_by": answer["linked_by"], "candidates": found}


def main() -> None:
    """Asks until the pod ends."""
    service, kb, port, file = sys.argv[1:]
    endpoints, lock = Endpoints(service), threading.Lock()
    body = json.dumps({"kb": kb, "documents": [{"text": TEXT, "mentions": MENTIONS}], "top_k": 100})

    def client() -> None:
        while True:
            line = json.dumps(request(endpoints, int(port), body))
            with lock, Path(file).open("a") as lines:
                lines.write(f"{line}\n")
            time.sleep(PAUSE)

    clients = [threading.Thread(target=client) for _ in range(CLIENTS)]
    for thread in clients:
        thread.start()


if __name__ == "__main__":
    main()
