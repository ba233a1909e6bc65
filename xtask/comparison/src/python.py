"""The counterpart of `load.rs` for Python clients.

Each line of standard input is a job in JSON. The answer is the number of keys processed, and the
elapsed and CPU seconds.
"""

import functools
import json
import logging
import sys
import threading
import time

# urllib3 warns about each connection beyond ten that it discards.
logging.disable(logging.CRITICAL)


def pymemcache(servers):
    from pymemcache.client.base import PooledClient
    from pymemcache.client.hash import HashClient

    if len(servers) == 1:
        client = PooledClient(servers[0], max_pool_size=64, no_delay=True)
    else:
        client = HashClient(servers, use_pooling=True, max_pool_size=64, no_delay=True)
    set = functools.partial(client.set, noreply=False)
    return client.get, set, client.get_many, functools.partial(client.set_many, noreply=False)


def memcache_pool(servers):
    from oslo_cache import core
    from oslo_config import cfg

    config = cfg.ConfigOpts()
    core.configure(config)
    config.set_override("enabled", True, group="cache")
    config.set_override("backend", "oslo_cache.memcache_pool", group="cache")
    config.set_override("memcache_servers", servers, group="cache")
    region = core.create_region()
    core.configure_cache_region(config, region)
    region.serializer = lambda value: json.dumps(value).encode()
    region.deserializer = lambda data: json.loads(data)
    return region.get, region.set, region.get_multi, region.set_multi


def etcd3gw(servers):
    from oslo_cache.backends import etcd3gw

    host, port = servers[0].rsplit(":", 1)
    arguments = {"host": host, "port": int(port), "timeout": 600}
    backend = etcd3gw.Etcd3gwCacheBackend(arguments)
    return backend.get, backend.set, backend.get_multi, backend.set_multi


CLIENTS = {
    "pymemcache": (pymemcache, lambda size: b"v" * size),
    "oslo.cache memcache_pool": (memcache_pool, lambda size: "v" * size),
    "oslo.cache": (etcd3gw, lambda size: ("v" * size, {"ct": 1700000000.5, "v": 2})),
}


@functools.cache
def prepared(name, servers, size):
    make, value = CLIENTS[name]
    client, value = make(list(servers)), value(size)
    keys = ["%040d" % n for n in range(2000 if size < 10000 else 500)]
    for start in range(0, len(keys), 100):
        client[3](dict.fromkeys(keys[start : start + 100], value))
    return client, value, keys


def work(job, first, end):
    (get, set, get_multi, set_multi), value, keys = prepared(
        job["client"], tuple(job["servers"]), job["size"]
    )
    what, batch, calls = job["do"], job["batch"], 0
    while time.monotonic() < end:
        start = (first + calls * batch) % (len(keys) - batch + 1)
        if what == "set" or what == "mixed" and calls % 10 == 0:
            set(keys[start], value)
        elif what in ("get", "mixed"):
            assert get(keys[start])
        elif what == "get_multi":
            assert len(get_multi(keys[start : start + batch])) == batch
        else:
            set_multi(dict.fromkeys(keys[start : start + batch], value))
        calls += 1
    counts.append(calls * batch)


for line in sys.stdin:
    job, counts = json.loads(line), []
    prepared(job["client"], tuple(job["servers"]), job["size"])
    began, cpu = time.monotonic(), time.process_time()
    threads = [
        threading.Thread(target=work, args=(job, thread * 997, began + job["seconds"]))
        for thread in range(job["threads"])
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(counts) == len(threads), "a thread failed"
    cpu, seconds = time.process_time() - cpu, time.monotonic() - began
    print(json.dumps({"done": sum(counts), "seconds": seconds, "cpu": cpu}), flush=True)
