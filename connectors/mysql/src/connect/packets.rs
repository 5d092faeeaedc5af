//! MySQL's packets over a TCP or TLS stream. A packet is read in place: nothing is copied or
//! allocated per row.

use std::{io, pin::Pin};

use tideway_core::{Error, Result};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// A payload of this size is continued in the next packet.
const MOST: usize = 0xff_ffff;
const HEADER: usize = 4;
/// What is asked of the system at once, at least.
const CHUNK: usize = 256 << 10;
/// A buffer that one huge row has made larger than this is given back.
const KEPT: usize = 8 << 20;

pub trait Duplex: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Duplex for T {}

pub struct Packets {
    stream: Pin<Box<dyn Duplex>>,
    /// Bytes that were received, of which those before `start` are done with.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// The payload of a packet that came in several.
    joined: Vec<u8>,
    payload: Payload,
    sequence: u8,
}

/// Where the payload of the last packet is.
#[derive(Clone, Copy)]
enum Payload {
    Buffer { from: usize, to: usize },
    Joined,
}

impl Packets {
    pub fn over(stream: impl Duplex + 'static) -> Packets {
        Packets {
            stream: Box::pin(stream),
            buffer: Vec::new(),
            start: 0,
            end: 0,
            joined: Vec::new(),
            payload: Payload::Joined,
            sequence: 0,
        }
    }

    /// Goes on encrypted.
    pub async fn encrypt<F, S>(mut self, wrap: impl FnOnce(Plain) -> F) -> io::Result<Packets>
    where
        F: Future<Output = io::Result<S>>,
        S: AsyncRead + AsyncWrite + Send + Sync + Unpin + 'static,
    {
        if self.end > self.start {
            // Whatever came unencrypted may have been put there by somebody else.
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "bytes came before the TLS handshake",
            ));
        }
        let stream = wrap(Plain(self.stream)).await?;
        self.stream = Box::pin(stream);
        Ok(self)
    }

    /// The next command begins a new conversation.
    pub fn restart(&mut self) {
        self.sequence = 0;
    }

    /// The payload of the next packet; valid until the next call.
    ///
    /// # Errors
    /// `Unavailable` where the session ended.
    pub async fn next(&mut self) -> Result<&[u8]> {
        self.payload = self.receive().await.map_err(broken)?;
        Ok(self.current())
    }

    /// What the last call of [`Packets::next`] gave.
    pub fn current(&self) -> &[u8] {
        match self.payload {
            Payload::Buffer { from, to } => self.buffer.get(from..to).unwrap_or_default(),
            Payload::Joined => &self.joined,
        }
    }

    async fn receive(&mut self) -> io::Result<Payload> {
        if self.joined.capacity() > KEPT {
            self.joined = Vec::new();
        } else {
            self.joined.clear();
        }
        let mut payload = self.one().await?;
        loop {
            let Payload::Buffer { from, to } = payload else {
                return Ok(payload);
            };
            let whole = to - from < MOST;
            if whole && self.joined.is_empty() {
                return Ok(payload);
            }
            self.joined
                .extend_from_slice(self.buffer.get(from..to).unwrap_or_default());
            if whole {
                return Ok(Payload::Joined);
            }
            payload = self.one().await?;
        }
    }

    /// One packet, whole in the buffer.
    async fn one(&mut self) -> io::Result<Payload> {
        self.need(HEADER).await?;
        let header = self.buffer.get(self.start..self.start + HEADER);
        let Some([a, b, c, sequence]) = header.and_then(|bytes| <[u8; 4]>::try_from(bytes).ok())
        else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        let length = usize::from(a) | usize::from(b) << 8 | usize::from(c) << 16;
        self.sequence = sequence.wrapping_add(1);
        self.need(HEADER + length).await?;
        let from = self.start + HEADER;
        self.start = from + length;
        Ok(Payload::Buffer {
            from,
            to: self.start,
        })
    }

    /// Receives until `count` bytes are there behind `start`.
    async fn need(&mut self, count: usize) -> io::Result<()> {
        if self.end - self.start >= count {
            return Ok(());
        }
        if self.buffer.len() < self.start + count.max(CHUNK) {
            // Room is made by moving the rest to the front, and by growing if need be.
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
            let size = count.max(CHUNK) + CHUNK;
            if self.buffer.len() < size {
                self.buffer.resize(size, 0);
            } else if self.buffer.len() > KEPT && size <= KEPT {
                self.buffer.truncate(size.max(self.end));
                self.buffer.shrink_to_fit();
            }
        }
        while self.end - self.start < count {
            let room = self.buffer.get_mut(self.end..).unwrap_or_default();
            match self.stream.read(room).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => self.end += read,
            }
        }
        Ok(())
    }

    /// Sends a payload, in as many packets as it needs.
    pub async fn send(&mut self, payload: &[u8]) -> Result<()> {
        self.write(payload).await.map_err(broken)?;
        self.stream.flush().await.map_err(broken)
    }

    /// As [`Packets::send`], but it may stay in a buffer for a while.
    pub async fn feed(&mut self, payload: &[u8]) -> Result<()> {
        self.write(payload).await.map_err(broken)
    }

    async fn write(&mut self, payload: &[u8]) -> io::Result<()> {
        let mut rest = payload;
        loop {
            let (piece, tail) = rest.split_at(rest.len().min(MOST));
            let [a, b, c, ..] = (piece.len() as u32).to_le_bytes();
            let header = [a, b, c, self.sequence];
            self.sequence = self.sequence.wrapping_add(1);
            if piece.len() < 4096 {
                let mut whole = Vec::with_capacity(HEADER + piece.len());
                whole.extend_from_slice(&header);
                whole.extend_from_slice(piece);
                self.stream.write_all(&whole).await?;
            } else {
                self.stream.write_all(&header).await?;
                self.stream.write_all(piece).await?;
            }
            if piece.len() < MOST {
                return Ok(());
            }
            rest = tail;
        }
    }
}

