//! Sharing the verdicts of one run among processes, because `cargo nextest` runs every test in its
//! own process.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use crate::Verdict;

/// How often the process that runs the rules shows that it is alive, and how long it may be silent
/// on a busy machine.
const BEAT: Duration = Duration::from_secs(1);
const DEAD_AFTER: Duration = Duration::from_secs(30);

/// Whether every test has its own process.
pub(crate) fn is_process_per_test() -> bool {
    std::env::var_os("NEXTEST_RUN_ID").is_some()
        && std::env::var_os("NEXTEST_EXECUTION_MODE").is_some_and(|mode| mode == "process-per-test")
        // To run a single rule and no other.
        && std::env::var_os("CACHE_CONFORMANCE_ALONE").is_none()
}

/// The result of `run`, which only one process of this test run executes. `None` if that process
/// has died, or the file cannot be created.
pub(crate) fn once_per_run(
    suite: [&str; 2],
    run: impl FnOnce() -> HashMap<String, Verdict>,
) -> Option<HashMap<String, Verdict>> {
    let file = file_of(suite)?;
    let taken = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(file.with_extension("running"));
    match taken {
        Ok(running) => {
            let verdicts = while_beating(&running, run);
            publish(&file, &verdicts).ok();
            Some(verdicts)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => wait_for(&file),
        Err(_) => None,
    }
}

/// A file for this run of the tests, this binary and this suite, by its name and module.
fn file_of(suite: [&str; 2]) -> Option<PathBuf> {
    let mut hasher = DefaultHasher::new();
    std::env::var_os("NEXTEST_RUN_ID").hash(&mut hasher);
    // A test that is retried must not read its earlier failure.
    std::env::var_os("NEXTEST_ATTEMPT").hash(&mut hasher);
    std::env::current_exe().ok().hash(&mut hasher);
    suite.hash(&mut hasher);
    let folder = std::env::temp_dir().join("cache-conformance");
    fs::create_dir_all(&folder).ok()?;
    remove_old(&folder);
    Some(folder.join(format!("{:016x}.verdicts", hasher.finish())))
}

/// Removes the files of earlier runs.
fn remove_old(folder: &Path) {
    const OLD: Duration = Duration::from_secs(86_400);
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let modified = entry.metadata().and_then(|data| data.modified());
        let age = modified.ok().and_then(|modified| modified.elapsed().ok());
        if age.is_some_and(|age| age > OLD) {
            fs::remove_file(entry.path()).ok();
        }
    }
}

fn while_beating<T>(running: &File, run: impl FnOnce() -> T) -> T {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let beating = scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                running.set_modified(SystemTime::now()).ok();
                thread::park_timeout(BEAT);
            }
        });
        let ended = run();
        done.store(true, Ordering::SeqCst);
        beating.thread().unpark();
        ended
    })
}

/// Readers see the whole file or none.
fn publish(file: &Path, verdicts: &HashMap<String, Verdict>) -> io::Result<()> {
    let draft = file.with_extension("draft");
    let mut writer = File::create(&draft)?;
    for (id, verdict) in verdicts {
        let (word, detail) = match verdict {
            Verdict::Failed(detail) => ("failed", detail.as_str()),
            Verdict::NotApplicable(detail) => ("not_applicable", detail.as_str()),
            Verdict::Newer(detail) => ("newer", detail.as_str()),
            _ => ("passed", ""),
        };
        writeln!(writer, "{id} {word} {}", detail.len())?;
        writeln!(writer, "{detail}")?;
    }
    writer.sync_all()?;
    fs::rename(draft, file)
}

fn wait_for(file: &Path) -> Option<HashMap<String, Verdict>> {
    const LOOK: Duration = Duration::from_millis(50);
    loop {
        if let Ok(text) = fs::read_to_string(file) {
            return parse(&text);
        }
        let running = fs::metadata(file.with_extension("running")).ok()?;
        let silence = running.modified().ok()?.elapsed().unwrap_or_default();
        if silence > DEAD_AFTER {
            return None;
        }
        thread::sleep(LOOK);
    }
}

fn parse(mut text: &str) -> Option<HashMap<String, Verdict>> {
    let mut verdicts = HashMap::new();
    while !text.is_empty() {
        let (line, rest) = text.split_once('\n')?;
        let mut words = line.split(' ');
        let (id, word) = (words.next()?, words.next()?);
        let len: usize = words.next()?.parse().ok()?;
        let detail = rest.get(..len)?.to_owned();
        text = rest.get(len + 1..)?;
        let verdict = match word {
            "failed" => Verdict::Failed(detail),
            "not_applicable" => Verdict::NotApplicable(detail),
            "newer" => Verdict::Newer(detail),
            "passed" => Verdict::Passed,
            _ => return None,
        };
        verdicts.insert(id.to_owned(), verdict);
    }
    Some(verdicts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_with_the_same_name_do_not_share_verdicts() {
        let file = |module| file_of(["backend", module]);
        assert!(file("tests::tcp").is_some());
        assert_eq!(file("tests::tcp"), file("tests::tcp"));
        assert_ne!(file("tests::tcp"), file("tests::tls"));
    }

    #[test]
    fn published_verdicts_are_read_back() {
        let verdicts: HashMap<String, Verdict> = [
            ("a::kept", Verdict::Passed),
            ("a::broken", Verdict::Failed("two\nlines, é\n".into())),
            ("b::other", Verdict::NotApplicable("no server".into())),
        ]
        .map(|(id, verdict)| (id.to_owned(), verdict))
        .into();
        let file = std::env::temp_dir().join(format!("verdicts-{}", std::process::id()));
        assert!(publish(&file, &verdicts).is_ok());
        let read = fs::read_to_string(&file).ok().and_then(|text| parse(&text));
        fs::remove_file(&file).ok();
        assert_eq!(read, Some(verdicts));
    }
}
