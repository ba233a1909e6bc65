//! Child processes. A mark in their environment, which their own children inherit, makes sure that
//! none outlives this process, be it a compiler or a server started by a test.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::process::{Command, ExitCode, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// The variable of the mark: a path of process IDs, outermost first, so that ending a task also
/// ends the tasks it runs.
const MARK: &str = "CACHE_XTASK_RUN";

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

fn mark() -> String {
    let outer = std::env::var(MARK).unwrap_or_default();
    format!("{outer}/{}", std::process::id())
}

/// Creates a command with the mark.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env(MARK, mark());
    command
}

/// Creates a command for the `cargo` that runs this process, if any, or the one in `PATH`.
pub(crate) fn cargo() -> Command {
    let mut command = command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // These describe the package `xtask` and would cause needless rebuilds.
    for (name, _) in std::env::vars_os() {
        let name_text = name.to_string_lossy();
        if name_text.starts_with("CARGO_PKG_") || name_text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
}

/// Formats the command as typed in a shell.
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

/// Runs a command with inherited standard streams.
pub(crate) fn stream(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot start `{}`", shown(command)))?;
    if !status.success() {
        bail!("`{}` failed: {status}", shown(command));
    }
    Ok(())
}

/// The result of a captured command.
pub(crate) struct Captured {
    pub(crate) status: ExitStatus,
    /// Both output streams, interleaved.
    pub(crate) output: String,
}

/// Runs a command, captures its output, and passes each line to `progress` as it arrives.
pub(crate) fn capture(command: &mut Command, mut progress: impl FnMut(&str)) -> Result<Captured> {
    let (reader, writer) = io::pipe()?;
    let spawned = command
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .spawn();
    // Drop the command's ends of the pipe, or the reader would never see its end.
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

/// Runs a command and returns its standard output; if it fails, the error contains all output.
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

/// Marked processes that are still running: `(id, command line)`.
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

/// Terminates every marked process, and kills those that are still running after two seconds.
pub(crate) fn end_children() {
    end(&mark());
}

fn end(mark: &str) {
    let deadline = Instant::now() + Duration::from_secs(2);
    // A stopped process acts on a signal only once it continues.
    let processes = running(mark);
    signal(&processes, "TERM");
    signal(&processes, "CONT");
    while Instant::now() < deadline {
        if running(mark).is_empty() {
            return;
        }
        thread::sleep(Duration::from_millis(50));
    }
    signal(&running(mark), "KILL");
}

fn signal(processes: &[(u32, String)], name: &str) {
    if processes.is_empty() {
        return;
    }
    let ids: Vec<String> = processes.iter().map(|(id, _)| id.to_string()).collect();
    let script = format!("kill -{name} {} 2>/dev/null", ids.join(" "));
    // Use the shell's built-in `kill`, which needs no package. The shell must not carry the mark.
    let _ = Command::new("sh").arg("-c").arg(script).status();
}

/// Ends the children first on Ctrl-C and on SIGTERM.
pub(crate) fn end_children_on_signals() -> Result<()> {
    ctrlc::set_handler(|| {
        INTERRUPTED.store(true, Ordering::SeqCst);
        // An outer task prints the message itself.
        if std::env::var_os(MARK).is_none() {
            eprintln!("\ninterrupted: stopping child processes");
        }
        end_children();
        std::process::exit(130);
    })
    .context("cannot listen for Ctrl-C")
}

/// After Ctrl-C, waits for the handler to end this process, so that failures of the interrupted
/// children are not reported.
pub(crate) fn wait_if_interrupted() {
    if INTERRUPTED.load(Ordering::SeqCst) {
        thread::sleep(Duration::from_secs(10));
    }
}

/// Prints the error, if any.
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
    fn error_contains_command_output() {
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
    fn ends_stopped_grandchildren() {
        // Use a different mark than the other tests, which also have children.
        let mark = format!("{}/grandchildren", mark());
        let is_there = |id: u32| running(&mark).iter().any(|(found, _)| *found == id);
        let becomes = |expected: bool, id: u32| {
            (0..1000).any(|_| {
                thread::sleep(Duration::from_millis(20));
                is_there(id) == expected
            })
        };

        // The shell exits immediately and orphans a grandchild.
        let mut shell = sh("sleep 1000 >/dev/null 2>&1 & echo $!");
        let id = output_of(shell.env(MARK, &mark)).unwrap();
        let id = id.trim().parse::<u32>().unwrap();
        // While it starts its program, its environment cannot be read.
        assert!(becomes(true, id), "process {id} does not run");
        signal(&[(id, String::new())], "STOP");

        end(&mark);
        assert!(becomes(false, id), "process {id} still runs");
    }
}
