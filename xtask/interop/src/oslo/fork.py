"""Checks caches in forked processes: a child gets an error or its own connections, and no call
hangs.

`python fork.py BACKEND CONFIG` prints a JSON object: what a child finds with the parent's handle
and with its own, and what the parent finds afterwards.
"""

import json
import os
import signal
import sys
import time

import cache_bridge
from cache_bridge._bridge import Bytes

# Far longer than any timeout in the configurations of the backends.
LIMIT = 60


def in_child(call):
    """Runs `call` in a child process and returns its result, or None if it hangs."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            answer = call()
        except cache_bridge.CacheError as error:
            answer = f"CacheError: {error}"
        os.write(write, json.dumps(answer).encode())
        # Exit like a multiprocessing child, which runs destructors.
        sys.exit(0)
    os.close(write)
    limit = time.monotonic() + LIMIT
    while time.monotonic() < limit:
        ended, _ = os.waitpid(child, os.WNOHANG)
        if ended:
            return json.loads(os.read(read, 1_000_000) or "null")
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def main(name, config):
    handle = Bytes(name, config, envelope=False)
    handle.set("fork", b"by the parent")
    answer = {
        "the parent's": in_child(lambda: str(handle.get("fork"))),
        "its own": in_child(lambda: str(Bytes(name, config, envelope=False).get("fork"))),
        "afterwards": str(handle.get("fork")),
    }
    print(json.dumps(answer))


main(*sys.argv[1:])
