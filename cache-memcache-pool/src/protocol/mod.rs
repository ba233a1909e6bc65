//! The memcached protocol, without I/O: encodes requests and decodes responses.

mod decode;
mod encode;
mod line;
mod meta;
mod request;
mod response;
mod value;
mod zlib;

pub(crate) use decode::Decoder;
pub(crate) use encode::{Command, Dialect, Outgoing, check_key};
pub use meta::{MetaRequest, MetaResponse, MetaStatus};
pub(crate) use request::{encode_many, encode_one, is_classic_get};
pub(crate) use response::{Expected, Reply, Response, Violation};
pub(crate) use value::COMPRESSED;
pub use value::StoredFormat;
pub(crate) use zlib::compress;
