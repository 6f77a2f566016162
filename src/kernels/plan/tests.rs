//! Starts as they come out of requests.

use std::fs;

use super::*;
use crate::kernels::kernelspecs::SearchPath;

const ID: &str = "00000000-0000-4000-8000-000000000001";

fn planner(root: &Path) -> Planner {
    let folder = root.join("data/kernels/echo");
    fs::create_dir_all(&folder).unwrap();
    let json = r#"{"argv":["echo"],"metadata":{"nb":{"transport":"tcp"}},
        "env":{"PATH":"/own:${PATH}","KERNEL_A":"spec","NB_TOKEN":"x"}}"#;
    fs::write(folder.join("kernel.json"), json).unwrap();
    let search = SearchPath::of(vec![root.join("data/kernels")]);
    Planner {
        catalog: Catalog::new(search),
        root: root.to_owned(),
        home: PathBuf::from("/"),
        inherited: env(&[("PATH", "/bin")]),
        data: root.join("data"),
        journals: root.join("journals"),
        config: config::Settings::default(),
    }
}

fn plan(planner: &Planner, asked: &Asked) -> Result<Start, PlanError> {
    let whose = Whose {
        owner: "me".to_owned(),
        started_by: "me".to_owned(),
    };
    let allowed = &planner.config.kernels.env_allowed;
    planner.plan(asked, Wishes::read(&asked.env, allowed)?, whose)
}

fn env(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn asked(pairs: &[(&str, &str)]) -> Asked {
    Asked {
        spec: Some("echo".to_owned()),
        place: None,
        env: env(pairs),
    }
}

#[test]
fn a_start_has_its_own_names_over_the_specs_and_no_others() {
    let root = tempfile::tempdir().unwrap();
    let planner = planner(root.path());
    let pairs = [
        ("KERNEL_A", "mine"),
        ("KERNEL_ID", ID),
        ("PATH", "/evil"),
        ("LD_PRELOAD", "x"),
    ];
    let start = plan(&planner, &asked(&pairs)).unwrap();
    let expected = [
        ("KERNEL_A", "mine"),
        ("KERNEL_ID", ID),
        ("PATH", "/own:/bin"),
    ];
    assert_eq!(start.env, env(&expected));
    assert_eq!(
        (start.kernel_id.as_str(), start.transport),
        (ID, Transport::Tcp)
    );
    assert_eq!(start.launch_timeout_ms, 60_000);

    let other = plan(&planner, &asked(&[])).unwrap();
    assert_eq!(other.env["KERNEL_A"], "spec");
    assert_ne!(other.kernel_id, ID);
}

#[test]
fn what_cannot_be_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let planner = planner(root.path());
    for pair in [
        ("KERNEL_ID", "x"),
        ("KERNEL_ID", "00000000-0000-4000-8000-00000000000A"),
        ("KERNEL_LINGER", "0"),
        ("KERNEL_LAUNCH_TIMEOUT", "soon"),
        ("KERNEL_LAUNCH_TIMEOUT", "-1"),
        ("KERNEL_LAUNCH_TIMEOUT", "NaN"),
        ("KERNEL_A=B", ""),
        ("KERNEL_A", "nul\0"),
    ] {
        let error = plan(&planner, &asked(&[pair])).unwrap_err();
        assert!(
            matches!(error, PlanError::BadRequest(_)),
            "{pair:?}: {error:?}"
        );
    }
    let nobody = Asked {
        spec: Some("../echo".to_owned()),
        ..Asked::default()
    };
    let error = plan(&planner, &nobody).unwrap_err();
    assert!(matches!(error, PlanError::UnknownSpec(_)), "{error:?}");
}

