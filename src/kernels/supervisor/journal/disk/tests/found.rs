//! What earlier supervisors have left, also on a disk that does not give it, and when it is not what it was.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use super::super::super::SEQ_MAX;
use super::super::found::FOUND_WITHIN;
use super::*;

fn start(root: &Path, last: Seq) -> DiskJournal {
    let bounds = Bounds {
        memory_bytes_max: 1 << 16,
        ..BOUNDS
    };
    DiskJournal::new(root.join("k"), about(), bounds, last).unwrap()
}

/// As a takeover on a disk that is full, then gone, then there again.
#[tokio::test(start_paused = true)]
async fn what_there_was_is_read_once_the_disk_gives_it_and_whoever_does_not_wait_is_told() {
    let root = tempfile::tempdir().unwrap();
    let mut journal = open(&root, BOUNDS, 0);
    journal.release(away(0));
    fill(&mut journal, 1..=100);
    drop(journal);
    let (folder, aside) = (root.path().join("k"), root.path().join("aside"));
    // What is right is not written again: it could not be.
    let about_file = folder.join("about.json");
    let read_only = fs::Permissions::from_mode(0o400);
    fs::set_permissions(&about_file, read_only).unwrap();
    let written = fs::metadata(&about_file).unwrap().ino();
    drop(open(&root, BOUNDS, 100));
    assert_eq!(fs::metadata(&about_file).unwrap().ino(), written);
    // A file where the folder was.
    fs::rename(&folder, &aside).unwrap();
    fs::write(&folder, "").unwrap();
    let mut journal = start(root.path(), 1000);
    journal.release(away(0));
    until(|| journal.keep().fault.is_some());
    assert_eq!(journal.append(entry("1001", 1000)), 1001);
    assert_eq!(journal.unread(), Some(1000));
    let begun = now();
    assert_eq!(read(&mut journal, 50).await, texts(1001..=1001));
    assert_eq!(now() - begun, FOUND_WITHIN);
    let mut gone = Vec::new();
    for seq in 1002..=1100 {
        journal.append(entry(&seq.to_string(), 1000));
        gone.extend(std::iter::from_fn(|| journal.drop_oldest()));
    }
    // There may be older ones.
    assert!(!gone.is_empty() && gone.iter().all(|gone| !gone.is_oldest));
    fs::remove_file(&folder).unwrap();
    fs::rename(&aside, &folder).unwrap();
    saved(&mut journal);
    assert_eq!((journal.unread(), journal.keep().fault), (None, None));
    let mut expected = texts(51..=100);
    expected.extend(texts(1001..=1100));
    expected.retain(|(seq, _)| gone.iter().all(|gone| gone.seq != *seq));
    assert_eq!(read(&mut journal, 50).await, expected);
    assert!(dropped(&mut journal).is_empty());
}

/// What a file does not have is not known; that it lacks something is.
#[tokio::test]
async fn numbers_go_on_beyond_all_that_are_there_and_damage_of_earlier_files_is_known() {
    let root = tempfile::tempdir().unwrap();
    let mut journal = open(&root, BOUNDS, 0);
    journal.release(away(0));
    fill(&mut journal, 1..=200);
    drop(journal);
    let mut journal = open(&root, BOUNDS, 0);
    assert_eq!(journal.unread(), None);
    assert!(journal.append(entry("x", 10)) > 1 << 32);
    drop(journal);
    let first = folder::path(&root.path().join("k"), 1);
    let mut bytes = fs::read(&first).unwrap();
    bytes[30_000] ^= 1;
    fs::write(&first, &bytes).unwrap();
    assert_eq!(open(&root, BOUNDS, 500).unread(), Some(500));
    // No number follows this one.
    let mut pieces = vec![Bytes::from_static(record::MAGIC)];
    let highest = Unwritten::of(u64::MAX, &entry("x", 10));
    highest.encode(&mut pieces).unwrap();
    fs::write(&first, pieces.concat()).unwrap();
    let number = u64::MAX;
    fs::copy(&first, folder::path(&root.path().join("k"), number)).unwrap();
    let mut journal = open(&root, BOUNDS, 0);
    journal.release(away(0));
    let last = journal.append(entry("x", 10));
    assert!(last < SEQ_MAX, "{last}");
    saved(&mut journal);
}
