//! Pexes as they are and as they should not be: made here, byte by byte.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use miniz_oxide::deflate::compress_to_vec;
use proptest::prelude::*;

use super::*;
use crate::env::interpreters::tests::about;

const SIX: &str = "six-1.16.0-py2.py3-none-any.whl";

/// A file of an archive, and what its directory says of it.
#[derive(Clone)]
struct Made {
    name: String,
    content: Vec<u8>,
    mode: u32,
    is_deflated: bool,
    size: Option<u32>,
}

fn made(name: &str, content: impl AsRef<[u8]>) -> Made {
    Made {
        name: name.to_owned(),
        content: content.as_ref().to_owned(),
        mode: 0o100_644,
        is_deflated: true,
        size: None,
    }
}

fn info(more: &str) -> Made {
    let text = format!(r#"{{"code_hash":"c0de","distributions":{{"{SIX}":"5156"}}{more}}}"#);
    made("PEX-INFO", text)
}

/// A pex with the distribution six and a module of its own.
fn files() -> Vec<Made> {
    let dep = |path: &str, content: &str| made(&format!(".deps/{SIX}/{path}"), content);
    let mut program = dep("six.py", "__version__ = '1.16.0'\n");
    program.mode = 0o100_755;
    vec![
        info(""),
        made("__main__.py", "print('never run')"),
        made(".bootstrap/pex/__init__.py", ""),
        made("corp/__init__.py", "NAME = 'corp'\n"),
        dep(".layout.json", "{}"),
        program,
        dep(
            "six-1.16.0.dist-info/METADATA",
            "Name: six\nVersion: 1.16.0\n",
        ),
        dep(".prefix/bin/six", "#!/usr/bin/python"),
    ]
}

fn zip(files: &[Made]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut directory = Vec::new();
    for file in files {
        let packed = match file.is_deflated {
            true => compress_to_vec(&file.content, 6),
            false => file.content.clone(),
        };
        let at = u32::try_from(bytes.len()).unwrap();
        let number = |length: usize| u32::try_from(length).unwrap().to_le_bytes();
        let mut same = Vec::new();
        same.extend([0; 2]);
        same.extend(u16::from(file.is_deflated).wrapping_mul(8).to_le_bytes());
        same.extend([0; 4]);
        same.extend(crc32fast::hash(&file.content).to_le_bytes());
        same.extend(number(packed.len()));
        same.extend(
            file.size
                .map_or(number(file.content.len()), u32::to_le_bytes),
        );
        same.extend(u16::try_from(file.name.len()).unwrap().to_le_bytes());
        same.extend([0; 2]);
        bytes.extend(b"PK\x03\x04\x14\0");
        bytes.extend(&same);
        bytes.extend(file.name.as_bytes());
        bytes.extend(&packed);
        directory.extend(b"PK\x01\x02\x14\x03\x14\0");
        directory.extend(&same);
        directory.extend([0; 6]);
        directory.extend((file.mode << 16).to_le_bytes());
        directory.extend(at.to_le_bytes());
        directory.extend(file.name.as_bytes());
    }
    let count = u16::try_from(files.len()).unwrap().to_le_bytes();
    let number = |length: usize| u32::try_from(length).unwrap().to_le_bytes();
    let mut end = b"PK\x05\x06\0\0\0\0".to_vec();
    end.extend(count.iter().chain(&count));
    end.extend(number(directory.len()));
    end.extend(number(bytes.len()));
    end.extend([0; 2]);
    [bytes, directory, end].concat()
}

struct Folder {
    root: tempfile::TempDir,
}

impl Folder {
    fn new() -> Self {
        Self {
            root: tempfile::tempdir().unwrap(),
        }
    }

    fn data(&self) -> PathBuf {
        self.root.path().join("data")
    }

    fn put(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.root.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    async fn mount(&self, path: &Path) -> Result<Mount, String> {
        let pex = Pex::open(path).await.map_err(|error| error.message)?;
        let fit = pex.fit(&about("CPython", "3.11.7")).unwrap();
        let mounted = pex.mount(&fit, &self.data(), &|_| ()).await;
        mounted.map_err(|error| error.message)
    }

    /// What is there, under nb's data folder.
    fn items(&self, kind: &str) -> Vec<String> {
        let items = fs::read_dir(self.data().join("pex").join(kind));
        let names = items.into_iter().flatten().flatten();
        let mut names: Vec<_> = names
            .map(|entry| entry.file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

fn read(mount: &Mount, path: &str) -> String {
    fs::read_to_string(mount.folder.join(path)).unwrap()
}

#[tokio::test]
async fn a_pex_becomes_one_folder_to_import_from() {
    let folder = Folder::new();
    let bytes = [b"#!/usr/bin/env python3\n".to_vec(), zip(&files())].concat();
    let path = folder.put("app.pex", bytes);
    let mount = folder.mount(&path).await.unwrap();
    assert_eq!(read(&mount, "corp/__init__.py"), "NAME = 'corp'\n");
    assert_eq!(read(&mount, "six.py"), "__version__ = '1.16.0'\n");
    assert!(mount.folder.join("six-1.16.0.dist-info/METADATA").exists());
    for name in [
        "bin",
        ".prefix",
        ".layout.json",
        "__main__.py",
        ".bootstrap",
    ] {
        assert!(!mount.folder.join(name).exists(), "{name}");
    }
    let mode = |name: &str| fs::metadata(mount.folder.join(name)).unwrap().mode() & 0o777;
    assert_eq!((mode("corp/__init__.py"), mode("six.py")), (0o444, 0o555));
    assert_eq!(mount.content.modules, ["corp"]);
    let six = Distribution {
        project: "six".to_owned(),
        version: "1.16.0".to_owned(),
        modules: vec!["six".to_owned()],
    };
    assert_eq!(mount.content.distributions, [six]);
    assert_eq!(folder.mount(&path).await.unwrap(), mount);
}

#[tokio::test]
async fn all_layouts_share_what_is_the_same() {
    let folder = Folder::new();
    let zipped = folder.mount(&folder.put("app.pex", zip(&files()))).await;
    let zipped = zipped.unwrap();
    for file in files() {
        let path = folder.put(&format!("loose/{}", file.name), &file.content);
        fs::set_permissions(path, fs::Permissions::from_mode(file.mode)).unwrap();
        if !file.name.starts_with(".deps") {
            folder.put(&format!("packed/{}", file.name), &file.content);
        }
    }
    let inner = files().into_iter().filter_map(|mut file| {
        file.name = file.name.strip_prefix(&format!(".deps/{SIX}/"))?.to_owned();
        Some(file)
    });
    let inner = zip(&inner.collect::<Vec<_>>());
    folder.put(&format!("packed/.deps/{SIX}"), &inner);
    // As whole wheels, packed again or not.
    let outer = |is_deflated| {
        let mut all = files();
        all.retain(|file| !file.name.starts_with(".deps"));
        let mut dep = made(&format!(".deps/{SIX}"), &inner);
        dep.is_deflated = is_deflated;
        all.push(dep);
        zip(&all)
    };
    folder.put("stored.pex", outer(false));
    folder.put("nested.pex", outer(true));
    // What Python left when somebody ran it.
    folder.put(
        "loose/corp/__pycache__/__init__.cpython-311.pyc",
        "compiled",
    );
    for name in ["loose", "packed", "stored.pex", "nested.pex"] {
        let mount = folder.mount(&folder.root.path().join(name)).await.unwrap();
        assert_eq!(mount.hash, zipped.hash, "{name}");
    }
    assert_eq!(
        (folder.items("store").len(), folder.items("mounts").len()),
        (2, 1)
    );
    // Other code, the same distribution: one more of the one, the same of the other.
    let mut other = files();
    other[3] = made("corp/__init__.py", "NAME = 'other'\n");
    let other = folder
        .mount(&folder.put("other.pex", zip(&other)))
        .await
        .unwrap();
    assert_eq!(folder.items("store").len(), 3);
    let inode = |mount: &Mount| fs::metadata(mount.folder.join("six.py")).unwrap().ino();
    assert_eq!(inode(&other), inode(&zipped));
    assert_eq!(read(&zipped, "corp/__init__.py"), "NAME = 'corp'\n");
}

#[tokio::test]
async fn what_two_have_is_of_the_first() {
    let folder = Folder::new();
    let mut all = files();
    all.push(made("six.py", "mine"));
    all.push(made(&format!(".deps/{SIX}/corp/__init__.py/odd"), ""));
    let mount = folder
        .mount(&folder.put("app.pex", zip(&all)))
        .await
        .unwrap();
    assert_eq!(read(&mount, "six.py"), "mine");
    assert_eq!(mount.content.collisions, ["corp/__init__.py/odd", "six.py"]);
}

#[tokio::test]
async fn what_is_half_there_is_made_again() {
    let folder = Folder::new();
    let path = folder.put("app.pex", zip(&files()));
    let mount = folder.mount(&path).await.unwrap();
    let pex = folder.data().join("pex");
    // A loss of power, a killed process.
    fs::remove_file(mount.folder.parent().unwrap().join("nb-pex.json")).unwrap();
    fs::create_dir_all(pex.join("store/abc.part/a")).unwrap();
    fs::create_dir_all(pex.join("mounts/abc.part/a")).unwrap();
    for item in folder.items("store") {
        let file = pex.join("store").join(item).join("six.py");
        if file.exists() {
            fs::remove_file(&file).unwrap();
            fs::write(&file, "").unwrap();
        }
    }
    assert_eq!(folder.mount(&path).await.unwrap(), mount);
    assert_eq!(read(&mount, "six.py"), "__version__ = '1.16.0'\n");
    assert_eq!(
        (folder.items("store").len(), folder.items("mounts").len()),
        (2, 1)
    );
}

#[tokio::test]
async fn two_at_once_make_one() {
    let folder = Folder::new();
    let path = folder.put("app.pex", zip(&files()));
    let (one, other) = tokio::join!(folder.mount(&path), folder.mount(&path));
    assert_eq!(one.unwrap(), other.unwrap());
    assert_eq!(folder.items("mounts").len(), 1);
}

#[tokio::test]
async fn hostile_and_damaged_pexes_are_refused() {
    let with = |file: Made| zip(&[files(), vec![file]].concat());
    let mut link = made("corp/link", "/etc/passwd");
    link.mode = 0o120_777;
    let mut short = made("corp/short", "more than it says");
    short.size = Some(3);
    let mut bomb = made("corp/bomb", vec![0; 100_000]);
    bomb.size = Some(u32::MAX - 1);
    let whole = zip(&files());
    let mut flipped = whole.clone();
    let six = whole.windows(6).position(|it| it == b"six.py").unwrap();
    flipped[six + 10] ^= 0xff;
    // Files that take the same bytes, all of the archive each.
    let mut shared = zip(&[info(""), made("a", "a"), made("b", "b")]);
    let length = u32::try_from(shared.len()).unwrap().to_le_bytes();
    for at in 0..shared.len() - 4 {
        if shared[at..].starts_with(b"PK\x01\x02") {
            shared[at + 20..][..4].copy_from_slice(&length);
        }
    }
    for (what, bytes, why) in [
        ("slip", with(made("../out.py", "")), "leads out of it"),
        ("root", with(made("/out.py", "")), "leads out of it"),
        (
            "middle",
            with(made(".deps/a.whl/b/../../../out.py", "")),
            "leads out of it",
        ),
        ("link", with(link), "no plain file"),
        ("twice", with(made("corp/__init__.py", "other")), "twice"),
        ("short", with(short), "corp/short in it is damaged"),
        ("bomb", with(bomb), "corp/bomb in it is damaged"),
        ("flipped", flipped, "damaged"),
        ("shared", shared, "share their bytes"),
        (
            "cut",
            whole[..whole.len() / 2].to_vec(),
            "no zip archive, or was cut off",
        ),
        ("empty", Vec::new(), "no zip archive, or was cut off"),
        ("text", b"hello".to_vec(), "no zip archive, or was cut off"),
        ("no info", zip(&files()[1..]), "no PEX-INFO"),
        (
            "bad info",
            zip(&[made("PEX-INFO", "{")]),
            "PEX-INFO is damaged",
        ),
        ("no dep", zip(&files()[..4]), "is not in it"),
    ] {
        let folder = Folder::new();
        let path = folder.put("hostile.pex", bytes);
        let refused = folder.mount(&path).await.expect_err(what);
        assert!(refused.contains(why), "{what}: {refused}");
        assert!(!folder.root.path().join("out.py").exists(), "{what}");
        assert!(folder.items("mounts").is_empty(), "{what}");
    }
    let folder = Folder::new();
    let missing = folder.mount(Path::new("/no/such.pex")).await.unwrap_err();
    assert_eq!(
        missing,
        "/no/such.pex cannot be read as a pex: there is no such file."
    );
    let other = folder.mount(folder.root.path()).await.unwrap_err();
    assert!(other.contains("folder without PEX-INFO"), "{other}");
}

#[tokio::test]
async fn what_would_fill_a_disk_or_the_memory_is_refused_before() {
    let folder = Folder::new();
    // Distributions that are packed once more, each of nearly 4 GiB as it says.
    let names: Vec<String> = (0..17)
        .map(|n| format!("d{n}-1-py3-none-any.whl"))
        .collect();
    let listed: Vec<String> = names
        .iter()
        .map(|name| format!("\"{name}\":\"\""))
        .collect();
    let text = format!("{{\"distributions\":{{{}}}}}", listed.join(","));
    let mut all = vec![made("PEX-INFO", text)];
    all.extend(names.iter().map(|name| Made {
        size: Some(u32::MAX - 1),
        ..made(&format!(".deps/{name}"), "x")
    }));
    let nested = folder.mount(&folder.put("nested.pex", zip(&all))).await;
    assert!(nested.unwrap_err().contains("larger than 64 GiB"));

    // More names than anybody has.
    let mut bytes = zip(&[]);
    let end = bytes.split_off(0);
    for n in 0..=super::zip::FILES_MAX {
        bytes.extend(b"PK\x01\x02\x14\x03\x14\0");
        bytes.extend([0; 20]);
        bytes.extend(7u16.to_le_bytes());
        bytes.extend([0; 16]);
        bytes.extend(format!("{n:07}").as_bytes());
    }
    let size = u32::try_from(bytes.len()).unwrap().to_le_bytes();
    bytes.extend(&end[..12]);
    bytes.extend(size);
    bytes.extend([0; 6]);
    let many = folder.mount(&folder.put("many.pex", bytes)).await;
    assert!(many.unwrap_err().contains("more files than a program has"));
}

#[test]
fn nothing_is_written_for_whoever_has_lost_interest() {
    use std::io::Write;
    let lost = AtomicBool::new(false);
    let mut to = super::unpack::Unless::new(Vec::new(), &lost);
    to.write_all(b"a").unwrap();
    lost.store(true, Ordering::Relaxed);
    let why = to.write_all(b"b").unwrap_err().to_string();
    assert_eq!(
        (why.as_str(), to.into_inner()),
        ("it was interrupted", b"a".to_vec())
    );
}

#[tokio::test]
async fn a_pipe_is_not_waited_for() {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    let folder = Folder::new();
    let info = folder.put("app.pex/x", "").with_file_name("PEX-INFO");
    mknodat(CWD, &info, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let why = folder.mount(info.parent().unwrap()).await.unwrap_err();
    assert!(why.contains("no plain file"), "{why}");
}

#[tokio::test]
async fn links_in_a_folder_lead_nowhere_else() {
    let folder = Folder::new();
    for file in files() {
        folder.put(&format!("loose/{}", file.name), &file.content);
    }
    let loose = folder.root.path().join("loose");
    symlink("__init__.py", loose.join("corp/same.py")).unwrap();
    let mount = folder.mount(&loose).await.unwrap();
    assert_eq!(read(&mount, "corp/same.py"), "NAME = 'corp'\n");
    symlink("/etc/passwd", loose.join("corp/out.py")).unwrap();
    let refused = folder.mount(&loose).await.unwrap_err();
    assert!(refused.contains("leads out of it"), "{refused}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_change_of_a_pex_is_taken_without_a_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = zip(&files());
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let about = about("CPython", "3.11.7");
        let _any = read_through(&bytes, &about);
        prop_assert!(read_through(&bytes[..cut.index(bytes.len())], &about).is_err());
    }
}
