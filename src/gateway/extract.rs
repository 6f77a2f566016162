//! What handlers take from a request: path segments and JSON bodies, with our errors.
//!
//! Clients say `application/json` with an empty body, and nothing with a full one: the header
//! is not looked at.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Bytes, HttpBody};
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use uuid::Uuid;

use super::Gateway;
use super::error::ApiError;
use super::identity::Identity;
use crate::kernels::registry::parse_id;

/// How long a body may take to arrive.
const BODY_DEADLINE: Duration = Duration::from_secs(30);

/// A longer path, name or type is refused.
const TEXT_BYTES_MAX: usize = 4096;

/// Refuses texts of a body that can be no path or name.
pub(crate) fn check_texts(texts: &[&Option<String>]) -> Result<(), ApiError> {
    let is_sound = |text: &String| text.len() <= TEXT_BYTES_MAX && !text.contains('\0');
    match texts.iter().copied().flatten().all(is_sound) {
        true => Ok(()),
        false => Err(ApiError::bad_request(format!(
            "a path, name or type is over {TEXT_BYTES_MAX} bytes or holds a NUL"
        ))),
    }
}

/// The id in the path; what is no id names nothing, so it is answered with 404.
#[derive(Debug)]
pub(crate) struct Id(pub(crate) Uuid);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Name(text) = Name::from_request_parts(parts, state).await?;
        parse_id(&text)
            .map(Self)
            .ok_or_else(|| ApiError::not_found("there is nothing with this id"))
    }
}

/// The id in the path of a kernel that the caller may see; any other is as good as none.
#[derive(Debug)]
pub(crate) struct KernelId(pub(crate) Uuid);

impl FromRequestParts<Arc<Gateway>> for KernelId {
    type Rejection = ApiError;

    async fn from_request_parts(
        parts: &mut Parts,
        gateway: &Arc<Gateway>,
    ) -> Result<Self, ApiError> {
        let Id(id) = Id::from_request_parts(parts, gateway).await?;
        let identity = parts.extensions.get::<Identity>().cloned();
        let identity = identity.ok_or_else(ApiError::unauthorized)?;
        gateway.check_seen(id, &identity).await?;
        Ok(Self(id))
    }
}

/// The one name in the path.
#[derive(Debug)]
pub(crate) struct Name(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for Name {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        segments(parts, state).await.map(Self)
    }
}

/// The two names in the path.
#[derive(Debug)]
pub(crate) struct Names(pub(crate) String, pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for Names {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let (first, second) = segments(parts, state).await?;
        Ok(Self(first, second))
    }
}

async fn segments<T, S>(parts: &mut Parts, state: &S) -> Result<T, ApiError>
where
    T: DeserializeOwned + Send,
    S: Send + Sync,
{
    match Path::<T>::from_request_parts(parts, state).await {
        Ok(Path(segments)) => Ok(segments),
        // It is not UTF-8, so it names nothing.
        Err(_) => Err(ApiError::not_found("there is nothing of this name")),
    }
}

/// A JSON object; an empty body and `null` are the default.
#[derive(Debug)]
pub(crate) struct Body<T>(pub(crate) T);

impl<T: DeserializeOwned + Default> FromRequest<Arc<Gateway>> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, gateway: &Arc<Gateway>) -> Result<Self, ApiError> {
        let bytes_max = gateway.config.limits.body_bytes_max;
        let too_large = || {
            ApiError::user(
                StatusCode::PAYLOAD_TOO_LARGE,
                "body too large",
                format!("the body is over {bytes_max} bytes"),
            )
        };
        // As its Content-Length announces; a body in chunks announces nothing.
        if request.body().size_hint().lower() > bytes_max {
            return Err(too_large());
        }
        let capped = usize::try_from(bytes_max).unwrap_or(usize::MAX);
        let body = Limited::new(request.into_body(), capped).collect();
        let bytes = match tokio::time::timeout(BODY_DEADLINE, body).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) if error.is::<LengthLimitError>() => return Err(too_large()),
            Ok(Err(error)) => {
                return Err(ApiError::bad_request(format!(
                    "the body could not be read: {error}"
                )));
            }
            Err(_) => {
                return Err(ApiError::user(
                    StatusCode::REQUEST_TIMEOUT,
                    "body too slow",
                    format!("the body did not arrive within {BODY_DEADLINE:?}"),
                ));
            }
        };
        decode(&bytes).map(Self)
    }
}

/// An object within a body, or nothing. The items of an array would be taken for its fields in their order.
pub(crate) fn object<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    struct Object<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for Object<T> {
        type Value = Option<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_unit<E>(self) -> Result<Option<T>, E> {
            Ok(None)
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Option<T>, A::Error> {
            T::deserialize(MapAccessDeserializer::new(map)).map(Some)
        }
    }

    deserializer.deserialize_any(Object(PhantomData))
}

fn decode<T: DeserializeOwned + Default>(bytes: &Bytes) -> Result<T, ApiError> {
    match bytes.trim_ascii().first() {
        None => return Ok(T::default()),
        // Its items would be taken for the fields in their order.
        Some(b'[') => return Err(ApiError::bad_request("the body is an array, not an object")),
        Some(_) => {}
    }
    serde_json::from_slice::<Option<T>>(bytes)
        .map(Option::unwrap_or_default)
        .map_err(|error| ApiError::bad_request(format!("the body is not as expected: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn no_body_is_the_default_and_nonsense_is_a_400() {
        type Object = BTreeMap<String, String>;
        for empty in ["", " \n", "null", "{}"] {
            let body: Object = decode(&Bytes::from(empty)).unwrap();
            assert!(body.is_empty(), "{empty}");
        }
        for broken in [
            "{",
            "[]",
            " [\"python3\"]",
            "7",
            "{\"a\":1}",
            "\u{fffd}",
            &"[".repeat(100_000),
        ] {
            let error = decode::<Object>(&Bytes::from(broken.to_owned())).unwrap_err();
            assert_eq!(error.status(), StatusCode::BAD_REQUEST);
        }
    }
}
