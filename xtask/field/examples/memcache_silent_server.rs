//! memcache: with timeouts of one second, a call to a silent server does not end within a minute.
//! Rules: faults::a_silent_server_causes_no_busy_loop, faults::a_silent_server_ends_reads,
//! faults::a_silent_server_ends_writes, faults::a_silent_server_is_transient,
//! faults::late_responses_reach_no_other_caller.

use std::time::Duration;

use memcache::Client;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let silent = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = silent.local_addr()?;
    let url = format!("memcache://{address}?timeout=1&connect_timeout=1");
    let client = Client::with_pool_size(url, 2)?;
    std::thread::spawn(move || println!("ended: {:?}", client.get::<String>("key")));
    std::thread::sleep(Duration::from_secs(60));
    println!("after a minute");
    Ok(())
}
