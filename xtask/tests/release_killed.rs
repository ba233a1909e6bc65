//! A release that is killed at any of its steps, and then run again, ends like one that was not: the
//! same packages in the registry, the same tags here and where they are pushed to.
//!
//! The steps are not listed here. An undisturbed run counts them: every request that the registry
//! gets, and every command that git gets.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use support::playground::{Playground, succeeds};

const RELEASE: [&str; 2] = ["--execute", "--push"];

/// Where a release is killed: after so many commands of git, or requests to the registry.
#[derive(Clone, Copy, Debug)]
enum Kill {
    Never,
    AfterGit(usize),
    AfterRequest(usize),
}

/// What there is in the end.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    packages: BTreeMap<String, String>,
    tags: String,
    tags_of_origin: String,
}

struct Stage {
    playground: Playground,
    /// What the workspace and the repository that it is pushed to were before any release.
    before: PathBuf,
    /// The commands that git got.
    log: PathBuf,
}

impl Stage {
    fn new() -> Self {
        let playground = Playground::tiny();
        let folder = playground.folder();
        let (before, log) = (folder.join("before"), folder.join("git.log"));
        let git = succeeds(Command::new("sh").args(["-c", "command -v git"]));
        // Kills the whole group of the release, and so itself.
        let script = format!(
            "[ -z \"$KILL_GROUP_OF\" ] && exec {git} \"$@\"\n\
             {git} \"$@\"\ncode=$?\necho \"$*\" >> '{log}'\n\
             if [ \"$(wc -l < '{log}')\" -eq \"$KILL_AFTER\" ]; then kill -s KILL -- -$PPID; fi\n\
             exit $code",
            git = git.trim(),
            log = log.display()
        );
        playground.tool("git", &script);
        // That the packages build is not what is shown here, a hundred times over.
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

    /// Everything as before the first release, but for what is built already.
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

    /// Whether it was killed.
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
                    // Not before it is known whom to kill.
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
fn killed_at_any_step_a_release_goes_on_to_the_same_end() {
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
        assert!(stage.run(kill), "{kill:?} did not come to pass");
        assert!(!stage.run(Kill::Never));
        assert_eq!(stage.outcome(), undisturbed, "{kill:?}");
    }
}
