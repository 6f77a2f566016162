//! A cell that counts for two seconds, and what has to arrive of it. Must not know what happens meanwhile.

/// So far it counts.
const LINES: u32 = 40;

pub(crate) const CELL: &str =
    "import time\nfor i in range(40):\n    print(i, flush=True)\n    time.sleep(0.05)";

/// All that it prints.
pub(crate) fn printed() -> String {
    (0..LINES).map(|n| format!("{n}\n")).collect()
}

/// The numbers in what arrived.
pub(crate) fn numbers(text: &str) -> Vec<u32> {
    let numbers = text.split_whitespace();
    numbers.map(|n| n.parse().unwrap()).collect()
}

/// All numbers in order; before `first` only what was seen already.
pub(crate) fn assert_complete(got: &[u32], first: u32) {
    let unseen: Vec<_> = got.iter().copied().filter(|n| *n >= first).collect();
    assert_eq!(unseen, (first..LINES).collect::<Vec<_>>(), "{got:?}");
    let once = got.windows(2).all(|pair| pair[0] < pair[1]);
    assert!(once, "{got:?}");
}
