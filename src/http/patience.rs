//! A socket that HTTP cannot keep for nothing.
//!
//! The HTTP library bounds the time for the first head on a connection and for a kept connection that
//! is silent. Half of a later head, or a body in chunks that is answered before its end and then never
//! ends, it would wait for without a bound. So here: to whom nothing was written for as long as a
//! request and its answer may take, from him nothing more is read, as if he had shut his side.
//!
//! To a first head that came too late the library answers by itself, and counts nothing: here it is
//! known by that answer.

use std::cell::Cell;
use std::future::Future as _;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use actix_web::rt::net::TcpStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use crate::protocol::Limit;
use crate::shard;

/// How the library's own answer to a late head begins. Ours to a late body says how long it is.
const LATE_HEAD: &[u8] = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n";

/// Whether the peer has shut its side, or is taken to have: HTTP itself goes on with an answer then.
#[derive(Debug, Clone, Default)]
pub(super) struct HungUp(Rc<Cell<bool>>);

impl HungUp {
    pub(super) fn is_so(&self) -> bool {
        self.0.get()
    }
}

/// A socket as HTTP has it.
pub(super) struct Patient {
    socket: TcpStream,
    hung_up: HungUp,
    patience: Duration,
    over: Pin<Box<Sleep>>,
}

impl Patient {
    pub(super) fn new(socket: TcpStream, patience: Duration) -> Self {
        let (hung_up, over) = (HungUp::default(), Box::pin(sleep(patience)));
        Self { socket, hung_up, patience, over }
    }

    pub(super) fn hung_up(&self) -> HungUp {
        self.hung_up.clone()
    }

    pub(super) fn into_socket(self) -> TcpStream {
        self.socket
    }

    fn wrote(&mut self, written: io::Result<usize>) -> Poll<io::Result<usize>> {
        self.over.as_mut().reset(Instant::now() + self.patience);
        Poll::Ready(written)
    }
}

impl AsyncRead for Patient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = match self.over.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Ok(())),
            Poll::Pending => Pin::new(&mut self.socket).poll_read(cx, buffer),
        };
        if read.is_ready() && buffer.filled().len() == before {
            self.hung_up.0.set(true);
        }
        read
    }
}

impl AsyncWrite for Patient {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.socket).poll_write(cx, bytes));
        if written.is_ok() && bytes.starts_with(LATE_HEAD) {
            shard::count(Limit::HeadTimeout);
        }
        self.wrote(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.socket).poll_write_vectored(cx, slices));
        self.wrote(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
