//! The connection file: how a kernel is told where to bind and how to sign.
//!
//! jupyter_client, "Connection files". Knows nothing of where the file lies or who reads it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A larger file is not a connection file.
pub const FILE_BYTES_MAX: usize = 64 * 1024;

/// How a kernel and its client reach each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    Tcp,
    /// Unix sockets: `ip` is a path prefix and a port its suffix.
    Ipc,
}

/// The sockets that a kernel binds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Socket {
    Shell,
    Iopub,
    Stdin,
    Control,
    Heartbeat,
}

/// The content of a connection file. Keys that are not known here are passed over.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionFile {
    pub transport: Transport,
    /// An address for TCP, a path prefix for ipc.
    pub ip: String,
    pub shell_port: u16,
    pub iopub_port: u16,
    pub stdin_port: u16,
    pub control_port: u16,
    pub hb_port: u16,
    /// The key that messages are signed with; empty means unsigned.
    pub key: String,
    pub signature_scheme: SignatureScheme,
    #[serde(default)]
    pub kernel_name: String,
}

/// The one scheme that Jupyter kernels use; any other is refused where the file is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SignatureScheme {
    #[serde(rename = "hmac-sha256")]
    HmacSha256,
}

/// Why bytes are no connection file.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    #[error("over {FILE_BYTES_MAX} bytes")]
    TooLarge,
    #[error("not a connection file: {0}")]
    BadJson(#[from] serde_json::Error),
}

impl fmt::Debug for ConnectionFile {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionFile")
            .field("transport", &self.transport)
            .field("ip", &self.ip)
            .field("kernel_name", &self.kernel_name)
            .finish_non_exhaustive()
    }
}

impl ConnectionFile {
    /// A kernel on the Unix sockets `{prefix}-1` to `{prefix}-5`.
    pub fn ipc(prefix: String, key: String, kernel_name: String) -> Self {
        Self {
            transport: Transport::Ipc,
            ip: prefix,
            shell_port: 1,
            iopub_port: 2,
            stdin_port: 3,
            control_port: 4,
            hb_port: 5,
            key,
            signature_scheme: SignatureScheme::HmacSha256,
            kernel_name,
        }
    }

    /// Reads what somebody else wrote.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > FILE_BYTES_MAX {
            return Err(DecodeError::TooLarge);
        }
        Ok(serde_json::from_slice(bytes)?)
    }

    /// The file's content.
    pub fn encode(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// The ZeroMQ endpoint of one of the kernel's sockets.
    pub fn endpoint(&self, socket: Socket) -> String {
        let port = match socket {
            Socket::Shell => self.shell_port,
            Socket::Iopub => self.iopub_port,
            Socket::Stdin => self.stdin_port,
            Socket::Control => self.control_port,
            Socket::Heartbeat => self.hb_port,
        };
        match self.transport {
            Transport::Tcp if self.ip.contains(':') => format!("tcp://[{}]:{port}", self.ip),
            Transport::Tcp => format!("tcp://{}:{port}", self.ip),
            Transport::Ipc => format!("ipc://{}-{port}", self.ip),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_encoded_decodes_to_itself(ip in any::<String>(), key in any::<String>()) {
            let file = ConnectionFile::ipc(ip, key, "python3".to_owned());
            prop_assert_eq!(ConnectionFile::decode(file.encode().as_bytes()).unwrap(), file);
        }

        #[test]
        fn any_bytes_are_answered_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(ConnectionFile::decode(&bytes).is_err());
        }
    }

    /// As jupyter_client 8 writes it, with keys of later versions.
    #[test]
    fn a_file_of_jupyter_client_is_read() {
        let file = ConnectionFile::decode(
            br#"{"shell_port":1,"iopub_port":2,"stdin_port":3,"control_port":4,"hb_port":5,"ip":"::1",
                "key":"k","transport":"tcp","signature_scheme":"hmac-sha256","kernel_name":"",
                "jupyter_session":"x.ipynb"}"#,
        )
        .unwrap();
        assert_eq!(file.endpoint(Socket::Heartbeat), "tcp://[::1]:5");
    }

    #[test]
    fn the_key_is_never_printed() {
        let file = ConnectionFile::ipc("/x".to_owned(), "s3cret".to_owned(), String::new());
        assert!(!format!("{file:?}").contains("s3cret"));
    }

    #[test]
    fn another_signature_scheme_is_refused() {
        let file = ConnectionFile::ipc(String::new(), String::new(), String::new()).encode();
        let other = file.replace("hmac-sha256", "hmac-md5");
        assert!(ConnectionFile::decode(other.as_bytes()).is_err());
    }
}
