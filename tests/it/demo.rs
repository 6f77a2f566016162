//! `docs/demo.ipynb`, which uses everything that nb exists for: in a browser, with what its text says is to be done meanwhile.

use std::fs;

use crate::clients::node;
use crate::cutter::Cutter;
use crate::gateway::project;
use crate::up::{Up, install};

#[tokio::test]
async fn the_demo_does_what_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path();
    let nb = home.join("nb");
    install(&nb);
    fs::create_dir(home.join("notebooks")).unwrap();
    fs::copy(
        project("docs/demo.ipynb"),
        home.join("notebooks/demo.ipynb"),
    )
    .unwrap();
    let places = [
        ("NB_DATA_DIR", project("target/nb-data")),
        ("TMPDIR", home.to_owned()),
    ];
    let up = Up::start_of(&nb, home, &places).await;
    let (port, token) = up.lab();
    let cutter = Cutter::start(port).await;
    let url = format!("http://127.0.0.1:{}/lab?token={token}", cutter.port);
    let (shots, control) = (project("target/screenshots"), cutter.control.to_string());
    let arguments = [
        &url,
        shots.to_str().unwrap(),
        &control,
        nb.to_str().unwrap(),
    ];
    node("demo.mjs", &arguments).await;
    let said = up.interrupt().await;
    assert_eq!(said.matches("it is started again").count(), 2, "{said}");
}
