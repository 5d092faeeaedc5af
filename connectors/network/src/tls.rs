//! TLS in libpq's four modes, for whatever protocol begins it.

use std::sync::Arc;

use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore,
    SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor, verify_server_name,
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    server::ParsedCertificate,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tideway_core::{Error, Result, Secret};

// How the way to the server is secured, as libpq understands the same words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub enum SslMode {
    Disable,
    Require,
    VerifyCa,
    VerifyFull,
}

impl SslMode {
    pub const ALL: [SslMode; 4] = [
        SslMode::Disable,
        SslMode::Require,
        SslMode::VerifyCa,
        SslMode::VerifyFull,
    ];

    pub fn word(self) -> &'static str {
        match self {
            SslMode::Disable => "disable",
            SslMode::Require => "require",
            SslMode::VerifyCa => "verify-ca",
            SslMode::VerifyFull => "verify-full",
        }
    }

    /// It is made sure who the server is.
    pub fn verifies(self) -> bool {
        matches!(self, SslMode::VerifyCa | SslMode::VerifyFull)
    }
}

/// The fields of a form, which are called the same in every form that has them.
#[derive(Debug, Clone)]
pub struct TlsSettings {
    pub mode: SslMode,
    pub ca_cert: Option<Secret>,
    /// A client certificate is shown.
    pub identified: bool,
    pub client_certificate: Option<Secret>,
    pub client_key: Option<Secret>,
}

/// What of the server's certificate is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scrutiny {
    Nothing,
    Chain,
    ChainAndName,
}

/// The client's side of TLS; `None` where there is none.
///
/// # Errors
/// `Config` naming the field, for certificates and keys that cannot be used.
pub async fn client(settings: TlsSettings) -> Result<Option<ClientConfig>> {
    // The system's certificates are read from disk.
    let made = tokio::task::spawn_blocking(move || make(&settings)).await;
    made.map_err(|error| Error::bug(format!("reading certificates stopped: {error}")))?
}

fn make(settings: &TlsSettings) -> Result<Option<ClientConfig>> {
    let authority = settings.ca_cert.as_ref().filter(|cert| !cert.is_empty());
    let scrutiny = match settings.mode {
        SslMode::Disable => return Ok(None),
        // As libpq does: whoever hands over an authority wants it asked.
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
    let client = match identity(settings)? {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).map_err(|error| {
            Error::config(format!("the client key cannot be used: {error}"))
                .field("client_key")
                .hint("give the private key that belongs to client_certificate")
        })?,
        None => builder.with_no_client_auth(),
    };
    Ok(Some(client))
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn identity(settings: &TlsSettings) -> Result<Option<Identity>> {
    if !settings.identified {
        return Ok(None);
    }
    let needed = |field: &'static str, value: &Option<Secret>| -> Result<Secret> {
        let value = value.clone().filter(|value| !value.is_empty());
        value.ok_or_else(|| {
            Error::config(format!("{field} is needed for a client certificate")).field(field)
        })
    };
    let chain = certificates(
        &needed("client_certificate", &settings.client_certificate)?,
        "client_certificate",
    )?;
    let pem = needed("client_key", &settings.client_key)?;
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

/// What a failed handshake is told with: the server, fields of the form, settings of the server.
#[derive(Debug, Clone, Copy)]
pub struct Handshake<'a> {
    pub host: &'a str,
    /// `host:port`, for people.
    pub address: &'a str,
    /// The field that has the server's certificate looked at.
    pub scrutiny: &'static str,
    /// The field that switches TLS on.
    pub switch: &'static str,
    /// Where the server keeps who may vouch for clients.
    pub authorities: &'static str,
    /// Where the server keeps which versions it speaks.
    pub versions: &'static str,
}

impl Handshake<'_> {
    /// What its failure means.
    pub fn failed(self, error: &rustls::Error) -> Error {
        let address = self.address;
        match error {
            rustls::Error::InvalidCertificate(CertificateError::NotValidForName) => {
                Error::config(format!(
                    "the certificate of {address} is not made out to {}",
                    self.host
                ))
                .field("sslmode")
                .hint("use the host name that the certificate names, or choose sslmode verify-ca")
            }
            rustls::Error::InvalidCertificate(reason) => {
                let what = match reason {
                    CertificateError::UnknownIssuer => {
                        "comes from an authority that is not trusted".to_owned()
                    }
                    CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                        "has expired".to_owned()
                    }
                    other => format!("is not accepted: {other}"),
                };
                Error::config(format!("the certificate of {address} {what}"))
                    .field(self.scrutiny)
                    .hint("give the authority that signed it as ca_cert, or choose sslmode require")
            }
            rustls::Error::AlertReceived(
                AlertDescription::CertificateRequired
                | AlertDescription::BadCertificate
                | AlertDescription::UnknownCA
                | AlertDescription::CertificateUnknown
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateRevoked,
            ) => Error::auth(format!(
                "{address} does not accept the client certificate: {error}"
            ))
            .field("client_certificate")
            .hint(format!(
                "give a certificate signed by the authority that the server trusts ({})",
                self.authorities
            )),
            other => Error::config(format!("TLS with {address} failed: {other}"))
                .field(self.switch)
                .hint(format!(
                    "check which TLS versions the server offers ({})",
                    self.versions
                )),
        }
    }
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
