//! Against a plain list, with real files and the real writer.

mod found;

use super::super::{Kind, Mark, Route};
use super::*;
use crate::protocol::message::{Channel, Message};
use proptest::prelude::*;
use std::fs;
use std::thread;
use tempfile::TempDir;

const BOUNDS: Bounds = Bounds {
    bytes_max: 1 << 20,
    memory_bytes_max: 1 << 20,
    user_bytes_max: 1 << 30,
    retention: Duration::from_secs(3600),
};

fn about() -> About {
    About {
        owner: "ada".to_owned(),
        kernel: PathBuf::from("/nowhere"),
    }
}

fn open(root: &TempDir, bounds: Bounds, last: Seq) -> DiskJournal {
    let mut journal = DiskJournal::new(root.path().join("k"), about(), bounds, last).unwrap();
    until(|| {
        journal.collect();
        !journal.is_unprepared()
    });
    journal
}

fn entry(text: &str, size: usize) -> Entry {
    let message = Message {
        header: Bytes::from_static(br#"{"msg_type":"stream","msg_id":"2","session":"k"}"#),
        metadata: text.to_owned().into(),
        content: vec![b'x'; size].into(),
        ..Message::empty()
    };
    Entry::new(Channel::Iopub, message, Route::Everyone, Mark::Plain)
}

fn answering(request: &str, size: usize) -> Entry {
    let message = Message {
        header: Bytes::from_static(br#"{"msg_type":"stream","msg_id":"2","session":"k"}"#),
        parent_header: format!(r#"{{"msg_id":"{request}","session":"s"}}"#).into(),
        metadata: "x".into(),
        content: vec![b'x'; size].into(),
        ..Message::empty()
    };
    Entry::new(Channel::Iopub, message, Route::Everyone, Mark::Plain)
}

fn away(after: Seq) -> Needs {
    Needs {
        after,
        away_after: Some(after),
        cells_after: Seq::MAX,
    }
}

/// Everything that follows `after`.
async fn read(journal: &mut DiskJournal, mut after: Seq) -> Vec<(Seq, String)> {
    let mut all = Vec::new();
    loop {
        match journal.read(after, 3000) {
            Read::Loading(loading) => loading.await,
            Read::Ready(batch) if batch.is_empty() => return all,
            Read::Ready(batch) => {
                for (seq, entry) in batch {
                    assert!(seq > after, "{seq} after {after}");
                    after = seq;
                    let text = entry.message().1.metadata;
                    all.push((seq, String::from_utf8(text.to_vec()).unwrap()));
                }
            }
        }
    }
}

fn until(mut what: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !what() {
        assert!(begun.elapsed() < Duration::from_secs(20), "in time");
        thread::yield_now();
    }
}

fn saved(journal: &mut DiskJournal) {
    until(|| {
        journal.keep();
        journal.tail.is_empty() && journal.in_flight.is_empty()
    });
}

fn fill(journal: &mut DiskJournal, seqs: std::ops::RangeInclusive<Seq>) {
    for seq in seqs {
        assert_eq!(journal.append(entry(&seq.to_string(), 1000)), seq);
    }
    saved(journal);
}

fn dropped(journal: &mut DiskJournal) -> Vec<Seq> {
    std::iter::from_fn(|| Some(journal.drop_oldest()?.seq)).collect()
}

fn texts(range: std::ops::RangeInclusive<Seq>) -> Vec<(Seq, String)> {
    range.map(|seq| (seq, seq.to_string())).collect()
}

#[tokio::test]
async fn whoever_is_away_gets_it_from_files_also_from_those_of_a_supervisor_that_died() {
    let root = tempfile::tempdir().unwrap();
    let mut journal = open(&root, BOUNDS, 0);
    journal.release(away(2));
    for seq in 1..=300u64 {
        assert_eq!(journal.append(entry(&seq.to_string(), 1000)), seq);
    }
    saved(&mut journal);
    assert_eq!(read(&mut journal, 2).await, texts(3..=300));
    assert!(journal.segments.len() > 2);
    // Its end is torn.
    let number = journal.segments.back().unwrap().number;
    drop(journal);
    let path = folder::path(&root.path().join("k"), number);
    let length = fs::metadata(&path).unwrap().len();
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(length - 500).unwrap();
    let mut journal = open(&root, BOUNDS, 350);
    journal.release(away(100));
    assert_eq!(journal.append(entry("351", 10)), 351);
    saved(&mut journal);
    let mut expected = texts(101..=299);
    expected.push((351, "351".to_owned()));
    assert_eq!(read(&mut journal, 100).await, expected);
}

#[tokio::test]
async fn much_is_read_from_many_segments() {
    const ENTRIES: Seq = 30_000;
    let root = tempfile::tempdir().unwrap();
    let bounds = Bounds {
        bytes_max: 1 << 30,
        memory_bytes_max: 1 << 27,
        ..BOUNDS
    };
    let mut journal = open(&root, bounds, 0);
    journal.release(away(0));
    for seq in 1..=ENTRIES {
        journal.append(entry(&seq.to_string(), 1000));
        assert!(journal.drop_oldest().is_none());
        if seq % 700 == 0 {
            journal.keep();
        }
    }
    saved(&mut journal);
    assert!(journal.segments.len() > 1);
    let got = read(&mut journal, 0).await;
    let other = got.iter().zip(1..).find(|((seq, _), n)| seq != n);
    assert!(other.is_none(), "{other:?}");
    assert_eq!(got.len() as Seq, ENTRIES);
}

/// It may share what it was read into with something larger still.
#[tokio::test]
async fn a_large_entry_stays_in_memory_as_long_as_somebody_has_yet_to_get_it() {
    const LARGE: usize = 20_000_000;
    let root = tempfile::tempdir().unwrap();
    let bounds = Bounds {
        bytes_max: 1 << 25,
        memory_bytes_max: 1 << 25,
        ..BOUNDS
    };
    let mut journal = open(&root, bounds, 0);
    journal.append(entry("1", 10));
    journal.append(entry("2", LARGE));
    // Its cell is not done.
    let has = |after| Needs {
        cells_after: 0,
        ..Needs::nothing_up_to(after)
    };
    journal.release(has(1));
    journal.keep();
    assert!(journal.in_flight.is_empty() && journal.tail.bytes() > LARGE);
    journal.release(has(2));
    until(|| {
        journal.keep();
        journal.in_flight.is_empty() && journal.tail.bytes() < LARGE
    });
    assert_eq!(read(&mut journal, 0).await, texts(1..=2));
    assert!(dropped(&mut journal).is_empty());
}

#[tokio::test]
async fn beyond_the_bound_the_oldest_go_by_segments_and_each_is_told() {
    let root = tempfile::tempdir().unwrap();
    let mut journal = open(&root, BOUNDS, 0);
    journal.release(away(0));
    let mut gone = Vec::new();
    for seq in 1..=2000u64 {
        journal.append(entry(&seq.to_string(), 1000));
        saved(&mut journal);
        gone.extend(dropped(&mut journal));
    }
    let until = gone.len() as u64;
    assert!((900..1200).contains(&until), "{until}");
    assert_eq!(gone, (1..=until).collect::<Vec<_>>());
    assert_eq!(read(&mut journal, 0).await, texts(until + 1..=2000));
    let files = fs::read_dir(root.path().join("k")).unwrap();
    let bytes: u64 = files.map(|f| f.unwrap().metadata().unwrap().len()).sum();
    assert!(
        bytes < BOUNDS.bytes_max + SEGMENT_BYTES_MIN + 10_000,
        "{bytes}"
    );
}

#[tokio::test]
async fn a_disk_that_takes_nothing_fills_memory_to_its_bound_and_no_further() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("k");
    let mut journal = open(&root, BOUNDS, 0);
    // As if it were full.
    fs::remove_dir_all(&folder).unwrap();
    journal.release(away(0));
    let mut gone = Vec::new();
    for seq in 1..=6000u64 {
        journal.append(entry(&seq.to_string(), 1000));
        journal.keep();
        gone.extend(dropped(&mut journal));
        let memory = journal.in_flight_bytes + journal.tail.bytes();
        assert!(memory <= BOUNDS.memory_bytes_max + 2000);
    }
    until(|| journal.keep().fault.is_some());
    assert!(gone.len() > 3000, "{}", gone.len());
    fs::create_dir(&folder).unwrap();
    saved(&mut journal);
    assert_eq!(journal.keep().fault, None);
    // All that was not told to be lost.
    let mut expected = texts(1..=6000);
    expected.retain(|(seq, _)| !gone.contains(seq));
    assert_eq!(read(&mut journal, 0).await, expected);
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_gone_or_damaged_is_told_as_lost_and_passed_over() {
    let root = tempfile::tempdir().unwrap();
    let mut journal = open(&root, BOUNDS, 0);
    journal.release(away(0));
    for seq in 1..=500u64 {
        journal.append(entry(&seq.to_string(), 1000));
        saved(&mut journal);
    }
    let numbers: Vec<u64> = journal.segments.iter().map(|s| s.number).collect();
    let folder = root.path().join("k");
    fs::remove_file(folder::path(&folder, numbers[1])).unwrap();
    let damaged = folder::path(&folder, numbers[3]);
    let mut bytes = fs::read(&damaged).unwrap();
    bytes[30_000] ^= 1;
    fs::write(&damaged, bytes).unwrap();
    let got = read(&mut journal, 0).await;
    let gone = dropped(&mut journal);
    let mut both: Vec<Seq> = got
        .iter()
        .map(|(seq, _)| *seq)
        .chain(gone.clone())
        .collect();
    both.sort_unstable();
    both.dedup();
    assert_eq!(both, (1..=500).collect::<Vec<_>>());
    assert!(gone.len() > 50);
    let mut expected = texts(1..=500);
    expected.retain(|(seq, _)| !gone.contains(seq));
    assert_eq!(read(&mut journal, 0).await, expected);
}

#[tokio::test(start_paused = true)]
async fn what_nobody_needs_any_more_goes_after_a_while() {
    let root = tempfile::tempdir().unwrap();
    let mut journal = open(&root, BOUNDS, 0);
    journal.release(away(0));
    for seq in 1..=200u64 {
        journal.append(entry(&seq.to_string(), 1000));
    }
    saved(&mut journal);
    journal.release(Needs::nothing_up_to(200));
    journal.keep();
    assert_eq!(read(&mut journal, 0).await, texts(1..=200));
    tokio::time::advance(BOUNDS.retention).await;
    journal.keep();
    assert!(journal.segments.is_empty());
    let folder = root.path().join("k");
    until(|| fs::read_dir(&folder).unwrap().count() == 1);
    assert!(dropped(&mut journal).is_empty());
}

#[test]
fn journals_of_one_user_keep_to_a_bound_together() {
    let root = tempfile::tempdir().unwrap();
    let other = root.path().join("other");
    about().write(&other).unwrap();
    fs::write(other.join("00000001.segment"), vec![0; 600_000]).unwrap();
    let bounds = Bounds {
        user_bytes_max: 1_000_000,
        ..BOUNDS
    };
    let mut journal = open(&root, bounds, 0);
    journal.release(away(0));
    let mut gone = Vec::new();
    for seq in 1..=800u64 {
        journal.append(entry(&seq.to_string(), 1000));
    }
    saved(&mut journal);
    until(|| {
        journal.weighed = None;
        journal.keep();
        gone.extend(dropped(&mut journal));
        !gone.is_empty()
    });
    assert!(journal.file_bytes() <= 500_000, "{}", journal.file_bytes());
    assert!(journal.file_bytes() > 350_000, "{}", journal.file_bytes());
}

#[tokio::test]
async fn what_goes_from_memory_is_not_the_oldest_while_older_is_on_its_way_to_the_disk() {
    let root = tempfile::tempdir().unwrap();
    let mut journal = open(&root, BOUNDS, 0);
    // As if it were full.
    fs::remove_dir_all(root.path().join("k")).unwrap();
    journal.release(away(0));
    let mut gone = Vec::new();
    for seq in 1..=3000u64 {
        journal.append(entry(&seq.to_string(), 1000));
        journal.keep();
        gone.extend(std::iter::from_fn(|| journal.drop_oldest()));
    }
    let held = read(&mut journal, 0).await;
    assert!(held.iter().any(|(seq, _)| *seq < gone[0].seq));
    assert!(gone.iter().all(|gone| !gone.is_oldest));
    assert_eq!(held.len() + gone.len(), 3000);
}

#[tokio::test]
async fn what_no_file_can_hold_is_told_to_be_gone() {
    let root = tempfile::tempdir().unwrap();
    let mut journal = open(&root, BOUNDS, 0);
    journal.release(away(0));
    for _ in 0..2 {
        journal.append(answering(&"i".repeat(70_000), 100));
    }
    saved(&mut journal);
    assert_eq!(dropped(&mut journal), [1, 2]);
    journal.append(entry("3", 100));
    journal.append(answering(&"i".repeat(70_000), 100));
    journal.append(entry("5", 100));
    saved(&mut journal);
    assert_eq!(dropped(&mut journal), [4]);
    let expected = [3, 5].map(|seq| (seq, seq.to_string()));
    assert_eq!(read(&mut journal, 0).await, expected);
}

#[tokio::test]
async fn a_journal_rests_when_nothing_more_can_be_written() {
    let root = tempfile::tempdir().unwrap();
    let bounds = Bounds {
        memory_bytes_max: 1 << 30,
        ..BOUNDS
    };
    let mut journal = open(&root, bounds, 0);
    journal.release(away(0));
    let message = Message {
        content: vec![0; ENTRY_BYTES_MAX + 1].into(),
        ..Message::empty()
    };
    journal.append(Entry::new(
        Channel::Iopub,
        message,
        Route::Everyone,
        Mark::Plain,
    ));
    journal.append(entry("2", 10));
    assert!(dropped(&mut journal).is_empty());
    assert_ne!(journal.keep().again, Some(Duration::ZERO));
}

async fn attempt(journal: &mut DiskJournal, after: Seq) {
    match journal.read(after, 1000) {
        Read::Loading(loading) => loading.await,
        Read::Ready(batch) => panic!("{} entries are at hand", batch.len()),
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_for_a_moment_stays_and_what_cannot_for_long_is_told_to_be_damaged() {
    let root = tempfile::tempdir().unwrap();
    let mut journal = open(&root, BOUNDS, 0);
    journal.release(away(0));
    fill(&mut journal, 1..=300);
    let path = folder::path(&root.path().join("k"), 1);
    let aside = root.path().join("aside");
    // Longer ago than anybody has patience for.
    for _ in 0..2 {
        fs::rename(&path, &aside).unwrap();
        attempt(&mut journal, 0).await;
        fs::rename(&aside, &path).unwrap();
        assert!(dropped(&mut journal).is_empty());
        tokio::time::advance(Duration::from_secs(60)).await;
    }
    assert_eq!(read(&mut journal, 0).await, texts(1..=300));
    let last = journal.segments[0].last().unwrap();
    fs::remove_file(&path).unwrap();
    assert_eq!(read(&mut journal, 0).await, texts(last + 1..=300));
    let gone: Vec<_> = std::iter::from_fn(|| journal.drop_oldest()).collect();
    assert!(gone.iter().all(|gone| gone.cause == Cause::Damage));
    assert_eq!(gone.len() as Seq, last);
    assert!(journal.damage().unwrap().contains("No such file"));
}

#[tokio::test(start_paused = true)]
async fn a_segment_that_cannot_be_read_is_told_also_after_one_went_that_somebody_was_about_to_read()
{
    let root = tempfile::tempdir().unwrap();
    let mut journal = open(&root, BOUNDS, 0);
    journal.release(away(0));
    fill(&mut journal, 1..=300);
    let (first, second) = (journal.segments[0].number, journal.segments[1].number);
    let after = journal.segments[0].last().unwrap();
    let folder = root.path().join("k");
    let Read::Loading(loading) = journal.read(0, 1000) else {
        panic!("it is at hand");
    };
    journal.delete(0);
    until(|| !folder::path(&folder, first).exists());
    // As if it had been the last attempt.
    loading.await;
    journal.brought.borrow_mut().lost(first, "it is gone");
    fs::remove_file(folder::path(&folder, second)).unwrap();
    let held = read(&mut journal, after).await;
    let gone = dropped(&mut journal);
    assert_eq!(gone.first(), Some(&(after + 1)));
    assert_eq!((held.len() + gone.len()) as Seq, 300 - after);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Whatever happens, a reader that has come as far as it has acknowledged gets the rest, but for what was dropped.
    #[test]
    fn what_is_needed_is_read_or_was_told_to_be_gone(
        steps in prop::collection::vec((0..6u8, 0..3000usize), 1..150),
    ) {
        let root = tempfile::tempdir().unwrap();
        let bounds = Bounds { bytes_max: 100_000, memory_bytes_max: 50_000, ..BOUNDS };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut journal = open(&root, bounds, 0);
        let mut there: Vec<(Seq, String)> = Vec::new();
        let mut after = 0;
        for (step, number) in steps {
            match step {
                0..=2 => {
                    let text = number.to_string();
                    let seq = journal.append(entry(&text, number));
                    there.push((seq, text));
                }
                3 => {
                    after = after.max((number as u64) % (journal.last() + 1));
                    let is_away = number % 2 == 0 && after < journal.last();
                    let cells_after = after.saturating_sub(number as u64 % 7);
                    journal.release(Needs { after, away_after: is_away.then_some(after), cells_after });
                }
                4 => drop(journal.keep()),
                _ => {
                    let got = runtime.block_on(read(&mut journal, after));
                    there.retain(|(seq, _)| *seq > after);
                    prop_assert_eq!(&got, &there);
                    prop_assert_eq!(journal.count(after), there.len() as u64);
                }
            }
            for gone in std::iter::from_fn(|| journal.drop_oldest()) {
                prop_assert_eq!(gone.label.kind, Kind::Shown);
                there.retain(|(seq, _)| *seq != gone.seq);
            }
            let in_flight = journal.in_flight_bytes.min(journal.in_flight_bytes_max());
            prop_assert!(in_flight + journal.tail.bytes_beside_large() <= bounds.memory_bytes_max);
        }
    }
}
