//! The way of a result from the query threads to whoever asked. Owns the bounded channel, the
//! deadline and the order of events; must never drop rows silently: a stream that does not close
//! with [`Event::End`] is a failed one.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use futures::{Stream, StreamExt};
use tokio::runtime::Handle;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use wal::{Boundary, Epoch};

use crate::account::{self, Account, Work};
use crate::admit::Admitted;
use crate::at_zone::Zoneless;
use crate::bounds::value_bytes;
use crate::coding::Coding;
use crate::error::QueryError;
use crate::statement::{Answer, Core, Statement};
use crate::stop::{Stop, StopOnDrop};

/// What a batch of rows becomes before it leaves the query threads.
pub(crate) trait Sink: Send + 'static {
    /// What crosses to the other side.
    type Item: Send + 'static;

    /// Called once, before any rows. Times without a zone are what `zoneless` says.
    fn start(&mut self, schema: &SchemaRef, zoneless: Zoneless) -> Result<(), QueryError>;
    /// What it holds as long as it has rows of `schema` to write.
    fn needs(&self, _schema: &SchemaRef) -> usize {
        0
    }
    /// What it takes while it writes `rows`, beyond a little.
    fn writing(&self, _rows: &RecordBatch) -> usize {
        0
    }
    /// Takes some rows; gives an item when there is one to send.
    fn push(&mut self, batch: RecordBatch) -> Result<Option<Self::Item>, QueryError>;
    /// Called once, after all rows.
    fn finish(&mut self) -> Result<Option<Self::Item>, QueryError>;
    /// What an item takes that is sent.
    fn bytes(item: &Self::Item) -> usize;
    /// How the bytes are coded; known once there is an item.
    fn coding(&self) -> Option<Coding> {
        None
    }
    /// True when no further rows would change the result.
    fn is_full(&self) -> bool {
        false
    }
}

/// What the answer is of. Sent once the first item is ready, so that an early failure comes
/// alone.
#[derive(Debug, Clone)]
pub struct Head {
    /// Its columns, before a format changes them.
    pub schema: SchemaRef,
    /// Where the snapshot ends.
    pub end: Boundary,
    /// Of the snapshot.
    pub epoch: Epoch,
    /// How far the node was behind when the snapshot was taken.
    pub lag_ms: Option<u64>,
    /// How its bytes are coded.
    pub coding: Option<Coding>,
    /// What may surprise whoever asked.
    pub notices: Vec<String>,
}

/// One step of an answer: a head, then items, then the end; or a failure at any point.
#[derive(Debug)]
pub(crate) enum Event<T> {
    Head(Head),
    Item(T),
    Failed(QueryError),
    End,
}

/// The receiving side. Dropping it stops the query.
#[derive(Debug)]
pub struct Transfer<T> {
    events: mpsc::Receiver<Event<T>>,
    closed: bool,
    _task: AbortOnDropHandle<()>,
    _stop: StopOnDrop,
}

impl<T> Transfer<T> {
    pub(crate) fn new(
        events: mpsc::Receiver<Event<T>>,
        task: AbortOnDropHandle<()>,
        stop: Stop,
    ) -> Self {
        Self {
            events,
            closed: false,
            _task: task,
            _stop: StopOnDrop(stop),
        }
    }

    /// Waits until the answer has begun.
    ///
    /// # Errors
    /// When the query ended before that.
    pub async fn head(&mut self) -> Result<Head, QueryError> {
        match self.events.recv().await {
            Some(Event::Head(head)) => Ok(head),
            Some(Event::Failed(error)) => Err(error),
            Some(Event::Item(_) | Event::End) | None => Err(broken()),
        }
    }
}

impl<T> Stream for Transfer<T> {
    type Item = Result<T, QueryError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.closed {
            return Poll::Ready(None);
        }
        let event = ready!(this.events.poll_recv(context));
        this.closed = !matches!(event, Some(Event::Item(_)));
        Poll::Ready(match event {
            Some(Event::Item(item)) => Some(Ok(item)),
            Some(Event::Failed(error)) => Some(Err(error)),
            Some(Event::End) => None,
            Some(Event::Head(_)) | None => Some(Err(broken())),
        })
    }
}

/// A channel for one answer.
pub(crate) fn channel<T>() -> (mpsc::Sender<Event<T>>, mpsc::Receiver<Event<T>>) {
    mpsc::channel(EVENTS_IN_FLIGHT)
}

