//! What it costs that our magics look at each cell: the look alone, and round trips of a cell that is looked into beside
//! those of one that is not, in turns.
//!
//! A cell without a `%` is not looked into: that byte is what is looked for.

use std::hint::black_box;

use nb::magics::{Front, Registry, Setting};
use serde_json::{Value, json};

use crate::codecs::nanoseconds;
use crate::paths::Servers;
use crate::report;
use crate::table::{median, quantile, short};

/// Characters of a cell.
const SIZES: [usize; 2] = [100, 10_000];

const CALLS: usize = 2_000;
const ROUNDS: usize = 9;
const TRIPS: usize = 400;

/// By way of `v1`.
const V1: usize = 1;

/// Prints both.
pub(crate) async fn measure() {
    report("");
    report("Cells that are not ours: what our looking costs.");
    let registry = Registry::standard(&Setting {
        has_others: true,
        ..Setting::default()
    });
    for size in SIZES {
        for (what, mark) in KINDS {
            let content = content(&cell(mark, size));
            let look = || {
                let code = content.contains(&b'%').then(|| code(&content)).flatten();
                let claim = code.map(|code| registry.claim(&code, Front::IPython));
                assert!(black_box(claim).flatten().is_none());
            };
            let ns = nanoseconds(CALLS, || (), |()| look());
            report(&format!(
                "{:<44}{:>10}",
                format!("the look, {what}, {size} B, ns"),
                short(ns)
            ));
        }
    }
    let servers = Servers::start();
    let mut client = servers.connect(V1, "looking").await;
    for size in SIZES {
        let cells = KINDS.map(|(_, mark)| cell(mark, size));
        let mut rounds = [Vec::new(), Vec::new()];
        for round in 0..ROUNDS {
            let mut replied = [Vec::new(), Vec::new()];
            for trip in 0..2 * TRIPS {
                let turn = (trip + round) % 2;
                let outcome = client.run(&cells[turn]).await;
                replied[turn].push(outcome.replied.as_secs_f64() * 1e6);
            }
            for (all, one) in rounds.iter_mut().zip(replied) {
                all.push(median(one));
            }
        }
        let ratios: Vec<f64> = rounds[1]
            .iter()
            .zip(&rounds[0])
            .map(|(with, without)| with / without)
            .collect();
        let [without, with] = rounds.map(median);
        let spread = [0.0, 1.0].map(|share| quantile(ratios.clone(), share));
        report(&format!(
            "{:<44}{:>10}{:>10}{:>7.3}x ({:.3} to {:.3})",
            format!("reply p50, {size} B, without a % and with, us"),
            short(without),
            short(with),
            median(ratios),
            spread[0],
            spread[1],
        ));
    }
}

/// What a cell has, by its name.
const KINDS: [(&str, &str); 2] = [("no % in it", "7"), ("a % in it", "100 % 7")];

fn cell(mark: &str, size: usize) -> String {
    let filler = "total = total + 1\n";
    let mut cell = filler.repeat(size / filler.len());
    cell += mark;
    cell
}

fn content(code: &str) -> Vec<u8> {
    let content = json!({
        "code": code, "silent": false, "store_history": true, "user_expressions": {}, "allow_stdin": true,
        "stop_on_error": true,
    });
    content.to_string().into_bytes()
}

/// As the supervisor reads it.
fn code(content: &[u8]) -> Option<String> {
    let content: Value = serde_json::from_slice(content).ok()?;
    content["code"].as_str().map(str::to_owned)
}
