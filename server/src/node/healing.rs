//! Opening a primary's log where its newest segment has blocks that cannot be read: waits for a
//! secondary that has them, answering meanwhile that it does, and opens the log once they are in
//! their place. Where it may have lost its end, it asks its secondaries for that first (`asking`).
//! Must never open it without what is known to be missing in it, nor take a message before.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use query::{Node, QueryStats, ReplicationRow};
use tokio::time::timeout;
use tracing::{info, warn};
use wal::Unreadable;

use crate::api::status::Status;
use crate::conf;
use crate::http::{HttpNode, HttpServer};
use crate::node::answers::json;
use crate::node::error::StartError;
use crate::node::memory::Budget;
use crate::node::parts::{Own, blocking, http_config, listen_config};
use crate::report::who::{PRIMARY, Who};

/// What a primary is opened with.
pub(crate) struct Opening<'a> {
    pub(crate) who: &'a Who,
    pub(crate) data_dir: &'a Path,
    pub(crate) conf: &'a conf::Primary,
    pub(crate) budget: &'a Budget,
    pub(crate) log: wal::Config,
    /// Stands in for the files of `replication.certs`.
    pub(crate) identity: Option<&'a replica::Identity>,
}

impl Opening<'_> {
    /// Opens the log; returns only once it can be, or for a reason that no secondary can help with.
    pub(crate) async fn open(&self) -> Result<(wal::Committer, wal::Recovery), StartError> {
        let (mut asked, mut cut) = (false, None);
        loop {
            if let (Some(shipping), false) = (&self.conf.replication, asked) {
                (asked, cut) = self.ask_for_end(shipping).await?;
            }
            let error = match open_log(self.data_dir, self.log.clone()).await {
                Ok((log, mut recovery)) => {
                    recovery.torn_tail = recovery.torn_tail.or(cut);
                    return Ok((log, recovery));
                }
                Err(error) => error,
            };
            // Where nobody can connect, nobody can help.
            let Some(shipping) = &self.conf.replication else {
                return Err(error.into());
            };
            match unreadable(self.data_dir).await {
                Ok(Some(lacking)) => self.heal(shipping, lacking).await?,
                _ => return Err(error.into()),
            }
        }
    }

    /// Returns once the log can be read.
    async fn heal(&self, shipping: &conf::Shipping, lacking: Unreadable) -> Result<(), StartError> {
        let reason = words(&lacking, self.data_dir);
        let lacks = lacking.to.0.saturating_sub(lacking.from.lsn.0);
        let (borrower, http) = self.wait_aloud(shipping, &reason, lacks)?;
        warn!(
            file = %lacking.file.display(),
            offset = lacking.offset,
            replication = %borrower.local_addr(),
            http = %http.as_ref().map_or("off".to_owned(), |http| http.local_addr().to_string()),
            "the log is NOT open: {reason}"
        );
        let healed = fetch(borrower, self.data_dir, lacking).await;
        if let Some(http) = http {
            http.stop().await;
        }
        healed
    }
}

impl Opening<'_> {
    /// Listens where secondaries connect, and says over HTTP why nothing is taken yet.
    pub(super) fn wait_aloud(
        &self,
        shipping: &conf::Shipping,
        reason: &str,
        lacks: u64,
    ) -> Result<(replica::Borrower, Option<HttpServer>), StartError> {
        let identity = match self.identity {
            Some(identity) => identity.clone(),
            None => replica::Identity::load(&shipping.certs)?,
        };
        let config = listen_config(
            &shipping.serving,
            self.who.hop(),
            Vec::new(),
            self.budget,
            &self.log.tasks,
        );
        let borrower = replica::Borrower::bind(config, &identity)?;
        let waiting = Arc::new(Waiting {
            who: self.who.clone(),
            reason: reason.to_owned(),
            lacks,
            identity,
        });
        let Some(http) = &self.conf.http else {
            return Ok((borrower, None));
        };
        let own = Own {
            name: &self.who.name,
            advertised: self.conf.advertise_http.as_deref(),
            data_dir: self.data_dir,
            certs: Some(&shipping.certs),
        };
        let config = http_config(http, self.budget, &self.log.tasks, own);
        let http = HttpServer::start(&config, waiting)?;
        Ok((borrower, Some(http)))
    }
}

