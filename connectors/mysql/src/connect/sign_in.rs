//! The beginning of a session: who we are, proven to the server.

use mysql_common::auth::plugins::{
    caching_sha2_password::scramble_sha256, mysql_native_password::scramble_native,
};
use rustls_pki_types::ServerName;
use tideway_core::{Error, Result};
use tideway_network::Stream;
use tokio_rustls::TlsConnector;

use super::{
    explain::{not_mysql, of_handshake, of_sign_in, server_error},
    packets::{Fields, Packets, damaged},
    public_key::{Unsealed, seal},
    session::{Flavor, ServerInfo, Session},
};
use crate::config::Config;

/// What both sides can do; the names are the protocol's.
mod capability {
    pub const LONG_PASSWORD: u32 = 1;
    pub const FOUND_ROWS: u32 = 1 << 1;
    pub const LONG_FLAG: u32 = 1 << 2;
    pub const CONNECT_WITH_DB: u32 = 1 << 3;
    pub const LOCAL_FILES: u32 = 1 << 7;
    pub const PROTOCOL_41: u32 = 1 << 9;
    pub const SSL: u32 = 1 << 11;
    pub const TRANSACTIONS: u32 = 1 << 13;
    pub const SECURE_CONNECTION: u32 = 1 << 15;
    pub const MULTI_RESULTS: u32 = 1 << 17;
    pub const PS_MULTI_RESULTS: u32 = 1 << 18;
    pub const PLUGIN_AUTH: u32 = 1 << 19;
    pub const CONNECT_ATTRS: u32 = 1 << 20;
    pub const LENENC_AUTH: u32 = 1 << 21;
}

/// `utf8mb4_general_ci`, which both relatives know.
const CHARSET: u8 = 45;
const MOST_PACKET: u32 = 1 << 30;

struct Greeting {
    server: ServerInfo,
    capabilities: u32,
    nonce: Vec<u8>,
    plugin: String,
}

/// Takes a fresh connection to a session that is signed in.
pub async fn sign_in(
    config: &Config,
    stream: Stream,
    tls: Option<&TlsConnector>,
    purpose: &str,
) -> Result<Session> {
    introduce(config, Packets::over(stream), tls, purpose).await
}

/// The same where the server has yet to say its first word.
pub async fn introduce(
    config: &Config,
    mut packets: Packets,
    tls: Option<&TlsConnector>,
    purpose: &str,
) -> Result<Session> {
    let greeting = match packets.next().await {
        Ok(payload) if payload.first() == Some(&0xff) => {
            return Err(of_sign_in(config, &server_error(payload)));
        }
        Ok(payload) => greeting(payload).map_err(|_| not_mysql(config))?,
        Err(error) => return Err(hung_up(config, error)),
    };
    let common = capabilities(config, &greeting);
    if let Some(tls) = tls {
        if greeting.capabilities & capability::SSL == 0 {
            return Err(
                Error::config(format!("{} does not offer TLS", config.address()))
                    .field(config.names.ssl)
                    .hint("switch TLS off, or give the server a certificate (ssl_cert, ssl_key)"),
            );
        }
        packets.send(&opening(common | capability::SSL)).await?;
        packets = encrypt(config, packets, tls).await?;
    }
    let proof = proof(config, &greeting.plugin, &greeting.nonce, tls.is_some())
        // The server will name another way.
        .unwrap_or_default();
    let ssl = if tls.is_some() { capability::SSL } else { 0 };
    let mut response = opening(common | ssl);
    response.extend_from_slice(config.account.as_bytes());
    response.push(0);
    put_string(&mut response, &proof);
    if let Some(database) = config.database() {
        response.extend_from_slice(database.as_bytes());
        response.push(0);
    }
    response.extend_from_slice(greeting.plugin.as_bytes());
    response.push(0);
    let mut attributes = Vec::new();
    put_string(&mut attributes, b"program_name");
    put_string(&mut attributes, purpose.as_bytes());
    put_string(&mut response, &attributes);
    packets.send(&response).await?;
    let exchange = Exchange {
        config,
        encrypted: tls.is_some(),
        plugin: greeting.plugin,
        nonce: greeting.nonce,
    };
    exchange.carry_through(&mut packets).await?;
    let mut session = Session::new(packets, greeting.server);
    session.account_field = config.names.account;
    Ok(session)
}

