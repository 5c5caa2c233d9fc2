//! Tasks that are begun again should they panic, and what is told of those that did. Must never keep
//! one running that its owner has dropped.

use std::collections::HashMap;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::{error, warn};
use wal::{TaskEnd, Tasks};

/// A task that is begun again should it panic, until it returns or this is dropped.
#[derive(Debug)]
pub(crate) struct Restarted(JoinHandle<()>);

impl Restarted {
    /// Runs what `make` makes. Needs a tokio runtime.
    pub(crate) fn start<F: Future<Output = ()> + Send + 'static>(
        tasks: &Tasks,
        name: &'static str,
        make: impl FnMut() -> F + Send + 'static,
    ) -> Self {
        let tasks = tasks.clone();
        Self(tokio::spawn(async move {
            tasks.keep(name, make, tokio::time::sleep).await;
        }))
    }

    /// Waits until it has returned.
    pub(crate) async fn ended(mut self) {
        // It has caught every panic.
        let _ = (&mut self.0).await;
    }
}

impl Drop for Restarted {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Why a node is not ready: a task that does not run, or not long enough again.
pub(crate) fn down(tasks: &Tasks) -> Option<String> {
    let down = tasks.ended().into_iter().find(|end| end.is_down)?;
    let TaskEnd {
        task, ends, reason, ..
    } = down;
    let what = if down.is_vital {
        "the node ends"
    } else {
        "it is begun again"
    };
    Some(format!(
        "the task {task:?} has ended ({ends} times so far): {reason}; {what}"
    ))
}

/// Returns once a task has ended that the node cannot do without.
pub(crate) async fn vital_end(tasks: &Tasks) -> String {
    let mut ends = tasks.ends();
    loop {
        ends.borrow_and_update();
        if let Some(end) = tasks.ended().into_iter().find(|end| end.is_vital) {
            return format!("the task {:?} has ended: {}", end.task, end.reason);
        }
        if ends.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Says in the log which tasks have ended.
#[derive(Debug)]
pub(crate) struct TaskTeller {
    tasks: Tasks,
    ends: watch::Receiver<u64>,
    told: HashMap<String, u64>,
}

impl TaskTeller {
    pub(crate) fn of(tasks: &Tasks) -> Self {
        let mut ends = tasks.ends();
        ends.mark_changed();
        Self {
            tasks: tasks.clone(),
            ends,
            told: HashMap::new(),
        }
    }

    /// Tells of every end, for ever.
    pub(crate) async fn run(&mut self) {
        while self.ends.changed().await.is_ok() {
            for end in self.news() {
                if end.is_vital {
                    error!(task = %end.task, ends = end.ends, reason = %end.reason,
                        "a task has ended that this node cannot do without");
                } else {
                    warn!(task = %end.task, ends = end.ends, reason = %end.reason,
                        "a task has ended that should not have; it is begun again");
                }
            }
        }
        std::future::pending::<()>().await;
    }

    fn news(&mut self) -> Vec<TaskEnd> {
        let ended = self.tasks.ended().into_iter();
        let told = &mut self.told;
        ended
            .filter(|end| told.insert(end.task.clone(), end.ends) != Some(end.ends))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_end_is_told_once_and_what_is_vital_ends_the_node() {
        let tasks = Tasks::default();
        let mut teller = TaskTeller::of(&tasks);
        assert_eq!(down(&tasks), None);
        let kept = Restarted::start(&tasks, "a", std::future::pending::<()>);
        tokio::task::yield_now().await;
        tasks.fail("a");
        tasks.ends().wait_for(|ends| *ends == 1).await.unwrap();
        let news: Vec<_> = teller.news().into_iter().map(|end| end.task).collect();
        assert_eq!(news, ["a"]);
        assert!(teller.news().is_empty());
        assert!(down(&tasks).unwrap().contains("it is begun again"));
        drop(kept);
        drop(tasks.vital("b"));
        assert!(vital_end(&tasks).await.contains("\"b\" has ended"));
    }
}
