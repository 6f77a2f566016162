//! A message as the frames of a ZeroMQ multipart message:
//! `ident*, "<IDS|MSG>", signature, header, parent_header, metadata, content, buffer*`.

use bytes::Bytes;

use super::message::Message;
use super::signature::Signer;

const DELIMITER: &[u8] = b"<IDS|MSG>";

/// Why the frames are no message of this kernel.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("no <IDS|MSG> delimiter among {0} frames")]
    NoDelimiter(usize),
    #[error("{0} frames after the delimiter, at least 5 are needed")]
    TooFewFrames(usize),
    #[error("the signature does not match")]
    BadSignature,
}

/// The frames that carry `message`, signed, without routing identities in front.
pub fn encode(message: &Message, signer: &Signer) -> Vec<Bytes> {
    let signature = signer
        .sign(message.json_parts())
        .map_or_else(Bytes::new, |hex| Bytes::copy_from_slice(&hex));
    let mut frames = Vec::with_capacity(6 + message.buffers.len());
    frames.push(Bytes::from_static(DELIMITER));
    frames.push(signature);
    frames.extend(message.parts().cloned());
    frames
}

/// Verifies the frames and takes the message out of them; identities and topic in front are dropped.
pub fn decode(frames: Vec<Bytes>, signer: &Signer) -> Result<Message, DecodeError> {
    let total = frames.len();
    let delimiter = frames
        .iter()
        .position(|frame| frame.as_ref() == DELIMITER)
        .ok_or(DecodeError::NoDelimiter(total))?;
    let mut rest = frames.into_iter().skip(delimiter + 1);
    let mut next = || {
        rest.next()
            .ok_or(DecodeError::TooFewFrames(total - delimiter - 1))
    };
    let signature = next()?;
    let message = Message {
        header: next()?,
        parent_header: next()?,
        metadata: next()?,
        content: next()?,
        buffers: rest.collect(),
    };
    if signer.verify(&signature, message.json_parts()) {
        Ok(message)
    } else {
        Err(DecodeError::BadSignature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_encoded_decodes_to_itself(
            parts in prop::array::uniform4(prop::collection::vec(any::<u8>(), 0..50)),
            buffers in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..4),
        ) {
            let [header, parent_header, metadata, content] = parts.map(Bytes::from);
            let buffers = buffers.into_iter().map(Bytes::from).collect();
            let message = Message { header, parent_header, metadata, content, buffers };
            let signer = Signer::new(b"key");
            let mut frames = vec![Bytes::from_static(b"ident")];
            frames.extend(encode(&message, &signer));
            prop_assert_eq!(decode(frames.clone(), &signer), Ok(message));
            prop_assert_eq!(decode(frames, &Signer::new(b"other")), Err(DecodeError::BadSignature));
        }

        #[test]
        fn any_frames_are_answered_without_a_panic(
            frames in prop::collection::vec(
                prop_oneof![Just(DELIMITER.to_vec()), prop::collection::vec(any::<u8>(), 0..9)], 0..9),
        ) {
            let frames = frames.into_iter().map(Bytes::from).collect();
            let _ = decode(frames, &Signer::new(b"key"));
        }
    }
}
