"""Does what `work.rs` does, and prints operations, seconds, and CPU seconds."""

import hashlib
import json
import random
import sys
import threading
import time

name, urls, what, threads, size, seconds = sys.argv[1:]
urls, threads, size, seconds = urls.split(","), int(threads), int(size), float(seconds)
BATCH = 100
keys = [hashlib.sha1(b"%d" % n).hexdigest() for n in range(2000 if size < 10000 else 500)]
value = "v" * size

if name == "pymemcache":
    from pymemcache.client.base import PooledClient
    from pymemcache.client.hash import HashClient

    payload = value.encode()
    if len(urls) == 1:
        client = PooledClient(urls[0], max_pool_size=10, no_delay=True)
    else:
        client = HashClient(urls, use_pooling=True, max_pool_size=10, no_delay=True)
    get, get_multi = client.get, client.get_many
    set = lambda key: client.set(key, payload, noreply=False)
    set_multi = lambda keys: client.set_many(dict.fromkeys(keys, payload), noreply=False)
else:
    from oslo_cache import core
    from oslo_config import cfg

    config = cfg.ConfigOpts()
    core.configure(config)
    config.set_override("enabled", True, group="cache")
    config.set_override("backend", "oslo_cache.memcache_pool", group="cache")
    config.set_override("memcache_servers", urls, group="cache")
    region = core.create_region()
    core.configure_cache_region(config, region)
    region.serializer = lambda value: json.dumps(value).encode()
    region.deserializer = lambda data: json.loads(data)
    get, get_multi = region.get, region.get_multi
    set = lambda key: region.set(key, value)
    set_multi = lambda keys: region.set_multi(dict.fromkeys(keys, value))

for start in range(0, len(keys), BATCH):
    set_multi(keys[start : start + BATCH])

stop = False
counts = [0] * threads


def work(thread):
    dice = random.Random(thread)
    while not stop:
        start = dice.randrange(len(keys) - BATCH)
        if what == "get" or what == "mixed" and dice.random() >= 0.1:
            get(keys[start])
        elif what in ("set", "mixed"):
            set(keys[start])
        elif what == "get_multi":
            assert len(get_multi(keys[start : start + BATCH])) == BATCH
        else:
            set_multi(keys[start : start + BATCH])
        counts[thread] += BATCH if what.endswith("multi") else 1


began, cpu = time.monotonic(), time.process_time()
running = [threading.Thread(target=work, args=(thread,)) for thread in range(threads)]
for thread in running:
    thread.start()
time.sleep(seconds)
stop = True
for thread in running:
    thread.join()
print(sum(counts), time.monotonic() - began, time.process_time() - cpu)
