//! [`Format`], how values become bytes.

use std::error::Error;

/// How values of type `T` become bytes, and values again.
///
/// ```
/// use std::error::Error;
/// use cache_core::Format;
///
/// struct Decimal;
///
/// impl Format<u64> for Decimal {
///     fn encode(&self, value: &u64) -> Result<Vec<u8>, Box<dyn Error + Send + Sync>> {
///         Ok(value.to_string().into_bytes())
///     }
///     fn decode(&self, bytes: &[u8]) -> Result<u64, Box<dyn Error + Send + Sync>> {
///         Ok(std::str::from_utf8(bytes)?.parse()?)
///     }
/// }
/// ```
pub trait Format<T>: Send + Sync {
    /// The bytes of `value`.
    fn encode(&self, value: &T) -> Result<Vec<u8>, Box<dyn Error + Send + Sync>>;

    /// The value that `bytes` were made from. They may come from another program or an older
    /// version of this one.
    fn decode(&self, bytes: &[u8]) -> Result<T, Box<dyn Error + Send + Sync>>;
}

/// JSON, through serde: what `json.dumps` and `json.loads` of a Python service write and read.
///
/// ```
/// use cache_core::{Format, Json};
///
/// let bytes = Format::<Vec<u32>>::encode(&Json, &vec![1, 2])?;
/// assert_eq!(bytes, b"[1,2]");
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
#[cfg(feature = "json")]
#[cfg_attr(docsrs, doc(cfg(feature = "json")))]
#[derive(Clone, Copy, Debug, Default)]
pub struct Json;

#[cfg(feature = "json")]
impl<T: serde::Serialize + serde::de::DeserializeOwned> Format<T> for Json {
    fn encode(&self, value: &T) -> Result<Vec<u8>, Box<dyn Error + Send + Sync>> {
        Ok(serde_json::to_vec(value)?)
    }

    fn decode(&self, bytes: &[u8]) -> Result<T, Box<dyn Error + Send + Sync>> {
        Ok(serde_json::from_slice(bytes)?)
    }
}
