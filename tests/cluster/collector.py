"""Receives metrics by OTLP over HTTP in a pod, and prints each value as a line of JSON.

The pod runs this file in the image of the stages, which contains OpenTelemetry's messages.
"""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

PORT = 4318
_one_writer = threading.Lock()


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body, lines = self.rfile.read(int(self.headers["Content-Length"])), []
        for of_process in ExportMetricsServiceRequest.FromString(body).resource_metrics:
            service = _plain(of_process.resource.attributes)["service.name"]
            for metric in (metric for scope in of_process.scope_metrics for metric in scope.metrics):
                for point in metric.gauge.data_points or metric.sum.data_points:
                    line = {"service": service, "name": metric.name, **_plain(point.attributes)}
                    lines.append(json.dumps(line | {"value": point.as_double or point.as_int}) + "\n")
        with _one_writer:
            print("".join(lines), end="", flush=True)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Print nothing else."""


def _plain(attributes: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}


if __name__ == "__main__":
    ThreadingHTTPServer(("", PORT), _Handler).serve_forever()
