//! A certificate for the servers that speak TLS.

use std::io;
use std::path::Path;
use std::process::Command;

use crate::process::find_binary;

/// Writes `certificate.pem` and `key.pem` into `directory`.
pub(crate) fn make_certificate(directory: &Path) -> io::Result<()> {
    let openssl = find_binary("openssl", "on Debian and Ubuntu: `apt-get install openssl`")?;
    let output = Command::new(openssl)
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
        ])
        .args(["-nodes", "-days", "30", "-subj", "/CN=localhost"])
        .args(["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"])
        // Clients refuse a certificate that is at once an authority's and a server's.
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .arg("-keyout")
        .arg(directory.join("key.pem"))
        .arg("-out")
        .arg(directory.join("certificate.pem"))
        .output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(io::Error::other(format!(
        "openssl made no certificate: {said}"
    )))
}
