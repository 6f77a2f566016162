//! Packages of a site of its own: a real index and a real git server that ask for a password, behind TLS of a CA of the
//! test's and behind a real proxy. The keyring's program is a stand-in: there is no desktop here whose keyring it could ask.

mod site;

use std::fs;

use serde_json::json;
use tokio::process::Command;

use self::site::{PASSWORD, Site};
use crate::client::Client;
use crate::gateway::Gateway;
use crate::monorepo::{GitServer, Monorepo};
use crate::packages::{fail, notebook, run, with_pycx, with_uv};

/// What a user types, who then has it on the screen.
const TYPED: &str = "typed-s3cret";

/// An install that has to be refused; all that is said of it.
async fn refused(client: &mut Client, code: &str) -> String {
    let outcome = client.run(code).await;
    assert_eq!(outcome.reply["status"], "error", "{code}: {outcome:?}");
    let said = format!("{}{}", outcome.text, outcome.reply);
    assert!(!said.contains(PASSWORD), "{said}");
    assert!(said.contains("does not let us in"), "{said}");
    said
}

/// What is kept on the disk of the secrets of this test, but where the test itself put them.
fn kept(gateway: &Gateway, secret: &str, own: &[&str]) -> Vec<String> {
    let found = std::process::Command::new("grep")
        .args([
            "--recursive",
            "--files-with-matches",
            "--binary-files=text",
            secret,
        ])
        .arg(gateway.root())
        .output()
        .unwrap();
    let found = String::from_utf8(found.stdout).unwrap();
    let is_own = |file: &&str| own.iter().any(|own| file.ends_with(own));
    found
        .lines()
        .filter(|file| !is_own(file))
        .map(str::to_owned)
        .collect()
}

#[tokio::test]
async fn whoever_knows_the_password_gets_packages_and_nobody_sees_it() {
    let mut gateway = with_pycx().await;
    let site = Site::start(&["one", "two", "three", "four"]).await;
    let index = format!(
        "extra_index_urls = [\"http://127.0.0.1:{}/simple/\"]\n",
        site.port
    );
    let own = gateway.root().join("own-bin");
    let script = |name: &str, text: &str| site::script(&own.join(name), text);
    let settings =
        |more: &str| format!("[kernels]\nenv_allowed = [\"PATH\"]\n[packages]\n{index}{more}");
    gateway.replace_set(&settings("")).await;
    let path = format!("{}:{}", own.display(), std::env::var("PATH").unwrap());
    let body = json!({"name": "pycx", "env": {"PATH": path}});
    let kernel = gateway.kernel(&body.to_string()).await;
    let mut a = gateway.connect(&kernel, "a").await;
    let mut said = refused(&mut a, "%pip install acme-one").await;

    // netrc, which is how it is by itself.
    let netrc = gateway.root().join(".netrc");
    let login = |password: &str| format!("machine 127.0.0.1 login ada password {password}\n");
    fs::write(&netrc, login("wrong-s3cret")).unwrap();
    said += &refused(&mut a, "%pip install acme-one").await;
    fs::write(&netrc, login(PASSWORD)).unwrap();
    said += &run(&mut a, "%pip install acme-one").await;
    assert_eq!(
        run(&mut a, "import acme_one; print(acme_one.x)").await,
        "one\n"
    );
    fs::remove_file(&netrc).unwrap();

    // A command; what it says of a failure is shown, what it prints is not.
    let command = script(
        "login",
        &format!(
            "echo \"$2\" >> {}/asked\necho ada:{PASSWORD}",
            own.display()
        ),
    );
    let by_command =
        format!("credentials = \"command\"\ncredentials_command = [{command:?}, \"for\"]\n");
    gateway.put_settings(&settings(&by_command));
    said += &run(&mut a, "%pip install acme-two").await;
    assert_eq!(
        run(&mut a, "import acme_two; print(acme_two.x)").await,
        "two\n"
    );
    let asked = fs::read_to_string(own.join("asked")).unwrap();
    assert_eq!(
        asked,
        format!("http://127.0.0.1:{}/simple/\n", site.port),
        "asked once"
    );
    script(
        "login",
        &format!("echo {PASSWORD}; echo 'no ticket: run kinit, then try {PASSWORD}' >&2; exit 3"),
    );
    gateway.put_settings(&settings(&by_command.replace("for", "again")));
    let outcome = a.run("%pip install acme-three").await;
    let failed = format!("{}{}", outcome.text, outcome.reply);
    assert!(
        failed.contains("told none for") && failed.contains("run kinit"),
        "{failed}"
    );
    said += &failed;

    // The keyring.
    let keyring = format!(
        "test \"$*\" = '--mode creds --output json get http://127.0.0.1:{}/simple/' || exit 1\n\
         echo '{{\"username\": \"ada\", \"password\": \"{PASSWORD}\"}}'",
        site.port
    );
    script("keyring", &keyring);
    gateway.put_settings(&settings("credentials = \"keyring\"\n"));
    said += &run(&mut a, "%pip install acme-three").await;
    assert_eq!(
        run(&mut a, "import acme_three; print(acme_three.x)").await,
        "three\n"
    );
    // pip itself has it too.
    said += &run(&mut a, "%pip download acme-four --no-deps -d got").await;
    assert!(
        gateway
            .root()
            .join("got/acme_four-1.0-py3-none-any.whl")
            .exists()
    );

    // A login in the settings, and a tool that prints a password.
    let in_url = settings("").replace("http://", &format!("http://ada:{PASSWORD}@"));
    gateway.put_settings(&in_url);
    said += &run(&mut a, "%pip install acme-four").await;
    said += &run(&mut a, "x = %nb status\nprint(x)\n%pip freeze").await;
    assert!(said.contains("acme-four"), "{said}");
    assert!(
        !said.contains(PASSWORD) && !said.contains("wrong-s3cret"),
        "{said}"
    );
    let own = ["nb.toml", "own-bin/login", "own-bin/keyring"];
    assert_eq!(kept(&gateway, PASSWORD, &own), [""; 0]);
}

