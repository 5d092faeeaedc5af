//! Sessions in replication mode, which the driver cannot open: it has no way to ask for
//! them and no two-way copy. So the driver signs in, over a stream that adds the one
//! parameter that asks for the mode, and then leaves the stream to us. Whatever holds for
//! signing in (TLS, ways of authentication, words of errors) holds here by itself.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, ready},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tideway_core::{Error, Result};
use tideway_network::Stream;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio_postgres::{
    NoTls,
    tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream},
};

use super::{Postgres, explain};

/// Microseconds from 1970 to 2000, where the server counts from.
const EPOCH_MICROS: i64 = 946_684_800_000_000;
/// Room for one read of the socket.
const READ_BYTES: usize = 256 << 10;
/// No message of a server is longer.
const LONGEST_MESSAGE: usize = 1 << 30;
/// As [`super::SETTINGS`], for what shapes the text of values. The command language of
/// replication passes statements on one by one.
const SETTINGS: [&str; 6] = [
    "SET timezone = 'UTC'",
    "SET datestyle = 'ISO, YMD'",
    "SET intervalstyle = 'iso_8601'",
    "SET extra_float_digits = 3",
    "SET bytea_output = 'hex'",
    "SET search_path = ''",
];

pub trait Socket: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Socket for S {}

/// A session that takes replication commands. Dropping it ends it.
pub struct Replication {
    socket: Box<dyn Socket>,
    input: BytesMut,
    output: BytesMut,
}

/// What the server sends while it replicates.
#[cfg_attr(any(test, fuzzing), derive(Debug, PartialEq, Eq))]
pub enum Frame {
    /// A message of the output plugin.
    Data(Bytes),
    /// The server has told everything up to `end`.
    KeepAlive { end: u64, reply_wanted: bool },
}

impl Postgres {
    /// Signs in for replication.
    ///
    /// # Errors
    /// As [`Postgres::client`].
    pub async fn replication(&self) -> Result<Replication> {
        let opened = tokio::time::timeout(self.patience(), self.sign_in_for_replication()).await;
        let mut session = opened.unwrap_or_else(|_| Err(self.no_answer()))?;
        for setting in SETTINGS {
            session.ask(setting).await?;
        }
        Ok(session)
    }

    async fn sign_in_for_replication(&self) -> Result<Replication> {
        let stream = self.reach().await?;
        let refused = |error| explain::sign_in(&self.config, error);
        let socket: Option<Box<dyn Socket>> = match &self.tls {
            None => {
                let (door, behind) = Door::new(stream);
                let signed_in = self.driver.connect_raw(door, NoTls).await;
                drop(signed_in.map_err(refused)?);
                take(&behind).map(|socket| Box::new(socket) as Box<dyn Socket>)
            }
            Some(tls) => {
                let mut tls = tls.clone();
                let Ok(tls) =
                    MakeTlsConnect::<Stream>::make_tls_connect(&mut tls, &self.config.host);
                let behind = Arc::new(Mutex::new(None));
                let connect = DoorConnect {
                    tls,
                    behind: behind.clone(),
                };
                let signed_in = self.driver.connect_raw(stream, connect).await;
                drop(signed_in.map_err(refused)?);
                take(&behind).map(|socket| Box::new(socket) as Box<dyn Socket>)
            }
        };
        let socket = socket.ok_or_else(|| Error::bug("the driver kept the session"))?;
        Ok(Replication::over(socket))
    }
}

impl Replication {
    /// A session that is signed in.
    pub fn over(socket: Box<dyn Socket>) -> Replication {
        Replication {
            socket,
            input: BytesMut::with_capacity(READ_BYTES),
            output: BytesMut::new(),
        }
    }

    /// Runs a command; gives its rows, as text.
    pub async fn ask(&mut self, command: &str) -> Result<Vec<Vec<Option<String>>>> {
        self.send_query(command).await?;
        let mut rows = Vec::new();
        let mut failed = None;
        loop {
            let (tag, body) = self.message().await?;
            match tag {
                b'D' => rows.push(data_row(&body).ok_or_else(garbled)?),
                b'E' => failed = Some(server_error(&body)),
                b'Z' => break,
                _ => {}
            }
        }
        match failed {
            Some(error) => Err(error),
            None => Ok(rows),
        }
    }

    /// Runs a command that begins to replicate.
    pub async fn start(&mut self, command: &str) -> Result<()> {
        self.send_query(command).await?;
        loop {
            match self.message().await? {
                (b'W', _) => return Ok(()),
                (b'E', body) => return Err(server_error(&body)),
                (b'Z', _) => return Err(garbled()),
                _ => {}
            }
        }
    }

