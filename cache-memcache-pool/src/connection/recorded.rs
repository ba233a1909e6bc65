//! The recorded responses of memcached 1.6.18 in `tests/data/responses` are decoded at every split.
//!
//! ```text
//! memcached -p 11311 -m 64 & # a server of its own: keys are written
//! MEMCACHED=127.0.0.1:11311 cargo test -p cache-memcache-pool --lib record -- --ignored
//! ```

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

use super::properties::{Answer, LIMIT, read, value};

/// A request and its expected outcome.
struct Exchange {
    name: &'static str,
    request: Vec<u8>,
    answer: Answer,
    /// Part of the `Debug` form of the response.
    means: &'static str,
}

fn set(flags: &str, key: &str, value: &[u8]) -> Vec<u8> {
    let mut request = format!("ms {key} {} T0{flags}\r\n", value.len()).into_bytes();
    request.extend_from_slice(value);
    request.extend_from_slice(b"\r\n");
    request
}

/// The values stored before: `k0`, `k2`, `large`, `huge`, `lines`, `pickled` and `a b`.
fn stored() -> Vec<u8> {
    let mut lines = value(0);
    lines.extend_from_slice(b"END\r\nMN\r\nEN\r\n");
    let values = [
        set("", "k0", &value(100)),
        set("", "k2", &value(0)),
        set("", "large", &value(20_000)),
        set("", "huge", &value(LIMIT)),
        set("", "lines", &lines),
        set(" F1", "pickled", b"\x80\x05K\x01."),
        set(" b", "YSBi", &value(5)),
    ];
    values.concat()
}

fn exchanges() -> Vec<Exchange> {
    let of = |name, request: &[u8], answer, means| Exchange {
        name,
        request: request.to_vec(),
        answer,
        means,
    };
    let one = || Answer::Stored;
    let values = |n| Answer::Values(vec![None; n]);
    let quiet = |commands| Answer::Quiet {
        commands,
        fails: false,
    };
    let large = value(1_100_000);
    let sets = [
        set(" q O7", "q0", &value(3)),
        set(" q O8", "q1", &value(3)),
        b"mn\r\n".to_vec(),
    ];
    let one_too_large = [
        set(" q O7", "q0", &value(3)),
        set(" q O8", "q1", &large),
        b"mn\r\n".to_vec(),
    ];
    let mut classic = format!("set c0 0 0 {}\r\n", large.len()).into_bytes();
    classic.extend_from_slice(&large);
    classic.extend_from_slice(b"\r\n");
    vec![
        of("get", b"mg k0 v f O7\r\n", one(), "Found(Ok"),
        of("get-empty", b"mg k2 v f O7\r\n", one(), "payload: []"),
        of("get-missing", b"mg k1 v f O7\r\n", one(), "One(Missing)"),
        of("get-large", b"mg large v f O7\r\n", one(), "Found(Ok"),
        of("get-huge", b"mg huge v f O7\r\n", one(), "TooLarge(100029)"),
        of("get-lines", b"mg lines v f O7\r\n", one(), "Found(Ok"),
        of(
            "get-pickled",
            b"mg pickled v f O7\r\n",
            one(),
            "pickled by Python",
        ),
        of("get-base64", b"mg YSBi b v f O7\r\n", one(), "Found(Ok"),
        of("get-many", b"get k0 k1 k2\r\n", values(3), "Missing"),
        of(
            "get-many-missing",
            b"get k5 k6\r\n",
            values(2),
            "[Missing, Missing]",
        ),
        of(
            "get-many-base64",
            b"mg YSBi b v f O7\r\nmg YyBk b v f O8\r\n",
            Answer::Many(vec![None; 2]),
            "Missing])",
        ),
        of("set", &set(" O7", "s", &value(3)), one(), "One(Done)"),
        of(
            "set-too-large",
            &set(" O7", "s", &large),
            one(),
            "too large",
        ),
        of("set-quiet", &sets.concat(), quiet(2), "AllDone(2)"),
        of(
            "set-quiet-too-large",
            &one_too_large.concat(),
            quiet(2),
            "SomeFailed",
        ),
        of("delete", b"md q0 O7\r\n", one(), "One(Done)"),
        of("delete-missing", b"md q9 O7\r\n", one(), "One(Done)"),
        of(
            "delete-quiet",
            b"md q0 q O7\r\nmd k0 q O8\r\nmn\r\n",
            quiet(2),
            "AllDone(2)",
        ),
        of(
            "classic-writes",
            b"set c0 0 0 1\r\nx\r\ndelete c0\r\ndelete c0\r\n",
            Answer::Lines(3),
            "[Done, Done, Done]",
        ),
        of("classic-too-large", &classic, Answer::Lines(1), "too large"),
    ]
}

