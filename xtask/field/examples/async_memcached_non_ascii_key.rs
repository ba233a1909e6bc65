//! async-memcached stores a value under `é` and cannot read it back.
//!
//! ```text
//! memcached -l 127.0.0.1 -p 11211 & cargo run --example async_memcached_non_ascii_key
//! ```

use async_memcached::{AsciiProtocol, Client};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut client = Client::new("tcp://127.0.0.1:11211").await?;
    client.set("é", "value", None, None).await?;
    println!("{:?}", client.get("é").await);
    Ok(())
}
