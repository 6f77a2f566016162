//! `nb env watch`, as somebody types it: a real repository, and packages that the real uv builds.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Stdio;

use rustix::process::Signal;
use serde_json::Value;
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

use crate::gateway::wait_for;
use crate::monorepo::{GitServer, Monorepo, Watching};
use crate::processes::signal;
use crate::up::SET_UP_LIMIT;

/// Whether a process runs; one that is dead and that nobody has reaped has no command line.
fn runs(pid: u32) -> bool {
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty())
}

fn text<'a>(event: &'a Value, key: &str) -> &'a str {
    event[key]
        .as_str()
        .unwrap_or_else(|| panic!("no {key}: {event}"))
}

#[tokio::test]
async fn a_commit_that_changes_what_is_followed_makes_a_release_of_it() {
    const X: &str = "import foo, six; print(foo.x)";
    let repository = Monorepo::new().await;
    let first = repository.commit().await;
    // What is not committed is not there.
    repository.put("libs/foo/foo/__init__.py", "x = 'not yet'\n");
    let (made, told, progress) = repository.look(&[]).await;
    assert!(
        made && told.contains(&format!("-g{}", &first[..10])),
        "{told}{progress}"
    );
    assert!(progress.contains("imports foo"), "{progress}");
    let name = told.split(' ').next().unwrap().to_owned();
    assert_eq!(repository.python(&name, X).await, "1");
    let site = repository
        .python(&name, "import foo; print(foo.__file__)")
        .await;
    assert!(
        site.starts_with(repository.releases().to_str().unwrap()),
        "{site}"
    );

    repository.git(&["checkout", "--quiet", "."]).await;
    repository.put("libs/bar/unrelated", "x");
    let unrelated = repository.commit().await;
    let event = repository.event().await;
    assert_eq!(
        (text(&event, "event"), text(&event, "commit")),
        ("unchanged", &*unrelated)
    );
    assert_eq!(repository.release_folders(), [&*name]);

    repository.put("libs/foo/foo/__init__.py", "x = 2\n");
    let changed = repository.commit().await;
    let event = repository.event().await;
    let second = text(&event["release"], "name").to_owned();
    assert_eq!(repository.current().await, second);
    assert_eq!(
        (text(&event, "event"), &event["new"]),
        ("released", &Value::Bool(true))
    );
    assert_eq!(text(&event["release"], "commit"), changed);
    assert_eq!(repository.python(&second, X).await, "2");
    assert_eq!(repository.python(&name, X).await, "1");
    let (_, listed, _) = repository.run(&["releases", "pycx", "--json"]).await;
    let listed: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(
        (text(&listed[0], "commit"), text(&listed[1], "commit")),
        (&*changed, &*first)
    );

    // Who goes back on purpose stays there until something is new.
    let (done, _, why) = repository.run(&["rollback", "pycx"]).await;
    assert!(done, "{why}");
    assert_eq!(text(&repository.event().await, "event"), "unchanged");
    assert_eq!(repository.current().await, name);
    // A content that is there is not made twice.
    repository.git(&["revert", "--no-edit", "HEAD"]).await;
    let event = repository.event().await;
    assert_eq!(
        (text(&event["release"], "name"), &event["new"]),
        (&*name, &Value::Bool(false))
    );
    assert_eq!(repository.release_folders().len(), 2);
}

