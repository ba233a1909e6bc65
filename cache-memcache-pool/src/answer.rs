//! What memcached answers, and what of it is still to come.

use cache_core::Result;
use cache_core::wire::Metadata;

/// What the server says to one command.
#[derive(Debug)]
pub(crate) enum Reply {
    /// What is stored under the key, or why it cannot be read.
    Found(Result<Stored>),
    Missing,
    Done,
    /// `SERVER_ERROR` and its text, or another refusal.
    Failed(String),
}

/// A stored value.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) metadata: Metadata,
    pub(crate) payload: Vec<u8>,
}

/// Why answers can no longer be told from each other.
#[derive(Debug)]
pub(crate) enum Violation {
    /// The server wants a password, and has been given none.
    Unauthenticated,
    /// The server has as many connections as it takes.
    Full(String),
    Other(String),
}

impl Violation {
    pub(crate) fn line(line: &[u8]) -> Self {
        let shown = line.get(..80).unwrap_or(line);
        let shown = String::from_utf8_lossy(shown);
        if line.starts_with(b"CLIENT_ERROR unauthenticated") {
            return Self::Unauthenticated;
        }
        if line.starts_with(b"ERROR Too many open connections") {
            return Self::Full(shown.into_owned());
        }
        if line == b"ERROR" {
            return Self::Other(
                "the server does not know the command; memcached 1.6 or later is needed".into(),
            );
        }
        Self::Other(format!(
            "the server answered {shown:?}, which is not memcached's protocol"
        ))
    }
}

/// What an exchange waits for, and what of it is already there.
#[derive(Debug)]
pub(crate) enum Expect {
    /// The answer to one command.
    One { tag: u32 },
    /// The answers to several, `first` being the tag of the first.
    Many {
        first: u32,
        commands: usize,
        replies: Vec<Reply>,
    },
    /// The end of several commands that are quiet unless they fail.
    Quiet { commands: usize, has_failed: bool },
    /// The values for a text `get`; `request` is the line that was sent.
    Values {
        request: Vec<u8>,
        /// Up to where the keys of `request` are answered.
        cursor: usize,
        replies: Vec<Reply>,
        keys: usize,
    },
}

impl Expect {
    /// What the keys asked for by `line`, made by [`encode_get_many`](crate::command::encode_get_many), will be.
    pub(crate) fn values(line: &[u8], keys: usize) -> Self {
        let line = line.strip_suffix(b"\r\n").unwrap_or(line);
        Self::Values {
            request: line.to_vec(),
            cursor: "get".len(),
            replies: Vec::with_capacity(keys),
            keys,
        }
    }
}

/// A complete answer.
#[derive(Debug)]
pub(crate) enum Answer {
    One(Reply),
    Many(Vec<Reply>),
    /// Some of the quiet commands failed, and which is not said of all.
    SomeFailed,
}

/// Notes a miss for each key of the request that stands before `key`.
pub(crate) fn skip_to(key: &[u8], expect: &mut Expect) -> Result<(), Violation> {
    let Expect::Values {
        request,
        cursor,
        replies,
        ..
    } = expect
    else {
        return Ok(());
    };
    loop {
        // Each key has a space before it.
        let rest = request.get(*cursor + 1..).unwrap_or_default();
        let end = rest.iter().position(|&b| b == b' ').unwrap_or(rest.len());
        if end == 0 {
            return Err(Violation::Other(
                "the server sent a value that nobody asked for".into(),
            ));
        }
        *cursor += 1 + end;
        if rest.get(..end) == Some(key) {
            return Ok(());
        }
        replies.push(Reply::Missing);
    }
}

/// The answer, at its end.
pub(crate) fn finish(expect: &mut Expect) -> Result<Answer, Violation> {
    match expect {
        Expect::Values { replies, keys, .. } => {
            let mut replies = std::mem::take(replies);
            replies.resize_with(*keys, || Reply::Missing);
            Ok(Answer::Many(replies))
        }
        Expect::Quiet {
            has_failed: true, ..
        } => Ok(Answer::SomeFailed),
        Expect::Quiet { commands, .. } => {
            let done = std::iter::repeat_with(|| Reply::Done);
            Ok(Answer::Many(done.take(*commands).collect()))
        }
        Expect::One { .. } | Expect::Many { .. } => Err(Violation::line(b"END")),
    }
}
