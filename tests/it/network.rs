//! Packets that vanish between a client and what serves it: nobody closes anything, and nobody is told.

mod half_open;
mod namespace;

use std::fs;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::time::{sleep, sleep_until, timeout};

use self::namespace::{HERE, Network, ran_inside};
use crate::driver::Driver;
use crate::gateway::{self, project};
use crate::up::Up;

/// How long nothing passes: longer than jupyter_server, nb and a person who looks wait for a sign of life.
const CUT: Duration = Duration::from_secs(150);

/// Until pings that are not answered have ended a connection: three silent times and a broken one, of 20 s each, one
/// more while buffers fill, and a goodbye that does not go.
const NOTICED_WITHIN: Duration = Duration::from_secs(150);

/// How many connections the one kernel of an `up` has.
async fn connections(up: &Up) -> u64 {
    let (_, token) = up.lab();
    let (_, kernels) = gateway::page(up.gateway, token, "GET", "/api/kernels", "").await;
    let kernels: Value = serde_json::from_str(&kernels).unwrap();
    kernels[0]["connections"].as_u64().unwrap()
}

/// An acknowledgement means that the browser has it, so it gets what vanished on its way to it.
#[tokio::test]
async fn the_page_has_everything_once_after_minutes_in_which_packets_vanished() {
    const NAME: &str =
        "network::the_page_has_everything_once_after_minutes_in_which_packets_vanished";
    if ran_inside(NAME).await {
        return;
    }
    let network = Network::new().await;
    let folder = tempfile::tempdir().unwrap();
    let data = ("NB_DATA_DIR", project("target/nb-data"));
    let up = Up::start_at(HERE, folder.path(), &[data]).await;
    let shots = project("target/screenshots");
    let arguments = [up.url.as_str(), shots.to_str().unwrap()];
    let mut browser = Driver::node(network.far_program("node"), "lab_dropped.mjs", &arguments);
    browser.says("cut").await;
    network.cut().await;
    let end = Instant::now() + CUT;
    let notebooks = folder.path().join("notebooks");
    fs::write(notebooks.join("first-ends"), "").unwrap();
    let noticed = async {
        while connections(&up).await > 0 {
            sleep(Duration::from_millis(100)).await;
        }
    };
    let noticed = timeout(NOTICED_WITHIN, noticed).await;
    noticed.expect("nobody notices that the browser is silent");
    sleep_until(end.into()).await;
    network.heal().await;
    browser.goes_on().await;
    browser.says("back").await;
    fs::write(notebooks.join("second-ends"), "").unwrap();
    browser.ends().await;
    up.interrupt().await;
}
