//! Child processes. Each carries a mark in its environment, and so do its own children, so that
//! none outlives this process: neither a compiler nor a server that a test had started.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::process::{Command, ExitCode, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// A path of process ids, outermost first: a task that runs another one is ended with all below.
const MARK: &str = "CACHE_XTASK_RUN";

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

fn mark() -> String {
    let outer = std::env::var(MARK).unwrap_or_default();
    format!("{outer}/{}", std::process::id())
}

/// A command that carries the mark.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env(MARK, mark());
    command
}

/// `cargo`, the one that runs this process, if one does.
pub(crate) fn cargo() -> Command {
    let mut command = command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // These describe the package `xtask`; to another cargo they are noise that rebuilds things.
    for (name, _) in std::env::vars_os() {
        let name_text = name.to_string_lossy();
        if name_text.starts_with("CARGO_PKG_") || name_text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
}

/// How a person would type it.
pub(crate) fn shown(command: &Command) -> String {
    let program = command.get_program().to_string_lossy();
    let program = program.rsplit('/').next().unwrap_or(&program).to_owned();
    let arguments = command.get_args().map(|argument| {
        let argument = argument.to_string_lossy();
        if argument.is_empty() || argument.contains([' ', '"', '\'', '*', '|']) {
            format!("'{argument}'")
        } else {
            argument.into_owned()
        }
    });
    let words: Vec<String> = std::iter::once(program).chain(arguments).collect();
    words.join(" ")
}

/// Runs to the end with this process's own terminal.
pub(crate) fn stream(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot start `{}`", shown(command)))?;
    if !status.success() {
        bail!("`{}` failed: {status}", shown(command));
    }
    Ok(())
}

/// What a captured command left.
pub(crate) struct Captured {
    pub(crate) status: ExitStatus,
    /// Both streams, as they came.
    pub(crate) output: String,
}

/// Runs to the end, keeping what it prints, and hands each line to `progress` as it comes.
pub(crate) fn capture(command: &mut Command, mut progress: impl FnMut(&str)) -> Result<Captured> {
    let (reader, writer) = io::pipe()?;
    let spawned = command
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .spawn();
    // The command's own ends of the pipe would keep the reader waiting for ever.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = spawned.with_context(|| format!("cannot start `{}`", shown(command)))?;
    let mut reader = BufReader::new(reader);
    let (mut output, mut line) = (String::new(), Vec::new());
    while reader.read_until(b'\n', &mut line)? > 0 {
        let text = String::from_utf8_lossy(&line);
        progress(text.trim_end());
        output.push_str(&text);
        line.clear();
    }
    let status = child.wait()?;
    Ok(Captured { status, output })
}

/// Standard output of a command that has to succeed; what it said is in the error.
pub(crate) fn output_of(command: &mut Command) -> Result<String> {
    let started = command.stdin(Stdio::null()).output();
    let Output {
        status,
        stdout,
        stderr,
    } = started.with_context(|| format!("cannot start `{}`", shown(command)))?;
    let stdout = String::from_utf8_lossy(&stdout).into_owned();
    if !status.success() {
        let stderr = String::from_utf8_lossy(&stderr);
        bail!("`{}` failed: {status}\n{stdout}{stderr}", shown(command));
    }
    Ok(stdout)
}

/// Marked processes that still run: `(id, command line)`.
///
/// Empty on systems without `/proc`, where Ctrl-C ends the terminal's process group.
pub(crate) fn running_children() -> Vec<(u32, String)> {
    running(&mark())
}

fn running(mark: &str) -> Vec<(u32, String)> {
    let mark = format!("{MARK}={mark}");
    let Ok(processes) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for process in processes.flatten() {
        let Ok(id) = process.file_name().to_string_lossy().parse::<u32>() else {
            continue;
        };
        let environment = fs::read(process.path().join("environ")).unwrap_or_default();
        let is_ours = environment.split(|byte| *byte == 0).any(|entry| {
            entry
                .strip_prefix(mark.as_bytes())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
        });
        if is_ours {
            let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            found.push((id, line.trim_end().to_owned()));
        }
    }
    found
}

/// Ends every marked process: asks first, and kills what has not gone after two seconds.
pub(crate) fn end_children() {
    end(&mark());
}

fn end(mark: &str) {
    let deadline = Instant::now() + Duration::from_secs(2);
    // A stopped process acts on a signal only once it continues.
    signal(&running(mark), &["TERM", "CONT"]);
    while Instant::now() < deadline {
        if running(mark).is_empty() {
            return;
        }
        thread::sleep(Duration::from_millis(50));
    }
    signal(&running(mark), &["KILL"]);
}

fn signal(processes: &[(u32, String)], names: &[&str]) {
    if processes.is_empty() {
        return;
    }
    let ids: Vec<String> = processes.iter().map(|(id, _)| id.to_string()).collect();
    let script: Vec<String> = names
        .iter()
        .map(|name| format!("kill -{name} {} 2>/dev/null", ids.join(" ")))
        .collect();
    // The shell's own `kill`: no package is needed for it. It carries no mark.
    let _ = Command::new("sh").arg("-c").arg(script.join(";")).status();
}

/// On Ctrl-C, and on a polite kill, ends the children first.
pub(crate) fn end_children_on_signals() -> Result<()> {
    ctrlc::set_handler(|| {
        INTERRUPTED.store(true, Ordering::SeqCst);
        // Below another task, that one says it.
        if std::env::var_os(MARK).is_none() {
            eprintln!("\ninterrupted: ending what was started");
        }
        end_children();
        std::process::exit(130);
    })
    .context("cannot listen for Ctrl-C")
}

/// After Ctrl-C a child's failure is not worth a message; the handler is about to end this process.
pub(crate) fn wait_if_interrupted() {
    if INTERRUPTED.load(Ordering::SeqCst) {
        thread::sleep(Duration::from_secs(10));
    }
}

/// Prints the error, if there is one.
pub(crate) fn exit_code(result: Result<()>) -> ExitCode {
    let Err(error) = result else {
        return ExitCode::SUCCESS;
    };
    wait_if_interrupted();
    eprintln!("error: {error:#}");
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Command {
        let mut command = command("sh");
        command.arg("-c").arg(script);
        command
    }

    #[test]
    fn captures_both_streams() {
        let mut seen = Vec::new();
        let captured = capture(&mut sh("echo out; echo err >&2; exit 3"), |line| {
            seen.push(line.to_owned());
        })
        .unwrap();
        assert_eq!(captured.status.code(), Some(3));
        assert_eq!(captured.output.len(), "out\nerr\n".len());
        seen.sort();
        assert_eq!(seen, ["err", "out"]);
    }

    #[test]
    fn a_failure_carries_what_the_command_said() {
        let error = output_of(&mut sh("echo it broke >&2; exit 1")).unwrap_err();
        assert!(error.to_string().contains("it broke"), "{error}");
    }

    #[test]
    fn shows_commands_as_typed() {
        let mut command = Command::new("/usr/bin/env");
        command.args(["a", "b c", ""]);
        assert_eq!(shown(&command), "env a 'b c' ''");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn ends_grandchildren_stopped_ones_too() {
        // Another mark than the other tests, which have children too.
        let mark = format!("{}/grandchildren", mark());
        let is_there = |id: u32| running(&mark).iter().any(|(found, _)| *found == id);

        // The shell goes at once and leaves a grandchild without a parent.
        let mut shell = sh("sleep 1000 >/dev/null 2>&1 & echo $!");
        let id = output_of(shell.env(MARK, &mark)).unwrap();
        let id = id.trim().parse::<u32>().unwrap();
        assert!(is_there(id));
        signal(&[(id, String::new())], &["STOP"]);

        end(&mark);
        let gone = (0..250).any(|_| {
            thread::sleep(Duration::from_millis(20));
            !is_there(id)
        });
        assert!(gone, "process {id} still runs");
    }
}
