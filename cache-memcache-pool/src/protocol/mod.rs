//! The memcached protocol, without I/O: encodes requests and decodes responses.

mod base64;
mod decode;
mod encode;
mod item;
mod line;
mod meta_line;
mod meta_request;
mod meta_response;
mod request;
mod response;
mod value;
mod zlib;

pub(crate) use decode::Decoder;
pub(crate) use encode::{Command, Dialect, Outgoing, check_key};
pub use meta_request::MetaRequest;
pub use meta_response::{MetaResponse, MetaStatus};
#[cfg(test)]
pub(crate) use request::encode_get;
pub(crate) use request::{encode_many, encode_one, is_classic_get};
pub(crate) use response::{Expected, Reply, Response, Violation};
pub(crate) use value::COMPRESSED;
pub use value::StoredFormat;
pub(crate) use zlib::compress;
