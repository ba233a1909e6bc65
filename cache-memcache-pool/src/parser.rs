//! Makes answers of bytes, which may end anywhere.

use cache_core::wire::{self, Metadata};
use cache_core::{Error, ErrorKind, Result};

use crate::NAME;
use crate::answer::{Answer, Expect, Reply, Stored, Violation, finish, skip_to};
use crate::line::{Item, read_line, split_line};

/// Metadata ends within these bytes, unless others have put much into it.
const METADATA_WITHIN: usize = 512;

/// A value of so many bytes that has not arrived yet gets a buffer of its own.
const LARGE: usize = 16 * 1024;

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

#[cfg(test)]
mod tests {
    use super::*;

    fn quiet() -> Expect {
        Expect::Quiet {
            commands: 3,
            has_failed: false,
        }
    }

    fn parse(mut bytes: &[u8], mut expect: Expect) -> Result<Progress, Violation> {
        Parser::new(1000).parse(&mut bytes, &mut expect)
    }

    #[test]
    fn quiet_commands_are_done_when_their_end_is_answered() {
        for bytes in [&b"MN\r\n"[..], b"NF O7\r\nNF O8\r\nMN\r\n"] {
            let answer = parse(bytes, quiet()).unwrap();
            let Progress::Answer(Answer::Many(replies)) = answer else {
                panic!("{answer:?}");
            };
            assert_eq!(replies.len(), 3);
            assert!(replies.iter().all(|reply| matches!(reply, Reply::Done)));
        }
        for bytes in [&b""[..], b"MN", b"NF O7\r\n"] {
            assert!(matches!(parse(bytes, quiet()), Ok(Progress::Incomplete)));
        }
    }

    #[test]
    fn a_quiet_command_that_failed_is_told_at_the_end() {
        for line in ["NS O7", "SERVER_ERROR out of memory storing object"] {
            let bytes = format!("{line}\r\nMN\r\n");
            let answer = parse(bytes.as_bytes(), quiet()).unwrap();
            assert!(matches!(answer, Progress::Answer(Answer::SomeFailed)));
        }
    }

    #[test]
    fn what_quiet_commands_do_not_say_is_no_answer_to_them() {
        for line in ["HD O7", "VA 1 f0 O7", "EN", "END", "ERROR", "MNX"] {
            let bytes = format!("{line}\r\nMN\r\n");
            assert!(parse(bytes.as_bytes(), quiet()).is_err(), "{line}");
        }
        assert!(parse(b"MN\r\n", Expect::One { tag: 7 }).is_err());
    }
}
