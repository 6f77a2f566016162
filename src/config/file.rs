//! The one configuration file: where it is looked for, and whether it is to be trusted.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use crate::error::Error;

/// The variable that names another file.
pub const FILE: &str = "NB_CONFIG";

/// A larger file is no configuration.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// The first file there is of `$NB_CONFIG`, `$XDG_CONFIG_HOME/nb/nb.toml` and `/etc/nb/nb.toml`, and what it
/// says. One that `$NB_CONFIG` names has to be there.
pub(super) fn find(
    var: impl Fn(&str) -> Option<OsString>,
) -> Result<Option<(PathBuf, String)>, Error> {
    let path = |name| var(name).map(PathBuf::from);
    if let Some(named) = path(FILE) {
        return read(named).map(Some);
    }
    let own = own_folder(&var).map(|folder| folder.join("nb.toml"));
    let places = own.into_iter().chain([PathBuf::from("/etc/nb/nb.toml")]);
    let found = places.into_iter().find(|place| place.exists());
    found.map(read).transpose()
}

/// The folder of the user's own file; it may not exist.
pub(super) fn own_folder(var: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let path = |name| var(name).map(PathBuf::from);
    let home = path("XDG_CONFIG_HOME").or_else(|| Some(path("HOME")?.join(".config")));
    home.map(|home| home.join("nb"))
}

/// Whoever may write the file decides what runs as us, so that has to be us or root.
fn read(path: PathBuf) -> Result<(PathBuf, String), Error> {
    let fault = |what: String| Error::user(format!("the configuration {}: {what}", path.display()));
    let failed = |error: io::Error| fault(error.to_string());
    let mut file = File::open(&path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    let own = rustix::process::geteuid().as_raw();
    if !metadata.is_file() {
        return Err(fault("is no file".to_owned()));
    }
    if metadata.uid() != own && metadata.uid() != 0 {
        return Err(fault("belongs to another user".to_owned()));
    }
    if metadata.mode() & 0o022 != 0 {
        return Err(fault(
            "can be written to by others (chmod go-w it)".to_owned(),
        ));
    }
    if metadata.len() > FILE_BYTES_MAX {
        return Err(fault(format!("is over {FILE_BYTES_MAX} bytes")));
    }
    let mut text = String::new();
    let limited = (&mut file).take(FILE_BYTES_MAX).read_to_string(&mut text);
    limited.map_err(failed)?;
    Ok((path, text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_named_file_has_to_be_there_and_wins() {
        let folder = tempfile::tempdir().unwrap();
        let (named, own) = (
            folder.path().join("named.toml"),
            folder.path().join("nb/nb.toml"),
        );
        let var = |name: &str| match name {
            "NB_CONFIG" => Some(named.clone().into_os_string()),
            "XDG_CONFIG_HOME" => Some(folder.path().into()),
            _ => None,
        };
        fs::create_dir(folder.path().join("nb")).unwrap();
        fs::write(&own, "# own").unwrap();
        assert!(find(var).unwrap_err().message.contains("named.toml"));
        fs::write(&named, "# named").unwrap();
        assert_eq!(find(var).unwrap().unwrap().1, "# named");
        let without = |name: &str| var(name).filter(|_| name != "NB_CONFIG");
        assert_eq!(find(without).unwrap().unwrap(), (own, "# own".to_owned()));
    }

    #[test]
    fn a_file_that_others_can_write_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nb.toml");
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o660)).unwrap();
        let error = find(|name| (name == "NB_CONFIG").then(|| path.clone().into()));
        assert!(error.unwrap_err().message.contains("chmod"));
    }
}
