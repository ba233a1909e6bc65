//! redis's connection manager: after answers broke off while it connected anew, it never connects again.
//! Rule: faults::broken_connections_are_replaced. Argument: the address of a Redis, `127.0.0.1:6379`.

use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
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
    let config = ConnectionManagerConfig::new().set_number_of_retries(1);
    let mut manager = ConnectionManager::new_lazy_with_config(redis::Client::open(url)?, config)?;
    for _ in 0..20 {
        println!(
            "{:?}",
            redis::cmd("PING").query_async::<String>(&mut manager).await
        );
        sleep(Duration::from_secs(1)).await;
    }
    Ok(())
}