/// Runs one query to its end. Lives on the query threads, as one task per query.
pub(crate) async fn pump<S: Sink>(
    core: Arc<Core>,
    asked: Statement,
    mut sink: S,
    events: mpsc::Sender<Event<S::Item>>,
    stop: Stop,
) {
    // Tasks of the query that do not give their threads back end, too.
    let _stop = StopOnDrop(stop.clone());
    let deadline = Instant::from_std(stop.deadline());
    let late = || stop.late();
    let admitted = tokio::time::timeout_at(deadline, core.admit(&asked.sql)).await;
    let mut admitted = match admitted.unwrap_or_else(|_| Err(late())) {
        Ok(admitted) => admitted,
        Err(error) => return farewell(&events, error).await,
    };
    let account = core.account(&stop, &admitted);
    let work = transfer(&core, asked, &account, &mut sink, &events, &mut admitted);
    let result = tokio::time::timeout_at(deadline, work).await;
    let result = result.unwrap_or_else(|_| Err(late()));
    admitted.finish(&result);
    if let Err(error) = result {
        farewell(&events, error).await;
    }
}

async fn transfer<S: Sink>(
    core: &Arc<Core>,
    asked: Statement,
    account: &Account,
    sink: &mut S,
    events: &mpsc::Sender<Event<S::Item>>,
    admitted: &mut Admitted,
) -> Result<(), QueryError> {
    let asked = Arc::new(asked);
    let Answer {
        mut rows,
        schema,
        zoneless,
        notices,
        snapshot,
        lag_ms,
        held,
    } = open(core, &asked, account, admitted.take_alone()).await?;
    held.try_grow(sink.needs(&schema))
        .map_err(|e| QueryError::from_datafusion(&e, &asked.sql))?;
    let writing = held.new_empty();
    sink.start(&schema, zoneless)?;
    let mut head = Some(Head {
        schema,
        end: snapshot.end(),
        epoch: snapshot.epoch(),
        lag_ms,
        coding: None,
        notices,
    });
    while let Some(batch) = rows.next().await {
        let batch = batch.map_err(|e| QueryError::from_datafusion(&e, &asked.sql))?;
        admitted.add_rows(batch.num_rows());
        let mut start = 0;
        while start < batch.num_rows() {
            let rows = piece_rows(&batch, start);
            let piece = batch.slice(start, rows);
            start += rows;
            writing
                .try_resize(sink.writing(&piece))
                .map_err(|e| QueryError::from_datafusion(&e, &asked.sql))?;
            let item = {
                let _work = account.enter(Work::Running);
                let item = sink.push(piece)?;
                account::check()?;
                item
            };
            if let Some(item) = item {
                account.hand_over(S::bytes(&item));
                send_head(events, &mut head, sink.coding(), admitted).await?;
                send(events, Event::Item(item), admitted).await?;
            }
        }
        let _work = account.enter(Work::Running);
        drop(batch);
        if sink.is_full() {
            break;
        }
    }
    let last = {
        let _work = account.enter(Work::Running);
        sink.finish()?
    };
    send_head(events, &mut head, sink.coding(), admitted).await?;
    if let Some(item) = last {
        send(events, Event::Item(item), admitted).await?;
    }
    send(events, Event::End, admitted).await
}

/// Plans the statement on a thread of its own: planning does not give it back, and is left alone
/// there once nobody waits any more. Until it has ended, it keeps the statement's slot.
async fn open(
    core: &Arc<Core>,
    asked: &Arc<Statement>,
    account: &Account,
    alone: Option<OwnedSemaphorePermit>,
) -> Result<Answer, QueryError> {
    let (core, asked, account) = (Arc::clone(core), Arc::clone(asked), account.clone());
    let threads = Handle::current();
    let planned = tokio::task::spawn_blocking(move || {
        let _alone = alone;
        let _work = account.enter(Work::Planning);
        threads.block_on(core.open(&asked, &account))
    });
    planned.await.unwrap_or_else(|_| Err(broken()))
}

async fn send_head<T>(
    events: &mpsc::Sender<Event<T>>,
    head: &mut Option<Head>,
    coding: Option<Coding>,
    admitted: &mut Admitted,
) -> Result<(), QueryError> {
    match head.take() {
        Some(head) => {
            let head = Head { coding, ..head };
            send(events, Event::Head(head), admitted).await
        }
        None => Ok(()),
    }
}

async fn send<T>(
    events: &mpsc::Sender<Event<T>>,
    event: Event<T>,
    admitted: &mut Admitted,
) -> Result<(), QueryError> {
    let sent = match events.try_reserve() {
        Ok(room) => Ok(room),
        Err(TrySendError::Full(())) => admitted.pause(events.reserve()).await?,
        Err(TrySendError::Closed(())) => return Err(QueryError::Cancelled),
    };
    sent.map_err(|_| QueryError::Cancelled)?.send(event);
    Ok(())
}

