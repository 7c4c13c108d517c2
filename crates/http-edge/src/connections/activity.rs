//! What goes on in one connection, as those see it who may end it.

use std::{
    collections::HashMap,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::Version;
use hyper::body::{Body, Frame, SizeHint};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};
use tokio_util::sync::{CancellationToken, DropGuard, WaitForCancellationFutureOwned};

/// An answer is handed out in pieces of this size in bytes, so that it can be seen whether the caller
/// takes them.
const PIECE: usize = 16 * 1024;

/// A caller that drops so many of its requests before they are answered, and more than it waits for,
/// only makes work.
const MOST_ABANDONED: u64 = 100;

/// What goes on in one connection.
#[derive(Default)]
pub(super) struct Activity {
    state: Mutex<State>,
    /// Whether the connection speaks another protocol than HTTP from now on, such as WebSocket.
    is_upgraded: AtomicBool,
    /// Cancelled when the first request has come over HTTP/2.
    http_2: CancellationToken,
    /// Cancelled when an upgraded connection is to break: its socket belongs to a handler then.
    broken: CancellationToken,
    /// Cancelled when the socket has been closed.
    closed: CancellationToken,
}

#[derive(Default)]
struct State {
    latest: Option<Asked>,
    /// Requests that are being worked on.
    running: usize,
    asked: u64,
    abandoned: u64,
    /// Answers that are on their way. Those that wait for the caller to take the next piece say since
    /// when; the others wait for us.
    answers: HashMap<u64, Option<Instant>>,
    next_answer: u64,
    /// Since when the caller's system takes no more bytes.
    blocked: Option<Instant>,
}

/// The last request of a connection.
#[derive(Clone, Copy)]
pub(super) struct Asked {
    pub(super) version: Version,
    pub(super) at: Instant,
}

impl Activity {
    /// A request has come; it is being worked on until the answer is dropped.
    pub(super) fn begin(self: &Arc<Self>, version: Version) -> Running {
        let mut state = self.state();
        let latest = state.latest.replace(Asked { version, at: Instant::now() });
        if latest.is_none() && version == Version::HTTP_2 {
            self.http_2.cancel();
        }
        state.running += 1;
        state.asked += 1;
        Running { activity: self.clone(), is_answered: false }
    }

    pub(super) fn latest(&self) -> Option<Asked> {
        self.state().latest
    }

    /// Ends when a request has come over HTTP/2, and never on a connection of HTTP/1.
    pub(super) async fn asked_over_http_2(&self) {
        self.http_2.cancelled().await;
    }

    /// Whether its caller has asked something, and may ask more.
    pub(super) fn is_used(&self) -> bool {
        self.latest().is_some() && !self.is_upgraded()
    }

    /// Whether nothing is under way, so that the connection can be closed without harm.
    pub(super) fn is_idle(&self) -> bool {
        if self.is_upgraded() {
            return false;
        }
        let state = self.state();
        state.running == 0 && state.answers.is_empty() && state.blocked.is_none()
    }

    /// Whether the caller has left a piece of an answer untaken for `limit`.
    pub(super) fn is_stalled(&self, limit: Duration) -> bool {
        let state = self.state();
        let mut since = state.answers.values().flatten().chain(&state.blocked);
        since.any(|since| since.elapsed() > limit)
    }

    /// Whether the caller drops its requests rather than waiting for answers, as in a flood of resets.
    pub(super) fn is_flooded(&self) -> bool {
        let state = self.state();
        state.abandoned > MOST_ABANDONED && state.abandoned * 2 > state.asked
    }

