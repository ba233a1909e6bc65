//! TLS to the servers.

use std::io;
use std::path::Path;
use std::sync::Arc;

use cache_core::Result;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::{self, CryptoProvider};
use tokio_rustls::rustls::pki_types::pem::{self, PemObject as _};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

use super::{MemcachePoolConfig, bad_config};

#[derive(Clone)]
pub(crate) struct Tls {
    connector: TlsConnector,
    /// The name that certificates must contain, if it is not the host's.
    server_name: Option<ServerName<'static>>,
}

impl Tls {
    /// `None` unless TLS is enabled.
    pub(crate) fn new(config: &MemcachePoolConfig) -> Result<Option<Self>> {
        if !config.tls_enabled {
            return Ok(None);
        }
        let provider = Arc::new(crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| bad_config(error.to_string()).with_source(error))?;
        let builder = if config.tls_verify {
            builder.with_root_certificates(authorities(config)?)
        } else {
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Unverified(provider)))
        };
        let client = match (&config.tls_certfile, &config.tls_keyfile) {
            (None, None) => builder.with_no_client_auth(),
            (Some(certificate), key) => {
                let chain = certificates("tls_certfile", certificate)?;
                let key = match key {
                    Some(key) => private_key("tls_keyfile", key)?,
                    None => private_key("tls_certfile", certificate)?,
                };
                builder.with_client_auth_cert(chain, key).map_err(|error| {
                    let message = format!("cannot use `tls_certfile` with its key: {error}");
                    bad_config(message).with_source(error)
                })?
            }
            (None, Some(_)) => {
                return Err(bad_config(
                    "`tls_keyfile` is set but `tls_certfile` is not; set both or neither",
                ));
            }
        };
        let server_name = config.tls_server_name.as_ref().map(|name| {
            ServerName::try_from(name.clone()).map_err(|error| {
                let message = format!(
                    "`tls_server_name` is {name:?}: {error}; use a name in the certificates"
                );
                bad_config(message).with_source(error)
            })
        });
        let server_name = server_name.transpose()?;
        Ok(Some(Self {
            connector: TlsConnector::from(Arc::new(client)),
            server_name,
        }))
    }

    pub(crate) async fn handshake(
        &self,
        stream: TcpStream,
        host: &str,
    ) -> io::Result<TlsStream<TcpStream>> {
        let name = match &self.server_name {
            Some(name) => name.clone(),
            None => ServerName::try_from(host.to_owned())
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?,
        };
        self.connector.connect(name, stream).await.map_err(|error| {
            let message = format!("TLS handshake failed: {error}{}", advice(&error));
            io::Error::new(error.kind(), message)
        })
    }
}

/// Advice about a handshake that failed.
fn advice(error: &io::Error) -> &'static str {
    let cause = error.get_ref().and_then(|error| error.downcast_ref());
    match cause {
        Some(Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        )) => "; `url` or `tls_server_name` must be a name that its certificate contains",
        Some(Error::InvalidCertificate(_)) => {
            "; `tls_cafile` must contain the authority that signed it (default: the system's)"
        }
        // The response is not TLS, or missing.
        Some(Error::InvalidMessage(_)) | None => "; does it use TLS? `tls_enabled` is set",
        Some(_) => "",
    }
}

fn certificates(field: &str, file: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let certificates: Vec<_> = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect)
        .map_err(|error| unreadable(field, file, error))?;
    if certificates.is_empty() {
        let message = format!(
            "`{field}` {} contains no certificate in PEM format",
            file.display()
        );
        return Err(bad_config(message));
    }
    Ok(certificates)
}

fn private_key(field: &str, file: &Path) -> Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_file(file).map_err(|error| match error {
        pem::Error::NoItemsFound => bad_config(format!(
            "`{field}` {} contains no private key in PEM format",
            file.display()
        )),
        error => unreadable(field, file, error),
    })
}

fn unreadable(field: &str, file: &Path, error: pem::Error) -> cache_core::Error {
    let reason = match &error {
        pem::Error::Io(error) => error.to_string(),
        error => error.to_string(),
    };
    let message = format!("cannot read `{field}` {}: {reason}", file.display());
    bad_config(message).with_source(error)
}

/// The authorities of `tls_cafile`, or those of the system.
fn authorities(config: &MemcachePoolConfig) -> Result<RootCertStore> {
    let mut authorities = RootCertStore::empty();
    let Some(file) = &config.tls_cafile else {
        let system = rustls_native_certs::load_native_certs();
        authorities.add_parsable_certificates(system.certs);
        if authorities.is_empty() {
            let why = system.errors.first().map(|error| format!(" ({error})"));
            return Err(bad_config(format!(
                "`tls_cafile` is not set, and the system trusts no authorities{}; set it to a \
                 file with the authority that signed the servers' certificates",
                why.unwrap_or_default()
            )));
        }
        return Ok(authorities);
    };
    authorities.add_parsable_certificates(certificates("tls_cafile", file)?);
    if authorities.is_empty() {
        let message = format!("`tls_cafile` {} contains no authority", file.display());
        return Err(bad_config(message));
    }
    Ok(authorities)
}

/// Accepts any certificate, for `tls_verify = false`.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