#[tokio::test]
async fn what_is_typed_and_what_pip_is_told_counts_and_is_not_kept() {
    let gateway = with_uv().await;
    let site = Site::start(&["five", "six", "seven", "eight"]).await;
    let at = format!("127.0.0.1:{}", site.port);
    let url = format!("http://bob:{TYPED}@{at}/simple/");
    let kernel = notebook(&gateway, "a.ipynb", "pip").await;
    let mut a = gateway.connect(&kernel, "a").await;
    let mut said = run(
        &mut a,
        &format!("%pip install acme-five --extra-index-url {url}"),
    )
    .await;
    // pip's own file.
    let conf = gateway.root().join(".config/pip");
    fs::create_dir_all(&conf).unwrap();
    fs::write(
        conf.join("pip.conf"),
        format!("[global]\nextra-index-url =\n    {url}\n"),
    )
    .unwrap();
    said += &run(&mut a, "%pip install acme-six").await;
    said += &run(&mut a, "!pip install acme-seven").await;
    fs::remove_file(conf.join("pip.conf")).unwrap();
    // A file of requirements, which has the names of variables.
    let file = format!("--extra-index-url http://${{WHO}}@{at}/simple/\nacme-eight\n");
    fs::write(gateway.root().join("r.txt"), file).unwrap();
    let who = format!("import os; os.environ['WHO'] = 'bob:{TYPED}'\n!pip install -r r.txt");
    said += &run(&mut a, &who).await;
    // The address of a wheel.
    run(&mut a, "%pip uninstall -y acme-five").await;
    let wheel = format!("{at}/packages/acme_five-1.0-py3-none-any.whl");
    let failed = a
        .run(&format!("%pip install http://bob:no-{TYPED}@{wheel}"))
        .await;
    assert_eq!(failed.reply["ename"], "PipError", "{failed:?}");
    let failed = format!("{}{}", failed.text, failed.reply["evalue"]);
    assert!(failed.contains("does not let us in"), "{failed}");
    said += &run(&mut a, &format!("%pip install http://bob:{TYPED}@{wheel}")).await;
    let all = run(&mut a, "%pip freeze").await;
    assert!(
        all.contains(&format!("acme_five @ http://{wheel}")) && all.contains("acme_eight==1.0"),
        "{all}"
    );
    said += &(failed + &all);
    // A repository's login, which its server sees to be in no argument of git's.
    let repository = Monorepo::new().await;
    repository.commit().await;
    let root = repository.root().join("..");
    let git = GitServer::start(&root, &format!("ada:{PASSWORD}")).await;
    let file = format!(
        "git+http://ada:{PASSWORD}@127.0.0.1:{}/repository/.git#subdirectory=libs/foo\n",
        git.port
    );
    fs::write(gateway.root().join("g.txt"), file).unwrap();
    said += &run(&mut a, "%pip install -r g.txt\nimport foo; print(foo.x)").await;
    assert!(said.ends_with("\n1\n"), "{said}");
    // What is loaded and not installed.
    said += &run(&mut a, "%requirements_load -r g.txt").await;
    assert!(said.contains("on the path: acme-foo 1.0"), "{said}");
    let loads = format!(
        "%requirements_load --extra-index-url {url} acme-six http://bob:{TYPED}@{wheel}\n\
         import acme_five, acme_six; print(acme_five.__file__)"
    );
    said += &run(&mut a, &loads).await;
    assert!(said.trim().ends_with("acme_five.py"), "{said}");
    assert!(!said.contains(TYPED) && !said.contains(PASSWORD), "{said}");
    assert_eq!(kept(&gateway, PASSWORD, &["g.txt"]), [""; 0]);
    // IPython's history has the cells as they were typed.
    assert_eq!(kept(&gateway, TYPED, &["history.sqlite"]), [""; 0]);
}

