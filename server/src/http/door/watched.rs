//! A socket that tells its [`Progress`] what moves through it, and takes no head of a request for
//! which there is no memory. Must never change a byte, nor hold one.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::progress::{Phase, Progress};

/// A socket, or what stands in for one.
#[derive(Debug)]
pub(crate) struct Watched<S> {
    socket: S,
    standing: Arc<Progress>,
    /// Bytes of the head that is being read.
    head: usize,
}

impl<S> Watched<S> {
    pub(crate) fn new(socket: S, standing: Arc<Progress>) -> Self {
        Self {
            socket,
            standing,
            head: 0,
        }
    }

    /// A few KiB are free, so that the node can be asked how it is when memory is short.
    fn heard(&mut self, bytes: usize) -> io::Result<()> {
        self.standing.heard(bytes);
        if self.standing.look().0 != Phase::Head {
            self.head = 0;
            return Ok(());
        }
        self.head += bytes;
        let beyond = self.head.saturating_sub(SMALL_HEAD).min(bytes);
        if beyond == 0 || self.standing.hold(beyond) {
            return Ok(());
        }
        Err(io::Error::other("no memory for the head of a request"))
    }

    fn written(&self, result: &Poll<io::Result<usize>>) {
        match result {
            Poll::Ready(Ok(bytes)) => self.standing.took(*bytes),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.standing.blocked(),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let result = Pin::new(&mut this.socket).poll_read(context, buffer);
        let bytes = buffer.filled().len() - before;
        if bytes > 0 {
            this.heard(bytes)?;
        }
        result
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.socket).poll_write(context, bytes);
        this.written(&result);
        result
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.socket).poll_write_vectored(context, slices);
        this.written(&result);
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    /// Called once everything has been written.
    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.socket).poll_flush(context);
        if let Poll::Ready(Ok(())) = result {
            this.standing.flushed();
        }
        result
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(context)
    }
}

/// Bytes of a head that are not counted.
const SMALL_HEAD: usize = 8 << 10;

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use wal::Share;

    use super::*;

    fn standing(memory: u64) -> Arc<Progress> {
        let memory = Share::new("http", memory);
        Arc::new(Progress::new(memory, Instant::now()))
    }

    #[tokio::test]
    async fn a_large_head_needs_memory_and_a_small_one_never() {
        let (near, mut far) = tokio::io::duplex(1 << 20);
        let standing = standing(10_000);
        let mut watched = Watched::new(near, Arc::clone(&standing));
        let mut buffer = vec![0; 1 << 20];
        let mut read = 0;
        far.write_all(&[1; SMALL_HEAD + 10_000]).await.unwrap();
        while read < SMALL_HEAD + 10_000 {
            read += watched.read(&mut buffer).await.unwrap();
        }
        far.write_all(&[1]).await.unwrap();
        watched.read(&mut buffer).await.expect_err("no memory");
        // The next request begins anew.
        standing.asked();
        standing.answered();
        standing.flushed();
        far.write_all(&[1; SMALL_HEAD]).await.unwrap();
        assert_eq!(watched.read(&mut buffer).await.unwrap(), SMALL_HEAD);
    }

    #[tokio::test]
    async fn what_a_reader_does_not_take_makes_an_answer_wait_until_it_does() {
        let (near, mut far) = tokio::io::duplex(4_096);
        let standing = standing(0);
        let mut watched = Watched::new(near, Arc::clone(&standing));
        far.write_all(b"GET").await.unwrap();
        let mut buffer = [0; 8];
        assert_eq!(watched.read(&mut buffer).await.unwrap(), 3);
        assert_eq!(standing.look().0, Phase::Head);
        standing.asked();
        standing.answered();
        let answer = [1; 10_000];
        let mut writing = Box::pin(async {
            watched.write_all(&answer).await.unwrap();
            watched.flush().await.unwrap();
        });
        assert!(futures::poll!(&mut writing).is_pending());
        assert_eq!(standing.look().0, Phase::Answer);
        let mut taken = vec![0; 10_000];
        let (_, read) = tokio::join!(writing, far.read_exact(&mut taken));
        read.unwrap();
        assert_eq!(standing.look().0, Phase::Idle);
    }
}
