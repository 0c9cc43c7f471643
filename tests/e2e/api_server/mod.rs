//! The API server is down, stalls, breaks its watches or is restored from a backup.

mod broken_watches;
mod outage;
mod restored_etcd;

use std::fs;

use serde_json::{Value, json};
use support::{Relay, World};

/// A relay to the world's cluster, which the next operator goes by.
fn relayed(world: &mut World) -> Relay {
    let text = fs::read_to_string(&world.kubeconfig).unwrap();
    let mut kubeconfig: Value = serde_json::from_str(&text).unwrap();
    let server = &mut kubeconfig["clusters"][0]["cluster"]["server"];
    let target = server.as_str().unwrap().strip_prefix("https://").unwrap().parse().unwrap();
    let relay = Relay::disconnected(target);
    relay.connect();
    *server = json!(format!("https://{}", relay.address()));
    world.use_kubeconfig(&kubeconfig.to_string());
    relay
}
