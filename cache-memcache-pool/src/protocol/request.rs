//! Requests of one or many commands, in either protocol, and their expected responses.

use cache_core::{Error, ErrorKind, Result};

use super::encode::{Command, Dialect, Outgoing, encode_end, encode_get_many, is_plain};
use super::response::Expected;
use crate::NAME;

/// Appends one command.
pub(crate) fn encode_one(command: &Command<'_>, out: &mut Outgoing) -> Expected {
    match (out.dialect(), command) {
        (Dialect::Meta, _) => Expected::One {
            tag: command.encode(out),
        },
        (Dialect::Classic, Command::Get(key)) => encode_get([*key].into_iter(), out),
        (Dialect::Classic, Command::Set { .. } | Command::Delete(_)) => {
            command.encode_classic(out);
            Expected::Lines {
                commands: 1,
                replies: Vec::with_capacity(1),
            }
        }
    }
}

/// Appends a classic `get`.
pub(crate) fn encode_get<'k>(
    keys: impl ExactSizeIterator<Item = &'k str>,
    out: &mut Outgoing,
) -> Expected {
    let (request, ends) = encode_get_many(keys, out);
    Expected::values(request, ends)
}

/// Whether a command can be part of a classic `get` of many keys.
pub(crate) fn is_classic_get(command: &Command<'_>) -> bool {
    matches!(command, Command::Get(key) if is_plain(key))
}

/// Appends the commands `0..n`. They are either all reads or all writes, and either all or none of
/// the reads [are classic](is_classic_get). `is_quiet`: writes are answered together.
pub(crate) fn encode_many<'a>(
    n: usize,
    command: impl Fn(usize) -> Command<'a>,
    is_quiet: bool,
    out: &mut Outgoing,
) -> Result<Expected> {
    if n == 0 {
        return Err(Error::new(ErrorKind::Backend, NAME, "a request is empty"));
    }
    let first = command(0);
    if n == 1 {
        return Ok(encode_one(&first, out));
    }
    if is_classic_get(&command(n - 1)) {
        let keys = (0..n).map(|position| command(position).key());
        return Ok(encode_get(keys, out));
    }
    if out.dialect() == Dialect::Classic {
        for position in 0..n {
            command(position).encode_classic(out);
        }
        return Ok(Expected::Lines {
            commands: n,
            replies: Vec::with_capacity(n),
        });
    }
    if is_quiet && !matches!(first, Command::Get(_)) {
        for position in 0..n {
            command(position).encode_quiet(out);
        }
        encode_end(out);
        return Ok(Expected::Quiet {
            commands: n,
            has_failed: false,
        });
    }
    let first = first.encode(out);
    for position in 1..n {
        command(position).encode(out);
    }
    Ok(Expected::Many {
        first,
        commands: n,
        replies: Vec::with_capacity(n),
    })
}