#[tokio::test]
async fn a_ca_and_a_proxy_of_the_site_are_used_by_uv_and_git() {
    let mut gateway = with_pycx().await;
    let site = Site::start(&["nine", "ten"]).await;
    let repository = Monorepo::new().await;
    repository.commit().await;
    let root = repository.root().join("..");
    let git = GitServer::start(&root, &format!("ada:{PASSWORD}")).await;
    let authority = site::Authority::make(&gateway.root()).await;
    let (index, forge) = (
        authority.before(site.port).await,
        authority.before(git.port).await,
    );
    let url = format!("https://127.0.0.1:{}/simple/", index.port);
    let extra = format!("[packages]\nextra_index_urls = [{url:?}]\n");
    let netrc = gateway.root().join("site-netrc");
    fs::write(
        &netrc,
        format!("machine 127.0.0.1\n  login ada\n  password {PASSWORD}\n"),
    )
    .unwrap();
    let extra = format!("{extra}netrc = {netrc:?}\n");
    gateway.replace_set(&extra).await;
    let kernel = notebook(&gateway, "a.ipynb", "pycx").await;
    let mut a = gateway.connect(&kernel, "a").await;
    let unknown = fail(&mut a, "%pip install acme-nine").await;
    assert!(
        unknown.contains("signed by nobody who is trusted"),
        "{unknown}"
    );

    let trusted = format!("{extra}ca_bundle = {:?}\n", authority.bundle());
    gateway.put_settings(&trusted);
    let mut said = run(&mut a, "%pip install acme-nine").await;
    assert_eq!(
        run(&mut a, "import acme_nine; print(acme_nine.x)").await,
        "nine\n"
    );
    let foo = format!(
        "git+https://127.0.0.1:{}/repository/.git@main#subdirectory=libs/foo",
        forge.port
    );
    said += &run(&mut a, &format!("%pip install 'acme-foo @ {foo}'")).await;
    assert_eq!(run(&mut a, "import foo; print(foo.x)").await, "1\n");
    let frozen = run(&mut a, "%pip freeze").await;
    assert!(
        frozen.contains(&format!(
            "git+https://127.0.0.1:{}/repository/.git@",
            forge.port
        )),
        "{frozen}"
    );
    // Typed, it is not in what the overlay keeps.
    let typed = foo.replace("127.0.0.1", "ada:planted-s%40cret@127.0.0.1");
    said += &run(&mut a, &format!("%pip install -U 'acme-foo @ {typed}'")).await;
    // Another password, typed, and refused.
    let typed = foo
        .replace("127.0.0.1", "ada:no-s@cret@127.0.0.1")
        .replace("main", "HEAD");
    let wrong = a
        .run(&format!("%pip install -U 'acme-foo @ {typed}'"))
        .await;
    assert_eq!(wrong.reply["ename"], "PipError", "{wrong:?}");
    let wrong = format!("{}{}", wrong.text, wrong.reply["evalue"]);
    assert!(wrong.contains("does not let us in"), "{wrong}");
    said += &(wrong + &frozen);

    // All of it through a proxy that asks for a password as well.
    let proxy = site::Proxy::start(&gateway.root(), &format!("eve:{PASSWORD}-too")).await;
    let through = |login: &str| {
        format!(
            "{trusted}proxy = \"http://{login}127.0.0.1:{}\"\n",
            proxy.port
        )
    };
    gateway.put_settings(&through(""));
    let shut = a.run("%pip install acme-ten").await;
    assert_eq!(shut.reply["ename"], "PipError", "{shut:?}");
    assert!(
        shut.reply["evalue"]
            .as_str()
            .unwrap()
            .contains("The proxy asks for a login"),
        "{shut:?}"
    );
    gateway.put_settings(&through(&format!("eve:{PASSWORD}-too@")));
    said += &run(&mut a, "%pip install acme-ten").await;
    assert_eq!(
        run(&mut a, "import acme_ten; print(acme_ten.x)").await,
        "ten\n"
    );
    let connected = format!("127.0.0.1:{}", index.port);
    assert!(proxy.log().contains(&connected), "{}", proxy.log());
    said += &run(&mut a, "x = %nb status\nprint(x)").await;
    assert!(
        !said.contains(PASSWORD) && !said.contains("no-s@cret"),
        "{said}"
    );
    let own = ["nb.toml", "site-netrc", "history.sqlite"];
    assert_eq!(kept(&gateway, "planted-s", &own), [""; 0]);

    // A release, and a repository that is watched, by the same settings.
    let home = gateway.root();
    let nb = async |arguments: &[&str]| {
        let command = Command::new(env!("CARGO_BIN_EXE_nb"))
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", &home)
            .env("NB_DATA_DIR", home.join("data"))
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(crate::up::SET_UP_LIMIT, command).await;
        let output = output.expect("nb hangs").unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(said).unwrap())
    };
    gateway.put_settings(&trusted);
    let forge = format!("https://127.0.0.1:{}/repository/.git", forge.port);
    let (made, told) = nb(&["env", "watch", "pycx", &forge, "--once"]).await;
    assert!(
        made && told.contains("is made") && !told.contains(PASSWORD),
        "{told}"
    );
    gateway.put_settings("");
    let (made, told) = nb(&["env", "watch", "pycx", &forge, "--once"]).await;
    assert!(!made && told.contains("could not be fetched"), "{told}");
}
