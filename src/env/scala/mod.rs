//! What a Scala kernel runs in: a JDK of the machine, jars from Maven's repositories, and what is made of them once.
//!
//! ```text
//! <data>/scala/jars/…       the jars of jars.lock, as a repository has them
//! <data>/scala/<hash>/      of one JDK, these jars and one source: the worker, and an archive of classes
//! ```
//!
//! Knows nothing of kernels: the worker's source comes as a value.

mod image;
mod jars;
mod jdk;
mod maven;

use std::ffi::OsString;
use std::path::Path;

pub use image::{Image, Source};
pub use jdk::{Jdk, UNINTERRUPTED};

use self::maven::Repositories;
use super::Say;
use crate::error::Error;

/// Finds a JDK, gets what is missing and makes what is not there yet; waits while another process does. `var` is the environment that
/// it is for.
pub async fn prepare(
    data: &Path,
    sources: &[Source],
    var: impl Fn(&str) -> Option<OsString>,
    say: Say<'_>,
) -> Result<Image, Error> {
    let jdk = Jdk::find(&var)?;
    let repositories = Repositories::of(&var)?;
    Image::make(data, jdk, &repositories, sources, say).await
}
