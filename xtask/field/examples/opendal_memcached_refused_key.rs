//! OpenDAL on memcached: after a refused key, calls on the same connection hang or fail.
//! Rules: keys::long_keys_are_not_truncated, limits::too_large_fails_its_key_only.
//! Argument: the address of a memcached, `127.0.0.1:11211`.

use std::time::Duration;

use opendal::{Operator, services::Memcached};
use tokio::time::timeout;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let memcached = std::env::args().nth(1).ok_or("needs an address")?;
    let service = Memcached::default().endpoint(&format!("tcp://{memcached}"));
    let operator = Operator::new(service)?;
    operator.write("valid", "value").await?;
    println!(
        "too long: {:?}",
        operator.write(&"x".repeat(300), "value").await.is_ok()
    );
    for _ in 0..3 {
        let found = timeout(Duration::from_secs(30), operator.read("valid")).await;
        println!("valid: {found:?}");
    }
    Ok(())
}
