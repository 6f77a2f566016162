#![no_main]
//! A cell's source: whose it is, its words, what is told of it.

use libfuzzer_sys::fuzz_target;
use nb::magics::{Front, Registry, Setting};

fuzz_target!(|data: &[u8]| {
    let [at, data @ ..] = data else { return };
    let Ok(source) = str::from_utf8(data) else {
        return;
    };
    let registry = Registry::standard(&Setting {
        has_others: true,
        ..Setting::default()
    });
    for front in [Front::IPython, Front::Plain] {
        if let Some(claim) = registry.claim(source, front) {
            let _ = claim.call.words();
        }
    }
    let _ = registry.inspect(source, usize::from(*at));
    if let Some(body) = registry.body(source, usize::from(*at)) {
        assert!(source.ends_with(&body.source) && body.cursor <= body.source.chars().count());
    }
});
