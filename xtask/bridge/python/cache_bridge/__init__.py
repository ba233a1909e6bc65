"""The Rust backends as dogpile.cache backends.

`register()` replaces oslo.cache's three backends and dogpile.cache's memory backend, so that suites
configured with one of these use the Rust backends.
"""

import json
import os

from dogpile.cache import register_backend
from dogpile.cache.api import NO_VALUE, BytesBackend, CacheBackend
from oslo_utils import timeutils

from cache_bridge._bridge import Bytes, CacheError, Objects

__all__ = ["CacheError", "Dict", "Etcd", "MemcachePool", "Memory", "register"]


class _Bytes(BytesBackend):
    """A backend for values serialized by dogpile.cache.

    `arguments` are those of the Python original. Arguments that the Rust backend does not support,
    such as options of another client, are dropped; those in `options` are added.
    """

    backend = ""
    known = ()
    options = {}
    # Whether to split the bytes into metadata and payload, or to store them as the payload.
    stored = "envelope"

    def __init__(self, arguments):
        config = {
            name: value
            for name, value in arguments.items()
            if name in self.known and value is not None
        }
        self._config = json.dumps({**config, **self.options})
        self._owner = None
        self._open()

    def _open(self):
        # Threads do not survive a fork, so a child must open its own connections.
        if self._owner != os.getpid():
            self._cache = Bytes(
                self.backend, self._config, envelope=self.stored == "envelope"
            )
            self._owner = os.getpid()
        return self._cache

    def get_serialized(self, key):
        found = self._open().get(key)
        return NO_VALUE if found is None else found

    def get_serialized_multi(self, keys):
        found = self._open().get_multi(list(keys))
        return [NO_VALUE if value is None else value for value in found]

    def set_serialized(self, key, value):
        self._open().set(key, value)

    def set_serialized_multi(self, mapping):
        self._open().set_multi(list(mapping.items()))

    def delete(self, key):
        self._open().delete(key)

    def delete_multi(self, keys):
        self._open().delete_multi(list(keys))


class Dict(_Bytes):
    backend = "dict"
    known = ("expiration_time", "max_entries")


class MemcachePool(_Bytes):
    backend = "memcache_pool"
    known = (
        "url",
        "dead_retry",
        "socket_timeout",
        "pool_maxsize",
        "pool_unused_timeout",
        "pool_connection_get_timeout",
        "pool_flush_on_reconnect",
        "server_max_value_length",
        "memcached_expire_time",
    )
    options = {"routing": "python-memcached"}


class Etcd(_Bytes):
    backend = "etcd3"
    known = ("host", "port", "timeout")


class Memory(CacheBackend):
    """`cache-dict` with Python objects as values."""

    def __init__(self, arguments):
        expiration_time = arguments.get("expiration_time", 0)
        config = json.dumps({"expiration_time": expiration_time})
        # The original's time source, which its tests override.
        self.cache = Objects(config, lambda: timeutils.utcnow_ts(microsecond=True))

    def get(self, key):
        found = self.cache.get(key)
        return NO_VALUE if found is None else found

    def get_multi(self, keys):
        found = self.cache.get_multi(list(keys))
        return [NO_VALUE if value is None else value for value in found]

    def set(self, key, value):
        self.cache.set(key, value)

    def set_multi(self, mapping):
        self.cache.set_multi(list(mapping.items()))

    def delete(self, key):
        self.cache.delete(key)

    def delete_multi(self, keys):
        self.cache.delete_multi(list(keys))

    def _clear(self):
        self.cache.purge()


def register():
    for name, backend in {
        "dogpile.cache.memory": "Memory",
        "oslo_cache.dict": "Memory",
        "oslo_cache.memcache_pool": "MemcachePool",
        "oslo_cache.etcd3gw": "Etcd",
    }.items():
        register_backend(name, __name__, backend)
