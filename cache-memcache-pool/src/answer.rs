//! How memcached's answers are read: from bytes, which may end anywhere, to replies.

use cache_core::wire::{self, Metadata};
use cache_core::{Error, ErrorKind, Result};
use memcache::exp::ReturnCode;

use crate::NAME;
use crate::command::tag_behind;

/// Beyond these bytes a line is no answer of memcached.
const MAX_LINE: usize = 2048;

/// Metadata ends within these bytes, unless others have put much into it.
const METADATA_WITHIN: usize = 512;

/// A value of so many bytes that has not arrived yet gets a buffer of its own.
const LARGE: usize = 16 * 1024;

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
    fn line(line: &[u8]) -> Self {
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

/// One item of an answer, as it stands on the wire.
enum Item<'a> {
    /// A line that ends the exchange of one command.
    Reply(Reply),
    /// What a quiet command has to say.
    Remark {
        has_failed: bool,
    },
    /// A value follows the line.
    Value {
        key: Option<&'a [u8]>,
        flags: u32,
        len: usize,
    },
    End,
}

/// Turns bytes into answers.
#[derive(Debug)]
pub(crate) struct Parser {
    /// The longest value that may be announced.
    limit: usize,
    large: Option<Large>,
}

/// A large value on its way, read into a buffer of its own.
#[derive(Debug)]
struct Large {
    flags: u32,
    /// `None`: the metadata stands in `body` too.
    metadata: Option<Result<Metadata>>,
    body: Vec<u8>,
    /// How long `body` will be, the end of the line included.
    len: usize,
}

/// What became of one attempt to read an answer.
#[derive(Debug)]
pub(crate) enum Progress {
    Answer(Answer),
    /// More bytes are needed.
    Incomplete,
}

impl Parser {
    /// Refuses values of more than `limit` bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, large: None }
    }

    /// Where the bytes of a large value go, and how many are still to come.
    pub(crate) fn large(&mut self) -> Option<(&mut Vec<u8>, usize)> {
        let large = self.large.as_mut()?;
        let missing = large.len.saturating_sub(large.body.len());
        (missing > 0).then_some((&mut large.body, missing))
    }

    /// Reads as much of the answer to `expect` as `buffer` holds and takes it out.
    pub(crate) fn parse(
        &mut self,
        buffer: &mut &[u8],
        expect: &mut Expect,
    ) -> Result<Progress, Violation> {
        loop {
            let reply = if let Some(large) = self.large.take() {
                if large.body.len() < large.len {
                    self.large = Some(large);
                    return Ok(Progress::Incomplete);
                }
                large.finish()?
            } else {
                let Some((line, behind)) = split_line(buffer)? else {
                    return Ok(Progress::Incomplete);
                };
                match read_line(line, expect)? {
                    Item::Reply(reply) => {
                        *buffer = behind;
                        reply
                    }
                    Item::Remark { has_failed: this } => {
                        *buffer = behind;
                        if let Expect::Quiet { has_failed, .. } = expect {
                            *has_failed |= this;
                        }
                        continue;
                    }
                    Item::End => {
                        *buffer = behind;
                        return finish(expect).map(Progress::Answer);
                    }
                    Item::Value { key, flags, len } => {
                        if len > self.limit {
                            return Err(Violation::Other(format!(
                                "the server announced a value of {len} bytes, more than \
                                 server_max_value_length allows"
                            )));
                        }
                        let Some(taken) = self.read_value(flags, len, behind)? else {
                            return Ok(Progress::Incomplete);
                        };
                        if let Some(key) = key {
                            skip_to(key, expect)?;
                        }
                        *buffer = behind.get(taken.bytes..).unwrap_or_default();
                        match taken.reply {
                            Some(reply) => reply,
                            None => return Ok(Progress::Incomplete),
                        }
                    }
                }
            };
            match expect {
                Expect::One { .. } => return Ok(Progress::Answer(Answer::One(reply))),
                Expect::Many {
                    commands, replies, ..
                } => {
                    replies.push(reply);
                    if replies.len() == *commands {
                        let replies = std::mem::take(replies);
                        return Ok(Progress::Answer(Answer::Many(replies)));
                    }
                }
                Expect::Values { replies, .. } => replies.push(reply),
                // Its lines are failures or the end.
                Expect::Quiet { .. } => {}
            }
        }
    }

    /// Takes the value of `len` bytes at the head of `behind`. `None`: not enough is there yet.
    fn read_value(
        &mut self,
        flags: u32,
        len: usize,
        behind: &[u8],
    ) -> Result<Option<Taken>, Violation> {
        if let Some((value, rest)) = behind.split_at_checked(len) {
            let Some(end) = rest.get(..2) else {
                return Ok(None);
            };
            check_end(end)?;
            return Ok(Some(Taken {
                bytes: len + 2,
                reply: Some(Reply::Found(decode(flags, value))),
            }));
        }
        if len < LARGE {
            return Ok(None);
        }
        // The metadata has to be whole before the payload can go elsewhere.
        let bar = behind.iter().take(METADATA_WITHIN).position(|&b| b == b'|');
        let head = match bar {
            Some(bar) => bar + 1,
            None if behind.len() < METADATA_WITHIN => return Ok(None),
            None => 0,
        };
        let metadata = bar.map(|bar| {
            let json = behind.get(..bar).unwrap_or_default();
            check_flags(flags).and_then(|()| Metadata::read_json(json, NAME))
        });
        let len = len - head + 2;
        let mut body = Vec::with_capacity(len);
        body.extend_from_slice(behind.get(head..).unwrap_or_default());
        self.large = Some(Large {
            flags,
            metadata,
            body,
            len,
        });
        Ok(Some(Taken {
            bytes: behind.len(),
            reply: None,
        }))
    }
}