    /// The next message that has arrived as a whole, without waiting.
    pub fn frame(&mut self) -> Result<Option<Frame>> {
        loop {
            let Some((tag, mut body)) = self.buffered()? else {
                return Ok(None);
            };
            match tag {
                b'd' => match body.first() {
                    // Start and end of the log that it is from, and the server's time.
                    Some(b'w') if body.len() >= 25 => {
                        body.advance(25);
                        return Ok(Some(Frame::Data(body)));
                    }
                    Some(b'k') if body.len() == 18 => {
                        body.advance(1);
                        let end = body.get_u64();
                        body.advance(8);
                        let reply_wanted = body.get_u8() != 0;
                        return Ok(Some(Frame::KeepAlive { end, reply_wanted }));
                    }
                    _ => return Err(garbled()),
                },
                b'E' => return Err(server_error(&body)),
                b'c' | b'C' | b'Z' => {
                    return Err(Error::unavailable("the server ended the change stream")
                        .hint("look into the server's log for the reason"));
                }
                _ => {}
            }
        }
    }

    /// Waits for more to arrive. Nothing is lost when the wait is broken off.
    pub async fn wait(&mut self) -> Result<()> {
        self.input.reserve(READ_BYTES / 4);
        let read = self.socket.read_buf(&mut self.input).await;
        match read.map_err(broken)? {
            0 => Err(Error::unavailable("the server closed the change stream")
                .hint("look into the server's log for the reason")),
            _ => Ok(()),
        }
    }

    /// Tells the server how far we are: what has arrived, and what is durable.
    pub async fn report(&mut self, received: u64, durable: u64, ask_reply: bool) -> Result<()> {
        self.output.clear();
        self.output.put_u8(b'd');
        self.output.put_i32(4 + 34);
        self.output.put_u8(b'r');
        self.output.put_u64(received.max(durable));
        self.output.put_u64(durable);
        self.output.put_u64(durable);
        self.output
            .put_i64(now_micros().saturating_sub(EPOCH_MICROS));
        self.output.put_u8(ask_reply.into());
        self.flush().await
    }

    async fn send_query(&mut self, query: &str) -> Result<()> {
        self.output.clear();
        self.output.put_u8(b'Q');
        let length = i32::try_from(query.len() + 5).map_err(|_| garbled())?;
        self.output.put_i32(length);
        self.output.put_slice(query.as_bytes());
        self.output.put_u8(0);
        self.flush().await
    }

    async fn flush(&mut self) -> Result<()> {
        self.socket.write_all(&self.output).await.map_err(broken)?;
        self.socket.flush().await.map_err(broken)
    }

    async fn message(&mut self) -> Result<(u8, Bytes)> {
        loop {
            if let Some(message) = self.buffered()? {
                return Ok(message);
            }
            self.wait().await?;
        }
    }

    fn buffered(&mut self) -> Result<Option<(u8, Bytes)>> {
        let Some((&tag, rest)) = self.input.split_first() else {
            return Ok(None);
        };
        let Some(length) = rest.first_chunk::<4>() else {
            return Ok(None);
        };
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        if !(4..=LONGEST_MESSAGE).contains(&length) {
            return Err(garbled());
        }
        if self.input.len() < length + 1 {
            self.input.reserve(length + 1 - self.input.len());
            return Ok(None);
        }
        let mut message = self.input.split_to(length + 1);
        message.advance(5);
        Ok(Some((tag, message.freeze())))
    }
}

fn now_micros() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since
        .unwrap_or(Duration::ZERO)
        .as_micros()
        .try_into()
        .unwrap_or(i64::MAX)
}

fn data_row(body: &[u8]) -> Option<Vec<Option<String>>> {
    let (count, mut rest) = body.split_first_chunk::<2>()?;
    let mut row = Vec::new();
    for _ in 0..u16::from_be_bytes(*count) {
        let (length, tail) = rest.split_first_chunk::<4>()?;
        let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else {
            row.push(None);
            rest = tail;
            continue;
        };
        let (value, tail) = tail.split_at_checked(length)?;
        row.push(Some(String::from_utf8_lossy(value).into_owned()));
        rest = tail;
    }
    Some(row)
}

/// Code and message of an error report; what else it holds may be values of rows.
fn server_error(body: &[u8]) -> Error {
    let field = |kind: u8| {
        let mut fields = body.split(|byte| *byte == 0);
        let found = fields.find(|field| field.first() == Some(&kind));
        let text = found.and_then(|field| field.get(1..)).unwrap_or_default();
        String::from_utf8_lossy(text).into_owned()
    };
    let (code, message) = (field(b'C'), field(b'M'));
    explain::of_sqlstate(&code, &message)
}

fn garbled() -> Error {
    Error::data("the server's replication stream is damaged")
        .hint("check what stands between this machine and the server, and the server's version")
}

fn broken(error: io::Error) -> Error {
    Error::unavailable(format!("the change stream broke: {error}")).because(error)
}

type Behind<S> = Arc<Mutex<Option<S>>>;

