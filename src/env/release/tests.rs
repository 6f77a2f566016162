//! Releases of a tiny lock, made by the real uv.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use super::*;
use crate::env::Uv;

const SIX: &str = "six==1.17.0 \\\n    \
    --hash=sha256:4721f391ed90541fddacab5acf947aa0d3dc7d27b2e1e8eda2be8970586c3274\n";
const OLDER_SIX: &str = "six==1.16.0 \\\n    \
    --hash=sha256:8abb2f1d86890a2dfb989f9a77cfcfd3e47c2a354b01111771326f8aa26e0254\n";

#[tokio::test]
async fn releases_are_made_promoted_rolled_back_and_collected() {
    let data = tempfile::tempdir().unwrap();
    let uv = Uv::find(data.path(), &|_| ()).await.unwrap();
    let releases = Releases::pycx(data.path());
    assert_eq!((releases.list(), releases.current()), (Vec::new(), None));
    assert!(releases.roll_back(None).is_err());

    let recipe = Recipe::of("six", OLDER_SIX).unwrap();
    let (first, is_new) = releases.build(&recipe, &uv, &|_| ()).await.unwrap();
    assert!(is_new && releases.current().as_ref() == Some(&first));
    assert_eq!(first.packages["six"], "1.16.0");
    let (again, is_new) = releases.build(&recipe, &uv, &|_| ()).await.unwrap();
    assert!(!is_new && again == first);

    let (second, _) = releases
        .build(&Recipe::of("six", SIX).unwrap(), &uv, &|_| ())
        .await
        .unwrap();
    assert_eq!(releases.current().as_ref(), Some(&second));
    let change = Change {
        package: "six".to_owned(),
        from: Some("1.16.0".to_owned()),
        to: Some("1.17.0".to_owned()),
    };
    assert_eq!(first.changes(&second), [change]);
    let site = fs::read_dir(
        data.path()
            .join("releases/pycx")
            .join(&second.name)
            .join("lib"),
    );
    let site = site
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path()
        .join("site-packages");
    let is_compiled = fs::read_dir(site.join("__pycache__")).unwrap().count() > 0;
    let mode = fs::metadata(site.join("six.py"))
        .unwrap()
        .permissions()
        .mode();
    assert!(is_compiled && mode & 0o222 == 0, "{mode:o}");

    // One that does not work changes nothing, and leaves nothing.
    let broken = Recipe::of("six\nno-such-thing", SIX.trim_end()).unwrap();
    let refused = releases.build(&broken, &uv, &|_| ()).await.unwrap_err();
    assert!(
        refused.message.contains("no-such-thing has no module"),
        "{refused}"
    );
    assert_eq!(releases.current().as_ref(), Some(&second));
    assert_eq!(releases.list(), [second.clone(), first.clone()]);

    assert_eq!(releases.roll_back(None).unwrap(), first);
    assert!(releases.roll_back(None).is_err());
    assert_eq!(releases.roll_back(Some(&second.name)).unwrap(), second);
    let unknown = releases.roll_back(Some("x")).unwrap_err();
    assert!(unknown.message.contains(&first.name), "{unknown}");

    // What is left of one that was killed, and one that somebody uses.
    let unfinished = data.path().join("releases/pycx/2026.01.01-00000000");
    fs::create_dir(&unfinished).unwrap();
    let mut user = std::process::Command::new(releases.python(&first));
    let mut user = user
        .args(["-c", "import sys; print(flush=True); sys.stdin.read()"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // It has no command line before it runs.
    let runs = user.stdout.as_mut().unwrap().read_exact(&mut [0]);
    runs.unwrap();
    let looked = releases.collect(1, false, &|_| ()).await.unwrap();
    let removed = releases.collect(1, true, &|_| ()).await.unwrap();
    assert_eq!(looked, removed);
    assert_eq!(removed, ["2026.01.01-00000000"]);
    drop(user.stdin.take());
    user.wait().unwrap();
    assert_eq!(
        releases.collect(1, true, &|_| ()).await.unwrap(),
        [first.name]
    );
    assert_eq!(releases.list(), [second]);
}
