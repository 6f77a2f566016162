//! A kernelspec: how a kernel is started and shown, the content of its `kernel.json`.
//!
//! jupyter_client, "Kernel specs". Knows nothing of where specs lie; that is `kernels::kernelspecs`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A larger file is not a kernelspec.
pub const FILE_BYTES_MAX: usize = 1024 * 1024;

/// How a running cell is interrupted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InterruptMode {
    /// SIGINT to the kernel's process group.
    #[default]
    Signal,
    /// An `interrupt_request` on the control channel.
    Message,
}

/// The content of a `kernel.json`. Keys that are not known here are passed over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KernelSpec {
    /// The command, with `{connection_file}` and `{resource_dir}` to be filled in.
    pub argv: Vec<String>,
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    #[serde(default)]
    pub display_name: String,
    #[serde(default)]
    pub language: String,
    #[serde(default)]
    pub interrupt_mode: InterruptMode,
    #[serde(default)]
    pub metadata: Map<String, Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel_protocol_version: Option<String>,
}

/// Why bytes are no kernelspec that could be started.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    #[error("over {FILE_BYTES_MAX} bytes")]
    TooLarge,
    #[error("{0}")]
    BadJson(#[from] serde_json::Error),
    #[error("argv is empty")]
    NoCommand,
}

impl KernelSpec {
    /// Reads a `kernel.json`.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > FILE_BYTES_MAX {
            return Err(DecodeError::TooLarge);
        }
        let spec: Self = serde_json::from_slice(bytes)?;
        if spec.argv.is_empty() {
            return Err(DecodeError::NoCommand);
        }
        Ok(spec)
    }
}

/// Whether this may be the name of a kernelspec: jupyter_client's rule, which also keeps a name
/// from being a path (`..` and `.` are refused on top).
pub fn is_valid_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    !name.is_empty()
        && name.len() <= 255
        && name.bytes().all(allowed)
        && name.bytes().any(|byte| byte != b'.')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_spec_with_only_a_command_has_the_documented_defaults() {
        let spec = KernelSpec::decode(br#"{"argv":["k"],"unknown":1}"#).unwrap();
        assert_eq!(spec.interrupt_mode, InterruptMode::Signal);
        assert_eq!((spec.display_name.as_str(), spec.env.len()), ("", 0));
    }

    #[test]
    fn what_could_not_be_started_is_refused() {
        for broken in [
            r"{}",
            r#"{"argv":[]}"#,
            r#"{"argv":"k"}"#,
            r#"{"argv":["k"],"interrupt_mode":"shout"}"#,
            r#"{"argv":["k"],"env":{"A":1}}"#,
        ] {
            assert!(KernelSpec::decode(broken.as_bytes()).is_err(), "{broken}");
        }
    }

    #[test]
    fn names_are_never_paths() {
        for name in ["", ".", "..", "a/b", "a\\b", "a b", "é", "a\0"] {
            assert!(!is_valid_name(name), "{name:?}");
        }
        for name in ["python3", "Ir", "a.b_c-d", "..a"] {
            assert!(is_valid_name(name), "{name:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(KernelSpec::decode(&bytes).is_err());
        }
    }
}
