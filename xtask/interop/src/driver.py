"""The Python side of `cargo xtask interop`.

Reads a JSON object a line, does what it asks for with the real packages, and answers with a JSON
object a line: {"ok": …}, or {"error": "Type: message"}. Bytes travel as {"hex": "00ff"}.
"""

import json
import signal
import sys
import tempfile
from unittest import mock

from dogpile.cache.api import NO_VALUE
from oslo_cache import core
from oslo_config import cfg

REGIONS = []

OPERATIONS = {}

# Seconds, far beyond the time-outs of the packages.
LIMIT = 120


def operation(function):
    """Lets a request ask for `function` by its name."""
    OPERATIONS[function.__name__] = function
    return function


@operation
def make(lines, ini):
    """The number of the region that `lines` make, CONF being what the service has read."""
    conf = cfg.ConfigOpts()
    core.configure(conf)
    with tempfile.NamedTemporaryFile("w", suffix=".conf") as file:
        file.write(ini)
        file.flush()
        conf(["--config-file", file.name])
    names = {"CONF": conf}
    exec(lines, names)
    REGIONS.append(names["region"])
    return len(REGIONS) - 1


@operation
def get(region, key, expiration_time=None):
    payload = REGIONS[region].get(key, expiration_time=expiration_time)
    if payload is NO_VALUE:
        return None
    value = REGIONS[region].get_value_metadata(key, expiration_time=expiration_time)
    return {"payload": outgoing(payload), "ct": value and repr(value.cached_time)}


@operation
def get_multi(region, keys):
    payloads = REGIONS[region].get_multi(keys)
    return [
        None if payload is NO_VALUE else [outgoing(payload)] for payload in payloads
    ]


@operation
def set(region, key, payload):
    REGIONS[region].set(key, incoming(payload))


@operation
def set_multi(region, entries):
    REGIONS[region].set_multi({key: incoming(payload) for key, payload in entries})


@operation
def delete(region, key):
    REGIONS[region].delete(key)


@operation
def delete_multi(region, keys):
    REGIONS[region].delete_multi(keys)


@operation
def get_or_create(region, key, payload):
    return outgoing(REGIONS[region].get_or_create(key, lambda: incoming(payload)))


@operation
def set_at(region, key, payload, time):
    """Sets what `payload` says in JSON, at that time."""
    with mock.patch("time.time", return_value=time):
        REGIONS[region].set(key, incoming(json.loads(payload)))


@operation
def get_stored(region, key):
    """The bytes that the region, or whoever shares its servers, has stored."""
    backend = REGIONS[region].actual_backend
    if hasattr(backend, "_client"):
        (stored,) = backend._client.get(mangled(region, key))
    else:
        stored = backend.client.get(mangled(region, key))
    return outgoing(stored)


def mangled(region, key):
    mangle = REGIONS[region].key_mangler
    return mangle(key) if mangle else key


def incoming(payload):
    if isinstance(payload, dict) and payload.keys() == {"hex"}:
        return bytes.fromhex(payload["hex"])
    return payload


def outgoing(payload):
    if isinstance(payload, bytes):
        return {"hex": payload.hex()}
    return payload


def main():
    # Whatever else prints must not print between the answers.
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        request = json.loads(line)
        # Ends the program.
        signal.alarm(LIMIT)
        try:
            answer = {"ok": OPERATIONS[request.pop("do")](**request)}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        signal.alarm(0)
        print(json.dumps(answer), file=answers, flush=True)


main()