fn take<S>(behind: &Behind<S>) -> Option<S> {
    behind
        .lock()
        .unwrap_or_else(|broken| broken.into_inner())
        .take()
}

/// What the driver signs in through. The stream behind it can be taken away.
struct Door<S> {
    behind: Behind<S>,
    announced: bool,
    /// Of the first message, what has not been written.
    unsent: BytesMut,
}

impl<S> Door<S> {
    fn new(stream: S) -> (Door<S>, Behind<S>) {
        let behind = Arc::new(Mutex::new(Some(stream)));
        (Door::of(behind.clone()), behind)
    }

    fn of(behind: Behind<S>) -> Door<S> {
        Door {
            behind,
            announced: false,
            unsent: BytesMut::new(),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Door<S> {
    fn with<T>(
        &self,
        poll: impl FnOnce(Pin<&mut S>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let mut behind = self
            .behind
            .lock()
            .unwrap_or_else(|broken| broken.into_inner());
        match behind.as_mut() {
            Some(stream) => poll(Pin::new(stream)),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn send_unsent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.unsent.is_empty() {
            let unsent = std::mem::take(&mut self.unsent);
            let written = self.with(|stream| stream.poll_write(cx, &unsent));
            self.unsent = unsent;
            let written = ready!(written)?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unsent.advance(written.min(self.unsent.len()));
        }
        Poll::Ready(Ok(()))
    }
}

/// The first message of a session with `replication=database` added.
fn announce(startup: &[u8]) -> Option<BytesMut> {
    const ADDED: &[u8] = b"replication\0database\0\0";
    let (length, rest) = startup.split_first_chunk::<4>()?;
    // The parameters end with a NUL of their own.
    let (0, parameters) = rest.split_last()? else {
        return None;
    };
    if usize::try_from(u32::from_be_bytes(*length)).ok()? != startup.len() {
        return None;
    }
    let mut message = BytesMut::new();
    message.put_u32(u32::try_from(4 + parameters.len() + ADDED.len()).ok()?);
    message.put_slice(parameters);
    message.put_slice(ADDED);
    Some(message)
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Door<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if !self.announced {
            let Some(message) = announce(bytes) else {
                let what = "a session does not begin as it used to";
                return Poll::Ready(Err(io::Error::other(what)));
            };
            self.announced = true;
            self.unsent = message;
            return Poll::Ready(Ok(bytes.len()));
        }
        ready!(self.send_unsent(cx))?;
        self.with(|stream| stream.poll_write(cx, bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.send_unsent(cx))?;
        self.with(|stream| stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|stream| stream.poll_shutdown(cx))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Door<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.send_unsent(cx))?;
        self.with(|stream| stream.poll_read(cx, buffer))
    }
}

impl<S: TlsStream + Unpin> TlsStream for Door<S> {
    fn channel_binding(&self) -> ChannelBinding {
        let behind = self
            .behind
            .lock()
            .unwrap_or_else(|broken| broken.into_inner());
        match behind.as_ref() {
            Some(stream) => stream.channel_binding(),
            None => ChannelBinding::none(),
        }
    }
}

/// Puts a [`Door`] in front of TLS.
struct DoorConnect<T: TlsConnect<Stream>> {
    tls: T,
    behind: Behind<T::Stream>,
}

impl<T> TlsConnect<Stream> for DoorConnect<T>
where
    T: TlsConnect<Stream>,
    T::Future: Send + 'static,
    T::Stream: Send + 'static,
{
    type Stream = Door<T::Stream>;
    type Error = T::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Stream, Self::Error>> + Send>>;

    fn connect(self, stream: Stream) -> Self::Future {
        let (secured, behind) = (self.tls.connect(stream), self.behind);
        Box::pin(async move {
            let stream = secured.await?;
            *behind.lock().unwrap_or_else(|broken| broken.into_inner()) = Some(stream);
            Ok(Door::of(behind))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mode_is_asked_for_in_the_first_message() {
        let mut startup = BytesMut::new();
        let parameters = [("user", "u"), ("database", "d")];
        postgres_protocol::message::frontend::startup_message(parameters, &mut startup).unwrap();
        let mut expected = BytesMut::new();
        let parameters = [
            ("user", "u"),
            ("database", "d"),
            ("replication", "database"),
        ];
        postgres_protocol::message::frontend::startup_message(parameters, &mut expected).unwrap();
        assert_eq!(announce(&startup).unwrap(), expected);
        assert_eq!(announce(&startup[..startup.len() - 1]), None);
        assert_eq!(announce(b""), None);
    }

    #[test]
    fn errors_tell_code_and_message_alone() {
        let error = server_error(b"SERROR\0C42710\0Mslot \"s\" exists\0DKey (a)=(secret)\0\0");
        assert_eq!(error.what(), "slot \"s\" exists (SQLSTATE 42710)");
    }
}
