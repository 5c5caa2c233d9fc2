//! A node of either role, for those who do not care which. Must never do more than ask it.

use crate::conf::{Conf, Role};
use crate::node::error::{StartError, StopError};
use crate::node::primary::Primary;
use crate::node::secondary::Secondary;

/// One running node.
#[derive(Debug)]
pub enum Running {
    Primary(Box<Primary>),
    Secondary(Box<Secondary>),
}

impl Running {
    /// Starts what the conf describes. Needs a tokio runtime.
    ///
    /// # Errors
    /// When a part of the node cannot start.
    pub async fn start(conf: &Conf) -> Result<Self, StartError> {
        Ok(match &conf.role {
            Role::Primary(role) => {
                Self::Primary(Box::new(Primary::start(&conf.node, role, None).await?))
            }
            Role::Secondary(role) => {
                Self::Secondary(Box::new(Secondary::start(&conf.node, role, None).await?))
            }
        })
    }

    /// Returns the reason once the node can only end: a primary whose log has failed, a node whose
    /// files have been taken away, and one that has lost a task that it cannot do without. A secondary whose log has failed otherwise has said so and
    /// goes on answering from what it holds.
    pub async fn failed(&self) -> String {
        match self {
            Self::Primary(primary) => primary.failed().await,
            Self::Secondary(secondary) => secondary.failed().await,
        }
    }

    /// Its long-lived tasks, and which of them have ended.
    pub fn tasks(&self) -> &wal::Tasks {
        match self {
            Self::Primary(primary) => primary.tasks(),
            Self::Secondary(secondary) => secondary.tasks(),
        }
    }

    /// Takes up at once what files hold that are taken up while a node runs: its certificates. False
    /// where there is nothing of the kind.
    pub fn reload(&self) -> bool {
        match self {
            Self::Primary(primary) => primary.look_again(),
            Self::Secondary(secondary) => {
                secondary.look_again();
                true
            }
        }
    }

    /// Stops in order; everything acknowledged is on disk afterwards.
    ///
    /// # Errors
    /// When the log failed.
    pub async fn stop(self) -> Result<(), StopError> {
        match self {
            Self::Primary(primary) => primary.stop().await.map(drop),
            Self::Secondary(secondary) => secondary.stop().await,
        }
    }
}
