//! The memcached protocol, without I/O: encodes requests and decodes responses.

mod base64;
mod decode;
mod encode;
mod meta_line;
mod meta_request;
mod meta_response;
mod response;
mod value;
mod version;
mod zlib;

pub(crate) use decode::Decoder;
#[cfg(test)]
pub(crate) use encode::encode_get;
pub(crate) use encode::{
    Command, Dialect, Outgoing, check_key, encode_many, encode_one, is_classic_get,
};
pub use meta_request::MetaRequest;
pub use meta_response::{MetaResponse, MetaStatus};
pub(crate) use response::{Expected, Reply, Response, Violation};
pub use value::StoredFormat;
pub(crate) use value::{COMPRESSED, Stored};
pub(crate) use version::{ASK_VERSION, check_version};
pub(crate) use zlib::compress;