#[test]
fn a_kernel_that_is_to_run_elsewhere_is_not_run_here() {
    let root = tempfile::tempdir().unwrap();
    let planner = planner(root.path());
    let folder = root.path().join("data/kernels/far");
    fs::create_dir_all(&folder).unwrap();
    let json =
        r#"{"argv":["x"],"metadata":{"kernel_provisioner":{"provisioner_name":"far-away"}}}"#;
    fs::write(folder.join("kernel.json"), json).unwrap();
    let asked = Asked {
        spec: Some("far".to_owned()),
        ..Asked::default()
    };
    match plan(&planner, &asked) {
        Err(PlanError::NotImplemented(message)) => assert!(message.contains("far-away")),
        other => panic!("{other:?}"),
    }
    // Whoever names none gets one that can be started.
    fs::remove_dir_all(root.path().join("data/kernels/echo")).unwrap();
    fs::rename(&folder, root.path().join("data/kernels/a")).unwrap();
    let near = root.path().join("data/kernels/b");
    fs::create_dir_all(&near).unwrap();
    fs::write(near.join("kernel.json"), r#"{"argv":["x"]}"#).unwrap();
    assert_eq!(plan(&planner, &Asked::default()).unwrap().spec, "b");
}

#[test]
fn launch_timeouts_are_seconds_within_the_servers_bound() {
    assert_eq!(milliseconds("40"), Some(40_000));
    assert_eq!(milliseconds(" 0.5 "), Some(500));
    assert_eq!(milliseconds("0"), None);
    let root = tempfile::tempdir().unwrap();
    let mut planner = planner(root.path());
    planner.config.kernels.launch_timeout_ms_max = 9_000;
    let planned = |planner: &Planner, seconds: &[(&str, &str)]| {
        let start = plan(planner, &asked(seconds)).unwrap();
        start.launch_timeout_ms
    };
    for (seconds, expected) in [("4", 4_000), ("1e300", 9_000), ("inf", 9_000)] {
        let wish = [("KERNEL_LAUNCH_TIMEOUT", seconds)];
        assert_eq!(planned(&planner, &wish), expected);
    }
    planner.config.kernels.launch_timeout_ms = 3_000;
    planner.config.journal.retention_s = 5;
    assert_eq!(planned(&planner, &[]), 3_000);
    let of_spec = config::OfSpec {
        launch_timeout_ms: Some(2_000),
        journal_bytes_max: Some(1),
        journal_mode: Some(config::JournalMode::Off),
        ..config::OfSpec::default()
    };
    planner
        .config
        .kernels
        .of_spec
        .insert("echo".to_owned(), of_spec);
    assert_eq!(planned(&planner, &[]), 2_000);
    let start = plan(&planner, &asked(&[])).unwrap();
    assert_eq!(start.journal_bytes_max, 1);
    assert_eq!(start.journal.mode, JournalMode::Off);
    assert_eq!(start.journal.retention_s, 5);
}

#[test]
fn the_working_directory_is_the_asked_one_or_a_note_says_so() {
    let root = tempfile::tempdir().unwrap();
    let planner = planner(root.path());
    let folder = root.path().join("a b");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("file.py"), "").unwrap();
    let outside = root.path().join("data").display().to_string();
    let start = |place: Option<Place>, pairs: &[(&str, &str)]| {
        let asked = Asked {
            place,
            ..asked(pairs)
        };
        let start = plan(&planner, &asked).unwrap();
        (start.cwd, start.cwd_note)
    };
    let path = |path: &str| Some(Place::Path(path.to_owned()));
    let notebook = |path: &str| Some(Place::Notebook(path.to_owned()));

    assert_eq!(start(None, &[]), (root.path().to_owned(), None));
    for place in [
        path("a b"),
        path("/a b/file.py"),
        notebook("a b/none.ipynb"),
    ] {
        assert_eq!(start(place, &[]), (folder.clone(), None));
    }
    // A notebook in the root, as VS Code names them, asks for the root.
    assert_eq!(
        start(notebook("x-jvsc-1.ipynb"), &[]),
        (root.path().to_owned(), None)
    );
    let asked_elsewhere = start(path("a b"), &[("KERNEL_WORKING_DIR", &outside)]);
    assert_eq!(asked_elsewhere, (root.path().join("data"), None));

    // What cannot be had is no reason to forget the rest.
    let laptop = [("KERNEL_WORKING_DIR", "/home/on/the/laptop")];
    let (cwd, note) = start(path("a b"), &laptop);
    assert_eq!(cwd, folder);
    assert!(note.unwrap().contains("/home/on/the/laptop"));

    for (cwd, note) in [
        start(notebook("none/x.ipynb"), &[]),
        start(None, &laptop),
        start(None, &[("KERNEL_WORKING_DIR", "relative")]),
    ] {
        assert_eq!(cwd, root.path());
        assert!(note.unwrap().contains("this kernel works in"));
    }
    assert_eq!(start(path("../../etc"), &[]).0, root.path());

    let homeless = Planner {
        root: root.path().join("none"),
        ..planner
    };
    let start = plan(&homeless, &asked(&[])).unwrap();
    assert_eq!((start.cwd, start.cwd_note), (PathBuf::from("/"), None));
}

#[test]
fn what_clients_are_allowed_to_set_wins_over_the_spec_and_the_rest_is_passed_over() {
    let root = tempfile::tempdir().unwrap();
    let mut planner = planner(root.path());
    planner.config.kernels.env_allowed = vec!["PATH".to_owned(), "MY_*".to_owned()];
    let pairs = [
        ("PATH", "/mine"),
        ("MY_A", "$PATH"),
        ("OTHER", "x"),
        ("KERNEL_ID", ID),
    ];
    let start = plan(&planner, &asked(&pairs)).unwrap();
    let expected = [
        ("PATH", "/mine"),
        ("MY_A", "$PATH"),
        ("KERNEL_A", "spec"),
        ("KERNEL_ID", ID),
    ];
    assert_eq!(start.env, env(&expected));
    let error = plan(&planner, &asked(&[("MY_B", "nul\0")])).unwrap_err();
    assert!(matches!(error, PlanError::BadRequest(_)), "{error:?}");
}

#[test]
fn templates_are_filled_in_as_python_does() {
    let env = env(&[("A", "1"), ("A_2", "${A}")]);
    for (template, expected) in [
        ("$A-${A}-$A_2", "1-1-${A}"),
        ("$$A $${A}", "$A ${A}"),
        (
            "$UNKNOWN ${UNKNOWN} ${A $ ${} $1 é$",
            "$UNKNOWN ${UNKNOWN} ${A $ ${} $1 é$",
        ),
    ] {
        assert_eq!(substitute(template, &env), expected);
    }
}
