//! `nb workspace`, as somebody types it: real repositories, git's own server, plain git in what comes of it.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::process::{Signal, getegid, geteuid, getgroups};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::timeout;

use crate::gateway::{Gateway, LIMIT, wait_for};
use crate::monorepo::GitServer;
use crate::processes::signal;

/// A repository that is served, and somebody who has workspaces of it.
struct Site {
    folder: TempDir,
    server: GitServer,
}

/// What a command did.
#[derive(Debug)]
struct Done {
    is_good: bool,
    said: String,
    why: String,
}

impl Site {
    /// `origin.git` has three commits of `main`, another branch that is one behind, and a tag. Whoever serves it asks for a password, which
    /// git's own helper knows.
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = GitServer::start(folder.path(), "ada:secret").await;
        let site = Self { folder, server };
        let (home, port) = (site.path("home"), site.server.port);
        fs::create_dir_all(home.join("bin")).unwrap();
        let config = "[user]\nname = Ada\nemail = ada@example.org\n[credential]\nhelper = store\n[init]\ndefaultBranch = main\n";
        fs::write(home.join(".gitconfig"), config).unwrap();
        fs::write(
            home.join(".git-credentials"),
            format!("http://ada:secret@127.0.0.1:{port}\n"),
        )
        .unwrap();
        let source = site.path("source");
        fs::create_dir_all(&source).unwrap();
        site.git(&source, &["init", "--quiet"]).await;
        for n in 1..=3 {
            for path in ["libs/foo/a", "libs/bar/b", "top"] {
                let file = source.join(path);
                fs::create_dir_all(file.parent().unwrap()).unwrap();
                fs::write(file, format!("{path} {n}\n")).unwrap();
            }
            site.git(&source, &["add", "--all"]).await;
            site.git(&source, &["commit", "--quiet", "--message", &n.to_string()])
                .await;
        }
        site.git(&source, &["branch", "other", "HEAD~1"]).await;
        site.git(
            &source,
            &["tag", "--annotate", "--message=x", "v1", "HEAD~2"],
        )
        .await;
        let origin = site.path("origin.git");
        site.git(
            &source,
            &[
                "clone",
                "--quiet",
                "--mirror",
                ".",
                origin.to_str().unwrap(),
            ],
        )
        .await;
        for setting in [
            ["http.receivepack", "true"],
            ["uploadpack.allowFilter", "true"],
        ] {
            site.git(&origin, &[&["config"], &setting[..]].concat())
                .await;
        }
        site
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/origin.git", self.server.port)
    }

    fn tree(&self, name: &str) -> PathBuf {
        self.path("data/workspaces").join(name)
    }

    /// A program in the environment of its user and nothing else.
    fn command(&self, program: &Path) -> Command {
        let (home, path) = (self.path("home"), std::env::var("PATH").unwrap());
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", format!("{}:{path}", home.join("bin").display()))
            .env("HOME", home)
            .env("NB_DATA_DIR", self.path("data"))
            .env("NB_STATE_DIR", self.path("state"))
            .kill_on_drop(true);
        command
    }

    async fn git(&self, folder: &Path, arguments: &[&str]) -> String {
        let done = run(self
            .command(Path::new("git"))
            .current_dir(folder)
            .args(arguments))
        .await;
        assert!(done.is_good, "{arguments:?}: {}", done.why);
        done.said.trim().to_owned()
    }

    fn nb(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(Path::new(env!("CARGO_BIN_EXE_nb")));
        command.arg("workspace").args(arguments);
        command
    }

    async fn workspace(&self, arguments: &[&str]) -> Done {
        run(&mut self.nb(arguments)).await
    }

    /// What it prints, which has to work.
    async fn says(&self, arguments: &[&str]) -> String {
        let done = self.workspace(arguments).await;
        assert!(done.is_good, "{arguments:?}: {}", done.why);
        done.said
    }

    /// What it refuses to do, and why.
    async fn refuses(&self, arguments: &[&str]) -> String {
        let done = self.workspace(arguments).await;
        assert!(!done.is_good, "{arguments:?}: {}", done.said);
        done.why
    }

    /// One that is complete.
    async fn whole(&self, arguments: &[&str], name: &str) -> PathBuf {
        self.says(&[&["create"], arguments].concat()).await;
        self.says(&["complete", name]).await;
        self.tree(name)
    }

    async fn status(&self, name: &str) -> Value {
        let said = self.says(&["status", name, "--json"]).await;
        let all: Value = serde_json::from_str(&said).unwrap();
        all[0].clone()
    }

    /// Lets git wait before it does this as long as the file is there that is returned; the second one says that it waits.
    fn stall(&self, what: &str) -> (PathBuf, PathBuf) {
        let (stall, is_at) = (self.path("stall"), self.path("is-at"));
        let git = std::env::split_paths(&std::env::var_os("PATH").unwrap())
            .map(|folder| folder.join("git"))
            .find(|git| git.exists())
            .unwrap();
        let script = format!(
            "#!/bin/sh\ncase \"$*\" in *' {what} '*) [ -e {0} ] && touch {1}; while [ -e {0} ]; do sleep 0.02; done;; esac\nexec {2} \"$@\"\n",
            stall.display(),
            is_at.display(),
            git.display()
        );
        let shim = self.path("home/bin/git");
        fs::write(&shim, script).unwrap();
        fs::set_permissions(&shim, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(&stall, "").unwrap();
        (stall, is_at)
    }

    /// What there is of workspaces and mirrors.
    fn left(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.path("data/workspaces")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                match entry.file_type().unwrap().is_dir() {
                    true => folders.push(entry.path()),
                    false => found.push(entry.path()),
                }
            }
        }
        found
    }
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    wait_for(what, || is_so().then_some(())).await;
}

