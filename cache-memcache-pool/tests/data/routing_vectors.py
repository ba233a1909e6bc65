"""Asks the real Python clients which server they choose, and writes what they answer as the test
vectors of cache-memcache-pool:

    pip install python-memcached==1.62 pymemcache==4.0.0 pylibmc==1.6.3
    python routing_vectors.py .

One choice a line: the servers (with `*weight` where it is not 1), the positions of those that are
down, the key, the position of the server that is chosen (`-` if there is none).
"""

import ctypes
import glob
import os
import sys

import memcache
import pylibmc
import pymemcache
from pymemcache.client.base import normalize_server_spec
from pymemcache.client.hash import HashClient

KEYS = ["k", "a", "user:42", "session/0", "x" * 250, "ключ", "日本語", "naïve"]
KEYS += [f"key-{i}" for i in range(40)]


def farm(n, port=11211):
    return [(f"10.0.0.{i + 1}:{port}", 1) for i in range(n)]


def write(folder, name, source, cases):
    with open(os.path.join(folder, name), "w", encoding="utf-8") as out:
        print(f"# {source}, by routing_vectors.py beside this file", file=out)
        print("# servers\tdown\tkey\tchosen", file=out)
        for servers, down, key, chosen in cases:
            servers = " ".join(s if w == 1 else f"{s}*{w}" for s, w in servers)
            down = ",".join(map(str, down))
            chosen = "-" if chosen is None else chosen
            print(servers, down, key, chosen, sep="\t", file=out)


def python_memcached():
    farms = [
        ([("a:1", 2), ("b:2", 1)], [[], [0], [0, 1]]),
        ([("a:1", 1), ("b:2", 3), ("c:3", 5)], [[], [1], [2], [0, 2]]),
        # Listed twice: two entries, each with its own life.
        ([("a:1", 1), ("b:2", 1), ("a:1", 1)], [[], [0], [2], [0, 2]]),
        # Without a share.
        ([("a:1", 0), ("b:2", 1)], [[], [1]]),
    ]
    for servers, downs in farms:
        client = memcache.Client(servers)
        for down in downs:
            for position, host in enumerate(client.servers):
                host.connect = lambda up=position not in down: up
            for key in KEYS:
                host, _ = client._get_server(key.encode())
                position = next((i for i, h in enumerate(client.servers) if h is host), None)
                yield servers, down, key, position


def pymemcache_choice():
    farms = [
        (farm(3), [[], [1], [0, 2], [0, 1, 2]]),
        ([("a:1", 1), ("b:2", 1), ("c:3", 1), ("d:4", 1)], [[], [3], [0, 1]]),
        (farm(20), [[], [4]]),
        ([("unix:/run/memcached.sock", 1), ("[::1]:11211", 1), ("cäche:11211", 1)], [[]]),
    ]
    for servers, downs in farms:
        for down in downs:
            client = HashClient([], allow_unicode_keys=True)
            names = [client._make_client_key(normalize_server_spec(s)) for s, _ in servers]
            for position, (server, _) in enumerate(servers):
                if position not in down:
                    client.add_server(normalize_server_spec(server))
            for key in KEYS:
                name = client.hasher.get_node(key)
                yield servers, down, key, None if name is None else names.index(name)


def libmemcached():
    folder = os.path.join(os.path.dirname(os.path.dirname(pylibmc.__file__)), "pylibmc.libs")
    (path,) = glob.glob(os.path.join(folder, "libmemcached-*"))
    library = ctypes.CDLL(path)
    library.memcached_create.restype = ctypes.c_void_p
    library.memcached_lib_version.restype = ctypes.c_char_p
    return library


KETAMA_WEIGHTED = 16  # MEMCACHED_BEHAVIOR_KETAMA_WEIGHTED


def ketama(library):
    farms = [(farm(n), [[]]) for n in range(1, 9)]
    farms += [
        (farm(3), [[1], [0, 2]]),
        (farm(5, 11212), [[], [2], [0, 4]]),
        (farm(50), [[], [7, 8, 9]]),
        ([("a:11211", 1), ("b:11211", 2), ("c:11212", 5)], [[]]),
        ([("a:11211", 10), ("b:11211", 1)], [[]]),
        ([(f"10.0.1.{i}:11211", 1 + i % 3) for i in range(9)], [[]]),
        ([("/run/memcached.sock", 1), ("::1:11211", 1), ("::1:11212", 1)], [[]]),
    ]
    for servers, downs in farms:
        for down in downs:
            client = ctypes.c_void_p(library.memcached_create(None))
            library.memcached_behavior_set(client, KETAMA_WEIGHTED, ctypes.c_uint64(1))
            # As after the ejection of those that are down.
            up = [position for position in range(len(servers)) if position not in down]
            for position in up:
                name, weight = servers[position]
                if name.startswith("/"):
                    library.memcached_server_add_unix_socket_with_weight(
                        client, name.encode(), weight
                    )
                else:
                    host, port = name.rsplit(":", 1)
                    library.memcached_server_add_with_weight(
                        client, host.encode(), int(port), weight
                    )
            urls = [
                (f"unix:{s}" if s.startswith("/") else s.replace("::1:", "[::1]:"), w)
                for s, w in servers
            ]
            for key in KEYS:
                raw = key.encode()
                chosen = library.memcached_generate_hash(client, raw, ctypes.c_size_t(len(raw)))
                yield urls, down, key, up[chosen]


if __name__ == "__main__":
    folder = sys.argv[1]
    write(
        folder,
        "python-memcached-weights.tsv",
        f"python-memcached {memcache.__version__}",
        python_memcached(),
    )
    write(
        folder, "pymemcache-routing.tsv", f"pymemcache {pymemcache.__version__}", pymemcache_choice()
    )
    library = libmemcached()
    version = library.memcached_lib_version().decode()
    write(
        folder,
        "ketama-routing.tsv",
        f"libmemcached {version} with MEMCACHED_BEHAVIOR_KETAMA_WEIGHTED",
        ketama(library),
    )