/// A value that was taken out of the buffer.
struct Taken {
    bytes: usize,
    /// `None`: its rest is still to come.
    reply: Option<Reply>,
}

impl Large {
    fn finish(mut self) -> Result<Reply, Violation> {
        let end = self.body.split_off(self.len.saturating_sub(2));
        check_end(&end)?;
        Ok(Reply::Found(match self.metadata {
            Some(metadata) => metadata.map(|metadata| Stored {
                metadata,
                payload: self.body,
            }),
            None => decode(self.flags, &self.body),
        }))
    }
}

fn check_end(end: &[u8]) -> Result<(), Violation> {
    if end == b"\r\n" {
        return Ok(());
    }
    Err(Violation::Other(
        "a value is not as long as the server said".into(),
    ))
}

/// A line, without its end, and what stands behind it.
type Line<'a> = (&'a [u8], &'a [u8]);

/// The first line.
fn split_line<'a>(buffer: &&'a [u8]) -> Result<Option<Line<'a>>, Violation> {
    let Some(end) = buffer.iter().take(MAX_LINE).position(|&b| b == b'\n') else {
        if buffer.len() >= MAX_LINE {
            return Err(Violation::line(buffer));
        }
        return Ok(None);
    };
    let (line, rest) = buffer.split_at(end);
    let behind = rest.get(1..).unwrap_or_default();
    Ok(Some((line.strip_suffix(b"\r").unwrap_or(line), behind)))
}

fn read_line<'a>(line: &'a [u8], expect: &Expect) -> Result<Item<'a>, Violation> {
    match expect {
        Expect::One { tag } => read_meta(line, *tag),
        Expect::Many { first, replies, .. } => read_meta(line, tag_behind(*first, replies.len())),
        Expect::Quiet { .. } => read_quiet(line),
        Expect::Values { .. } => read_text(line),
    }
}

/// A line where only failures are told.
fn read_quiet(line: &[u8]) -> Result<Item<'_>, Violation> {
    match line.split(|&byte| byte == b' ').next() {
        Some(b"MN") => Ok(Item::End),
        // What was to be deleted is not there; not all versions keep that to themselves.
        Some(b"NF") => Ok(Item::Remark { has_failed: false }),
        Some(b"SERVER_ERROR" | b"NS" | b"EX") => Ok(Item::Remark { has_failed: true }),
        _ => Err(Violation::line(line)),
    }
}