fn capabilities(config: &Config, greeting: &Greeting) -> u32 {
    use capability::*;
    let wanted = LONG_PASSWORD
        | FOUND_ROWS
        | LONG_FLAG
        | LOCAL_FILES
        | PROTOCOL_41
        | TRANSACTIONS
        | SECURE_CONNECTION
        | MULTI_RESULTS
        | PS_MULTI_RESULTS
        | PLUGIN_AUTH
        | CONNECT_ATTRS
        | LENENC_AUTH;
    // MariaDB does not claim the first one and wants to hear it all the same.
    let offered = greeting.capabilities | LONG_PASSWORD;
    let database = config.database().map_or(0, |_| CONNECT_WITH_DB);
    (wanted & offered) | database
}

fn greeting(payload: &[u8]) -> Result<Greeting> {
    let mut fields = Fields(payload);
    if fields.byte()? != 10 {
        return Err(damaged());
    }
    let shown = String::from_utf8_lossy(fields.until_nul()).into_owned();
    // The session's number.
    fields.u32()?;
    let mut nonce = fields.bytes(8)?.to_vec();
    fields.bytes(1)?;
    let low = fields.u16()?;
    fields.bytes(1 + 2)?;
    let high = fields.u16()?;
    let length = usize::from(fields.byte()?);
    fields.bytes(10)?;
    let rest = fields.bytes(length.saturating_sub(8).max(13))?;
    nonce.extend_from_slice(rest.get(..12).unwrap_or_default());
    let plugin = String::from_utf8_lossy(fields.until_nul()).into_owned();
    Ok(Greeting {
        server: ServerInfo {
            flavor: flavor(&shown),
            version: version(&shown),
            shown: shown.trim_start_matches("5.5.5-").to_owned(),
        },
        capabilities: u32::from(low) | u32::from(high) << 16,
        nonce,
        plugin: if plugin.is_empty() {
            "mysql_native_password".to_owned()
        } else {
            plugin
        },
    })
}

fn flavor(shown: &str) -> Flavor {
    if shown.contains("MariaDB") {
        Flavor::MariaDb
    } else {
        Flavor::MySql
    }
}

/// Old replicas of MariaDB knew no version above 5.5.5, so it is put before the true one.
fn version(shown: &str) -> (u16, u16, u16) {
    let true_one = shown.trim_start_matches("5.5.5-");
    let mut numbers = true_one
        .split(|c: char| !c.is_ascii_digit())
        .map(|digits| digits.parse().unwrap_or(0));
    let mut next = || numbers.next().unwrap_or(0);
    (next(), next(), next())
}

fn opening(capabilities: u32) -> Vec<u8> {
    let mut payload = Vec::with_capacity(256);
    payload.extend_from_slice(&capabilities.to_le_bytes());
    payload.extend_from_slice(&MOST_PACKET.to_le_bytes());
    payload.push(CHARSET);
    payload.extend_from_slice(&[0; 23]);
    payload
}

fn put_string(out: &mut Vec<u8>, bytes: &[u8]) {
    match bytes.len() {
        small @ 0..=250 => out.push(small as u8),
        length => {
            out.push(0xfc);
            out.extend_from_slice(&(length.min(0xffff) as u16).to_le_bytes());
        }
    }
    out.extend_from_slice(bytes.get(..bytes.len().min(0xffff)).unwrap_or_default());
}

async fn encrypt(config: &Config, packets: Packets, tls: &TlsConnector) -> Result<Packets> {
    let name = ServerName::try_from(config.hostname.clone()).map_err(|_| {
        Error::config(format!(
            "{} is no name that a certificate can be made out to",
            config.hostname
        ))
        .field(config.names.network.host)
    })?;
    packets
        .encrypt(|plain| tls.connect(name, plain))
        .await
        .map_err(|error| of_handshake(config, error))
}

/// What proves the password; `None` for a way that we do not know.
fn proof(config: &Config, plugin: &str, nonce: &[u8], encrypted: bool) -> Option<Vec<u8>> {
    let password = config.passwd.expose().as_bytes();
    if password.is_empty() {
        return matches!(
            plugin,
            "mysql_native_password"
                | "caching_sha2_password"
                | "sha256_password"
                | "mysql_clear_password"
        )
        .then(Vec::new);
    }
    let mut clear = password.to_vec();
    clear.push(0);
    match plugin {
        "mysql_native_password" => scramble_native(nonce, password).map(Vec::from),
        "caching_sha2_password" => {
            let nonce: &[u8; 20] = nonce.try_into().ok()?;
            scramble_sha256(nonce, password).map(Vec::from)
        }
        "sha256_password" if encrypted => Some(clear),
        // The number asks for the server's public key.
        "sha256_password" => Some(vec![1]),
        // Whoever is at the other end will know the password, so it must be the server.
        "mysql_clear_password" if config.sslmode().verifies() => Some(clear),
        _ => None,
    }
}

