//! [`refusing`], an address without a server.

use std::io;
use std::net::Ipv4Addr;

use tokio::net::TcpSocket;

/// Returns an address that refuses connections. The socket, which does not listen, keeps the servers
/// of other tests from that port.
///
/// # Errors
///
/// If the system refuses the socket or the port.
pub fn refusing() -> io::Result<(TcpSocket, String)> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
    let address = socket.local_addr()?.to_string();
    Ok((socket, address))
}