#[tokio::test]
async fn what_does_not_work_is_not_promoted_and_says_why_and_the_next_commit_is() {
    let repository = Monorepo::new().await;
    repository.commit().await;
    let mut watching = Watching::start(&repository);
    let good = watching.next("released").await;
    let module = "libs/foo/foo/__init__.py";
    for (path, wrong, why) in [
        (
            module,
            "import no_such_thing\n",
            "No module named 'no_such_thing'",
        ),
        (
            "libs/foo/pyproject.toml",
            "[project]\n",
            "./libs/foo could not be built",
        ),
        (
            "pycx.in",
            "six\n-e ./libs/foo\n",
            "line 2 of the manifest is editable",
        ),
        ("pycx.in", "six\n./libs/none\n", "has no ./libs/none"),
        (
            "pycx.txt",
            "",
            "does not have what the first-party packages need",
        ),
    ] {
        let before = fs::read_to_string(repository.root().join(path)).unwrap();
        repository.put(path, wrong);
        let commit = repository.commit().await;
        let failed = watching.next("failed").await;
        assert_eq!(text(&failed, "commit"), commit);
        assert!(text(&failed, "why").contains(why), "{failed}");
        repository.put(path, &before);
    }
    let good = text(&good["release"], "name");
    assert_eq!(repository.release_folders(), [good]);
    // Another commit of what failed is no reason to try it again.
    let commit = repository.commit().await;
    let event = watching.next("unchanged").await;
    assert_eq!(
        (text(&event, "commit"), text(&event, "release")),
        (&*commit, good)
    );

    repository.put(module, "x = 3\n");
    let commit = repository.commit().await;
    let event = watching.next("released").await;
    assert_eq!(text(&event, "commit"), commit);
    assert_eq!(
        repository
            .python(&repository.current().await, "import foo; print(foo.x)")
            .await,
        "3"
    );

    signal(watching.child.id().unwrap(), Signal::TERM);
    let ended = timeout(SET_UP_LIMIT, watching.child.wait()).await;
    assert!(ended.expect("nb does not end").unwrap().success());
    repository.put(module, "1 / 0\n");
    repository.commit().await;
    let (done, _, why) = repository.look(&[]).await;
    assert!(!done && why.contains("ZeroDivisionError"), "{why}");
}

#[tokio::test]
async fn a_build_that_is_killed_leaves_nothing_in_the_way_and_one_that_is_ended_nothing_at_all() {
    let repository = Monorepo::new().await;
    let mark = |name: &str| repository.root().join("..").join(name);
    // It notes its pid, then waits for a word.
    let setup = format!(
        "import os, time\nfrom setuptools import setup\nopen({:?}, 'a').write(f'{{os.getpid()}}\\n')\n\
         end = time.time() + 100\nwhile not os.path.exists({:?}) and time.time() < end:\n    time.sleep(0.01)\nsetup()\n",
        mark("begun"),
        mark("go"),
    );
    repository.put("libs/foo/setup.py", &setup);
    repository.commit().await;
    let builder = |n: usize| {
        let begun = fs::read_to_string(mark("begun")).ok()?;
        begun.split_terminator('\n').nth(n)?.parse::<u32>().ok()
    };
    let start = || {
        let mut command = repository.nb(&["watch", "pycx", "repository", "--once"]);
        command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let mut killed = start();
    let first = wait_for("a build", || builder(0)).await;
    killed.kill().await.unwrap();
    assert!(runs(first) && repository.release_folders().len() == 1);

    let mut ended = start();
    let second = wait_for("another build", || builder(1)).await;
    assert!(!runs(first));
    signal(ended.id().unwrap(), Signal::INT);
    let status = timeout(SET_UP_LIMIT, ended.wait()).await;
    assert!(!status.expect("nb does not end").unwrap().success());
    assert!(!runs(second) && repository.release_folders().is_empty());
    let mut why = String::new();
    ended
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut why)
        .await
        .unwrap();
    assert!(why.contains("ended before it was done"), "{why}");

    fs::write(mark("go"), "").unwrap();
    let (made, told, progress) = repository.look(&[]).await;
    assert!(made && told.contains("the current one"), "{told}{progress}");
    // Also in the middle of a fetch.
    let mirror = fs::read_dir(mark("data/watch/pycx")).unwrap().flatten();
    let mut mirror =
        mirror.filter(|entry| entry.path().extension().is_some_and(|end| end == "git"));
    let mirror = mirror.next().unwrap().path();
    for left in ["shallow.lock", "refs/nb/watched.lock", "config.lock"] {
        fs::write(mirror.join(left), "").unwrap();
    }
    repository.put("libs/foo/foo/__init__.py", "x = 2\n");
    repository.commit().await;
    let (made, told, progress) = repository.look(&[]).await;
    assert!(made && told.contains("is made"), "{told}{progress}");
}

