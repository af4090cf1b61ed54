"""``zeshel serve``: links texts over HTTP with the champion.

settings.py      what a user can choose
server.py        the process: socket, signals, draining
connection.py    a connection: time for its client, and a bound on their number
app.py           the routes
schema.py        requests and answers, as the OpenAPI document describes them
openapi.py       that document
strict_json.py   reads bodies: size, time, type, strict JSON
problems.py      errors as problem details (RFC 9457)
guard.py         what holds for every request: headers, metrics, unexpected errors, too many at once
linking.py       from a request to its answer
batcher.py       joins the mentions of requests into batches for the models; one thread owns these
served.py        a knowledge base with the models that link to it
follower.py      notices a new champion or a changed knowledge base, and switches to it
edits.py         changes of knowledge bases by requests
metrics.py       what /metrics shows
page/            the page for people
"""
