//! A running secondary: follows its primary's log and answers SQL from what it holds, whether the
//! primary can be reached or not, and even when its own log takes nothing more. Must never write a
//! byte to the log that the primary did not send.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use tracing::info;

use crate::compaction::Compaction;
use crate::conf;
use crate::data_dir::DataDir;
use crate::error::StartError;
use crate::memory;
use crate::node::{SecondaryNode, Who};
use crate::parts::{blocking, opening, query_config, report, step};
use crate::slot::Slot;

/// A secondary that follows.
pub struct Secondary {
    node: Arc<SecondaryNode>,
    http: Option<query::HttpServer>,
    data_dir: DataDir,
}

impl Secondary {
    /// Opens the local log if there is one, follows the primary, compacts what comes, answers HTTP.
    /// Needs a tokio runtime. `identity` stands in for the files of `replication.certs`.
    ///
    /// # Errors
    /// When a part cannot start. A primary that cannot be reached is no error.
    pub async fn start(
        node: &conf::Node,
        conf: &conf::Secondary,
        identity: Option<replica::Identity>,
    ) -> Result<Self, StartError> {
        crate::metrics::install();
        // It has no MQTT workers, and its segments are as long as the primary says.
        let budget = memory::share_out(node, 0, Some(&conf.http), u64::MAX)?;
        let data_dir = DataDir::open(&node.data_dir)?;
        let identity = match identity {
            Some(identity) => identity,
            None => replica::Identity::load(&conf.certs)?,
        };
        let log_config = wal::FollowerConfig {
            reserve_disk: conf.storage.reserve_disk,
        };
        let existing = open_existing(data_dir.path(), &log_config).await?;
        let id = data_dir.node_id().to_owned();
        let config = replica::FollowConfig::new(&conf.upstream, &node.name, &id);
        let open = opener(data_dir.path().to_owned(), log_config);
        let downstream = replica::Downstream::start(config, identity, existing, open);
        let compaction = Compaction::new(conf.storage.compaction_rate);
        compaction.start_when_there(downstream.log());
        let who = Who {
            name: node.name.clone(),
            id,
            started: Instant::now(),
        };
        let node = Arc::new(SecondaryNode {
            who,
            upstream: conf.upstream.clone(),
            log: downstream.log(),
            compaction,
            downstream: Slot::empty(),
        });
        node.downstream.put(downstream);
        let asked = Arc::clone(&node);
        let config = query_config(&conf.http, budget.queries);
        let http = query::HttpServer::start(config, asked);
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

    /// Ends compaction, puts what has been received on disk, says goodbye, and ends.
    pub async fn stop(self) {
        step("compaction", self.node.compaction.stop()).await;
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

async fn open_existing(
    data_dir: &Path,
    config: &wal::FollowerConfig,
) -> Result<Option<wal::Follower>, wal::WalError> {
    let (data_dir, config) = (data_dir.to_owned(), config.clone());
    blocking(move || {
        let Some(log) = wal::find_log(&wal::OsDisk, &data_dir)? else {
            return Ok(None);
        };
        // The files say which epoch they are of; the first one is for a log that has none yet.
        open_log(&data_dir, log, wal::Epoch(1), &config).map(Some)
    })
    .await
}

fn opener(data_dir: PathBuf, config: wal::FollowerConfig) -> replica::OpenLog {
    Box::new(move |log, epoch| open_log(&data_dir, log, epoch, &config))
}

fn open_log(
    data_dir: &Path,
    log: wal::LogId,
    epoch: wal::Epoch,
    config: &wal::FollowerConfig,
) -> Result<wal::Follower, wal::WalError> {
    let begun = opening(data_dir);
    let (follower, recovery) =
        wal::open_follower(wal::OsDisk::new(), data_dir, log, epoch, config)?;
    report(follower.log(), &recovery, begun);
    Ok(follower)
}
