"""oslo.cache's etcd backend, driven by lines of JSON on standard input.

Each line is a job; the answer is how many keys were done in how many seconds.
"""

import concurrent.futures
import json
import logging
import sys
import time

from oslo_cache.backends import etcd3gw

# urllib3 says for each connection beyond ten that it does not keep it.
logging.disable(logging.CRITICAL)

host, port = sys.argv[1].rsplit(":", 1)
backend = etcd3gw.Etcd3gwCacheBackend({"host": host, "port": int(port), "timeout": 600})
VALUE = ("v" * 100, {"ct": 1700000000.5, "v": 2})


def one(job, i):
    key = "oslo/%d" % (i % job["keys"])
    if job["do"] == "set":
        backend.set(key, VALUE)
    elif job["do"] == "get":
        backend.get(key)
    else:
        keys = ["oslo/%d" % ((i + n) % job["keys"]) for n in range(job["batch"])]
        if job["do"] == "set_multi":
            backend.set_multi({key: VALUE for key in keys})
        else:
            backend.get_multi(keys)


def worker(job, end, first):
    done = 0
    while time.monotonic() < end:
        one(job, first + done * 7)
        done += 1
    return done * job.get("batch", 1)


for line in sys.stdin:
    job = json.loads(line)
    began = time.monotonic()
    end = began + job["seconds"]
    with concurrent.futures.ThreadPoolExecutor(job["tasks"]) as pool:
        done = sum(pool.map(lambda n: worker(job, end, n * 997), range(job["tasks"])))
    print(json.dumps({"done": done, "seconds": time.monotonic() - began}), flush=True)