/// Asks who connects until nothing is unreadable any more.
async fn fetch(
    mut borrower: replica::Borrower,
    data_dir: &Path,
    mut lacking: Unreadable,
) -> Result<(), StartError> {
    let begun = Instant::now();
    loop {
        let asked = timeout(TOLD_EVERY, borrower.blocks(&lacking)).await;
        let for_s = begun.elapsed().as_secs();
        let Ok((blocks, peer)) = asked else {
            warn!(for_s, "still waiting: {}", words(&lacking, data_dir));
            continue;
        };
        let (bytes, path) = (blocks.len(), data_dir.to_owned());
        let taken = blocking(move || wal::take_unreadable(&wal::OsDisk::new(), &path, &blocks));
        match taken.await {
            Ok(None) => {
                info!(file = %lacking.file.display(), %peer, bytes, for_s,
                    "the blocks that could not be read have come from a secondary and are in their \
                     place: the log is opened");
                borrower.close().await;
                return Ok(());
            }
            Ok(Some(left)) => {
                warn!(%peer, bytes, "a part has come; {}", words(&left, data_dir));
                lacking = left;
            }
            Err(error @ wal::WalError::Io { .. }) => return Err(error.into()),
            Err(error) => warn!(%peer, bytes, %error, "the blocks of a secondary do not fit"),
        }
    }
}

async fn open_log(
    data_dir: &Path,
    config: wal::Config,
) -> Result<(wal::Committer, wal::Recovery), wal::WalError> {
    let data_dir = data_dir.to_owned();
    blocking(move || wal::open_primary(wal::OsDisk::new(), &data_dir, &config)).await
}

async fn unreadable(data_dir: &Path) -> Result<Option<Unreadable>, wal::WalError> {
    let data_dir = data_dir.to_owned();
    blocking(move || wal::find_unreadable(&wal::OsDisk::new(), &data_dir)).await
}

fn words(lacking: &Unreadable, data_dir: &Path) -> String {
    let dir = data_dir.display();
    let name = lacking.file.file_name().map(PathBuf::from);
    format!(
        "blocks in {} cannot be read from offset {} (LSN {}) on, and acknowledged ones up to LSN {} \
         follow: nothing is taken or answered until a secondary that has them connects; without \
         one, stop this node and see: headwater repair {dir}, and what can be given up: \
         headwater open {dir}",
        name.unwrap_or_default().display(),
        lacking.offset,
        lacking.from.lsn,
        lacking.to,
    )
}

/// A primary that waits: what HTTP asks of it.
struct Waiting {
    who: Who,
    reason: String,
    /// Rows and control blocks between the first that cannot be read and the log's end.
    lacks: u64,
    identity: replica::Identity,
}

impl Node for Waiting {
    fn log(&self) -> Option<wal::Log> {
        None
    }

    fn lag_ms(&self) -> Option<u64> {
        None
    }

    fn replication(&self) -> Vec<ReplicationRow> {
        Vec::new()
    }
}

impl HttpNode for Waiting {
    fn role(&self) -> &'static str {
        PRIMARY
    }

    fn primary_address(&self) -> Option<String> {
        None
    }

    fn not_ready(&self) -> Option<String> {
        Some(self.reason.clone())
    }

    fn status(&self, _queries: &QueryStats) -> serde_json::Value {
        json(&Status {
            not_ready: self.not_ready(),
            certificate: Some(self.identity.certificate()),
            ..self.who.status(PRIMARY)
        })
    }

    fn metrics(&self, _queries: &QueryStats) -> String {
        let mut text = self.who.metrics(PRIMARY);
        text.gauge(
            "headwater_log_unreadable_lsns",
            "Rows and control blocks from the first that cannot be read to the end of the log, \
             which is not open until a secondary has given them back.",
            self.lacks,
        );
        text.finish()
    }

    fn forget(&self, _name_or_id: &str) -> Option<replica::Forgotten> {
        None
    }
}

/// How often it is said that nobody has come.
const TOLD_EVERY: Duration = Duration::from_secs(600);
