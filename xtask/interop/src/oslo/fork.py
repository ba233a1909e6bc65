"""What a process that was forked from one that uses a cache gets: an error or connections of its
own, and never a call that does not return.

`python fork.py BACKEND CONFIG` prints a JSON object: what a child finds with the parent's handle
and with one of its own, and the parent afterwards.
"""

import json
import os
import signal
import sys
import time

import cache_bridge
from cache_bridge._bridge import Bytes

# Far beyond any time-out of a backend's configuration here.
LIMIT = 60


def in_child(call):
    """What `call` returns in a child process, or None if it does not return."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            answer = call()
        except cache_bridge.CacheError as error:
            answer = f"CacheError: {error}"
        os.write(write, json.dumps(answer).encode())
        # As a child of multiprocessing ends; destructors run.
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
    handle = Bytes(name, config, "payload")
    handle.set("fork", b"by the parent")
    answer = {
        "the parent's": in_child(lambda: str(handle.get("fork"))),
        "its own": in_child(lambda: str(Bytes(name, config, "payload").get("fork"))),
        "afterwards": str(handle.get("fork")),
    }
    print(json.dumps(answer))


main(*sys.argv[1:])
