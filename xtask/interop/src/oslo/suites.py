"""Runs the test suites of dogpile.cache and oslo.cache on the Rust backends.

`python suites.py` runs them on all three, with the servers whose ports are in the environment, and
writes the page. `python suites.py BACKEND` runs them on `dict`, `memcache_pool` or `etcd3`; the
last line of its output is a JSON object with the passed and total number of tests per suite.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import cache_bridge
import page
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

# Tests that cannot pass, in suites whose name contains this word. If one passes, the run fails.
EXCEPTIONS = [
    (
        "mutex",
        ["test_mutex", "test_mutex_reentrant_across_keys", "test_subclass_match"],
        "asks the backend for a mutex of its own, shared by all processes; these backends have "
        "none, and a region then uses a lock of its process",
    ),
    (
        "envelope",
        ["test_backend_set_get_value", "test_backend_delete"],
        'stores `b"some value"`, which no region of dogpile.cache would: it has no metadata. It '
        "passes where bytes are stored as they are",
    ),
]

# The tests in oslo.cache's own test files that go through a backend; None means all of them.
OSLO = {
    "dict": {
        "unit/test_dict_backend.py": None,
        # The other tests only inspect oslo.cache's dictionary of arguments.
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
    """Test classes for pytest to collect."""
    backend, arguments = BACKENDS[name]
    classes = {}
    for stored in ("envelope", "payload"):
        registered = f"cache_bridge.{name}.{stored}"
        options = dict(backend.options)
        if stored == "payload" and name != "dict":
            # The server stores dogpile.cache's bytes unchanged.
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
    """oslo.cache does not have such a class for its dict."""

    suite = "oslo.cache, functional"

    def setUp(self):
        self.config_fixture.config(group="cache", backend="oslo_cache.dict")
        super().setUp()


class Fork:
    """Uses the backend in a forked process."""

    suite = "a process is forked"

    def test_handles(self):
        name = os.environ["CACHE_BRIDGE_BACKEND"]
        program = [sys.executable, str(Path(__file__).with_name("fork.py")), name]
        config = json.dumps(BACKENDS[name][1])
        found = json.loads(subprocess.check_output([*program, config], timeout=300))
        assert "CacheError" in found["the parent's"] and "fork" in found["the parent's"]
        stored = "b'by the parent'"
        # Values kept in memory are not shared between processes.
        assert found["its own"] == ("None" if name == "dict" else stored)
        assert found["afterwards"] == stored


class Recorder:
    def __init__(self, chosen):
        self.chosen = chosen
        self.suites = {}
        self.counts = {}
        self.skipped = False

    def is_wanted(self, item):
        chosen = self.chosen.get(item.path)
        return chosen is None or item.name in chosen

    def pytest_collection_modifyitems(self, items):
        items[:] = filter(self.is_wanted, items)
        for item in items:
            kind = "functional" if "functional" in str(item.path) else "unit"
            suite = getattr(item.cls, "suite", f"oslo.cache, {kind}")
            self.suites[item.nodeid] = suite
            for word, tests, reason in EXCEPTIONS:
                if word in suite and item.name in tests:
                    item.add_marker(pytest.mark.xfail(reason=reason, strict=True))

    def pytest_runtest_logreport(self, report):
        # Setup and teardown count only if they fail.
        if report.when != "call" and report.passed:
            return
        suite = self.suites[report.nodeid]
        passed, total = self.counts.get(suite, (0, 0))
        self.counts[suite] = (passed + report.passed, total + 1)
        if report.skipped and not hasattr(report, "wasxfail"):
            print(f"{report.nodeid} was skipped")
            self.skipped = True


def run(name):
    os.environ["CACHE_BRIDGE_BACKEND"] = name
    tests = Path(sys.modules[BaseTestCaseCacheBackend.__module__].__file__).parents[1]
    chosen = {tests / file: names for file, names in OSLO[name].items()}
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:warnings"]
    recorder = Recorder(chosen)
    code = pytest.main([*options, __file__, *map(str, chosen)], plugins=[recorder])
    print(json.dumps(recorder.counts))
    sys.exit(code or recorder.skipped)


def run_all():
    """Runs the suites on all backends at once, since they mostly wait."""
    run_one = [sys.executable, __file__]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    running = {name: subprocess.Popen([*run_one, name], **options) for name in BACKENDS}
    said = {name: child.communicate()[0] for name, child in running.items()}
    failed = [name for name, child in running.items() if child.returncode]
    if failed:
        sys.exit("\n".join(f"over {name}:\n{said[name]}" for name in failed))
    counts = [json.loads(text.splitlines()[-1]) for text in said.values()]

    rows = []
    for suite in sorted(set().union(*counts)):
        cells = ["{} of {}".format(*of[suite]) if suite in of else "" for of in counts]
        rows.append([suite, *cells])
    heading = ["suite", "`cache-dict`", "`cache-memcache-pool`", "`cache-etcd3`"]
    exceptions = [[", ".join(f"`{test}`" for test in tests), why] for _, tests, why in EXCEPTIONS]
    passed = page.table(heading, *rows)
    others = page.table(["test", "why"], *exceptions)
    page.write("suites", f"{passed}\nWhat does not pass:\n\n{others}")
    print(passed)


if __name__ == "__main__":
    if sys.argv[1:]:
        run(sys.argv[1])
    else:
        run_all()
else:
    # Imported by pytest.
    cache_bridge.register()
    globals().update(dogpile_suites(os.environ["CACHE_BRIDGE_BACKEND"]))
    TestFork = Fork
    if os.environ["CACHE_BRIDGE_BACKEND"] == "dict":
        TestOsloFunctionalDict = OsloFunctionalDict
    del Fork, OsloFunctionalDict, BaseTestCaseCacheBackend
