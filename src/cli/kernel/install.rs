//! `nb kernel install`: kernelspecs whose command is `nb launch`.
//!
//! Knows where Jupyter looks and what a `kernel.json` holds; how a kernel is started is `nb launch`'s.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::cli::output;
use crate::config::Places;
use crate::env::own_kernelspecs;
use crate::error::Error;
use crate::kernels::catalog::{Catalog, Listed};
use crate::kernels::kernelspecs::SearchPath;
use crate::protocol::kernelspec::is_valid_name;
use crate::table::table;

/// A larger picture is not copied.
const LOGO_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Installs kernelspecs that start kernels through nb
///
/// For each kernelspec there is one more, `nb-<name>`, that every Jupyter client can start: notebooks run
/// by nbclient or papermill, `jupyter console`, a Jupyter server without a gateway. Installing again
/// brings them up to date.
#[derive(Debug, clap::Args)]
pub(super) struct Install {
    /// The kernelspecs to install [default: all]
    specs: Vec<String>,
    /// For this user, which is the default
    #[arg(long, conflicts_with = "prefix")]
    user: bool,
    /// In an environment: DIR/share/jupyter/kernels
    #[arg(long, value_name = "DIR")]
    prefix: Option<PathBuf>,
    /// For programs: JSON instead of a table
    #[arg(long)]
    json: bool,
}

/// What became of one.
struct Installed {
    name: String,
    display_name: String,
    outcome: &'static str,
    folder: PathBuf,
}

impl Install {
    pub(super) fn run(self) -> Result<(), Error> {
        let places = Places::from_env()?;
        let search = SearchPath::from_env().and_own(own_kernelspecs(&places.data));
        let specs = Catalog::new(search).read();
        let chosen: Vec<(String, &Listed)> = match self.specs.is_empty() {
            true => {
                let startable = |listed: &Listed| listed.spec.foreign_launcher().is_none();
                let own = |(name, listed): (&String, _)| (name.clone(), listed);
                let all = specs.by_name.iter().map(own);
                all.filter(|(_, listed)| startable(listed)).collect()
            }
            false => {
                let find = |name: &String| specs.find(Some(name)).map_err(Error::user);
                self.specs.iter().map(find).collect::<Result<_, _>>()?
            }
        };
        if chosen.is_empty() {
            return Err(Error::user(
                "there is no kernelspec to install; make one with \"nb up\" or install ipykernel",
            ));
        }
        let program = env::current_exe()
            .map_err(|error| Error::nb(format!("nb does not find itself: {error}")))?;
        let kernels = self.folder()?;
        let mut installed = Vec::new();
        for (name, listed) in chosen {
            let folder = kernels.join(format!("nb-{name}"));
            let done = install(&name, listed, &program, folder.clone());
            installed.push(done.map_err(|error| {
                Error::user(format!("{} cannot be written: {error}", folder.display()))
            })?);
        }
        self.show(&installed)
    }

