//! Looks every second whether a node's files are still where it writes them: what goes into files
//! that have been removed is gone with the process. Must never end a node for what cannot be told.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use crate::node::data_dir::Place;
use crate::node::kept::Restarted;
use crate::node::parts::blocking;

/// A task that looks.
#[derive(Debug)]
pub(crate) struct PlaceWatch {
    gone: watch::Receiver<Option<String>>,
    _task: Restarted,
}

impl PlaceWatch {
    /// Looks after the data directory and whatever log is in force. Needs a tokio runtime.
    pub(crate) fn start(
        place: Place,
        logs: watch::Receiver<Option<wal::Log>>,
        tasks: &wal::Tasks,
    ) -> Self {
        let (tell, gone) = watch::channel(None);
        let task = Restarted::start(tasks, "place-watch", move || {
            look(place.clone(), logs.clone(), tell.clone())
        });
        Self { gone, _task: task }
    }

    /// Returns once the files are gone, and says which. Nothing is acknowledged any more then.
    pub(crate) async fn gone(&self) -> String {
        let mut gone = self.gone.clone();
        let reason = gone.wait_for(Option::is_some).await.ok();
        match reason.and_then(|reason| reason.clone()) {
            Some(reason) => reason,
            None => std::future::pending().await,
        }
    }
}

async fn look(
    place: Place,
    logs: watch::Receiver<Option<wal::Log>>,
    tell: watch::Sender<Option<String>>,
) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let (place, log) = (place.clone(), logs.borrow().clone());
        let looked = blocking(move || {
            let checked = place.check().map_err(|error| error.to_string());
            let checked = checked.and_then(|()| match &log {
                Some(log) => log.check_place().map_err(|error| error.to_string()),
                None => Ok(()),
            });
            if let (Err(reason), Some(log)) = (&checked, &log) {
                log.fail(reason);
            }
            checked
        });
        if let Err(reason) = looked.await {
            tell.send_replace(Some(reason));
            return;
        }
    }
}

/// How often it is looked.
const EVERY: Duration = Duration::from_secs(1);