/// A line of the meta protocol.
fn read_meta(line: &[u8], tag: u32) -> Result<Item<'_>, Violation> {
    let is_tag =
        |number: &[u8]| decimal(number).is_some_and(|number| u32::try_from(number) == Ok(tag));
    if line.strip_prefix(b"HD O").is_some_and(is_tag) {
        return Ok(Item::Reply(Reply::Done));
    }
    let mut tokens = line
        .split(|&byte| byte == b' ')
        .filter(|token| !token.is_empty());
    let code = tokens.next().unwrap_or_default();
    if code == b"SERVER_ERROR" {
        return Ok(Item::Reply(server_error(line)));
    }
    let code = ReturnCode::from_wire(code).map_err(|_| Violation::line(line))?;
    let len = match code {
        ReturnCode::Va => Some(
            tokens
                .next()
                .and_then(decimal)
                .ok_or_else(|| Violation::line(line))?,
        ),
        _ => None,
    };
    let (mut flags, mut is_tagged) = (0, false);
    for token in tokens {
        match token.split_first() {
            Some((b'f', number)) => {
                flags = decimal(number)
                    .and_then(|number| u32::try_from(number).ok())
                    .ok_or_else(|| Violation::line(line))?;
            }
            Some((b'O', number)) => {
                is_tagged = true;
                if !is_tag(number) {
                    return Err(Violation::Other("the server answered another call".into()));
                }
            }
            _ => {}
        }
    }
    match (code, len) {
        (ReturnCode::Va, Some(len)) if is_tagged => Ok(Item::Value {
            key: None,
            flags,
            len,
        }),
        (ReturnCode::Hd, None) if is_tagged => Ok(Item::Reply(Reply::Done)),
        (ReturnCode::En, None) => Ok(Item::Reply(Reply::Missing)),
        // What was to be deleted is not there.
        (ReturnCode::Nf, None) => Ok(Item::Reply(Reply::Done)),
        (ReturnCode::Ns | ReturnCode::Ex, None) => {
            Ok(Item::Reply(Reply::Failed("it was not stored".into())))
        }
        _ => Err(Violation::line(line)),
    }
}

/// A line of the answer to a text `get`.
fn read_text(line: &[u8]) -> Result<Item<'_>, Violation> {
    if line == b"END" {
        return Ok(Item::End);
    }
    let mut tokens = line.split(|&byte| byte == b' ');
    let value = (|| {
        if tokens.next()? != b"VALUE" {
            return None;
        }
        let key = tokens.next()?;
        let flags = u32::try_from(decimal(tokens.next()?)?).ok()?;
        let len = decimal(tokens.next()?)?;
        Some(Item::Value {
            key: Some(key),
            flags,
            len,
        })
    })();
    // A SERVER_ERROR in the middle ends the answer without an END.
    value.ok_or_else(|| Violation::line(line))
}

fn server_error(line: &[u8]) -> Reply {
    let text = line.strip_prefix(b"SERVER_ERROR").unwrap_or(line);
    let text = text.get(..200).unwrap_or(text);
    Reply::Failed(String::from_utf8_lossy(text).trim().to_owned())
}

/// Notes a miss for each key of the request that stands before `key`.
fn skip_to(key: &[u8], expect: &mut Expect) -> Result<(), Violation> {
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

fn finish(expect: &mut Expect) -> Result<Answer, Violation> {
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

fn decimal(token: &[u8]) -> Option<usize> {
    if token.is_empty() {
        return None;
    }
    token.iter().try_fold(0, |number: usize, &byte| {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit < 10)?;
        number.checked_mul(10)?.checked_add(digit.into())
    })
}

fn decode(flags: u32, stored: &[u8]) -> Result<Stored> {
    check_flags(flags)?;
    let (metadata, payload) = wire::decode(stored, NAME)?;
    Ok(Stored {
        metadata,
        payload: payload.to_vec(),
    })
}

/// The client flags with which Python says how a value is encoded. Text (16) has the same
/// bytes as what is written here with 0.
fn check_flags(flags: u32) -> Result<()> {
    let is = match flags {
        0 | 16 => return Ok(()),
        flags if flags & 8 != 0 => {
            "compressed, which Rust does not read; take min_compress_len out of the arguments of \
             the dogpile.cache region"
        }
        1 => {
            "pickled by Python, which Rust cannot read; give the dogpile.cache region a serializer \
             that returns bytes, such as lambda value: json.dumps(value).encode(), and a \
             deserializer, such as json.loads"
        }
        2 | 4 => "a number that Python stored outside of any cache region",
        _ => "in an encoding of its writer's own",
    };
    let message = format!("the stored value has the client flags {flags}: it is {is}");
    Err(Error::new(ErrorKind::Decode, NAME, message))
}