async fn run(command: &mut Command) -> Done {
    let output = timeout(LIMIT, command.output())
        .await
        .expect("it hangs")
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Done {
        is_good: output.status.success(),
        said: text(output.stdout),
        why: text(output.stderr),
    }
}

#[tokio::test]
async fn plain_git_works_in_a_tree_and_nothing_that_is_only_there_is_deleted() {
    let site = Site::new().await;
    let url = site.url();
    let tree = site.whole(&[&url], "origin").await;
    let git = async |arguments: &[&str]| site.git(&tree, arguments).await;
    assert_eq!(git(&["log", "--format=%s"]).await, "3\n2\n1");
    assert_eq!(git(&["status", "--porcelain"]).await, "");
    assert_eq!(
        git(&["rev-parse", "origin/other", "v1^{commit}"]).await,
        git(&["rev-parse", "HEAD~1", "HEAD~2"]).await
    );
    assert!(!tree.join(".git/shallow").exists());
    git(&["fsck", "--strict"]).await;
    let whole = site.status("origin").await;
    assert_eq!(
        (&whole["completion"]["state"], &whole["git"]["branch"]),
        (&json!("complete"), &json!("main"))
    );
    assert!(whole["bytes"].as_u64().unwrap() > 0, "{whole}");

    let refused = async |what: &str| {
        let why = site.refuses(&["delete", "origin"]).await;
        assert!(why.contains(what) && why.contains("--force"), "{why}");
    };
    fs::write(tree.join("new"), "").unwrap();
    refused("1 untracked file:").await;
    git(&["add", "new"]).await;
    refused("1 uncommitted change:").await;
    git(&["stash"]).await;
    refused("1 stash:").await;
    git(&["stash", "pop"]).await;
    git(&["switch", "--quiet", "--create", "mine"]).await;
    git(&["commit", "--quiet", "--message=new"]).await;
    git(&["switch", "--quiet", "main"]).await;
    refused("1 unpushed commit:").await;
    git(&["tag", "own", "mine"]).await;
    git(&["branch", "--quiet", "-D", "mine"]).await;
    refused("1 unpushed commit:").await;
    git(&["merge", "--quiet", "own"]).await;
    assert_eq!(site.status("origin").await["git"]["ahead"], 1);
    let table = site.says(&["status"]).await;
    assert!(
        table.contains("origin/main +1 -0") && table.contains("1 unpushed commit"),
        "{table}"
    );

    // To where it came from, as its user.
    git(&["push", "--quiet"]).await;
    assert_eq!(
        site.git(&site.path("origin.git"), &["rev-parse", "main"])
            .await,
        git(&["rev-parse", "HEAD"]).await
    );
    let elsewhere = site.path("elsewhere");
    git(&[
        "worktree",
        "add",
        "--quiet",
        "--detach",
        elsewhere.to_str().unwrap(),
    ])
    .await;
    refused("1 worktree of it elsewhere:").await;
    git(&["worktree", "remove", elsewhere.to_str().unwrap()]).await;
    let mut working = Command::new("sleep")
        .arg("600")
        .current_dir(&tree)
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    refused(&format!(
        "the process {} works in origin",
        working.id().unwrap()
    ))
    .await;
    working.kill().await.unwrap();
    let said = site.says(&["delete", "origin"]).await;
    assert!(said.contains("the mirror"), "{said}");
    assert_eq!(site.left(), Vec::<PathBuf>::new());
    assert!(!tree.exists());
}