/// The stream below the TLS session.
pub struct Plain(Pin<Box<dyn Duplex>>);

impl AsyncRead for Plain {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        self.0.as_mut().poll_read(cx, buf)
    }
}

impl AsyncWrite for Plain {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &[u8],
    ) -> std::task::Poll<io::Result<usize>> {
        self.0.as_mut().poll_write(cx, buf)
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        self.0.as_mut().poll_flush(cx)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        self.0.as_mut().poll_shutdown(cx)
    }
}

fn broken(error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => Error::unavailable("the server closed the session")
            .hint("look into the server's log for the reason"),
        _ => Error::unavailable(format!("the session broke: {error}")),
    }
    .because(error)
}

/// Reads the pieces of a payload from its front. Nothing is taken on trust.
#[derive(Clone, Copy)]
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    pub fn bytes(&mut self, count: usize) -> Result<&'a [u8]> {
        let (front, rest) = self.0.split_at_checked(count).ok_or_else(damaged)?;
        self.0 = rest;
        Ok(front)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (front, rest) = self.0.split_first_chunk().ok_or_else(damaged)?;
        self.0 = rest;
        Ok(*front)
    }

    pub fn byte(&mut self) -> Result<u8> {
        self.array().map(|[byte]| byte)
    }

    pub fn u16(&mut self) -> Result<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    /// A number in as few bytes as it needs; `None` stands for null.
    pub fn length(&mut self) -> Result<Option<u64>> {
        Ok(Some(match self.byte()? {
            0xfb => return Ok(None),
            0xfc => u64::from(self.u16()?),
            0xfd => {
                let [a, b, c] = self.array()?;
                u64::from(u32::from_le_bytes([a, b, c, 0]))
            }
            0xfe => u64::from_le_bytes(self.array()?),
            0xff => return Err(damaged()),
            small => u64::from(small),
        }))
    }

    /// Bytes with their length before them; `None` is null.
    pub fn string(&mut self) -> Result<Option<&'a [u8]>> {
        match self.length()? {
            None => Ok(None),
            Some(length) => {
                let length = usize::try_from(length).map_err(|_| damaged())?;
                self.bytes(length).map(Some)
            }
        }
    }

    /// Bytes up to a NUL, or to the end where there is none.
    pub fn until_nul(&mut self) -> &'a [u8] {
        let end = self.0.iter().position(|byte| *byte == 0);
        let (front, rest) = match end {
            Some(end) => (
                self.0.get(..end).unwrap_or_default(),
                self.0.get(end + 1..).unwrap_or_default(),
            ),
            None => (self.0, &[][..]),
        };
        self.0 = rest;
        front
    }
}

pub fn damaged() -> Error {
    Error::data("the server's answer is damaged")
        .hint("check what stands between this machine and the server, and the server's version")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::net::TcpListener;

    use tokio::net::TcpStream;

    use super::*;

    async fn pair() -> (Packets, Packets) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let there = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (here, _) = listener.accept().await.unwrap();
        (Packets::over(there), Packets::over(here))
    }

    #[tokio::test]
    async fn payloads_of_every_size_arrive_whole() {
        let (mut sender, mut receiver) = pair().await;
        let sizes = [0, 1, 300_000, MOST - 1, MOST, MOST + 1, 2 * MOST, 5];
        let sending = tokio::spawn(async move {
            for size in sizes {
                let payload: Vec<u8> = (0..size).map(|at| at as u8).collect();
                sender.send(&payload).await.unwrap();
            }
            sender
        });
        for size in sizes {
            let payload = receiver.next().await.unwrap();
            assert_eq!(payload.len(), size);
            assert!(
                payload
                    .iter()
                    .enumerate()
                    .all(|(at, byte)| *byte == at as u8)
            );
        }
        drop(sending.await.unwrap());
        let error = receiver.next().await.unwrap_err();
        assert_eq!(error.kind, tideway_core::Kind::Unavailable);
    }

    proptest! {
        #[test]
        fn fields_never_read_beyond_the_end(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let mut fields = Fields(&bytes);
            while !fields.0.is_empty() {
                let before = fields.0.len();
                let _ = fields.string();
                if fields.0.len() == before {
                    break;
                }
            }
        }
    }
}
