//! Replies, responses, their expected form, and the items that they consist of.

use cache_core::Result;

use super::StoredFormat;
use super::encode::tag_behind;
use super::meta_response::{MetaResponse, MetaStatus};
use super::value::Stored;

/// The reply to one command.
#[derive(Debug)]
pub(crate) enum Reply {
    /// The value, or why it cannot be decoded.
    Found(Result<Stored>),
    /// A value over the limit, with its size in bytes. It was skipped.
    TooLarge(usize),
    Missing,
    Done,
    /// The response to a [`MetaRequest`](super::MetaRequest).
    Meta(Box<MetaResponse>),
    /// `SERVER_ERROR` and its text, or another refusal.
    Failed(String),
}

/// Why the connection cannot be used any longer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    /// The server requires credentials, and has received none.
    Unauthenticated,
    /// The server has reached its limit of connections.
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
        // Before memcached 1.6.10 the length in `ms` was a flag, and `HD` was `OK`.
        let is_old = [&b"CLIENT_ERROR invalid flag"[..], b"OK "];
        if line == b"ERROR" || is_old.iter().any(|old| line.starts_with(old)) {
            return Self::Other(format!(
                "the server does not know the command ({shown:?}); use memcached 1.6.10 or later, \
                 or set `protocol` to \"classic\""
            ));
        }
        Self::Other(format!(
            "invalid response {shown:?}: not the memcached protocol"
        ))
    }
}

/// The expected response to a request, and the part that has arrived.
///
/// It is moved with each request, so every variant has one word, which fits into a register.
#[derive(Debug)]
pub(crate) enum Expected {
    /// The reply to one meta command.
    One { tag: usize },
    /// The replies to several.
    Many(Box<Tagged>),
    /// The end of several quiet commands, which report only failures.
    Quiet(Box<Quiet>),
    /// The values for a classic `get`.
    Values(Box<Values>),
    /// A line for each of several classic writes.
    Lines(Box<Replies>),
    /// The version of a server with meta commands.
    Version,
    /// The response to a [`MetaRequest`](super::MetaRequest).
    Meta(Box<ExpectedMeta>),
}

/// The replies to several meta commands.
#[derive(Debug)]
pub(crate) struct Tagged {
    first: usize,
    replies: Replies,
}

impl Tagged {
    /// The tag of the next reply.
    pub(super) fn next_tag(&self) -> usize {
        tag_behind(self.first, self.replies.replies.len())
    }
}

/// What several quiet commands have reported.
#[derive(Debug)]
pub(crate) struct Quiet {
    commands: usize,
    /// How many of them have reported something.
    remarks: usize,
    has_failed: bool,
}

/// The response to a [`MetaRequest`](super::MetaRequest).
#[derive(Debug)]
pub(crate) struct ExpectedMeta {
    pub(super) tag: Option<usize>,
    /// The status of a command without a tag.
    pub(super) status: Option<MetaStatus>,
    /// The response, while its value is missing.
    pub(super) response: Option<Box<MetaResponse>>,
}

/// A reply for each of several commands.
#[derive(Debug)]
pub(crate) struct Replies {
    commands: usize,
    replies: Vec<Reply>,
}

impl Replies {
    fn new(commands: usize) -> Self {
        Self {
            commands,
            replies: Vec::with_capacity(commands),
        }
    }

    /// Adds a reply. Returns the response, if this was the last one.
    fn push(&mut self, reply: Reply) -> Option<Response> {
        self.replies.push(reply);
        let is_last = self.replies.len() == self.commands;
        is_last.then(|| Response::Many(std::mem::take(&mut self.replies)))
    }
}

/// The values for a classic `get`.
#[derive(Debug)]
pub(crate) struct Values {
    /// The line that was sent, without its end.
    request: String,
    /// Where each key of `request` ends.
    ends: Vec<usize>,
    /// One for each key that is answered.
    replies: Vec<Reply>,
    /// The position of the next value, if it is out of order.
    late: Option<u32>,
}

