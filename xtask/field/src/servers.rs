//! A Redis for the time of the run.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

pub struct Redis {
    process: Child,
    pub address: String,
}

impl Redis {
    pub fn start() -> Result<Self> {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address: SocketAddr = free.local_addr()?;
        drop(free);
        let mut command = Command::new("redis-server");
        command.args(["--save", "", "--bind", "127.0.0.1", "--port"]);
        command
            .arg(address.port().to_string())
            .stdout(Stdio::null());
        let process = command.spawn().context(
            "cannot start redis-server: install it (Debian: `apt-get install redis-server`)",
        )?;
        let server = Self {
            process,
            address: address.to_string(),
        };
        for _ in 0..200 {
            if TcpStream::connect(address).is_ok() {
                return Ok(server);
            }
            thread::sleep(Duration::from_millis(50));
        }
        bail!("redis-server does not accept connections at {address}");
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