#[tokio::test]
async fn what_is_only_there_goes_by_force() {
    let site = Site::new().await;
    let tree = site.whole(&[&site.url(), "--name", "w"], "w").await;
    fs::remove_file(tree.join("top")).unwrap();
    assert!(
        site.refuses(&["delete", "w"])
            .await
            .contains("1 uncommitted change")
    );
    // What git cannot read is not taken for nothing.
    fs::write(tree.join(".git/HEAD"), "broken").unwrap();
    assert!(
        site.refuses(&["delete", "w"])
            .await
            .contains("cannot be told")
    );
    site.says(&["delete", "w", "--force"]).await;
    assert_eq!(site.left(), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn a_tag_of_its_own_is_known_before_there_is_a_mirror() {
    let site = Site::new().await;
    let (stall, is_at) = site.stall("--prune");
    site.says(&["create", &site.url(), "--name", "w", "--ref", "v1"])
        .await;
    until("git is at it", || is_at.exists()).await;
    let tree = site.tree("w");
    // What it was made of is nothing of its own, though no branch of the origin is here.
    assert_eq!(site.status("w").await["git"]["unpushed"], 0);
    fs::write(tree.join("own"), "").unwrap();
    site.git(&tree, &["add", "own"]).await;
    site.git(&tree, &["commit", "--quiet", "--message=own"])
        .await;
    site.git(&tree, &["tag", "own"]).await;
    site.git(&tree, &["checkout", "--quiet", "v1"]).await;
    let why = site.refuses(&["delete", "w"]).await;
    assert!(why.contains("1 unpushed commit"), "{why}");
    fs::remove_file(stall).unwrap();
    site.says(&["complete", "w"]).await;
    assert_eq!(site.status("w").await["git"]["unpushed"], 1);
    site.git(&tree, &["tag", "--delete", "own"]).await;
    site.says(&["delete", "w"]).await;
    assert_eq!(site.left(), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn what_is_asked_for_comes_first_and_the_rest_behind_it() {
    let site = Site::new().await;
    let url = site.url();
    let (stall, is_at) = site.stall("--prune");
    site.says(&["create", &url, "--paths", "libs/foo"]).await;
    let tree = site.tree("origin");
    assert_eq!(
        fs::read_to_string(tree.join("libs/foo/a")).unwrap(),
        "libs/foo/a 3\n"
    );
    assert!(tree.join("top").exists() && !tree.join("libs/bar").exists());
    assert_eq!(site.git(&tree, &["log", "--format=%s"]).await, "3");
    assert_eq!(site.git(&tree, &["status", "--porcelain"]).await, "");
    until("git is at it", || is_at.exists()).await;
    assert_eq!(
        site.status("origin").await["completion"]["state"],
        "running"
    );
    // Nobody waits for that.
    site.says(&["create", &url, "--name", "beside"]).await;
    assert_eq!(
        fs::read_to_string(site.tree("beside").join("libs/bar/b")).unwrap(),
        "libs/bar/b 3\n"
    );
    // What one works at meanwhile stays.
    fs::write(tree.join("libs/foo/a"), "mine").unwrap();
    site.git(&tree, &["commit", "--quiet", "--all", "--message=mine"])
        .await;

    fs::remove_file(stall).unwrap();
    for name in ["origin", "beside"] {
        site.says(&["complete", name]).await;
        let status = site.status(name).await;
        assert_eq!(
            (&status["completion"]["state"], &status["completing"]),
            (&json!("complete"), &json!(false))
        );
    }
    assert_eq!(
        site.git(&tree, &["log", "--format=%s"]).await,
        "mine\n3\n2\n1"
    );
    assert!(!tree.join("libs/bar").exists());
    // What it had before the mirror was there is not there twice.
    let packs = fs::read_dir(site.tree("beside").join(".git/objects/pack"))
        .unwrap()
        .flatten();
    let packs = packs.filter(|entry| entry.path().extension().is_some_and(|end| end == "pack"));
    let links: Vec<u64> = packs.map(|pack| pack.metadata().unwrap().nlink()).collect();
    assert!(
        !links.is_empty() && links.iter().all(|links| *links > 1),
        "{links:?}"
    );
    // All of it is there, with the origin gone.
    fs::rename(site.path("origin.git"), site.path("gone.git")).unwrap();
    site.git(&tree, &["sparse-checkout", "disable"]).await;
    assert_eq!(
        fs::read_to_string(tree.join("libs/bar/b")).unwrap(),
        "libs/bar/b 3\n"
    );
    site.git(&tree, &["checkout", "--quiet", "HEAD~3"]).await;
    assert_eq!(
        fs::read_to_string(tree.join("libs/bar/b")).unwrap(),
        "libs/bar/b 1\n"
    );
    site.git(&tree, &["fsck", "--strict"]).await;
}

#[tokio::test]
async fn a_process_that_completes_is_taken_up_again_when_it_was_killed() {
    let site = Site::new().await;
    let (stall, is_at) = site.stall("--prune");
    site.says(&["create", &site.url(), "--name", "w"]).await;
    until("git is at it", || is_at.exists()).await;
    let mark = format!(
        "NB_WORKS_IN={}",
        site.path("data/workspaces/.nb/made/w/completes").display()
    );
    let killed = marked(&mark);
    assert_eq!(killed.len(), 1, "{killed:?}");
    signal(killed[0], Signal::KILL);
    until("it is gone", || marked(&mark).is_empty()).await;
    fs::remove_file(&stall).unwrap();
    site.says(&["list"]).await;
    until("another one has done it", || {
        let read = fs::read(site.path("data/workspaces/.nb/made/w/completion.json")).unwrap();
        serde_json::from_slice::<Value>(&read).unwrap()["state"] == "complete"
    })
    .await;
    assert_eq!(
        site.git(&site.tree("w"), &["log", "--format=%s"]).await,
        "3\n2\n1"
    );
}

/// The processes with this in their environment.
fn marked(variable: &str) -> Vec<u32> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let pids = processes.filter_map(|process| process.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment
            .split(|byte| *byte == 0)
            .any(|one| one == variable.as_bytes())
    })
    .collect()
}

#[tokio::test]
async fn a_killed_creation_is_in_nobodys_way() {
    let site = Site::new().await;
    let url = site.url();
    let (stall, is_at) = site.stall("checkout");
    let mut child = site.nb(&["create", &url, "--name", "w"]).spawn().unwrap();
    until("git is at it", || is_at.exists()).await;
    child.kill().await.unwrap();
    assert_eq!(site.says(&["list", "--json"]).await.trim(), "[]");
    // Told to end, it takes back what it began.
    fs::remove_file(&is_at).unwrap();
    let told = site.nb(&["create", &url, "--name", "x"]).spawn().unwrap();
    until("git is at it", || is_at.exists()).await;
    signal(told.id().unwrap(), Signal::INT);
    assert!(
        !timeout(LIMIT, told.wait_with_output())
            .await
            .unwrap()
            .unwrap()
            .status
            .success()
    );
    fs::remove_file(stall).unwrap();
    let tree = site.whole(&[&url, "--name", "w"], "w").await;
    assert_eq!(site.git(&tree, &["status", "--porcelain"]).await, "");
    site.says(&["delete", "w"]).await;
    assert_eq!(site.left(), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn two_at_once_are_two_and_two_of_one_name_are_one() {
    let site = Site::new().await;
    let url = site.url();
    let create = async |name: &str| site.workspace(&["create", &url, "--name", name]).await;
    let (one, other, again) = tokio::join!(create("one"), create("other"), create("one"));
    assert!(other.is_good, "{other:?}");
    assert!(one.is_good != again.is_good, "{one:?} {again:?}");
    let refused = if one.is_good { again } else { one };
    assert!(
        refused.why.contains("there is a workspace one already"),
        "{}",
        refused.why
    );
    for name in ["one", "other"] {
        site.says(&["complete", name]).await;
        assert_eq!(
            site.git(&site.tree(name), &["log", "--format=%s"]).await,
            "3\n2\n1"
        );
    }
    let mirrors = fs::read_dir(site.path("data/workspaces/.nb/mirrors")).unwrap();
    assert_eq!(mirrors.count(), 1);
}

#[tokio::test]
async fn trees_share_what_the_mirror_has_and_do_not_need_it() {
    let site = Site::new().await;
    let url = site.url();
    let first = site.whole(&[&url, "--name", "first"], "first").await;
    // What is there is not had again: this one has its history at once.
    let (stall, _) = site.stall("--prune");
    site.says(&["create", &url, "--name", "second", "--ref", "other"])
        .await;
    let second = site.tree("second");
    assert_eq!(site.git(&second, &["log", "--format=%s"]).await, "2\n1");
    let shared = |tree: &Path| {
        let packs = fs::read_dir(tree.join(".git/objects/pack"))
            .unwrap()
            .flatten();
        let mut packs =
            packs.filter(|entry| entry.path().extension().is_some_and(|end| end == "pack"));
        packs.any(|pack| pack.metadata().unwrap().nlink() > 2)
    };
    assert!(shared(&first) && shared(&second));
    fs::remove_file(stall).unwrap();
    site.says(&["complete", "second"]).await;

    // History is made anew, what was there is tidied away, and then the mirror goes.
    let tip = site.git(&first, &["rev-parse", "HEAD"]).await;
    let source = site.path("source");
    site.git(&source, &["commit", "--quiet", "--amend", "--message=anew"])
        .await;
    site.git(
        &source,
        &[
            "push",
            "--quiet",
            "--force",
            site.path("origin.git").to_str().unwrap(),
            "main",
        ],
    )
    .await;
    let third = site.whole(&[&url, "--name", "third"], "third").await;
    assert_eq!(
        site.git(&third, &["log", "--format=%s"]).await,
        "anew\n2\n1"
    );
    let mirrors = site.path("data/workspaces/.nb/mirrors");
    let mirror = fs::read_dir(&mirrors)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path()
        .join("git");
    site.git(
        &mirror,
        &[
            "-c",
            "gc.bigPackThreshold=0",
            "gc",
            "--quiet",
            "--prune=now",
        ],
    )
    .await;
    let gone = run(site
        .command(Path::new("git"))
        .current_dir(&mirror)
        .args(["cat-file", "-e", &tip]))
    .await;
    assert!(!gone.is_good);
    fs::remove_dir_all(&mirrors).unwrap();
    for tree in [&first, &second, &third] {
        site.git(tree, &["fsck", "--strict"]).await;
        site.git(tree, &["gc", "--quiet", "--prune=now"]).await;
        site.git(tree, &["fsck", "--strict"]).await;
    }
    assert_eq!(site.git(&first, &["log", "--format=%s"]).await, "3\n2\n1");
    for name in ["first", "second", "third"] {
        site.says(&["delete", name]).await;
    }
    assert_eq!(site.left(), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn tags_commits_and_folders_are_had_and_what_is_none_is_said() {
    let site = Site::new().await;
    let url = site.url();
    let commit = site
        .git(&site.path("source"), &["rev-parse", "HEAD~1"])
        .await;
    for (reference, log) in [("v1", "1"), (&*commit, "2\n1")] {
        let tree = site
            .whole(&[&url, "--name", "w", "--ref", reference], "w")
            .await;
        assert_eq!(site.git(&tree, &["log", "--format=%s"]).await, log);
        assert_eq!(site.status("w").await["git"]["branch"], Value::Null);
        site.says(&["delete", "w", "--keep-mirror"]).await;
    }
    let local = site.path("origin.git").display().to_string();
    let nowhere = format!("http://127.0.0.1:{}/none.git", site.server.port);
    for (arguments, why) in [
        (vec![&*url, "--ref", "none"], "no branch and no tag none"),
        (
            vec![&*url, "--paths", "libs/none"],
            "has no folder libs/none",
        ),
        (
            vec![&*url, "--paths", "../x"],
            "is no folder of a repository",
        ),
        (vec![&*url, "--name=-x"], "cannot be the name"),
        (vec![&*url, "--name", ".x"], "cannot be the name"),
        (vec![&*nowhere], "none.git could not be had"),
        (vec!["/nowhere"], "is no repository"),
        (
            vec!["ext::touch x", "--name", "x"],
            "transport 'ext' not allowed",
        ),
        (vec!["fd::0", "--name", "x"], "transport 'fd' not allowed"),
        (
            vec![&*url, "--paths", "./-x"],
            "is no folder of a repository",
        ),
    ] {
        let said = site.refuses(&[&["create"], &arguments[..]].concat()).await;
        assert!(said.contains(why), "{said}");
    }
    for name in ["none", "../w", ""] {
        let said = site.refuses(&["status", name]).await;
        assert!(
            said.contains("there is no workspace") && said.contains("there is none yet"),
            "{said}"
        );
    }
    fs::create_dir_all(site.tree("origin")).unwrap();
    let said = site.refuses(&["create", &local]).await;
    assert!(said.contains("is in the way"), "{said}");
    assert!(site.tree("origin").exists());
}

#[tokio::test]
async fn a_login_of_an_address_is_kept_nowhere() {
    let site = Site::new().await;
    fs::remove_file(site.path("home/.git-credentials")).unwrap();
    let port = site.server.port;
    let url = format!("http://ada:secret@127.0.0.1:{port}/origin.git");
    // Nobody is asked, and without a login nothing is had.
    let why = site.refuses(&["create", &site.url()]).await;
    assert!(why.contains("could not be had"), "{why}");
    let done = site.workspace(&["create", &url, "--json"]).await;
    assert!(done.is_good, "{}", done.why);
    let completion = site.path("data/workspaces/.nb/made/origin/completion.json");
    until("it is complete", || {
        fs::read_to_string(&completion)
            .unwrap()
            .contains("complete")
    })
    .await;
    let shown = [
        done.said,
        done.why,
        site.says(&["status"]).await,
        site.says(&["list", "--json"]).await,
    ]
    .concat();
    assert!(!shown.contains("secret"), "{shown}");
    for path in site.left() {
        let content = fs::read(&path).unwrap();
        let has = content
            .windows(b"secret".len())
            .any(|part| part == b"secret");
        assert!(!has, "{}", path.display());
    }
}

#[tokio::test]
async fn a_kernel_begins_in_a_workspace_as_its_user() {
    const WHO: &str = "import os, json; print(json.dumps([os.getcwd(), os.environ['USER'], os.getuid(), os.getgid(), \
        sorted(os.getgroups()), os.path.expanduser('~')]))";
    let gateway = Gateway::start("auto").await;
    let source = gateway.root().join("source");
    fs::create_dir_all(source.join("libs")).unwrap();
    let command = |program: &str| {
        let mut command = Command::new(program);
        command
            .env("HOME", gateway.root())
            .env("NB_DATA_DIR", gateway.root().join("data"));
        command
            .env("NB_STATE_DIR", gateway.root().join("state"))
            .current_dir(&source);
        command
    };
    let git = async |arguments: &[&str]| {
        let who = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org"];
        let done = run(command("git").args(who).args(arguments)).await;
        assert!(done.is_good, "{}", done.why);
    };
    fs::write(source.join("libs/a"), "").unwrap();
    git(&["init", "--quiet"]).await;
    git(&["add", "--all"]).await;
    git(&["commit", "--quiet", "--message=x"]).await;
    let unknown = json!({"name": "python3", "env": {"KERNEL_WORKSPACE": "source"}}).to_string();
    let (status, error) = gateway.rest("POST", "/api/kernels", &unknown).await;
    let message = error["message"].as_str().unwrap();
    assert!(
        status == 400 && message.contains("there is no workspace source: there is none yet"),
        "{status} {error}"
    );
    for arguments in [["create", "."], ["complete", "source"]] {
        let done = run(command(env!("CARGO_BIN_EXE_nb"))
            .arg("workspace")
            .args(arguments))
        .await;
        assert!(done.is_good, "{}", done.why);
    }
    let tree = gateway.root().join("data/workspaces/source");
    let mut groups: Vec<u32> = getgroups()
        .unwrap()
        .into_iter()
        .map(|group| group.as_raw())
        .collect();
    groups.sort_unstable();
    let user = run(Command::new("id").arg("-un"))
        .await
        .said
        .trim()
        .to_owned();
    for (env, works_in) in [
        (json!({}), tree.clone()),
        // Clients send where the notebook is.
        (json!({"KERNEL_WORKING_DIR": gateway.root()}), tree.clone()),
        (
            json!({"KERNEL_WORKING_DIR": tree.join("libs")}),
            tree.join("libs"),
        ),
    ] {
        let mut env = env;
        env["KERNEL_WORKSPACE"] = "source".into();
        let body = json!({"name": "python3", "env": env});
        let kernel = gateway.kernel(&body.to_string()).await;
        let mut client = gateway.connect(&kernel, "a").await;
        let said = client.run(WHO).await.text;
        let who: Value = serde_json::from_str(&said).unwrap_or_else(|_| panic!("{said}"));
        let expected = json!([
            works_in,
            user,
            geteuid().as_raw(),
            getegid().as_raw(),
            groups,
            gateway.root()
        ]);
        assert_eq!(who, expected);
    }
    // Without a gateway as well.
    let notebook = gateway.root().join("where.ipynb");
    let cell = json!({"cell_type": "code", "source": "import os; print(os.getcwd())", "metadata": {}, "outputs": [], "execution_count": null, "id": "a"});
    let spec = json!({"kernelspec": {"name": "python3", "display_name": "", "language": "python"}});
    let document = json!({"nbformat": 4, "nbformat_minor": 5, "metadata": spec, "cells": [cell]});
    fs::write(&notebook, document.to_string()).unwrap();
    for (from, more, works_in) in [
        (&source, &[][..], &tree),
        (&tree.join("libs"), &[], &tree.join("libs")),
        (&tree, &["--cwd", source.to_str().unwrap()], &source),
    ] {
        let done = run(command(env!("CARGO_BIN_EXE_nb"))
            .arg("run")
            .arg(&notebook)
            .args(["--log-output", "--no-progress"])
            .args(more)
            .current_dir(from)
            .env("NB_RUNTIME_DIR", gateway.root().join("own"))
            .env("KERNEL_WORKSPACE", "source"))
        .await;
        let said = format!("{}{}", done.said, done.why);
        assert!(
            done.is_good && said.contains(works_in.to_str().unwrap()),
            "{said}"
        );
    }
}
