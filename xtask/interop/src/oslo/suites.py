"""The suites of dogpile.cache and oslo.cache over the Rust backends.

`python suites.py BACKEND RESULTS` runs them over `dict`, `memcache_pool` or `etcd3`, on the
servers whose ports are in the environment, and writes a JSON object a test to the file RESULTS:
{"suite": …, "test": …, "outcome": "passed" | "failed" | "skipped", "message": …}.
"""

import json
import os
import sys
from pathlib import Path

import cache_bridge
import pytest
from dogpile.cache import register_backend
from dogpile.testing.fixtures import (
    _GenericBackendTestSuite,
    _GenericMutexTestSuite,
    _GenericSerializerTestSuite,
)
from oslo_cache.tests.functional.test_base import BaseTestCaseCacheBackend

BACKENDS = {
    "dict": (cache_bridge.Dict, {"expiration_time": 3600}),
    "memcache_pool": (
        cache_bridge.MemcachePool,
        {"url": f"127.0.0.1:{os.environ.get('OSLO_CACHE_TEST_MEMCACHED_PORT')}"},
    ),
    "etcd3": (
        cache_bridge.Etcd,
        {"host": "127.0.0.1", "port": int(os.environ.get("OSLO_CACHE_TEST_ETCD_PORT", 0))},
    ),
}

# Of oslo.cache's own files of tests, which of its tests go through a backend; None: all of them.
OSLO = {
    "dict": {
        "unit/test_dict_backend.py": None,
        # The others build oslo.cache's dictionary of arguments and look at it.
        "unit/test_cache_basics.py": (
            "test_region_built_with_proxy_direct_cache_test",
            "test_cache_region_no_error_multiple_config",
            "test_cache_no_fallthrough_expiration_time_fn",
            "test_cache_fallthrough_expiration_time_fn",
            "test_should_cache_fn_global_cache_enabled",
            "test_should_cache_fn_global_cache_disabled",
            "test_should_cache_fn_global_cache_disabled_group_cache_enabled",
            "test_should_cache_fn_global_cache_enabled_group_cache_disabled",
            "test_should_cache_fn_global_cache_enabled_group_cache_enabled",
        ),
    },
    "memcache_pool": {"functional/memcache_pool/test_cache_backend.py": None},
    "etcd3": {"functional/etcd3gw/test_cache_backend.py": None},
}


def dogpile_suites(name):
    """Classes of tests for pytest to collect."""
    backend, arguments = BACKENDS[name]
    classes = {}
    for stored in ("envelope", "payload"):
        registered = f"cache_bridge.{name}.{stored}"
        options = dict(backend.options)
        if stored == "payload" and name != "dict":
            # The server keeps what dogpile.cache made, byte for byte.
            options["stored_format"] = "raw"
        classes[f"Backend_{stored}"] = type(backend)(
            f"Backend_{stored}", (backend,), {"stored": stored, "options": options}
        )
        register_backend(registered, "suites", f"Backend_{stored}")
        for title, bases in {
            "generic": (_GenericBackendTestSuite,),
            "serializer": (_GenericSerializerTestSuite, _GenericBackendTestSuite),
            "mutex": (_GenericMutexTestSuite,),
        }.items():
            if title == "mutex" and stored == "payload":
                continue
            classes[f"Test_{title}_{stored}"] = type(
                f"Test_{title}_{stored}",
                bases,
                {
                    "suite": f"dogpile.cache, {title}, stored as {stored}",
                    "backend": registered,
                    "config_args": {"arguments": arguments},
                },
            )
    return classes


class OsloFunctionalDict(BaseTestCaseCacheBackend):
    """oslo.cache has no such class for its dict."""

    suite = "oslo.cache, functional"

    def setUp(self):
        self.config_fixture.config(group="cache", backend="oslo_cache.dict")
        super().setUp()


class Recorder:
    def __init__(self, chosen, results):
        self.chosen = chosen
        self.results = results

    def pytest_collection_modifyitems(self, items):
        def is_wanted(item):
            chosen = self.chosen.get(item.path)
            return chosen is None or item.name in chosen

        items[:] = [item for item in items if is_wanted(item)]

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(self, item, call):
        report = (yield).get_result()
        # Set-up and tear-down count where they fail.
        if report.when != "call" and report.passed:
            return
        kind = "functional" if "functional" in str(item.path) else "unit"
        suite = getattr(item.cls, "suite", f"oslo.cache, {kind}")
        crash = getattr(report.longrepr, "reprcrash", None)
        answer = {
            "suite": suite,
            "test": f"{item.cls.__name__}.{item.name}",
            "outcome": report.outcome,
            "message": crash.message if crash else str(report.longrepr or ""),
        }
        print(json.dumps(answer), file=self.results, flush=True)


def main(name, results):
    tests = Path(sys.modules[BaseTestCaseCacheBackend.__module__].__file__).parents[1]
    chosen = {tests / file: names for file, names in OSLO[name].items()}
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:warnings"]
    arguments = [*options, __file__, *map(str, chosen)]
    with open(results, "w") as file:
        code = pytest.main(arguments, plugins=[Recorder(chosen, file)])
    # 0: all passed; 1: some failed. With anything else some were not run.
    sys.exit(code if code not in (0, 1) else 0)


if __name__ == "__main__":
    os.environ["CACHE_BRIDGE_BACKEND"] = sys.argv[1]
    main(*sys.argv[1:])
else:
    # pytest's copy of this file.
    cache_bridge.register()
    globals().update(dogpile_suites(os.environ["CACHE_BRIDGE_BACKEND"]))
    if os.environ["CACHE_BRIDGE_BACKEND"] == "dict":
        TestOsloFunctionalDict = OsloFunctionalDict
    del OsloFunctionalDict, BaseTestCaseCacheBackend
