//! Tests `Memcached` with the real binary.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use test_servers::Memcached;

fn ask(server: &Memcached, request: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(server.url())?;
    stream.set_read_timeout(Some(Duration::from_millis(300)))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = [0; 1024];
    let n = stream.read(&mut answer)?;
    Ok(String::from_utf8_lossy(answer.get(..n).unwrap_or_default()).into_owned())
}

#[test]
fn pause_resume_kill_and_restart_keep_the_address() {
    let mut server = Memcached::start().unwrap();
    let url = server.url();
    assert_eq!(ask(&server, "set k 0 0 1\r\nv\r\n").unwrap(), "STORED\r\n");
    server.pause().unwrap();
    assert!(ask(&server, "get k\r\n").is_err());
    server.resume().unwrap();
    assert_eq!(
        ask(&server, "get k\r\n").unwrap(),
        "VALUE k 0 1\r\nv\r\nEND\r\n"
    );
    assert_eq!(server.stats().unwrap()["curr_items"], "1");
    server.kill().unwrap();
    assert!(TcpStream::connect(&url).is_err());
    assert!(server.pause().is_err());
    server.restart().unwrap();
    assert_eq!(server.url(), url);
    assert_eq!(ask(&server, "get k\r\n").unwrap(), "END\r\n");
}

#[test]
fn server_ends_on_drop() {
    let server = Memcached::start().unwrap();
    let url = server.url();
    server.pause().unwrap();
    drop(server);
    assert!(TcpStream::connect(url).is_err());
}

#[test]
fn listens_on_a_unix_socket() {
    let server = Memcached::builder().unix_socket().start().unwrap();
    let url = server.url();
    UnixStream::connect(url.strip_prefix("unix:").unwrap()).unwrap();
}

#[test]
fn requires_the_password() {
    let server = Memcached::builder().auth("me", "secret").start().unwrap();
    assert!(
        ask(&server, "get k\r\n")
            .unwrap()
            .starts_with("CLIENT_ERROR")
    );
    assert_eq!(
        ask(&server, "set auth 0 0 9\r\nme secret\r\n").unwrap(),
        "STORED\r\n"
    );
    assert!(!format!("{server:?}").contains("secret"));
}

#[test]
fn serves_tls() {
    let server = Memcached::builder().tls().start().unwrap();
    assert!(server.certificate().is_file());
    // The server does not answer plaintext requests.
    assert!(
        !ask(&server, "version\r\n")
            .unwrap_or_default()
            .contains("VERSION")
    );
}

#[test]
fn error_names_the_unknown_argument() {
    let error = Memcached::builder()
        .arg("--no-such-thing")
        .start()
        .unwrap_err();
    assert!(error.to_string().contains("no-such-thing"), "{error}");
}