    /// Where Jupyter looks for kernelspecs.
    fn folder(&self) -> Result<PathBuf, Error> {
        if let Some(prefix) = &self.prefix {
            return Ok(prefix.join("share/jupyter/kernels"));
        }
        let path = |name| {
            env::var_os(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        let share = || path("XDG_DATA_HOME").or_else(|| Some(path("HOME")?.join(".local/share")));
        let data = path("JUPYTER_DATA_DIR").or_else(|| Some(share()?.join("jupyter")));
        data.map(|data| data.join("kernels"))
            .ok_or_else(|| Error::user("HOME is not set; set it, or use --prefix"))
    }

    fn show(&self, installed: &[Installed]) -> Result<(), Error> {
        if self.json {
            let shown = installed.iter().map(|one| {
                json!({
                    "name": one.name, "display_name": one.display_name,
                    "outcome": one.outcome, "folder": one.folder.display().to_string(),
                })
            });
            return output::json(&shown.collect());
        }
        let rows: Vec<_> = (installed.iter())
            .map(|one| {
                let (name, shown) = (one.name.clone(), one.display_name.clone());
                [
                    name,
                    shown,
                    one.outcome.to_owned(),
                    one.folder.display().to_string(),
                ]
            })
            .collect();
        output::text(&table(["name", "display name", "outcome", "folder"], &rows))
    }
}

fn install(name: &str, listed: &Listed, program: &Path, folder: PathBuf) -> io::Result<Installed> {
    let is_new = !folder.join("kernel.json").exists();
    let display_name = format!("{} (nb)", listed.spec.display_name);
    let mut nb = listed
        .spec
        .metadata
        .get("nb")
        .and_then(Value::as_object)
        .cloned();
    nb.get_or_insert_with(Map::new)
        .insert("front".to_owned(), Value::Bool(true));
    let mut metadata = listed.spec.metadata.clone();
    metadata.insert("nb".to_owned(), nb.into());
    let kernel = json!({
        "argv": [program.to_string_lossy(), "launch", name, "-f", "{connection_file}"],
        "display_name": display_name,
        "language": listed.spec.language,
        "interrupt_mode": "message",
        "metadata": metadata,
    });
    fs::create_dir_all(&folder)?;
    let mut changed = false;
    for (logo, content) in logos(&listed.folder) {
        changed |= put(&folder.join(logo), &content)?;
    }
    // Last: without it the folder is no kernelspec.
    changed |= put(
        &folder.join("kernel.json"),
        format!("{kernel:#}\n").as_bytes(),
    )?;
    Ok(Installed {
        name: format!("nb-{name}"),
        display_name,
        outcome: match (is_new, changed) {
            (true, _) => "installed",
            (false, true) => "updated",
            (false, false) => "unchanged",
        },
        folder,
    })
}

fn logos(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let logo = |entry: fs::DirEntry| {
        let name = entry.file_name().into_string().ok()?;
        let metadata = fs::metadata(entry.path()).ok()?;
        let is_logo = name.starts_with("logo-") && is_valid_name(&name);
        let fits = metadata.is_file() && metadata.len() <= LOGO_BYTES_MAX;
        (is_logo && fits).then(|| Some((name, fs::read(entry.path()).ok()?)))?
    };
    entries.filter_map(logo).collect()
}

/// Writes a file unless it says this already; nobody reads half of it.
fn put(path: &Path, content: &[u8]) -> io::Result<bool> {
    if fs::read(path).is_ok_and(|old| old == content) {
        return Ok(false);
    }
    let beside = path.with_file_name(format!(".{}", Uuid::new_v4().simple()));
    fs::write(&beside, content)
        .and_then(|()| fs::rename(&beside, path))
        .inspect_err(|_| drop(fs::remove_file(&beside)))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::kernelspec::{InterruptMode, KernelSpec};

    #[test]
    fn what_is_installed_is_a_kernelspec_and_changes_nothing_the_second_time() {
        let root = tempfile::tempdir().unwrap();
        let source = root.path().join("echo");
        fs::create_dir(&source).unwrap();
        fs::write(source.join("logo-64x64.png"), "png").unwrap();
        let json = br#"{"argv":["echo"],"display_name":"Echo","language":"e","env":{"A":"1"},
            "metadata":{"debugger":true}}"#;
        let mut listed = Listed {
            folder: source,
            spec: KernelSpec::decode(json).unwrap(),
        };
        let folder = root.path().join("nb-echo");
        let again = |listed: &Listed| {
            install("echo", listed, Path::new("/bin/nb"), folder.clone())
                .unwrap()
                .outcome
        };
        assert_eq!([again(&listed), again(&listed)], ["installed", "unchanged"]);
        let written = fs::read(folder.join("kernel.json")).unwrap();
        let spec = KernelSpec::decode(&written).unwrap();
        assert_eq!(
            spec.argv,
            ["/bin/nb", "launch", "echo", "-f", "{connection_file}"]
        );
        assert_eq!(
            (spec.interrupt_mode, &*spec.display_name),
            (InterruptMode::Message, "Echo (nb)")
        );
        assert_eq!(spec.metadata["debugger"], true);
        assert_eq!(fs::read(folder.join("logo-64x64.png")).unwrap(), b"png");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 2);
        listed.spec.display_name = "Echo 2".to_owned();
        assert_eq!(again(&listed), "updated");
        assert_eq!(spec.metadata["nb"]["front"], true);
    }
}