struct Exchange<'a> {
    config: &'a Config,
    encrypted: bool,
    plugin: String,
    nonce: Vec<u8>,
}

impl Exchange<'_> {
    async fn carry_through(mut self, packets: &mut Packets) -> Result<()> {
        loop {
            let payload = match packets.next().await {
                Ok(payload) => payload,
                Err(error) => return Err(hung_up(self.config, error)),
            };
            let answer = match payload.first() {
                Some(0x00) => return Ok(()),
                Some(0xff) => return Err(of_sign_in(self.config, &server_error(payload))),
                Some(0xfe) => self.switch(payload)?,
                Some(0x01) => self.more(payload.get(1..).unwrap_or_default())?,
                _ => return Err(not_mysql(self.config)),
            };
            if let Some(answer) = answer {
                packets.send(&answer).await?;
            }
        }
    }

    /// The server wants another way than the one that we began with.
    fn switch(&mut self, payload: &[u8]) -> Result<Option<Vec<u8>>> {
        let mut fields = Fields(payload);
        fields.byte()?;
        self.plugin = String::from_utf8_lossy(fields.until_nul()).into_owned();
        let nonce = fields.0.strip_suffix(&[0]).unwrap_or(fields.0);
        self.nonce = nonce.to_vec();
        match proof(self.config, &self.plugin, &self.nonce, self.encrypted) {
            Some(proof) => Ok(Some(proof)),
            None if self.plugin == "mysql_clear_password" => Err(Error::auth(format!(
                "{} wants the password in clear",
                self.config.address()
            ))
            .field("sslmode")
            .hint("choose sslmode verify-ca or verify-full, so that it is certain who gets it")),
            None => Err(Error::auth(format!(
                "{} asks for another way to sign in: {}",
                self.config.address(),
                self.plugin
            ))
            .field(self.config.names.account)
            .hint("use an account with caching_sha2_password or mysql_native_password")),
        }
    }

    /// The next step of the way that is gone.
    fn more(&self, data: &[u8]) -> Result<Option<Vec<u8>>> {
        let mut clear = self.config.passwd.expose().as_bytes().to_vec();
        clear.push(0);
        match (self.plugin.as_str(), data) {
            // The server knew us: its answer follows.
            ("caching_sha2_password", [3]) => Ok(None),
            ("caching_sha2_password", [4]) if self.encrypted => Ok(Some(clear)),
            ("caching_sha2_password", [4]) => Ok(Some(vec![2])),
            ("caching_sha2_password" | "sha256_password", key) if !self.encrypted => {
                for (byte, mask) in clear.iter_mut().zip(self.nonce.iter().cycle()) {
                    *byte ^= mask;
                }
                match seal(&clear, key) {
                    Ok(sealed) => Ok(Some(sealed)),
                    Err(Unsealed::BadKey) => Err(damaged()),
                    Err(Unsealed::TooLong) => Err(Error::auth(format!(
                        "the password is too long for the key of {}",
                        self.config.address()
                    ))
                    .field(self.config.names.passwd)
                    .hint("use TLS, or a shorter password")),
                }
            }
            _ => Err(damaged()),
        }
    }
}

fn hung_up(config: &Config, error: Error) -> Error {
    Error::unavailable(format!("{} hung up during sign-in", config.address()))
        .field(config.names.network.port)
        .hint("check that a MySQL server listens there, and look into its log")
        .because(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_understood_as_both_relatives_write_them() {
        for (shown, relative, expected) in [
            ("9.7.4-2", Flavor::MySql, (9, 7, 4)),
            ("8.0.36-0ubuntu0.22.04.1", Flavor::MySql, (8, 0, 36)),
            (
                "5.5.5-10.11.19-MariaDB-deb12",
                Flavor::MariaDb,
                (10, 11, 19),
            ),
            ("11.4.2-MariaDB", Flavor::MariaDb, (11, 4, 2)),
            ("", Flavor::MySql, (0, 0, 0)),
        ] {
            assert_eq!(
                (flavor(shown), version(shown)),
                (relative, expected),
                "{shown}"
            );
        }
    }

    #[test]
    fn a_greeting_cut_anywhere_is_no_panic() {
        let mut whole = vec![10];
        whole.extend_from_slice(b"9.7.4\0");
        whole.extend_from_slice(&[1; 40]);
        for length in 0..whole.len() {
            let _ = greeting(&whole[..length]);
        }
    }
}
