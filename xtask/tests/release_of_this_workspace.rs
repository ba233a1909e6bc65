//! Rehearses the release of this workspace with a registry on loopback, and then uses the crates
//! from there in a new project.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::playground::{Playground, succeeds};
use support::registry::{Registry, errors};
use support::upstream::Upstream;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_path_buf()
}

/// A commit of the current working tree, with dated changelogs.
fn this_workspace() -> Playground {
    let repository = repository();
    let registry = Registry::start_with(Upstream::of(&repository));
    // Use the same folder for all runs, so that unchanged dependencies are not rebuilt.
    let folder = repository.join("target/release-rehearsal");
    let playground = Playground::new(registry)
        .with_crates_io_replaced()
        .with_target(&folder);
    let files = succeeds(
        Command::new("git")
            .args([
                "ls-files",
                "--cached",
                "--others",
                "--exclude-standard",
                "-z",
            ])
            .current_dir(&repository),
    );
    for file in files.split('\0').filter(|file| !file.is_empty()) {
        copy(&repository.join(file), &playground.root().join(file));
    }
    for name in CRATES {
        let changelog = format!("{name}/CHANGELOG.md");
        let text = playground.read(&changelog);
        playground.write(&changelog, &text.replace("(unreleased)", "(2026-01-01)"));
    }
    playground.commit("ready to go out");
    playground
}

/// Copies a file or a link; skips files removed from the working tree.
fn copy(from: &Path, to: &Path) {
    let Ok(found) = from.symlink_metadata() else {
        return;
    };
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    if found.is_symlink() {
        std::os::unix::fs::symlink(from.read_link().unwrap(), to).unwrap();
    } else {
        fs::copy(from, to).unwrap();
    }
}

/// The crates in publication order.
const CRATES: [&str; 5] = [
    "cache-core",
    "cache-conformance",
    "cache-dict",
    "cache-etcd3",
    "cache-memcache-pool",
];

#[test]
fn release_fails_and_resumes_and_a_new_project_uses_it() {
    let playground = this_workspace();
    let version = "0.1.0";

    playground
        .registry
        .fail_next("cache-conformance", 500, &errors("out of order"));
    let release = playground.release(&["--execute"]);
    println!("{}", release.said);
    release.fails(&["out of order", "published cache-core 0.1.0"]);
    assert_eq!(playground.tags(), [format!("cache-core-v{version}")]);

    let release = playground.release(&["--execute"]);
    println!("{}", release.said);
    release.succeeds(&["published cache-etcd3 0.1.0"]);
    let published = playground.registry.published();
    assert_eq!(published, CRATES.map(|name| format!("{name} {version}")));
    let mut tags = CRATES.map(|name| format!("{name}-v{version}"));
    tags.sort();
    assert_eq!(playground.tags(), tags);

    playground
        .release(&["--execute"])
        .succeeds(&["nothing to do"]);

    let stranger = Stranger::new(&playground);
    stranger.tests();
    only_bumped_crates_are_released(&playground);
    stranger.cargo(&["update", "--quiet"]);
    assert!(stranger.uses("cache-dict", "0.1.1") && stranger.uses("cache-core", "0.1.0"));
    stranger.tests();
}

#[test]
fn packages_have_license_readme_and_changelog() {
    for name in CRATES {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["package", "--list", "--allow-dirty", "--package", name]);
        let files = succeeds(cargo.current_dir(repository()));
        for wanted in ["LICENSE", "README.md", "CHANGELOG.md"] {
            let has = files.lines().any(|file| file == wanted);
            assert!(has, "{name} has no {wanted}: {files}");
        }
    }
}

fn only_bumped_crates_are_released(playground: &Playground) {
    playground.edit(
        "cache-dict/CHANGELOG.md",
        "# Changelog\n",
        "# Changelog\n\n## Unreleased\n\n- Better.\n",
    );
    playground.commit("what changed");
    playground
        .release(&["prepare", "cache-dict", "0.1.1"])
        .succeeds(&["cache-dict/Cargo.toml"]);
    playground.commit("cache-dict 0.1.1");
    let release = playground.release(&["--execute", "--push"]);
    println!("{}", release.said);
    release.succeeds(&["0.1.0 → 0.1.1", "published cache-dict 0.1.1"]);
    assert_eq!(playground.registry.published().len(), CRATES.len() + 1);
    assert_eq!(playground.tags_of_origin(), playground.tags());
}

/// A project that follows `WRITING_A_BACKEND.md`, and also uses the other backends.
struct Stranger<'a> {
    playground: &'a Playground,
    folder: PathBuf,
}

impl<'a> Stranger<'a> {
    fn new(playground: &'a Playground) -> Self {
        let folder = playground.folder().join("map_backend");
        playground.cargo(&["new", "--quiet", "--lib", folder.to_str().unwrap()]);
        let stranger = Self { playground, folder };
        let backends = [
            "cache-core",
            "cache-dict",
            "cache-memcache-pool",
            "cache-etcd3",
        ];
        stranger.cargo(&[&["add", "--quiet"], &backends[..]].concat());
        stranger.cargo(&["add", "--quiet", "--dev", "cache-conformance"]);
        stranger.cargo(&[
            "add",
            "--quiet",
            "--dev",
            "tokio",
            "--features",
            "macros,rt",
        ]);
        let page = playground.read("cache-conformance/WRITING_A_BACKEND.md");
        let mut code = page.split("```rust\n").skip(1);
        for file in ["src/lib.rs", "tests/conformance.rs"] {
            let (code, _) = code.next().unwrap().split_once("```").unwrap();
            stranger.write(file, code);
        }
        stranger.write("tests/backends.rs", BACKENDS);
        stranger
    }

    fn write(&self, file: &str, text: &str) {
        let file = self.folder.join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }

    fn cargo(&self, arguments: &[&str]) -> String {
        let mut cargo = self.playground.command(env!("CARGO"));
        succeeds(cargo.args(arguments).current_dir(&self.folder))
    }

    fn tests(&self) {
        self.cargo(&["test", "--quiet"]);
        let listed = self.cargo(&["test", "--quiet", "--", "--list"]);
        let tests = listed.lines().filter(|line| line.ends_with(": test"));
        assert!(tests.count() > 30, "{listed}");
    }

    fn uses(&self, name: &str, version: &str) -> bool {
        let lock = fs::read_to_string(self.folder.join("Cargo.lock")).unwrap();
        lock.contains(&format!("name = \"{name}\"\nversion = \"{version}\"\n"))
    }
}

const BACKENDS: &str = r#"
use cache_core::{CacheBackend, CachedValue};
use cache_dict::DictBackend;
use cache_etcd3::Etcd3Backend;
use cache_memcache_pool::MemcachePoolBackend;

fn keeps_bytes<B: CacheBackend<Value = Vec<u8>>>(_: &B) {}

#[tokio::test]
async fn all_are_backends_of_one_contract() {
    let dict = DictBackend::builder().build().unwrap();
    keeps_bytes(&dict);
    dict.set("key", CachedValue::new(b"value".to_vec())).await.unwrap();
    assert_eq!(dict.get("key").await.unwrap().unwrap().payload(), b"value");
    keeps_bytes(&MemcachePoolBackend::builder().build().unwrap());
    keeps_bytes(&Etcd3Backend::builder().build().unwrap());
}
"#;
