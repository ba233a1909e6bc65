"""The Python side of `cargo xtask interop`.

Reads one JSON request per line, executes it with the real packages, and answers with one JSON
object per line: {"ok": …}, or {"error": "Type: message"}. Bytes are encoded as {"hex": "00ff"}.
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

# Seconds, far longer than the timeouts of the packages.
LIMIT = 120


def operation(function):
    """Registers `function` as a request by its name."""
    OPERATIONS[function.__name__] = function
    return function


@operation
def make(lines, ini):
    """Executes `lines`, with CONF read from `ini`, and returns the number of the new region."""
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
    """Sets the JSON `payload` with the clock at `time`."""
    with mock.patch("time.time", return_value=time):
        REGIONS[region].set(key, incoming(json.loads(payload)))


@operation
def get_stored(region, key):
    """The bytes stored by the region or by another client of its servers."""
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
    # Other output must not mix with the answers.
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        request = json.loads(line)
        # Ends the program at the limit.
        signal.alarm(LIMIT)
        try:
            answer = {"ok": OPERATIONS[request.pop("do")](**request)}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        signal.alarm(0)
        print(json.dumps(answer), file=answers, flush=True)


main()
