//! A command line of pip, done in the environment of a kernel: what it prints, in pip's words.
//!
//! The same for a cell, a shell in a notebook and a script. What needs a restart is told in the kernel, which knows what it has imported.

use super::KernelEnvironment;
use crate::env::installed::Distribution;
use crate::env::pip::{self, Changes, Command, Failure, Packages, Typed};

impl KernelEnvironment {
    /// Does it; `print` takes text as it is to be shown.
    pub async fn pip(
        &self,
        command: &Command,
        typed: &Typed<'_>,
        print: &dyn Fn(&str),
    ) -> Result<(), Failure> {
        let line = |line: &str| print(&format!("{line}\n"));
        match command {
            Command::Help => print(pip::usage()),
            Command::Version => print(&pip::version(&self.title())),
            Command::List {
                format,
                editable,
                outdated: false,
            } => {
                let is_chosen = |one: &Distribution| !editable || one.is_editable();
                print(&pip::list(&self.packages(), *format, is_chosen));
            }
            Command::Freeze => print(&pip::freeze(&self.packages())),
            Command::Show { names, files } => {
                let packages = self.packages();
                print(&pip::show(&packages, names, *files));
                let missing: Vec<&str> = pip::missing(names, &packages).into_iter().collect();
                if !missing.is_empty() {
                    let missing = missing.join(", ");
                    return Err(Failure::new(format!("Package(s) not found: {missing}.")));
                }
            }
            Command::ByPip(words) => self.by_pip(words, typed, &line).await?,
            Command::List { format, .. } => {
                let words = ["list", "--outdated", "--format", format.name()];
                self.by_pip(&words.map(str::to_owned), typed, &line).await?;
            }
            Command::Install(install) => {
                let quietly = |said: &str| {
                    if !install.quiet {
                        line(said);
                    }
                };
                let changes = self.install(install, typed, &quietly).await?;
                if !install.quiet {
                    print(&told(&changes));
                }
            }
            Command::Uninstall {
                names,
                files,
                quiet,
            } => {
                let changes = self.uninstall(names, files, typed, &line).await?;
                if !quiet {
                    print(&told(&changes));
                }
            }
        }
        Ok(())
    }
}

fn told(changes: &Changes) -> String {
    let named = |packages: &Packages| -> Vec<String> {
        let pins = packages
            .values()
            .map(|one| format!("{}-{}", one.name, one.version));
        pins.collect()
    };
    let mut text = String::new();
    for one in changes.kept.values() {
        text += &format!(
            "Requirement already satisfied: {} ({})\n",
            one.name, one.version
        );
    }
    if !changes.added.is_empty() {
        text += &format!(
            "Successfully installed {}\n",
            named(&changes.added).join(" ")
        );
    }
    for (name, one) in &changes.replaced {
        if !changes.added.contains_key(name) {
            text += &format!("Successfully uninstalled {}-{}\n", one.name, one.version);
        }
    }
    if text.is_empty() {
        text += "Nothing had to be changed.\n";
    }
    text
}
