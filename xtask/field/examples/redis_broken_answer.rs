//! redis's connection manager never reconnects after answers break off while it is reconnecting.
//! Rule: faults::broken_connections_are_replaced.

use std::io::{Read, Write};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = std::net::TcpListener::bind("127.0.0.1:0")?;
    let client = redis::Client::open(format!("redis://{}", server.local_addr()?))?;
    std::thread::spawn(move || {
        for mut connection in server.incoming().flatten() {
            println!("connected, {:?} bytes", connection.read(&mut [0; 1000]));
            let _ = connection.write(b"+OK"); // Without the line ending.
        }
    });
    let mut manager = client.get_connection_manager_lazy(Default::default())?;
    for _ in 0..20 {
        let answer = redis::cmd("PING").exec_async(&mut manager).await;
        println!("{answer:?}");
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    }
    Ok(())
}
