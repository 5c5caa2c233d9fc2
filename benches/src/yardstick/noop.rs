//! The do-nothing server: the MQTT framework Headwater is built on, with a handler that returns at
//! once.
//!
//! The most a server on this framework could acknowledge. It stores nothing and never will.

use std::net::{SocketAddr, TcpListener};

use ntex::SharedCfg;
use ntex::time::Seconds;
use ntex_mqtt::{MqttServer, MqttServiceConfig, v3, v5};
use socket2::{Domain, Protocol, Socket, Type};

use crate::error::{BenchError, Context};

/// A connection that fails takes nothing with it.
#[derive(Debug)]
struct Failed;

impl From<()> for Failed {
    fn from((): ()) -> Self {
        Self
    }
}

impl TryFrom<Failed> for v5::PublishAck {
    type Error = Failed;

    fn try_from(error: Failed) -> Result<Self, Self::Error> {
        Err(error)
    }
}

async fn connect_v3(handshake: v3::Handshake) -> Result<v3::HandshakeAck<()>, Failed> {
    Ok(handshake.ack((), false).idle_timeout(Seconds::ZERO))
}

async fn connect_v5(handshake: v5::Handshake) -> Result<v5::HandshakeAck<()>, Failed> {
    Ok(handshake.ack(()))
}

async fn publish_v3(_message: v3::Publish) -> Result<(), Failed> {
    Ok(())
}

async fn publish_v5(message: v5::Publish) -> Result<v5::PublishAck, Failed> {
    Ok(message.ack())
}

/// Listens as the product does.
///
/// # Errors
/// When the address is not on loopback or taken.
pub fn listen(address: SocketAddr) -> Result<TcpListener, BenchError> {
    if !address.ip().is_loopback() {
        return Err(BenchError::Usage(format!(
            "{address} is not a loopback address"
        )));
    }
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )
    .context("open a socket")?;
    socket.set_reuse_address(true).context("set SO_REUSEADDR")?;
    socket
        .bind(&address.into())
        .context(format!("bind {address}"))?;
    socket
        .listen(BACKLOG)
        .context(format!("listen on {address}"))?;
    Ok(TcpListener::from(socket))
}

/// Serves until the process ends.
///
/// # Errors
/// When the server cannot start.
pub fn serve(listener: TcpListener, workers: usize) -> Result<(), BenchError> {
    let config = MqttServiceConfig::new()
        .set_max_size(MAX_PACKET)
        .set_max_receive(u16::MAX)
        .set_max_receive_size(64 << 20)
        .set_connect_timeout(Seconds(30));
    ntex::rt::System::new("noop", ntex::rt::DefaultRuntime).block_on(async move {
        ntex::server::build()
            .listen("mqtt", listener, async |_| {
                MqttServer::new()
                    .v3(v3::MqttServer::new(connect_v3).publish(publish_v3))
                    .v5(v5::MqttServer::new(connect_v5).publish(publish_v5))
            })
            .context("listen")?
            .config("mqtt", SharedCfg::new("MQTT").add(config))
            .workers(workers)
            .maxconn(MAX_CONNECTIONS)
            .disable_signals()
            .run()
            .await
            .context("serve")
    })
}

const BACKLOG: i32 = 4096;

const MAX_PACKET: u32 = 1 << 20;

const MAX_CONNECTIONS: usize = 1_000_000;
