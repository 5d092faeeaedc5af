//! A connection that was dialled.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use russh::{ChannelStream, client::Msg};
use sync_wrapper::SyncWrapper;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use crate::tunnel::Carrier;

/// A connection to a server, whichever way it goes.
pub struct Stream(Way);

enum Way {
    Direct(TcpStream),
    Tunnel {
        // Read and written by one task at a time, so that it may be shared like a socket.
        channel: Box<SyncWrapper<ChannelStream<Msg>>>,
        /// Ends with the last who holds it.
        _carrier: Carrier,
    },
}

impl Stream {
    pub(crate) fn direct(stream: TcpStream) -> Stream {
        Stream(Way::Direct(stream))
    }

    pub(crate) fn through(channel: ChannelStream<Msg>, carrier: Carrier) -> Stream {
        Stream(Way::Tunnel {
            channel: Box::new(SyncWrapper::new(channel)),
            _carrier: carrier,
        })
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.get_mut().0 {
            Way::Direct(stream) => Pin::new(stream).poll_read(cx, buffer),
            Way::Tunnel { channel, .. } => Pin::new(channel.get_mut()).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().0 {
            Way::Direct(stream) => Pin::new(stream).poll_write(cx, bytes),
            Way::Tunnel { channel, .. } => Pin::new(channel.get_mut()).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().0 {
            Way::Direct(stream) => Pin::new(stream).poll_flush(cx),
            Way::Tunnel { channel, .. } => Pin::new(channel.get_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().0 {
            Way::Direct(stream) => Pin::new(stream).poll_shutdown(cx),
            Way::Tunnel { channel, .. } => Pin::new(channel.get_mut()).poll_shutdown(cx),
        }
    }
}
