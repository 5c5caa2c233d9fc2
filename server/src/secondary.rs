//! A running secondary: follows its primary's log and answers SQL from what it holds, whether the
//! primary can be reached or not. Must never write a byte that the primary did not send.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use tracing::info;

use crate::conf;
use crate::data_dir::DataDir;
use crate::error::StartError;
use crate::node::{SecondaryNode, Slot, Who};
use crate::parts::{blocking, failure, query_config, report, step};

/// A secondary that follows.
pub struct Secondary {
    node: Arc<SecondaryNode>,
    http: Option<query::HttpServer>,
    data_dir: DataDir,
}

impl Secondary {
    /// Opens the local log if there is one, follows the primary, answers HTTP. Needs a tokio
    /// runtime. `identity` stands in for the files of `replication.certs`.
    ///
    /// # Errors
    /// When a part cannot start. A primary that cannot be reached is no error.
    pub async fn start(
        node: &conf::Node,
        conf: &conf::Secondary,
        identity: Option<replica::Identity>,
    ) -> Result<Self, StartError> {
        crate::metrics::install();
        let data_dir = DataDir::open(&node.data_dir)?;
        let identity = match identity {
            Some(identity) => identity,
            None => replica::Identity::load(&conf.certs)?,
        };
        let existing = open_existing(data_dir.path()).await?;
        let id = data_dir.node_id().to_owned();
        let config = replica::FollowConfig::new(&conf.upstream, &node.name, &id);
        let open = opener(data_dir.path().to_owned());
        let downstream = replica::Downstream::start(config, identity, existing, open);
        let who = Who {
            name: node.name.clone(),
            id,
            started: Instant::now(),
        };
        let node = Arc::new(SecondaryNode {
            who,
            upstream: conf.upstream.clone(),
            log: downstream.log(),
            downstream: Slot::empty(),
        });
        node.downstream.put(downstream);
        let asked = Arc::clone(&node);
        let http = query::HttpServer::start(query_config(&conf.http), asked);
        let mut secondary = Self {
            node,
            http: None,
            data_dir,
        };
        match http {
            Ok(http) => secondary.http = Some(http),
            Err(error) => {
                secondary.stop().await;
                return Err(error.into());
            }
        }
        secondary.announce();
        Ok(secondary)
    }

    /// Where SQL is asked.
    pub fn http_addr(&self) -> Option<SocketAddr> {
        self.http.as_ref().map(query::HttpServer::local_addr)
    }

    /// Returns the reason once the local log has failed: nothing more will be followed.
    pub async fn failed(&self) -> String {
        let mut logs = self.node.log.clone();
        let log = logs
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|log| log.clone());
        match log {
            Some(log) => failure(&log).await,
            None => std::future::pending().await,
        }
    }

    /// Puts what has been received on disk, says goodbye, and ends.
    pub async fn stop(self) {
        if let Some(downstream) = self.node.downstream.take() {
            step("following", downstream.stop()).await;
        }
        if let Some(http) = self.http {
            step("HTTP", http.stop()).await;
        }
        drop(self.data_dir);
    }

    fn announce(&self) {
        let http = self
            .http_addr()
            .map_or("off".to_owned(), |addr| addr.to_string());
        info!(
            node = %self.node.who.name,
            id = %self.node.who.id,
            upstream = %self.node.upstream,
            %http,
            "the secondary is up"
        );
    }
}

impl fmt::Debug for Secondary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secondary")
            .field("node", &self.node.who)
            .finish_non_exhaustive()
    }
}

async fn open_existing(data_dir: &Path) -> Result<Option<wal::Follower>, wal::WalError> {
    let data_dir = data_dir.to_owned();
    blocking(move || {
        let Some(log) = wal::find_log(&wal::OsDisk, &data_dir)? else {
            return Ok(None);
        };
        // The files say which epoch they are of; the first one is for a log that has none yet.
        open_log(&data_dir, log, wal::Epoch(1)).map(Some)
    })
    .await
}

fn opener(data_dir: PathBuf) -> replica::OpenLog {
    Box::new(move |log, epoch| open_log(&data_dir, log, epoch))
}

fn open_log(
    data_dir: &Path,
    log: wal::LogId,
    epoch: wal::Epoch,
) -> Result<wal::Follower, wal::WalError> {
    let (follower, recovery) = wal::open_follower(wal::OsDisk::new(), data_dir, log, epoch)?;
    report(follower.log(), &recovery);
    Ok(follower)
}
