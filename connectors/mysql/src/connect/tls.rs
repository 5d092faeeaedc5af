//! TLS in four modes, as libpq knows them.

use std::sync::Arc;

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor, verify_server_name,
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    server::ParsedCertificate,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject};
use tideway_core::{Error, Result, Secret};
use tokio_rustls::TlsConnector;

use crate::config::{Config, SslMode};

/// What of the server's certificate is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scrutiny {
    Nothing,
    Chain,
    ChainAndName,
}

/// The TLS side of a connection; `None` where there is none.
pub fn connector(config: &Config) -> Result<Option<TlsConnector>> {
    let authority = config.ca_cert.as_ref().filter(|cert| !cert.is_empty());
    let scrutiny = match config.sslmode() {
        SslMode::Disable => return Ok(None),
        // Whoever hands over an authority wants it asked.
        SslMode::Require if authority.is_some() => Scrutiny::Chain,
        SslMode::Require => Scrutiny::Nothing,
        SslMode::VerifyCa => Scrutiny::Chain,
        SslMode::VerifyFull => Scrutiny::ChainAndName,
    };
    let trusted = match authority {
        Some(pem) => certificates(pem, "ca_cert")?,
        None if scrutiny == Scrutiny::Nothing => Vec::new(),
        None => system_authorities()?,
    };
    let provider = Arc::new(ring::default_provider());
    let verifier = Arc::new(Verifier::new(scrutiny, trusted, provider.clone()));
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::bug(format!("TLS: {error}")))?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let client = match identity(config)? {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).map_err(|error| {
            Error::config(format!("the client key cannot be used: {error}"))
                .field("client_key")
                .hint("give the private key that belongs to client_certificate")
        })?,
        None => builder.with_no_client_auth(),
    };
    Ok(Some(TlsConnector::from(Arc::new(client))))
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn identity(config: &Config) -> Result<Option<Identity>> {
    let given = |value: &Option<Secret>| value.as_ref().is_some_and(|value| !value.is_empty());
    if !given(&config.client_certificate) && !given(&config.client_key) {
        return Ok(None);
    }
    let needed = |field: &'static str, value: &Option<Secret>| -> Result<Secret> {
        let value = value.clone().filter(|value| !value.is_empty());
        value.ok_or_else(|| {
            Error::config(format!("{field} is needed for a client certificate")).field(field)
        })
    };
    let chain = certificates(
        &needed("client_certificate", &config.client_certificate)?,
        "client_certificate",
    )?;
    let pem = needed("client_key", &config.client_key)?;
    let key = PrivateKeyDer::from_pem_slice(pem.expose().as_bytes()).map_err(|_| {
        Error::config("client_key is not a private key in PEM form")
            .field("client_key")
            .hint("paste the whole file, from BEGIN to END; it must not be encrypted")
    })?;
    Ok(Some((chain, key)))
}

fn certificates(pem: &Secret, field: &str) -> Result<Vec<CertificateDer<'static>>> {
    let found: Result<Vec<_>, _> =
        CertificateDer::pem_slice_iter(pem.expose().as_bytes()).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(
            Error::config(format!("{field} is not a certificate in PEM form"))
                .field(field)
                .hint("paste the whole file, from BEGIN CERTIFICATE to END CERTIFICATE"),
        ),
    }
}

fn system_authorities() -> Result<Vec<CertificateDer<'static>>> {
    let found = rustls_native_certs::load_native_certs();
    if found.certs.is_empty() {
        return Err(Error::config("this machine has no list of certificate authorities")
            .field("ca_cert")
            .hint("give the server's authority as ca_cert, or install the ca-certificates package"));
    }
    Ok(found.certs)
}

#[derive(Debug)]
struct Verifier {
    scrutiny: Scrutiny,
    /// Certificates that are trusted as they are: a server may show its own one.
    pinned: Vec<CertificateDer<'static>>,
    roots: RootCertStore,
    provider: Arc<CryptoProvider>,
}

impl Verifier {
    fn new(
        scrutiny: Scrutiny,
        trusted: Vec<CertificateDer<'static>>,
        provider: Arc<CryptoProvider>,
    ) -> Verifier {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(trusted.iter().cloned());
        Verifier {
            scrutiny,
            pinned: trusted,
            roots,
            provider,
        }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.scrutiny == Scrutiny::Nothing {
            return Ok(ServerCertVerified::assertion());
        }
        let certificate = ParsedCertificate::try_from(shown)?;
        if !self.pinned.contains(shown) {
            verify_server_cert_signed_by_trust_anchor(
                &certificate,
                &self.roots,
                intermediates,
                now,
                self.provider.signature_verification_algorithms.all,
            )?;
        }
        if self.scrutiny == Scrutiny::ChainAndName {
            verify_server_name(&certificate, server).map_err(|_| {
                rustls::Error::InvalidCertificate(CertificateError::NotValidForName)
            })?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
