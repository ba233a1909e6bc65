//! memcache: a single call reconnects thousands of times to a server that closes connections.

use std::net::TcpListener;

use memcache::Client;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = TcpListener::bind("127.0.0.1:0")?;
    let address = server.local_addr()?;
    let url = format!("memcache://{address}?timeout=1&connect_timeout=1");
    std::thread::spawn(move || {
        for (connections, _closed) in server.incoming().enumerate() {
            if connections % 1000 == 0 {
                println!("{connections} connections");
            }
        }
    });
    let client = Client::with_pool_size(url, 1)?;
    println!("{:?}", client.get::<String>("key"));
    Ok(())
}
