//! Simulated sensors: each its own MQTT connection over TCP, QoS 1, a random walk of three values.
//! Must never count more than what the server acknowledged, which is all that a device may rely on.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, Packet, QoS};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{debug, warn};

/// What all devices together saw.
#[derive(Clone, Copy, Debug)]
pub(super) struct Totals {
    pub(super) acknowledged: u64,
}

#[derive(Debug, Default)]
struct Counts {
    sent: AtomicU64,
    acknowledged: AtomicU64,
}

/// Running devices.
pub(super) struct Fleet {
    counts: Arc<Counts>,
    stop: watch::Sender<bool>,
    publishers: JoinSet<()>,
    receivers: JoinSet<()>,
    clients: Vec<AsyncClient>,
}

impl Fleet {
    /// Connects `devices` that publish `rate` messages per second together.
    pub(super) fn start(devices: u32, rate: u32, broker: SocketAddr) -> Self {
        let (stop, stopped) = watch::channel(false);
        let mut fleet = Self {
            counts: Arc::default(),
            stop,
            publishers: JoinSet::new(),
            receivers: JoinSet::new(),
            clients: Vec::new(),
        };
        let pace = f64::from(rate) / f64::from(devices);
        for number in 0..devices {
            let name = format!("device-{:04}", number + 1);
            let site = SITES[number as usize % SITES.len()];
            let options = MqttOptions::new(&name, broker.ip().to_string(), broker.port());
            let (client, events) = AsyncClient::new(options, QUEUE);
            let device = Device {
                topic: format!("sensors/{site}/{name}"),
                client: client.clone(),
                counts: Arc::clone(&fleet.counts),
                pace,
            };
            fleet.clients.push(client);
            fleet.publishers.spawn(device.publish(stopped.clone()));
            fleet
                .receivers
                .spawn(receive(events, Arc::clone(&fleet.counts)));
        }
        fleet
    }

    /// Publishes no more, waits for the acknowledgements still owed, and disconnects.
    pub(super) async fn stop(&mut self) -> Totals {
        self.stop.send_replace(true);
        while self.publishers.join_next().await.is_some() {}
        let sent = self.counts.sent.load(Ordering::Acquire);
        let owed = async {
            while self.counts.acknowledged.load(Ordering::Acquire) < sent {
                tokio::time::sleep(GLANCE).await;
            }
        };
        if tokio::time::timeout(PATIENCE, owed).await.is_err() {
            warn!(sent, "not every message was acknowledged");
        }
        let acknowledged = self.counts.acknowledged.load(Ordering::Acquire);
        for client in &self.clients {
            // A device that has lost its connection cannot say goodbye.
            let _ = client.try_disconnect();
        }
        let leaving = async { while self.receivers.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(GLANCE, leaving).await;
        self.receivers.abort_all();
        Totals { acknowledged }
    }
}

struct Device {
    topic: String,
    client: AsyncClient,
    counts: Arc<Counts>,
    /// Messages per second.
    pace: f64,
}

impl Device {
    async fn publish(self, mut stopped: watch::Receiver<bool>) {
        let begun = Instant::now();
        let mut walk = Walk::begin();
        let mut published = 0_u64;
        loop {
            // By the clock from the start, so that a slow moment is made up for.
            let due = Duration::from_secs_f64((published as f64 + 1.0) / self.pace);
            let turn = async {
                tokio::time::sleep_until(begun + due).await;
                let payload = walk.step();
                let publish = self
                    .client
                    .publish(&self.topic, QoS::AtLeastOnce, false, payload);
                publish.await
            };
            tokio::select! {
                biased;
                _ = stopped.changed() => return,
                sent = turn => match sent {
                    Ok(()) => published += 1,
                    Err(error) => {
                        warn!(topic = self.topic, %error, "a device has given up");
                        return;
                    }
                }
            }
            self.counts.sent.fetch_add(1, Ordering::Release);
        }
    }
}

/// Drives one connection and counts its acknowledgements.
async fn receive(mut events: EventLoop, counts: Arc<Counts>) {
    loop {
        match events.poll().await {
            Ok(Event::Incoming(Packet::PubAck(_))) => {
                counts.acknowledged.fetch_add(1, Ordering::Release);
            }
            Ok(Event::Outgoing(rumqttc::Outgoing::Disconnect)) => return,
            Ok(_) => {}
            Err(error) => {
                debug!(%error, "a device has lost its connection");
                tokio::time::sleep(RECONNECT).await;
            }
        }
    }
}

/// Values that wander a little with every message.
struct Walk {
    temperature: f64,
    humidity: f64,
    battery: f64,
}

impl Walk {
    fn begin() -> Self {
        Self {
            temperature: 15.0 + fastrand::f64() * 10.0,
            humidity: 35.0 + fastrand::f64() * 30.0,
            battery: 3.3 + fastrand::f64() * 0.9,
        }
    }

    fn step(&mut self) -> String {
        let wander = |value: f64, reach: f64, low: f64, high: f64| {
            (value + (fastrand::f64() - 0.5) * reach).clamp(low, high)
        };
        self.temperature = wander(self.temperature, 0.4, -30.0, 60.0);
        self.humidity = wander(self.humidity, 1.0, 0.0, 100.0);
        self.battery = (self.battery - fastrand::f64() * 1e-5).max(2.5);
        format!(
            "{{\"temperature\": {:.2}, \"humidity\": {:.1}, \"battery\": {:.3}}}",
            self.temperature, self.humidity, self.battery
        )
    }
}

const SITES: [&str; 3] = ["berlin", "lisbon", "oslo"];

/// Messages of one device that may wait for its connection.
const QUEUE: usize = 64;

const RECONNECT: Duration = Duration::from_millis(500);

/// How long acknowledgements may stay out after the last message.
const PATIENCE: Duration = Duration::from_secs(10);

const GLANCE: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_is_a_json_object_of_floats() {
        let mut walk = Walk::begin();
        for _ in 0..1000 {
            let message: serde_json::Value = serde_json::from_str(&walk.step()).unwrap();
            assert!(message["temperature"].is_f64() && message["battery"].is_f64());
        }
    }
}
