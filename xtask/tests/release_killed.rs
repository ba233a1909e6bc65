//! Kills a release at each step and runs it again. The outcome must match that of an uninterrupted
//! release: the same packages in the registry, and the same tags locally and on the remote.
//!
//! An uninterrupted run counts the steps: every request to the registry and every git command.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use support::playground::{Playground, succeeds};

const RELEASE: [&str; 2] = ["--execute", "--push"];

/// When to kill a release: after a number of git commands, or of requests to the registry.
#[derive(Clone, Copy, Debug)]
enum Kill {
    Never,
    AfterGit(usize),
    AfterRequest(usize),
}

/// The outcome of a release.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    packages: BTreeMap<String, String>,
    tags: String,
    tags_of_origin: String,
}

struct Stage {
    playground: Playground,
    /// A copy of the workspace and its remote from before the release.
    before: PathBuf,
    /// The log of git commands.
    log: PathBuf,
}

impl Stage {
    fn new() -> Self {
        let playground = Playground::tiny();
        let folder = playground.folder();
        let (before, log) = (folder.join("before"), folder.join("git.log"));
        let git = succeeds(Command::new("sh").args(["-c", "command -v git"]));
        // Kills the whole process group of the release, including itself.
        let script = format!(
            "[ -z \"$KILL_GROUP_OF\" ] && exec {git} \"$@\"\n\
             {git} \"$@\"\ncode=$?\necho \"$*\" >> '{log}'\n\
             if [ \"$(wc -l < '{log}')\" -eq \"$KILL_AFTER\" ]; then kill -s KILL -- -$PPID; fi\n\
             exit $code",
            git = git.trim(),
            log = log.display()
        );
        playground.tool("git", &script);
        // Skip the builds, which would only slow down a hundred runs.
        let cargo = env!("CARGO");
        let script = format!("case \"$1\" in test|doc) exit 0 ;; esac\nexec '{cargo}' \"$@\"");
        playground.tool("cargo-without-builds", &script);
        fs::create_dir(&before).unwrap();
        copy(&playground.root(), &before);
        copy(&playground.origin(), &before);
        Self {
            playground,
            before,
            log,
        }
    }

    /// Restores the state before the release, except for build artifacts.
    fn reset(&self) {
        let playground = &self.playground;
        playground.registry.clear();
        let _ = fs::remove_file(&self.log);
        for folder in [playground.root(), playground.origin()] {
            for entry in fs::read_dir(&folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() && !path.ends_with("target") {
                    fs::remove_dir_all(path).unwrap();
                }
            }
            copy(
                &self.before.join(folder.file_name().unwrap()),
                playground.folder(),
            );
        }
    }

    /// Runs a release, and returns whether it was killed.
    fn run(&self, kill: Kill) -> bool {
        let mut command = self.playground.release_command(&RELEASE);
        let after_git = if let Kill::AfterGit(number) = kill {
            number
        } else {
            0
        };
        command
            .env(
                "CARGO",
                self.playground.folder().join("tools/cargo-without-builds"),
            )
            .env("KILL_GROUP_OF", "release")
            .env("KILL_AFTER", after_git.to_string())
            .process_group(0)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let group: Arc<Mutex<Option<u32>>> = Arc::default();
        if let Kill::AfterRequest(number) = kill {
            let group = Arc::clone(&group);
            self.playground.registry.after_request(move |request| {
                if request == number {
                    // Waits for the group ID.
                    let group = group.lock().unwrap().unwrap();
                    let group = format!("-{group}");
                    let kill = Command::new("kill").args(["-9", "--", &group]).status();
                    assert!(kill.unwrap().success());
                }
            });
        }
        let mut locked = group.lock().unwrap();
        let child = command.spawn().unwrap();
        *locked = Some(child.id());
        drop(locked);
        let output = child.wait_with_output().unwrap();
        self.playground.registry.after_request(|_| ());
        let was_killed = output.status.signal() == Some(9);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(was_killed || output.status.success(), "{kill:?}: {said}");
        was_killed
    }

    fn outcome(&self) -> Outcome {
        let tags = [
            "for-each-ref",
            "--format=%(refname) %(*objectname)",
            "refs/tags",
        ];
        let of_origin = self.playground.origin();
        let of_origin = ["--git-dir", of_origin.to_str().unwrap()];
        Outcome {
            packages: self.playground.registry.files(),
            tags: self.playground.git(&tags),
            tags_of_origin: self.playground.git(&[&of_origin[..], &tags].concat()),
        }
    }
}

fn copy(from: &Path, into: &Path) {
    succeeds(Command::new("cp").arg("-a").args([from, into]));
}

#[test]
fn release_killed_at_any_step_resumes_to_the_same_outcome() {
    let stage = Stage::new();
    stage.reset();
    assert!(!stage.run(Kill::Never));
    let undisturbed = stage.outcome();
    assert_eq!(undisturbed.packages.len(), 2);
    assert_eq!(undisturbed.tags.lines().count(), 2);
    assert_eq!(undisturbed.tags_of_origin, undisturbed.tags);

    let commands = fs::read_to_string(&stage.log).unwrap();
    let commands = commands.lines().count();
    let requests = stage.playground.registry.requests();
    println!("{commands} commands of git, {requests} requests");
    assert!(commands > 10 && requests > 10);
    let kills = (1..=commands).map(Kill::AfterGit);
    for kill in kills.chain((1..=requests).map(Kill::AfterRequest)) {
        stage.reset();
        assert!(stage.run(kill), "{kill:?} did not happen");
        assert!(!stage.run(Kill::Never));
        assert_eq!(stage.outcome(), undisturbed, "{kill:?}");
    }
}
