//! What a notebook's file says of the packages that it needs: `asked` reads what for, `lock` is the exact answer that is
//! kept in its metadata, `export` writes that for people without nb.
//!
//! Knows nothing of environments, nor of who installs.

mod asked;
mod export;
mod lock;

pub(super) use asked::{Asks, REQUIREMENTS};
pub use export::{pyproject, requirements};
pub use lock::Lock;
pub(super) use lock::logical;
