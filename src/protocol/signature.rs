//! The HMAC-SHA256 that kernels and their clients put on every message.
//!
//! It covers the four JSON parts as sent, not the buffers; an empty key means that messages are not
//! signed (both are rules of the Jupyter messaging protocol, "The wire protocol").

use std::fmt;

use hmac::{Hmac, Mac};
use sha2::Sha256;

const DIGEST_BYTES: usize = 32;

/// A hexadecimal signature as it stands on the wire: 64 characters, or none for an empty key.
pub type Hex = [u8; DIGEST_BYTES * 2];

/// Signs and verifies the messages of one kernel.
#[derive(Clone)]
pub struct Signer {
    /// Keyed once and cloned for each message; `None` for an empty key.
    keyed: Option<Hmac<Sha256>>,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signer(..)")
    }
}

impl Signer {
    /// A signer for the `key` of a connection file.
    pub fn new(key: &[u8]) -> Self {
        let keyed = if key.is_empty() {
            None
        } else {
            Hmac::new_from_slice(key).ok()
        };
        Self { keyed }
    }

    /// The signature of a message with these JSON parts; `None` when messages are not signed.
    pub fn sign<P: AsRef<[u8]>>(&self, parts: [P; 4]) -> Option<Hex> {
        let digest = self.digest(parts)?.finalize().into_bytes();
        let mut hex = [0; DIGEST_BYTES * 2];
        for (pair, byte) in hex.chunks_exact_mut(2).zip(digest) {
            pair[0] = hex_digit(byte >> 4);
            pair[1] = hex_digit(byte & 0xf);
        }
        Some(hex)
    }

    /// Whether `signature` is that of these parts, compared in constant time.
    pub fn verify<P: AsRef<[u8]>>(&self, signature: &[u8], parts: [P; 4]) -> bool {
        let Some(mac) = self.digest(parts) else {
            return true;
        };
        decode_hex(signature).is_some_and(|claimed| mac.verify_slice(&claimed).is_ok())
    }

    fn digest<P: AsRef<[u8]>>(&self, parts: [P; 4]) -> Option<Hmac<Sha256>> {
        let mut mac = self.keyed.clone()?;
        for part in parts {
            mac.update(part.as_ref());
        }
        Some(mac)
    }
}

fn hex_digit(nibble: u8) -> u8 {
    b"0123456789abcdef"[usize::from(nibble & 0xf)]
}

fn decode_hex(hex: &[u8]) -> Option<[u8; DIGEST_BYTES]> {
    if hex.len() != DIGEST_BYTES * 2 {
        return None;
    }
    let mut bytes = [0; DIGEST_BYTES];
    for (byte, pair) in bytes.iter_mut().zip(hex.chunks_exact(2)) {
        let high = char::from(pair[0]).to_digit(16)?;
        let low = char::from(pair[1]).to_digit(16)?;
        *byte = u8::try_from(high << 4 | low).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 4231, test case 2, its data cut into the four parts.
    #[test]
    fn agrees_with_the_published_vector() {
        let hex = Signer::new(b"Jefe").sign([&b"what do ya want "[..], b"for ", b"nothing", b"?"]);
        assert_eq!(
            hex.as_ref().map(|h| &h[..]),
            Some(&b"5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"[..])
        );
    }

    #[test]
    fn an_empty_key_signs_nothing_and_accepts_everything() {
        let signer = Signer::new(b"");
        assert_eq!(signer.sign([b"a", b"b", b"c", b"d"]), None);
        assert!(signer.verify(b"", [b"a", b"b", b"c", b"d"]));
    }

    proptest! {
        #[test]
        fn only_the_signature_of_these_parts_is_accepted(
            key in prop::collection::vec(any::<u8>(), 1..80),
            content in prop::collection::vec(any::<u8>(), 1..200),
            junk in prop::collection::vec(any::<u8>(), 0..100),
        ) {
            let signer = Signer::new(&key);
            let parts = [&b"{}"[..], b"{}", b"{}", &content];
            let hex = signer.sign(parts).unwrap();
            prop_assert!(signer.verify(&hex, parts));
            prop_assert!(!signer.verify(&junk, parts));
            let mut other = content.clone();
            other[0] ^= 1;
            let accepted = signer.verify(&hex, [&b"{}"[..], b"{}", b"{}", &other]);
            prop_assert!(!accepted);
        }
    }
}