fn file(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/responses");
    folder.join(name)
}

/// Sends a request and returns the complete response.
fn ask(server: &mut TcpStream, request: &[u8]) -> Vec<u8> {
    /// Its response is two lines that end no other response.
    const LAST: &[u8] = b"mg the-last-key v\r\nmn\r\n";
    server.write_all(request).unwrap();
    server.write_all(LAST).unwrap();
    let (mut said, mut more) = (Vec::new(), [0; 4096]);
    while !said.ends_with(b"EN\r\nMN\r\n") {
        let n = server.read(&mut more).unwrap();
        assert!(n > 0, "the server closed the connection");
        said.extend_from_slice(&more[..n]);
    }
    said.truncate(said.len() - b"EN\r\nMN\r\n".len());
    said
}

#[test]
#[ignore = "rewrites tests/data/responses"]
fn record() {
    // The package cannot start servers.
    let address = std::env::var("MEMCACHED").expect("MEMCACHED=127.0.0.1:11311");
    let mut server = TcpStream::connect(address).unwrap();
    server
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    ask(&mut server, &stored());
    std::fs::create_dir_all(file("")).unwrap();
    for exchange in exchanges() {
        let said = ask(&mut server, &exchange.request);
        std::fs::write(file(exchange.name), said).unwrap();
    }
}

/// Where to split: everywhere, except in the middle of long values.
fn splits(len: usize) -> impl Iterator<Item = usize> {
    const ENDS: usize = 600;
    const STEP: usize = 61;
    (0..len).filter(move |&at| at < ENDS || at + ENDS > len || at % STEP == 0)
}

/// These responses cannot be provoked from a server.
#[test]
fn out_of_memory_responses_are_decoded_at_every_split() {
    let quiet = Answer::Quiet {
        commands: 2,
        fails: false,
    };
    for (answer, said) in [
        (Answer::Stored, &b"NS O7\r\n"[..]),
        (
            Answer::Stored,
            b"SERVER_ERROR out of memory storing object\r\n",
        ),
        (
            quiet,
            b"SERVER_ERROR out of memory storing object\r\nMN\r\n",
        ),
    ] {
        let answers = [answer];
        let whole = read(&answers, said, Vec::new());
        assert_eq!((whole.0.len(), &whole.1), (1, &None), "{said:?}");
        for cut in 0..said.len() {
            assert_eq!(read(&answers, said, vec![cut]), whole);
        }
        assert_eq!(read(&answers, said, (0..said.len()).collect()), whole);
    }
}

#[test]
fn recorded_responses_are_decoded_at_every_split() {
    for exchange in exchanges() {
        let Exchange {
            name,
            answer,
            means,
            ..
        } = exchange;
        let said = std::fs::read(file(name)).unwrap();
        let answers = [answer];
        let whole = read(&answers, &said, Vec::new());
        let (responses, violation) = &whole;
        assert_eq!((responses.len(), violation), (1, &None), "{name}");
        assert!(responses[0].contains(means), "{name}: {}", responses[0]);
        for cut in splits(said.len()) {
            assert_eq!(read(&answers, &said, vec![cut]), whole, "{name} at {cut}");
        }
        if said.len() < 2000 {
            let bytewise = (0..said.len()).collect();
            assert_eq!(
                read(&answers, &said, bytewise),
                whole,
                "{name}, byte by byte"
            );
        }
    }
}
