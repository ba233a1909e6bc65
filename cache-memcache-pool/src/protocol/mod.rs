//! memcached's protocol, without any I/O: requests become bytes, and bytes responses.

mod decode;
mod encode;
mod line;
mod response;
mod value;

pub(crate) use decode::Decoder;
pub(crate) use encode::{
    Command, Dialect, Outgoing, check_key, encode_end, encode_get_many, is_plain,
};
pub(crate) use response::{Expected, Reply, Response, Violation};
pub(crate) use value::Stored;
