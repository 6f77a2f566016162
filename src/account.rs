//! Accounts of this machine, as its name service knows them, and becoming one. A leaf.
//!
//! The name service is asked, not `/etc/passwd`: accounts may come from LDAP, SSSD or a file of their own.

use std::ffi::CString;
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Uid, User, initgroups, setresgid, setresuid};

use crate::error::Error;

/// One account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    pub name: String,
    pub uid: u32,
    pub home: PathBuf,
    shell: PathBuf,
    gid: u32,
}

impl Account {
    /// The one of this name.
    pub fn named(name: &str) -> Result<Self, Error> {
        let found = User::from_name(name).map_err(|error| unknown(name, &error.to_string()))?;
        found
            .map(Self::of)
            .ok_or_else(|| unknown(name, "there is none on this machine"))
    }

    /// That of this process.
    pub fn own() -> Option<Self> {
        User::from_uid(Uid::effective()).ok()?.map(Self::of)
    }

    fn of(user: User) -> Self {
        Self {
            name: user.name,
            uid: user.uid.as_raw(),
            home: user.dir,
            shell: user.shell,
            gid: user.gid.as_raw(),
        }
    }

    /// Whether this process is that account already.
    pub fn is_own(&self) -> bool {
        Uid::effective().as_raw() == self.uid
    }

    /// Makes this process that account, with its groups, for good. Only root can.
    pub fn enter(&self) -> Result<(), Error> {
        if !Uid::effective().is_root() {
            return Err(Error::user(format!(
                "only root can run for {}: this is another user, who serves nobody else",
                self.name
            )));
        }
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        let name = CString::new(self.name.as_str())
            .map_err(|_| unknown(&self.name, "its name has a zero byte"))?;
        initgroups(&name, gid)
            .and_then(|()| setresgid(gid, gid, gid))
            .and_then(|()| setresuid(uid, uid, uid))
            .map_err(|error| Error::nb(format!("{} could not be become: {error}", self.name)))?;
        // Whoever can come back has not left.
        let root = Uid::from_raw(0);
        match uid.is_root() || setresuid(root, root, root).is_err() {
            true => Ok(()),
            false => Err(Error::nb(format!(
                "root could not be given up for {}",
                self.name
            ))),
        }
    }

    /// The variables that say who somebody is.
    pub fn variables(&self) -> [(&'static str, &Path); 4] {
        [
            ("HOME", &self.home),
            ("USER", Path::new(&self.name)),
            ("LOGNAME", Path::new(&self.name)),
            ("SHELL", &self.shell),
        ]
    }
}

fn unknown(name: &str, why: &str) -> Error {
    Error::user(format!(
        "the user {} cannot be found: {why}",
        name.escape_debug()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_known_by_name_and_by_number() {
        let root = Account::named("root").unwrap();
        assert_eq!((root.uid, root.variables()[1].1), (0, Path::new("root")));
        let own = Account::own().unwrap();
        assert!(own.is_own());
        assert_eq!(Account::named(&own.name), Ok(own));
        for nobody in ["no-such-user", "", "a\nb", "a\0b"] {
            assert!(Account::named(nobody).is_err(), "{nobody:?}");
        }
    }
}
