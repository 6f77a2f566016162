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

/// What starts a kernel of jupyter_enterprise_gateway as a process of this machine, as nb does.
const LOCAL_PROXY: &str =
    "enterprise_gateway.services.processproxies.processproxy.LocalProcessProxy";

/// The same of jupyter_client.
const LOCAL_PROVISIONER: &str = "local-provisioner";

impl KernelSpec {
    /// The process proxy or provisioner that this kernel is to be started by, unless it is a process of
    /// this machine: run as one, it would be a kernel in another place than its author meant.
    ///
    /// As for those who brought these keys, a proxy or provisioner without a name is the local one.
    pub fn foreign_launcher(&self) -> Option<String> {
        let named = |outer: &str, inner: &str, local: &str| {
            let name = self.metadata.get(outer)?.get(inner)?;
            match name.as_str() {
                Some(name) if name == local => None,
                Some(name) => Some(name.to_owned()),
                None => Some(name.to_string()),
            }
        };
        let proxy = named("process_proxy", "class_name", LOCAL_PROXY);
        proxy.or_else(|| named("kernel_provisioner", "provisioner_name", LOCAL_PROVISIONER))
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
    use serde_json::json;

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
    fn a_kernel_that_is_to_run_elsewhere_is_known_by_the_class_that_would_start_it() {
        let kubernetes = "enterprise_gateway.services.processproxies.k8s.KubernetesProcessProxy";
        for (metadata, expected) in [
            (json!({}), None),
            (
                json!({"process_proxy": {"class_name": kubernetes}}),
                Some(kubernetes),
            ),
            (json!({"process_proxy": {"class_name": LOCAL_PROXY}}), None),
            (json!({"process_proxy": {"config": {}}}), None),
            (json!({"process_proxy": "x"}), None),
            (
                json!({"process_proxy": {"class_name": "LocalProcessProxy"}}),
                Some("LocalProcessProxy"),
            ),
            (json!({"process_proxy": {"class_name": 1}}), Some("1")),
            (
                json!({"kernel_provisioner": {"provisioner_name": "local-provisioner"}}),
                None,
            ),
            (
                json!({"kernel_provisioner": {"provisioner_name": "yarn"}}),
                Some("yarn"),
            ),
            (
                json!({"process_proxy": {"class_name": LOCAL_PROXY},
                    "kernel_provisioner": {"provisioner_name": "yarn"}}),
                Some("yarn"),
            ),
        ] {
            let spec = json!({"argv": ["k"], "metadata": metadata}).to_string();
            let spec = KernelSpec::decode(spec.as_bytes()).unwrap();
            assert_eq!(spec.foreign_launcher().as_deref(), expected, "{metadata}");
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
