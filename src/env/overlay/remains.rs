//! How layers go: those of releases that are gone. What was asked for stays, and is a layer again on the next release.

use std::fs;
use std::path::{Path, PathBuf};

use crate::env::in_use::process_in;
use crate::env::pip::Failure;
use crate::env::release::Releases;
use crate::env::{Say, held, lock};

/// What stands beside a layer, with the release's name before it: why there is none, what takes a change back, what is left to do.
const BESIDE: [&str; 3] = ["failed", "undo", "shared"];

/// Removes what is of none of the releases that are there, but `going`; what that was, from nb's data folder. Without `really` it
/// stays. None goes in which a process runs, or that somebody changes.
pub async fn collect_layers(
    data: &Path,
    going: &[String],
    really: bool,
    say: Say<'_>,
) -> Result<Vec<String>, Failure> {
    let there = Releases::pycx(data).names();
    let stays =
        |name: &str| there.iter().any(|it| it == name) && !going.iter().any(|it| it == name);
    let mut removed = Vec::new();
    for overlay in below(&data.join("overlays")) {
        let gone = below(&overlay).into_iter().filter(|path| {
            let ending = path.extension();
            let is_beside = BESIDE
                .iter()
                .any(|beside| ending.is_some_and(|it| it == *beside));
            let release = match is_beside {
                true => path.file_stem(),
                false if path.join("pyvenv.cfg").is_file() => path.file_name(),
                false => None,
            };
            let release = release.and_then(|name| name.to_str());
            release.is_some_and(|release| !stays(release))
        });
        let gone: Vec<PathBuf> = gone.collect();
        if gone.is_empty() {
            continue;
        }
        let Some(_held) = lock::try_exclusive(&held::lock_of(&overlay))? else {
            say(&format!("{} stays: another nb is at it", overlay.display()));
            continue;
        };
        for path in gone {
            if process_in(&path).is_some() {
                say(&format!("{} stays: a process runs in it", path.display()));
                continue;
            }
            if really {
                let done = match path.is_dir() {
                    true => fs::remove_dir_all(&path),
                    false => fs::remove_file(&path),
                };
                done.map_err(|error| held::unusable(&path, &error))?;
            }
            let path = path.strip_prefix(data).unwrap_or(&path);
            removed.push(path.to_string_lossy().into_owned());
        }
    }
    removed.sort();
    Ok(removed)
}

fn below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn layers_of_gone_releases_go_and_what_was_asked_for_stays() {
        let data = tempfile::tempdir().unwrap();
        let data = data.path();
        let overlay = data.join("overlays/0123");
        for layer in ["2026.1.1-aa", "2026.2.2-bb"] {
            fs::create_dir_all(overlay.join(layer).join("bin")).unwrap();
            fs::write(overlay.join(layer).join("pyvenv.cfg"), "").unwrap();
        }
        fs::write(overlay.join("2026.1.1-aa.failed"), "").unwrap();
        fs::write(overlay.join("nb-overlay.json"), "{}").unwrap();
        let collect = async |going: &[String], really| {
            collect_layers(data, going, really, &|_| ()).await.unwrap()
        };
        let releases = data.join("releases/pycx");
        for name in ["2026.1.1-aa", "2026.2.2-bb"] {
            fs::create_dir_all(releases.join(name)).unwrap();
        }
        assert!(collect(&[], true).await.is_empty());
        let going = ["2026.1.1-aa".to_owned()];
        let gone = [
            "overlays/0123/2026.1.1-aa",
            "overlays/0123/2026.1.1-aa.failed",
        ];
        assert_eq!(collect(&going, false).await, gone);
        fs::remove_dir_all(releases.join("2026.1.1-aa")).unwrap();
        // Somebody is at it.
        let held = lock::exclusive(&overlay.join("lock"), &|_| ())
            .await
            .unwrap();
        assert!(collect(&[], true).await.is_empty());
        drop(held);
        assert_eq!(collect(&[], true).await, gone);
        assert!(collect(&[], true).await.is_empty());
        let left = |name: &str| overlay.join(name).exists();
        assert!(left("2026.2.2-bb") && left("nb-overlay.json") && !left("2026.1.1-aa"));
    }
}