/// Tells the failure, unless nobody takes it in time: then the missing end tells it.
async fn farewell<T>(events: &mpsc::Sender<Event<T>>, error: QueryError) {
    let told = events.send_timeout(Event::Failed(error), FAREWELL).await;
    if told.is_err() {
        tracing::debug!("a query failed and nobody listened any more");
    }
}

fn broken() -> QueryError {
    QueryError::Internal("the query ended without an answer".to_owned())
}

/// Rows from `start` on that make one item.
fn piece_rows(batch: &RecordBatch, start: usize) -> usize {
    let most = PIECE_ROWS.min(batch.num_rows() - start);
    let schema = batch.schema_ref();
    let mut long = Vec::new();
    // Texts of numbers, and what stands around each value; JSON repeats the names.
    let mut each = 0_u64;
    for (field, column) in schema.fields().iter().zip(batch.columns()) {
        each += field.name().len() as u64 + VALUE_BYTES;
        if column.data_type().primitive_width().is_none() {
            long.push(column);
        }
    }
    let mut bytes = 0_u64;
    for rows in 0..most {
        let row = long
            .iter()
            .map(|column| value_bytes(column.as_ref(), start + rows));
        bytes = bytes.saturating_add(row.sum()).saturating_add(each);
        if bytes > PIECE_BYTES {
            return rows.max(1);
        }
    }
    most
}

/// Rows per item, so that an item stays small however large a batch is.
const PIECE_ROWS: usize = 8_192;
/// Bytes per item as they are written, about, but for a single row.
const PIECE_BYTES: u64 = 512 << 10;
/// What a value takes beside its text and its column's name.
const VALUE_BYTES: u64 = 24;
/// Items that wait for a slow reader.
const EVENTS_IN_FLIGHT: usize = 2;
/// How long a failure waits for a slow reader.
const FAREWELL: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    fn transfer_of(events: Vec<Event<u8>>) -> Transfer<u8> {
        let (sender, receiver) = channel();
        for event in events {
            sender.try_send(event).expect("room for the test's events");
        }
        Transfer::new(
            receiver,
            AbortOnDropHandle::new(tokio::spawn(async {})),
            Stop::after(Duration::from_secs(600)),
        )
    }

    #[test]
    fn an_item_is_small_however_wide_its_rows_are() {
        use arrow::array::{ArrayRef, Int64Array, StringArray};

        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..10_000));
        let batch = |columns: usize, column: &ArrayRef| {
            let named = (0..columns).map(|n| (format!("column_{n:04}"), Arc::clone(column)));
            RecordBatch::try_from_iter(named).expect("a batch")
        };
        assert_eq!(piece_rows(&batch(1, &numbers), 0), PIECE_ROWS);
        assert_eq!(piece_rows(&batch(1, &numbers), 9_990), 10);
        let wide = piece_rows(&batch(1_600, &numbers), 0) as u64;
        assert!((1..=PIECE_BYTES / (1_600 * 24)).contains(&wide), "{wide}");
        let text = "x".repeat(1 << 20);
        let texts: ArrayRef = Arc::new(StringArray::from_iter_values([&text, &text]));
        assert_eq!(piece_rows(&batch(1, &texts), 0), 1);
    }

    #[tokio::test]
    async fn an_end_closes_and_its_absence_is_an_error() {
        let whole: Vec<_> = transfer_of(vec![Event::Item(1), Event::End])
            .collect()
            .await;
        assert_eq!(whole, [Ok(1)]);
        let cut: Vec<_> = transfer_of(vec![Event::Item(1)]).collect().await;
        assert_eq!(cut, [Ok(1), Err(broken())]);
        let failed: Vec<_> =
            transfer_of(vec![Event::Failed(QueryError::Cancelled), Event::Item(1)])
                .collect()
                .await;
        assert_eq!(failed, [Err(QueryError::Cancelled)]);
    }

    #[tokio::test]
    async fn a_failure_before_the_head_is_the_whole_answer() {
        let mut transfer = transfer_of(vec![Event::Failed(QueryError::Cancelled)]);
        assert_eq!(
            transfer.head().await.expect_err("a failure"),
            QueryError::Cancelled
        );
        let mut transfer = transfer_of(Vec::new());
        assert_eq!(transfer.head().await.expect_err("nothing"), broken());
    }
}
