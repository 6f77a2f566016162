//! What a JDK starts the worker from: its classes, compiled once, and an archive of all classes that a start needs, which halves it.
//!
//! One folder for each JDK, lock and source. It is made where it stays, since the archive holds its paths: what has no mark, which is
//! written last, is unfinished and made anew.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::Say;
use super::jars;
use super::jdk::Jdk;
use super::maven::Repositories;
use crate::config::private_folder;
use crate::env::{hex, lock, tool};
use crate::error::{Error, reason};

/// Changes when what is done here does.
const FORMAT: &str = "1";

/// Written last.
const MARK: &str = "made";

/// The class that is run, and what makes it do what every kernel does first, and end.
const MAIN: &str = "nb.worker.Worker";
const WARM_UP: &str = "--warm-up";

/// The oldest release that makes such archives.
const ARCHIVES_SINCE: u32 = 13;

/// One file of the worker's source.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    /// As in `Worker.scala`.
    pub name: &'static str,
    pub text: &'static str,
}

/// What the worker is started from.
#[derive(Clone, Debug)]
pub struct Image {
    jdk: Jdk,
    folder: PathBuf,
    jars: PathBuf,
    of_coursier: Vec<(&'static str, String)>,
}

impl Image {
    pub(super) async fn make(
        data: &Path,
        jdk: Jdk,
        repositories: &Repositories,
        sources: &[Source],
        say: Say<'_>,
    ) -> Result<Self, Error> {
        let scala = data.join("scala");
        let variables = repositories.variables();
        let image = Self {
            folder: scala.join(&identity(&jdk, sources)[..16]),
            jars: scala.join("jars"),
            of_coursier: variables
                .map(|(name, value)| (name, value.to_owned()))
                .collect(),
            jdk,
        };
        if image.is_made() {
            return Ok(image);
        }
        private_folder(data)?;
        private_folder(&scala)?;
        let _held = lock::exclusive(&scala.join("lock"), say).await?;
        if image.is_made() {
            return Ok(image);
        }
        private_folder(&image.jars)?;
        jars::get(&image.jars, &image.jdk, repositories, say).await?;
        if !image.folder.join(MARK).exists() {
            image.fill(sources, say).await?;
        }
        Ok(image)
    }

    fn is_made(&self) -> bool {
        self.folder.join(MARK).exists() && jars::are_in(&self.jars)
    }

    async fn fill(&self, sources: &[Source], say: Say<'_>) -> Result<(), Error> {
        let cannot = |error: io::Error| {
            Error::user(format!(
                "{} cannot be used: {}",
                self.folder.display(),
                reason(&error)
            ))
        };
        if self.folder.exists() {
            fs::remove_dir_all(&self.folder).map_err(cannot)?;
        }
        private_folder(&self.folder)?;
        say("compiles the kernel, once");
        self.compile(sources).await?;
        say("makes an archive of its classes, once");
        self.archive().await?;
        fs::write(self.folder.join(MARK), "").map_err(cannot)
    }

    async fn compile(&self, sources: &[Source]) -> Result<(), Error> {
        let mut java = self.jdk.tool();
        let jars = self.class_path_of_jars();
        // Said to the compiler too: it would add the folder that it runs in.
        java.args(["-XX:TieredStopAtLevel=1", "-cp", &jars]).args([
            "scala.tools.nsc.Main",
            "-cp",
            &jars,
            "-d",
        ]);
        java.arg(self.worker());
        for source in sources {
            let path = self.folder.join(source.name);
            fs::write(&path, source.text)
                .map_err(|error| Error::user(format!("{}: {}", path.display(), reason(&error))))?;
            java.arg(path);
        }
        let ran = tool::run(&mut java, &|_| ()).await;
        ran.map(|_| ())
            .map_err(|said| Error::nb(format!("the Scala kernel could not be compiled:\n{said}")))
    }

    /// Does once what every kernel does first. A JVM that makes no archive starts without one.
    async fn archive(&self) -> Result<(), Error> {
        if self.jdk.feature() >= ARCHIVES_SINCE {
            let option = format!("-XX:ArchiveClassesAtExit={}", self.archived().display());
            match self.warm_up(&["-XX:TieredStopAtLevel=1", &option]).await {
                Ok(()) => return Ok(()),
                Err(said) => tracing::warn!(%said, "no archive of classes is made"),
            }
        }
        let ran = self.warm_up(&[]).await;
        ran.map_err(|said| {
            Error::nb(format!(
                "Scala does not start with {}:\n{said}",
                self.jdk.java().display()
            ))
        })
    }

    async fn warm_up(&self, options: &[&str]) -> Result<(), tool::Failure> {
        let mut java = self.jdk.tool();
        java.args(options).args(self.usual()).arg(MAIN).arg(WARM_UP);
        tool::run(&mut java, &|_| ()).await.map(|_| ())
    }

    /// The JDK's program.
    pub fn java(&self) -> PathBuf {
        self.jdk.java()
    }

    /// All that it is started with; `own` are options that somebody says, which win.
    pub fn arguments(&self, own: &[String]) -> Vec<String> {
        let mut arguments = vec![
            // What the JVM says of itself is no output of a cell.
            "-Xlog:disable".to_owned(),
            "-Xlog:all=error:stderr".to_owned(),
        ];
        if self.archived().exists() {
            arguments.push(format!(
                "-XX:SharedArchiveFile={}",
                self.archived().display()
            ));
        }
        arguments.extend(own.iter().cloned());
        arguments.extend(self.usual());
        arguments.push(MAIN.to_owned());
        arguments
    }

    /// Variables on top of those that there are.
    pub fn variables(&self) -> &[(&'static str, String)] {
        &self.of_coursier
    }

    fn usual(&self) -> [String; 3] {
        [
            format!("-Dnb.cache={}", self.folder.display()),
            "-cp".to_owned(),
            format!("{}:{}", self.worker().display(), self.class_path_of_jars()),
        ]
    }

    fn worker(&self) -> PathBuf {
        self.folder.join("worker.jar")
    }

    fn archived(&self) -> PathBuf {
        self.folder.join("classes.jsa")
    }

    fn class_path_of_jars(&self) -> String {
        let paths =
            jars::all().map(|jar| self.jars.join(jar.path()).to_string_lossy().into_owned());
        paths.collect::<Vec<_>>().join(":")
    }
}

fn identity(jdk: &Jdk, sources: &[Source]) -> String {
    let mut hash = Sha256::new();
    for text in [FORMAT, &jdk.identity(), jars::LOCK] {
        hash.update(text);
        hash.update([0]);
    }
    for Source { name, text } in sources {
        hash.update(name);
        hash.update([0]);
        hash.update(text);
        hash.update([0]);
    }
    hex(&hash.finalize())
}
