//! async-memcached: after a refused key, the next call receives the rest of that key's answer.
//! Rules: keys::the_empty_key_is_kept_or_refused, errors::a_refused_key_is_not_transient,
//! errors::the_refused_key_is_named. Argument: the address of a memcached, `127.0.0.1:11211`.

use async_memcached::{AsciiProtocol, Client};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let memcached = std::env::args().nth(1).ok_or("needs an address")?;
    let mut client = Client::new(format!("tcp://{memcached}")).await?;
    client.set("valid", "value", None, None).await?;
    println!("empty key: {:?}", client.set("", "value", None, None).await);
    println!("valid key: {:?}", client.get("valid").await);
    Ok(())
}
