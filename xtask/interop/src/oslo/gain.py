"""Measures how much faster a Python service's cache calls are through the bridge.

Writes calls per second to the page: the medians of interleaved rounds.
"""

import json
import os
import statistics
import threading
import time

import cache_bridge
import page
from dogpile.cache.api import CachedValue
from dogpile.cache.backends.memcached import MemcachedBackend, PyMemcacheBackend
from oslo_cache.backends.etcd3gw import Etcd3gwCacheBackend
from oslo_cache.backends.memcache_pool import PooledMemcachedBackend

ROUNDS = 5
SECONDS = 0.4

KEYS = [f"{number:040x}" for number in range(100)]
METADATA = {"ct": 1700000000.5, "v": 2}
STORED = json.dumps(METADATA).encode() + b'|"' + b"x" * 100 + b'"'
VALUE = CachedValue("x" * 100, METADATA)


def memcached():
    arguments = {"url": f"127.0.0.1:{os.environ['OSLO_CACHE_TEST_MEMCACHED_PORT']}"}
    ours = cache_bridge.MemcachePool(arguments)
    theirs = {
        "oslo.cache `memcache_pool`": PooledMemcachedBackend(arguments),
        "`dogpile.cache.memcached` (python-memcached)": MemcachedBackend(arguments),
        "`dogpile.cache.pymemcache`": PyMemcacheBackend(arguments),
    }
    calls = {
        "`get`": lambda cache: cache.get_serialized(KEYS[0]),
        "`set`": lambda cache: cache.set_serialized(KEYS[0], STORED),
        "`get_multi` of 100": lambda cache: cache.get_serialized_multi(KEYS),
    }
    ours.set_serialized_multi(dict.fromkeys(KEYS, STORED))
    # All clients use the same routing and format, so each finds the values written by ours.
    for name, cache in theirs.items():
        assert len(cache.get_serialized_multi(KEYS)) == len(KEYS), name
    for threads in (1, 8):
        for call, run in calls.items():
            contestants = {"ours": lambda: run(ours)}
            for name, cache in theirs.items():
                contestants[name] = lambda cache=cache: run(cache)
            yield "cache-memcache-pool", call, threads, contestants


def etcd():
    arguments = {
        "host": "127.0.0.1",
        "port": int(os.environ["OSLO_CACHE_TEST_ETCD_PORT"]),
    }
    ours = cache_bridge.Etcd(arguments)
    theirs = Etcd3gwCacheBackend(arguments)
    mine = {f"ours/{key}": STORED for key in KEYS}
    other = {f"theirs/{key}": VALUE for key in KEYS}
    first, second = next(iter(mine)), next(iter(other))

    def refresh():
        # They expire after 30 seconds.
        ours.set_serialized_multi(mine)
        theirs.set_multi(other)

    name = "oslo.cache `etcd3gw`"
    for call, run, run_theirs in (
        ("`set`", lambda: ours.set_serialized(first, STORED), lambda: theirs.set(second, VALUE)),
        ("`get`", lambda: ours.get_serialized(first), lambda: theirs.get(second)),
        (
            "`get_multi` of 100",
            lambda: ours.get_serialized_multi(list(mine)),
            lambda: theirs.get_multi(list(other)),
        ),
        ("`set_multi` of 100", lambda: ours.set_serialized_multi(mine), lambda: theirs.set_multi(other)),
    ):
        refresh()
        yield "cache-etcd3", call, 1, {"ours": run, name: run_theirs}


def rate(call, threads, seconds):
    counts = []
    end = time.perf_counter() + seconds

    def work():
        count = 0
        while time.perf_counter() < end:
            call()
            count += 1
        counts.append(count)

    workers = [threading.Thread(target=work) for _ in range(threads)]
    started = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(counts) / (time.perf_counter() - started)


def main():
    heading = ["", "call", "threads", "beside", "ours, calls/s", "theirs", "ratio"]
    rows = []
    for comparisons in (memcached(), etcd()):
        for crate, call, threads, contestants in comparisons:
            rates = {name: [] for name in contestants}
            for _ in range(ROUNDS):
                for name, run in contestants.items():
                    rates[name].append(rate(run, threads, SECONDS))
            medians = {name: statistics.median(all) for name, all in rates.items()}
            ours = medians.pop("ours")
            for name, theirs in medians.items():
                figures = [f"{ours:.0f}", f"{theirs:.0f}", f"{ours / theirs:.1f}×"]
                rows.append([f"`{crate}`", call, str(threads), name, *figures])
    page.write("gain", page.table(heading, *rows))
    print(page.table(heading, *rows))


main()