#[tokio::test]
async fn who_logs_in_is_shown_nowhere() {
    let repository = Monorepo::new().await;
    repository.put("pycx.in", "six\n");
    repository.commit().await;
    let root = repository.root().join("..");
    let server = GitServer::start(&root, "ada:s@cret:1").await;
    let look = async |password: &str, ending: &[&str]| {
        let port = server.port;
        let url = format!("http://ada:{password}@127.0.0.1:{port}/repository/.git");
        let arguments = ["watch", "pycx", &url, "--once"];
        repository.run(&[&arguments[..], ending].concat()).await
    };
    let (made, told, progress) = look("s%40cret%3A1", &[]).await;
    assert!(made && told.contains("is made"), "{told}{progress}");
    let (refused, told, why) = look("wrong-s%40cret", &["--json"]).await;
    assert!(!refused && why.contains("could not be fetched"), "{why}");
    assert!(why.contains("Authentication failed"), "{why}");
    for shown in [told, why, progress] {
        assert!(!shown.contains("cret") && !shown.contains("ada"), "{shown}");
    }
    let (refused, _, why) = look("s%40cret%zz", &[]).await;
    assert!(
        !refused && why.contains("is no repository") && !why.contains("cret"),
        "{why}"
    );
    // Nor is it kept.
    let kept = std::process::Command::new("grep")
        .args(["--recursive", "--files-with-matches", "cret"])
        .arg(root.join("data"))
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&kept.stdout), "");
}

#[tokio::test]
async fn a_branch_has_any_name_that_git_takes_and_no_path_leaves_the_repository() {
    let repository = Monorepo::new().await;
    repository.put("pycx.in", "six\n");
    repository.put("tools/own manifest.in", "six>=1\n");
    fs::write(repository.root().join("../outside.in"), "six\n").unwrap();
    symlink("../outside.in", repository.root().join("link.in")).unwrap();
    symlink("tools", repository.root().join("link")).unwrap();
    symlink("/etc/passwd", repository.root().join("libs/foo/foo/passwd")).unwrap();
    repository.put("libs.in", "six\n./libs/foo\n");
    repository.commit().await;
    repository.git(&["branch", "feature/-ünï#1;$(x)"]).await;
    let (made, _, why) = repository.look(&["--ref", "feature/-ünï#1;$(x)"]).await;
    assert!(made, "{why}");
    // A lock is made where there is none, and kept.
    let own = ["--manifest", "tools/../tools/own manifest.in"];
    let (made, _, why) = repository.look(&own).await;
    assert!(made, "{why}");
    let lock = repository
        .releases()
        .join(repository.current().await)
        .join("nb-requirements.txt");
    let lock = fs::read_to_string(lock).unwrap();
    assert!(
        lock.starts_with("six==") && lock.contains("--hash=sha256:"),
        "{lock}"
    );

    for (arguments, why) in [
        (["--ref", "a..b"], "is not a name that a branch can have"),
        (
            ["--ref", "main:refs/x"],
            "is not a name that a branch can have",
        ),
        (["--ref", "none"], "none of the repository"),
        (["--manifest", "../outside.in"], "leaves the repository"),
        (
            ["--manifest", "/etc/passwd"],
            "is not a path of the repository",
        ),
        (["--manifest", "link.in"], "is a symbolic link"),
        (
            ["--manifest", "link/own manifest.in"],
            "has no link/own manifest.in",
        ),
        (["--manifest", "tools"], "is a folder"),
        (["--lock", "../outside.in"], "leaves the repository"),
        (["--lock", "none.txt"], "has no none.txt"),
        (
            ["--manifest", "libs.in"],
            "libs/foo/foo/passwd is a link to what is in no",
        ),
    ] {
        let (done, _, said) = repository.look(&arguments).await;
        assert!(!done && said.contains(why), "{arguments:?}: {said}");
    }
    let (done, _, why) = repository
        .run(&["watch", "pycx", "--once", "--", "-x"])
        .await;
    assert!(!done && why.contains("is no repository"), "{why}");
}
