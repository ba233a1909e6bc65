//! memcache: one call to a server that hangs up connects to it thousands of times.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use memcache::Client;

static CONNECTIONS: AtomicU64 = AtomicU64::new(0);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = std::net::TcpListener::bind("127.0.0.1:0")?;
    let url = format!(
        "memcache://{}?timeout=1&connect_timeout=1",
        server.local_addr()?
    );
    thread::spawn(move || {
        for _ in server.incoming() {
            CONNECTIONS.fetch_add(1, Ordering::SeqCst);
        }
    });
    let client = Client::with_pool_size(url, 1)?;
    let began = Instant::now();
    let answer = client.get::<String>("key");
    println!(
        "after {:?} and {CONNECTIONS:?} connections: {answer:?}",
        began.elapsed()
    );
    Ok(())
}
