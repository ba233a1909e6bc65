//! A temporary folder with a `CARGO_HOME` configured for the registry on loopback, a workspace in a
//! git repository, and its remote.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

use super::registry::{Registry, TOKEN};

pub struct Playground {
    folder: PathBuf,
    /// The folder for builds and the `CARGO_HOME`. With the same paths, dependencies are not
    /// rebuilt.
    lasting: Option<PathBuf>,
    /// Whether the registry also replaces crates.io.
    replaces_crates_io: bool,
    pub registry: Registry,
}

impl Drop for Playground {
    fn drop(&mut self) {
        // Keep the folder of a failed test for inspection.
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

impl Playground {
    /// An empty workspace.
    pub fn new(registry: Registry) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        // Must be outside of this repository, whose workspace `cargo new` would join.
        let name = format!("cache-release-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        let playground = Self {
            folder,
            lasting: None,
            replaces_crates_io: false,
            registry,
        };
        fs::create_dir_all(playground.root()).unwrap();
        playground.fresh_cargo_home();
        playground.git(&["init", "--quiet", "--initial-branch", "main"]);
        let origin = playground.origin();
        let origin = origin.to_str().unwrap();
        playground.git(&[
            "init",
            "--quiet",
            "--bare",
            "--initial-branch",
            "main",
            origin,
        ]);
        playground.git(&["remote", "add", "origin", origin]);
        // Third-party tools take minutes to build; stubs are enough for most tests.
        playground.tool("cargo-sbom", "echo '{\"packages\": []}'");
        playground.tool("cargo-semver-checks", "exit 0");
        playground
    }

    /// Installs a script that takes precedence over other programs of that name.
    pub fn tool(&self, name: &str, script: &str) {
        let file = self.tools().join(name);
        fs::create_dir_all(self.tools()).unwrap();
        fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn tools(&self) -> PathBuf {
        self.folder.join("tools")
    }

    /// Uses the real third-party tools.
    pub fn with_real_tools(self) -> Self {
        fs::remove_dir_all(self.tools()).unwrap();
        self
    }

    /// The remote repository.
    pub fn origin(&self) -> PathBuf {
        self.folder.join("origin.git")
    }

    /// Builds in `folder`, which is kept for the next run.
    pub fn with_target(mut self, folder: &Path) -> Self {
        self.lasting = Some(folder.to_path_buf());
        self.fresh_cargo_home();
        self
    }

    /// Replaces crates.io with the registry.
    pub fn with_crates_io_replaced(mut self) -> Self {
        self.replaces_crates_io = true;
        self.fresh_cargo_home();
        self
    }

    fn fresh_cargo_home(&self) {
        let home = self.cargo_home();
        if home.exists() {
            fs::remove_dir_all(&home).unwrap();
        }
        fs::create_dir_all(&home).unwrap();
        let config = if self.replaces_crates_io {
            self.registry.cargo_config_as_crates_io()
        } else {
            self.registry.cargo_config()
        };
        fs::write(home.join("config.toml"), config).unwrap();
    }

    /// A committed workspace with two tiny crates: `tiny-base` and its dependent `tiny-top`.
    pub fn tiny() -> Self {
        let playground = Self::new(Registry::start());
        playground.write(
            "Cargo.toml",
            "[workspace]\nresolver = \"3\"\nmembers = [\"tiny-base\", \"tiny-top\"]\n\n\
             [workspace.package]\nrust-version = \"1.88\"\n",
        );
        playground.write(".gitignore", "/target\n");
        playground.add_tiny(
            "tiny-base",
            "",
            "/// One.\npub fn one() -> u8 {\n    1\n}\n",
        );
        playground.add_tiny(
            "tiny-top",
            "tiny-base = { version = \"0.1.0\", path = \"../tiny-base\" }\n",
            "/// Two.\npub fn two() -> u8 {\n    tiny_base::one() + 1\n}\n",
        );
        playground.lock();
        playground.commit("first");
        playground
    }

    /// Like [`tiny`](Self::tiny), with both crates released.
    pub fn released() -> Self {
        let playground = Self::tiny();
        playground.release(&["--execute"]).succeeds(&[]);
        playground
    }

    fn add_tiny(&self, name: &str, dependencies: &str, code: &str) {
        self.write(
            &format!("{name}/Cargo.toml"),
            &format!(
                "[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\
                 rust-version.workspace = true\n\
                 description = \"For a test\"\nlicense = \"Apache-2.0\"\nreadme = \"README.md\"\n\
                 repository = \"https://example.org/tiny\"\n\n[dependencies]\n{dependencies}"
            ),
        );
        self.write(
            &format!("{name}/src/lib.rs"),
            &format!("//! Tiny.\n\n{code}"),
        );
        self.write(&format!("{name}/README.md"), "# Tiny\n");
        self.write(&format!("{name}/LICENSE"), "Apache License\n");
        self.write(
            &format!("{name}/CHANGELOG.md"),
            "# Changelog\n\n## 0.1.0 (2026-01-01)\n\n- First release.\n",
        );
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn root(&self) -> PathBuf {
        self.folder.join("workspace")
    }

    pub fn cargo_home(&self) -> PathBuf {
        self.lasting
            .as_ref()
            .unwrap_or(&self.folder)
            .join("cargo-home")
    }

    pub fn write(&self, path: &str, text: &str) {
        let path = self.root().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.root().join(path)).unwrap()
    }

    /// Replaces text in a file; panics if the file does not contain it.
    pub fn edit(&self, path: &str, from: &str, to: &str) {
        let text = self.read(path);
        assert!(
            text.contains(from),
            "{path} does not contain `{from}`:\n{text}"
        );
        self.write(path, &text.replace(from, to));
    }

    /// A command in the workspace, with the playground's `CARGO_HOME` and without the variables set
    /// by the cargo that runs this test.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("CARGO") || text.starts_with("GIT_") {
                command.env_remove(&name);
            }
        }
        command
            .env("CARGO", env!("CARGO"))
            .env("CARGO_HOME", self.cargo_home())
            .env("CARGO_REGISTRIES_LOOPBACK_TOKEN", TOKEN)
            // Debug information is not needed.
            .env("CARGO_PROFILE_DEV_DEBUG", "false")
            .env("CARGO_INCREMENTAL", "0")
            .env("GIT_AUTHOR_NAME", "Test")
            .env("GIT_AUTHOR_EMAIL", "test@example.org")
            .env("GIT_COMMITTER_NAME", "Test")
            .env("GIT_COMMITTER_EMAIL", "test@example.org")
            // Makes commit IDs reproducible.
            .env("GIT_AUTHOR_DATE", "2026-01-01T00:00:00Z")
            .env("GIT_COMMITTER_DATE", "2026-01-01T00:00:00Z")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .current_dir(self.root());
        if let Some(folder) = &self.lasting {
            command.env("CARGO_TARGET_DIR", folder);
        }
        let path = std::env::var_os("PATH").unwrap();
        let path = std::iter::once(self.tools()).chain(std::env::split_paths(&path));
        command.env("PATH", std::env::join_paths(path).unwrap());
        command
    }

    pub fn cargo(&self, arguments: &[&str]) -> String {
        succeeds(self.command(env!("CARGO")).args(arguments))
    }

    pub fn git(&self, arguments: &[&str]) -> String {
        succeeds(self.command("git").args(arguments))
    }

    /// Commits everything and pushes it.
    pub fn commit(&self, message: &str) {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--message", message]);
        self.git(&["push", "--quiet", "origin", "HEAD"]);
    }

    /// Raises the version of a crate and adds an entry to its changelog.
    pub fn bump(&self, name: &str, from: &str, to: &str) {
        self.edit(
            &format!("{name}/Cargo.toml"),
            &format!("version = \"{from}\"\nedition"),
            &format!("version = \"{to}\"\nedition"),
        );
        self.edit(
            &format!("{name}/CHANGELOG.md"),
            "# Changelog\n",
            &format!("# Changelog\n\n## {to} (2026-02-02)\n\n- More.\n"),
        );
    }

    /// Updates Cargo.lock.
    pub fn lock(&self) {
        self.cargo(&["metadata", "--format-version", "1"]);
    }

    pub fn tags(&self) -> Vec<String> {
        self.git(&["tag"]).lines().map(str::to_owned).collect()
    }

    pub fn tags_of_origin(&self) -> Vec<String> {
        let tags = succeeds(
            self.command("git")
                .arg("--git-dir")
                .arg(self.origin())
                .arg("tag"),
        );
        tags.lines().map(str::to_owned).collect()
    }

    /// Runs `cargo xtask release` on this workspace.
    pub fn release(&self, arguments: &[&str]) -> Release {
        let output = self.release_command(arguments).output().unwrap();
        let release = Release {
            succeeded: output.status.success(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            said: text_of(&output),
        };
        assert!(
            !release.said.contains(TOKEN),
            "the token was printed:\n{}",
            release.said
        );
        release
    }

    pub fn release_command(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(env!("CARGO_BIN_EXE_xtask"));
        command
            .args(["release", "--registry", "loopback", "--root"])
            .arg(self.root())
            .args(arguments);
        command
    }
}

/// The result of a release.
pub struct Release {
    pub succeeded: bool,
    pub stdout: String,
    /// Both streams.
    pub said: String,
}

impl Release {
    #[track_caller]
    pub fn succeeds(&self, says: &[&str]) {
        assert!(self.succeeded, "{}", self.said);
        self.says(says);
    }

    #[track_caller]
    pub fn fails(&self, says: &[&str]) {
        assert!(!self.succeeded, "it should have failed:\n{}", self.said);
        self.says(says);
    }

    #[track_caller]
    fn says(&self, says: &[&str]) {
        for text in says {
            assert!(
                self.said.contains(text),
                "it does not say `{text}`:\n{}",
                self.said
            );
        }
    }
}

fn text_of(output: &Output) -> String {
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    text
}

#[track_caller]
pub fn succeeds(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}:\n{}",
        text_of(&output)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}
