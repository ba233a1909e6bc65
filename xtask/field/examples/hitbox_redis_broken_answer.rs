//! hitbox-redis: after answers broke off while it connected anew, it never connects again.
//! Rule: faults::broken_connections_are_replaced. Argument: the address of a Redis, `127.0.0.1:6379`.

use std::time::Duration;

use hitbox_backend::Backend;
use hitbox_core::CacheKey;
use hitbox_redis::{ConnectionMode, RedisBackend};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = std::env::args().nth(1).ok_or("needs an address")?;
    let proxy = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("redis://{}", proxy.local_addr()?);
    tokio::spawn(async move {
        // One connection for two seconds, five whose first answer breaks off, and a good one.
        for seconds in [2, 0, 0, 0, 0, 0, 60] {
            let (mut near, _) = proxy.accept().await?;
            if seconds == 0 {
                let _asked = near.read(&mut [0; 1000]).await?;
                near.write_all(b"+OK").await?;
            } else {
                let mut far = TcpStream::connect(&server).await?;
                let both = copy_bidirectional(&mut near, &mut far);
                timeout(Duration::from_secs(seconds), both).await.ok();
            }
        }
        std::io::Result::Ok(())
    });
    let mode = ConnectionMode::single(url);
    let backend = RedisBackend::builder()
        .connection(mode)
        .retries(1)
        .build()?;
    for _ in 0..20 {
        println!(
            "{:?}",
            backend.read(&CacheKey::from_str("absent", "")).await
        );
        sleep(Duration::from_secs(1)).await;
    }
    Ok(())
}
