//! The proxy, in front of a real server that responds in capitals.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use cache_conformance::{Fault, FaultControl, Proxy};

/// Responds to each word in capitals, until the process ends.
fn server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            thread::spawn(move || {
                let mut stream = stream.unwrap();
                let mut word = [0; 8];
                while stream.read_exact(&mut word).is_ok() {
                    if stream
                        .write_all(&word.map(|byte| byte.to_ascii_uppercase()))
                        .is_err()
                    {
                        return;
                    }
                }
            });
        }
    });
    address
}

fn connect(proxy: &Proxy) -> TcpStream {
    let stream = TcpStream::connect(proxy.address()).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    stream
}

fn ask(stream: &mut TcpStream, word: &[u8]) -> std::io::Result<[u8; 8]> {
    stream.write_all(word)?;
    let mut answer = [0; 8];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}

#[test]
fn a_healthy_server_is_forwarded() {
    let proxy = Proxy::start(server()).unwrap();
    for _ in 0..2 {
        let mut stream = connect(&proxy);
        assert_eq!(&ask(&mut stream, b"question").unwrap(), b"QUESTION");
        assert_eq!(&ask(&mut stream, b"and more").unwrap(), b"AND MORE");
    }
}

#[test]
fn down_closes_connections_and_heals_at_the_same_address() {
    let mut proxy = Proxy::start(server()).unwrap();
    let address = proxy.address();
    let mut stream = connect(&proxy);
    ask(&mut stream, b"question").unwrap();
    for _ in 0..3 {
        proxy.inject(Fault::Down).unwrap();
        assert!(ask(&mut stream, b"question").is_err());
        let refused = TcpStream::connect(address).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        proxy.heal().unwrap();
        assert_eq!(proxy.address(), address);
        stream = connect(&proxy);
        assert_eq!(&ask(&mut stream, b"question").unwrap(), b"QUESTION");
    }
}

#[test]
fn silence_delays_responses_until_healed() {
    let mut proxy = Proxy::start(server()).unwrap();
    let mut stream = connect(&proxy);
    ask(&mut stream, b"question").unwrap();
    proxy.inject(Fault::Silent).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    assert!(ask(&mut stream, b"and more").is_err());
    // New connections are accepted, but are silent too.
    let mut new = connect(&proxy);
    new.set_read_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    assert!(ask(&mut new, b"question").is_err());
    proxy.heal().unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let mut late = [0; 8];
    stream.read_exact(&mut late).unwrap();
    assert_eq!(&late, b"AND MORE");
}

#[test]
fn garbage_has_the_right_length_and_the_wrong_bytes() {
    let mut proxy = Proxy::start(server()).unwrap();
    let mut stream = connect(&proxy);
    ask(&mut stream, b"question").unwrap();
    proxy.inject(Fault::Garbage).unwrap();
    assert_ne!(&ask(&mut stream, b"question").unwrap(), b"QUESTION");
    proxy.heal().unwrap();
    assert_eq!(
        &ask(&mut connect(&proxy), b"question").unwrap(),
        b"QUESTION"
    );
}

#[test]
fn a_cut_ends_the_connection_within_a_response() {
    let mut proxy = Proxy::start(server()).unwrap();
    proxy.inject(Fault::Cut).unwrap();
    let mut stream = connect(&proxy);
    stream.write_all(b"question").unwrap();
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
    assert!(
        answer.len() < 8 && b"QUESTION".starts_with(&answer),
        "{answer:?}"
    );
    proxy.heal().unwrap();
    assert_eq!(
        &ask(&mut connect(&proxy), b"question").unwrap(),
        b"QUESTION"
    );
}

#[test]
fn dropping_the_proxy_ends_it() {
    let proxy = Proxy::start(server()).unwrap();
    let address = proxy.address();
    let mut stream = connect(&proxy);
    ask(&mut stream, b"question").unwrap();
    drop(proxy);
    assert!(ask(&mut stream, b"question").is_err());
    let closed = || TcpStream::connect(address).is_err();
    assert!((0..500).any(|_| closed() || {
        thread::sleep(Duration::from_millis(10));
        false
    }));
}
