//! Looks single values up in a URL's query. Anything else in it (cache-busters) is passed over. Pure.

/// The decoded value of the first parameter `name`.
pub fn value(query: Option<&str>, name: &str) -> Option<String> {
    query?.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(key) == name).then(|| decode(value))
    })
}

/// As forms are written: a plus is a space.
fn decode(text: &str) -> String {
    percent_decoded(&text.replace('+', " "))
}

/// Percent-decoding; what is not an escape is left as it is, what is not UTF-8 is replaced.
pub(crate) fn percent_decoded(text: &str) -> String {
    let hex = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        let escape = match (first, tail) {
            (b'%', [high, low, ..]) => hex(*high).zip(hex(*low)),
            _ => None,
        };
        match escape {
            Some((high, low)) => {
                bytes.push(high * 16 + low);
                rest = &tail[2..];
            }
            None => bytes.push(first),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn values_are_found_among_cache_busters_and_decoded() {
        let query = Some("1732443949000&session_id=a%2Db+c&token&token=second&x=%zz%");
        assert_eq!(value(query, "session_id").as_deref(), Some("a-b c"));
        assert_eq!(value(query, "token").as_deref(), Some(""));
        assert_eq!(value(query, "x").as_deref(), Some("%zz%"));
        assert_eq!(value(query, "absent"), None);
        assert_eq!(value(None, "token"), None);
    }

    proptest! {
        #[test]
        fn any_query_is_answered_without_a_panic(query in ".{0,60}") {
            value(Some(&query), "token");
        }
    }
}