impl Values {
    /// The key of the next value, if values are in the order of the keys.
    pub(super) fn next_key(&self) -> Option<&[u8]> {
        self.key(self.replies.len())
    }

    /// The key `n`; `None` after the last one.
    fn key(&self, n: usize) -> Option<&[u8]> {
        let end = *self.ends.get(n)?;
        let before = n.checked_sub(1).and_then(|n| self.ends.get(n).copied());
        let start = before.unwrap_or("get".len()) + 1;
        self.request.as_bytes().get(start..end)
    }

    /// Records a miss for each key before `key`, whose value is next. memcached sends values in the
    /// order of the keys. A proxy that asks several servers may not: then the value replaces a
    /// miss.
    pub(super) fn skip_to(&mut self, key: &[u8]) -> Result<(), Violation> {
        let is_key = |position: usize| self.key(position) == Some(key);
        if let Some(next) = (self.replies.len()..self.ends.len()).find(|&n| is_key(n)) {
            self.replies.resize_with(next, || Reply::Missing);
            return Ok(());
        }
        let mut missed = (0..).zip(&self.replies);
        let missed = missed.find(|&(n, reply)| matches!(reply, Reply::Missing) && is_key(n));
        let Some((position, _)) = missed else {
            return Err(Violation::Other("unsolicited value from the server".into()));
        };
        self.late = u32::try_from(position).ok();
        Ok(())
    }

    #[inline]
    fn push(&mut self, reply: Reply) {
        let late = self.late.take();
        match late.and_then(|at| self.replies.get_mut(at as usize)) {
            Some(missed) => *missed = reply,
            None => self.replies.push(reply),
        }
    }

    /// The replies, of which the last ones are misses.
    fn take(&mut self) -> Vec<Reply> {
        let mut replies = std::mem::take(&mut self.replies);
        replies.resize_with(self.ends.len(), || Reply::Missing);
        replies
    }
}

impl Expected {
    /// The replies to several meta commands, `first` being the tag of the first.
    pub(crate) fn many(first: usize, commands: usize) -> Self {
        Self::Many(Box::new(Tagged {
            first,
            replies: Replies::new(commands),
        }))
    }

    /// The end of several quiet commands.
    pub(crate) fn quiet(commands: usize) -> Self {
        Self::Quiet(Box::new(Quiet {
            commands,
            remarks: 0,
            has_failed: false,
        }))
    }

    /// A line for each of several classic writes.
    pub(crate) fn lines(commands: usize) -> Self {
        Self::Lines(Box::new(Replies::new(commands)))
    }

    /// The values for the keys that `request`, a classic `get`, asks for, which end at `ends`.
    pub(super) fn values(request: String, ends: Vec<usize>) -> Self {
        Self::Values(Box::new(Values {
            request,
            replies: Vec::with_capacity(ends.len()),
            ends,
            late: None,
        }))
    }

    /// The format of the value.
    pub(super) fn format(&self, stored: StoredFormat) -> StoredFormat {
        match self {
            Self::Meta(_) => StoredFormat::Raw,
            _ => stored,
        }
    }

    /// Records the message of a quiet command. Each has at most one, so that messages without end
    /// do not keep the callers waiting.
    pub(super) fn note(&mut self, this_failed: bool) -> Result<(), Violation> {
        if let Self::Quiet(quiet) = self {
            quiet.remarks += 1;
            quiet.has_failed |= this_failed;
            if quiet.remarks > quiet.commands {
                let reason = "more messages from the server than there were commands";
                return Err(Violation::Other(reason.into()));
            }
        }
        Ok(())
    }

    /// Adds a reply. Returns the response, if this was the last one.
    pub(super) fn push(&mut self, reply: Reply) -> Option<Response> {
        match self {
            Self::One { .. } => Some(Response::One(reply)),
            Self::Many(tagged) => tagged.replies.push(reply),
            Self::Lines(replies) => replies.push(reply),
            Self::Values(values) => {
                values.push(reply);
                None
            }
            Self::Meta(meta) => Some(Response::One(match (meta.response.take(), reply) {
                (Some(response), Reply::Found(Ok(stored))) => {
                    Reply::Meta(Box::new(response.with_value(stored.payload)))
                }
                (_, reply) => reply,
            })),
            // Its lines are failures or the end.
            Self::Quiet(_) | Self::Version => None,
        }
    }

