//! What a tool says when a server does not let it in, as a sentence that says what to do. Pure.

/// The sentence, if that is why it failed.
pub(in crate::env) fn refusal(said: &str) -> Option<String> {
    let has = |signs: &[&str]| signs.iter().any(|sign| said.contains(sign));
    let at = address(said).map_or_else(String::new, |address| format!(" {address}"));
    if has(&[
        "407 Proxy",
        "response 407",
        "Proxy Authentication Required",
        "unsuccessful tunnel",
        "proxy authentication required",
    ]) {
        return Some(
            "The proxy asks for a login, or does not let us through: see `packages.proxy`."
                .to_owned(),
        );
    }
    if has(&[
        "401 Unauthorized",
        "403 Forbidden",
        "Authentication failed",
        "could not read Username",
        "could not read Password",
    ]) {
        return Some(format!(
            "The server{at} does not let us in: it asks for a login, and there is none for it or a wrong one. \
             Put one into ~/.netrc, or see `packages.credentials`."
        ));
    }
    if has(&[
        "UnknownIssuer",
        "invalid peer certificate",
        "CERTIFICATE_VERIFY_FAILED",
        "SSL certificate problem",
        "certificate verification failed",
        "server certificate verification",
    ]) {
        return Some(format!(
            "The certificate of the server{at} is signed by nobody who is trusted here: name the file with its CA in \
             `packages.ca_bundle` or by `--cert`."
        ));
    }
    None
}

/// The first address in it, as far as it says which server and path.
fn address(said: &str) -> Option<&str> {
    let start = ["https://", "http://"]
        .iter()
        .filter_map(|scheme| said.find(scheme))
        .min()?;
    let address = &said[start..];
    let end = address.find(|c: char| c.is_whitespace() || "'\"`()<>,?#".contains(c));
    Some(address[..end.unwrap_or(address.len())].trim_end_matches(['.', ':', ';']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_refuses_is_named_and_what_to_do() {
        let hint = "hint: An index URL (http://127.0.0.1:8877/simple/) could not be queried due to a lack of valid \
                    authentication credentials (401 Unauthorized)";
        let told = refusal(hint).unwrap();
        assert!(
            told.contains("The server http://127.0.0.1:8877/simple/ does not let us in"),
            "{told}"
        );
        let git = "fatal: Authentication failed for 'https://127.0.0.1:1/r.git/'";
        assert!(
            refusal(git)
                .unwrap()
                .contains("https://127.0.0.1:1/r.git/ does")
        );
        let proxy = "fatal: unable to access 'https://h/r/': CONNECT tunnel failed, response 407";
        assert!(refusal(proxy).unwrap().contains("packages.proxy"));
        let tls = "cause: error sending request for url (https://h/simple/x/)\ncause: invalid peer certificate: UnknownIssuer";
        assert!(refusal(tls).unwrap().contains("packages.ca_bundle"));
        assert_eq!(refusal("error: x was not found"), None);
    }
}