    /// From now on the connection speaks another protocol than HTTP.
    pub(super) fn upgrade(&self) {
        self.is_upgraded.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_upgraded(&self) -> bool {
        self.is_upgraded.load(Ordering::Relaxed)
    }

    /// Lets every read and write of the upgraded connection fail, once the guard is dropped.
    pub(super) fn break_guard(&self) -> DropGuard {
        self.broken.clone().drop_guard()
    }

    /// Ends when the socket has been closed.
    pub(super) async fn closed(&self) {
        self.closed.cancelled().await;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that is being worked on.
pub(super) struct Running {
    activity: Arc<Activity>,
    is_answered: bool,
}

impl Running {
    /// The answer makes the connection one of another protocol.
    pub(super) fn upgraded(&self) {
        self.activity.upgrade();
    }

    /// The request is answered with `body`.
    pub(super) fn answered<B>(mut self, body: B) -> Answer<B> {
        self.is_answered = true;
        let mut state = self.activity.state();
        let id = state.next_answer;
        state.next_answer += 1;
        // From now on the caller can take it.
        state.answers.insert(id, Some(Instant::now()));
        drop(state);
        Answer { body, rest: Bytes::new(), id, activity: self.activity.clone() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut state = self.activity.state();
        state.running -= 1;
        state.abandoned += u64::from(!self.is_answered);
    }
}

/// The body of an answer, in pieces.
pub(super) struct Answer<B> {
    body: B,
    rest: Bytes,
    id: u64,
    activity: Arc<Activity>,
}

impl<B> Answer<B> {
    fn waits(&self, since: Option<Instant>) {
        self.activity.state().answers.insert(self.id, since);
    }

    /// The next piece of `data`; what is over waits its turn.
    fn piece(&mut self, mut data: Bytes) -> Frame<Bytes> {
        let piece = data.split_to(data.len().min(PIECE));
        self.rest = data;
        self.waits(Some(Instant::now()));
        Frame::data(piece)
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Answer<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.get_mut();
        if !this.rest.is_empty() {
            let rest = std::mem::take(&mut this.rest);
            return Poll::Ready(Some(Ok(this.piece(rest))));
        }
        this.waits(None);
        let frame = match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
            Some(Ok(frame)) => frame,
            end => return Poll::Ready(end),
        };
        Poll::Ready(Some(Ok(match frame.into_data() {
            Ok(data) => this.piece(data),
            Err(other) => other,
        })))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (inner, rest) = (self.body.size_hint(), u64::try_from(self.rest.len()).unwrap_or(u64::MAX));
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower().saturating_add(rest));
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper.saturating_add(rest));
        }
        hint
    }
}

impl<B> Drop for Answer<B> {
    fn drop(&mut self) {
        self.activity.state().answers.remove(&self.id);
    }
}

/// A socket that notes since when no more bytes are taken, and when it is closed. It can be broken after an upgrade,
/// when it belongs to a handler.
pub(super) struct Watched<S> {
    stream: S,
    activity: Arc<Activity>,
    /// Each wakes one task, and reader and writer may be two.
    broken_to_reader: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    broken_to_writer: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
}

impl<S> Watched<S> {
    pub(super) fn new(stream: S, activity: Arc<Activity>) -> Self {
        Self { stream, activity, broken_to_reader: None, broken_to_writer: None }
    }

    fn noted<T>(&self, polled: Poll<T>) -> Poll<T> {
        let mut state = self.activity.state();
        match polled {
            Poll::Ready(_) => state.blocked = None,
            Poll::Pending => drop(state.blocked.get_or_insert_with(Instant::now)),
        }
        polled
    }
}

/// Fails once the connection is to break, and has the task woken then. Costs nothing before an upgrade.
fn check(
    activity: &Activity,
    broken: &mut Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    cx: &mut Context<'_>,
) -> io::Result<()> {
    if !activity.is_upgraded() {
        return Ok(());
    }
    let broken = broken.get_or_insert_with(|| Box::pin(activity.broken.clone().cancelled_owned()));
    match broken.as_mut().poll(cx) {
        Poll::Ready(()) => Err(io::ErrorKind::ConnectionAborted.into()),
        Poll::Pending => Ok(()),
    }
}

impl<S> Drop for Watched<S> {
    fn drop(&mut self) {
        self.activity.closed.cancel();
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        check(&this.activity, &mut this.broken_to_reader, cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        check(&this.activity, &mut this.broken_to_writer, cx)?;
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.noted(polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        check(&this.activity, &mut this.broken_to_writer, cx)?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        check(&this.activity, &mut this.broken_to_writer, cx)?;
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        self.noted(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