    /// The response, at the line that ends it.
    pub(super) fn finish(&mut self) -> Result<Response, Violation> {
        match self {
            Self::Values(values) => Ok(Response::Many(values.take())),
            Self::Quiet(quiet) if quiet.has_failed => Ok(Response::SomeFailed),
            Self::Quiet(quiet) => Ok(Response::AllDone(quiet.commands)),
            // Sent by the connection, not by a caller.
            Self::Version => Ok(Response::AllDone(0)),
            Self::One { .. } | Self::Many(_) | Self::Lines(_) | Self::Meta(_) => {
                Err(Violation::line(b"END"))
            }
        }
    }

    /// The response to a classic `get`, at a refusal that ends it: the keys without a value are
    /// refused.
    pub(super) fn refuse(&mut self, refusal: &str) -> Result<Response, Violation> {
        let mut response = self.finish()?;
        if let Response::Many(replies) = &mut response {
            let missed = replies
                .iter_mut()
                .filter(|reply| matches!(reply, Reply::Missing));
            missed.for_each(|reply| *reply = Reply::Failed(refusal.to_owned()));
        }
        Ok(response)
    }
}

/// A complete response.
#[derive(Debug)]
pub(crate) enum Response {
    One(Reply),
    Many(Vec<Reply>),
    /// This many quiet commands succeeded.
    AllDone(usize),
    /// Some quiet commands failed; it is unknown which.
    SomeFailed,
}

impl Response {
    /// How many commands it answers.
    pub(crate) fn commands(&self) -> usize {
        match self {
            Self::AllDone(commands) => *commands,
            _ => self.replies().len(),
        }
    }

    /// The replies to commands that were not quiet.
    pub(crate) fn replies(&self) -> &[Reply] {
        match self {
            Self::One(reply) => std::slice::from_ref(reply),
            Self::Many(replies) => replies,
            Self::AllDone(_) | Self::SomeFailed => &[],
        }
    }
}

/// One item of a response.
pub(super) enum Item<'a> {
    /// The reply to one command.
    Reply(Reply),
    /// The message of a quiet command.
    Remark {
        has_failed: bool,
    },
    /// A value follows the line.
    Value {
        key: Option<&'a [u8]>,
        flags: u32,
        len: usize,
    },
    /// The response to a [`MetaRequest`](super::MetaRequest), of which the value follows.
    MetaValue {
        response: Box<MetaResponse>,
        len: usize,
    },
    End,
    /// The end, with the reason why the remaining keys have no value.
    Refused(String),
}

pub(super) fn server_error(line: &[u8]) -> Reply {
    Reply::Failed(refusal(line))
}

/// The text of a `SERVER_ERROR` or a `CLIENT_ERROR`, without control characters.
pub(super) fn refusal(line: &[u8]) -> String {
    let text = line.strip_prefix(b"SERVER_ERROR").unwrap_or(line);
    let text = text.strip_prefix(b"CLIENT_ERROR").unwrap_or(text);
    let text = text.get(..200).unwrap_or(text);
    let text = String::from_utf8_lossy(text);
    let printable = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    text.trim().chars().map(printable).collect()
}

pub(super) fn decimal(token: &[u8]) -> Option<usize> {
    if token.is_empty() {
        return None;
    }
    token.iter().try_fold(0, |number: usize, &byte| {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit < 10)?;
        number.checked_mul(10)?.checked_add(digit.into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimal_numbers_are_digits_only() {
        assert_eq!(decimal(b"0120"), Some(120));
        assert_eq!(decimal(usize::MAX.to_string().as_bytes()), Some(usize::MAX));
        for token in [
            &b""[..],
            b"1:",
            b"1/",
            b"-1",
            b"+1",
            b"99999999999999999999",
        ] {
            assert_eq!(decimal(token), None, "{token:?}");
        }
    }
}
