//! `/api/kernelspecs` and the files that come with kernelspecs.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderName;
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::response::IntoResponse;
use axum::{Extension, Json};
use serde_json::{Value, json};
use tokio::task::spawn_blocking;

use crate::gateway::Gateway;
use crate::gateway::error::ApiError;
use crate::gateway::extract::{Name, Names};
use crate::gateway::identity::Identity;
use crate::kernels::catalog::{Listed, Specs};
use crate::protocol::kernelspec::is_valid_name;

/// A larger resource is not served.
const RESOURCE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Those that the caller may start.
pub(super) async fn list(
    State(gateway): State<Arc<Gateway>>,
    Extension(identity): Extension<Identity>,
) -> Result<Json<Value>, ApiError> {
    let asked = Arc::clone(&gateway);
    blocking(&gateway, move |specs| {
        let models: BTreeMap<_, _> = (specs.by_name.iter())
            .filter(|(name, _)| asked.may_start(&identity.name, name))
            .map(|(name, listed)| (name, model(name, listed)))
            .collect();
        Ok(Json(
            json!({"default": specs.default_name(), "kernelspecs": models}),
        ))
    })
    .await
}

pub(super) async fn one(
    State(gateway): State<Arc<Gateway>>,
    Name(name): Name,
) -> Result<Json<Value>, ApiError> {
    blocking(&gateway, move |specs| {
        let (name, listed) = specs.find(Some(&name)).map_err(ApiError::not_found)?;
        Ok(Json(model(&name, listed)))
    })
    .await
}

/// A file that lies directly in a kernelspec's folder.
pub(super) async fn resource(
    State(gateway): State<Arc<Gateway>>,
    Names(name, file): Names,
) -> Result<impl IntoResponse, ApiError> {
    let content_type = content_type(&file);
    let bytes = blocking(&gateway, move |specs| {
        let (_, listed) = specs.find(Some(&name)).map_err(ApiError::not_found)?;
        let missing = || ApiError::not_found(format!("the kernelspec has no file {file:?}"));
        // A name of this kind is no path.
        let path = is_valid_name(&file).then(|| listed.folder.join(&file));
        read(&path.ok_or_else(missing)?).map_err(|_| missing())
    })
    .await?;
    let headers: [(HeaderName, &str); 3] = [
        (CONTENT_TYPE, content_type),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // A picture may hold scripts.
        (CONTENT_SECURITY_POLICY, "sandbox"),
    ];
    Ok((headers, bytes))
}

async fn blocking<T: Send + 'static>(
    gateway: &Gateway,
    answer: impl FnOnce(&Specs) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let catalog = gateway.planner.catalog.clone();
    spawn_blocking(move || answer(&catalog.read()))
        .await
        .unwrap_or_else(|error| Err(ApiError::internal(error.to_string())))
}

fn model(name: &str, listed: &Listed) -> Value {
    json!({"name": name, "spec": listed.spec, "resources": resources(name, &listed.folder)})
}

/// The files that clients know, by their names without the ending where they are logos.
fn resources(name: &str, folder: &Path) -> BTreeMap<String, String> {
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    files
        .filter_map(|entry| {
            let file = entry.file_name().into_string().ok()?;
            let key = match file.as_str() {
                "kernel.js" | "kernel.css" => file.as_str(),
                logo if logo.starts_with("logo-") => logo.rsplit_once('.')?.0,
                _ => return None,
            };
            let served = is_valid_name(&file) && entry.file_type().ok()?.is_file();
            served.then(|| (key.to_owned(), format!("/kernelspecs/{name}/{file}")))
        })
        .collect()
}

/// Reads a file that is one: a link could lead anywhere.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    if !path.symlink_metadata()?.is_file() {
        return Err(io::ErrorKind::NotFound.into());
    }
    let mut bytes = Vec::new();
    let limit = RESOURCE_BYTES_MAX + 1;
    let length = File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    match length as u64 > RESOURCE_BYTES_MAX {
        true => Err(io::ErrorKind::FileTooLarge.into()),
        false => Ok(bytes),
    }
}

fn content_type(file: &str) -> &'static str {
    let ending = file.rsplit_once('.').map_or("", |(_, ending)| ending);
    match ending.to_ascii_lowercase().as_str() {
        "png" => "image/png",
        "svg" => "image/svg+xml",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" => "application/json",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_are_the_files_that_clients_know() {
        let folder = tempfile::tempdir().unwrap();
        for file in [
            "logo-64x64.png",
            "logo-svg.svg",
            "kernel.js",
            "kernel.json",
            "logo-a b.png",
        ] {
            fs::write(folder.path().join(file), "x").unwrap();
        }
        std::os::unix::fs::symlink("/etc/passwd", folder.path().join("logo-32x32.png")).unwrap();
        let expected = [
            ("kernel.js", "/kernelspecs/echo/kernel.js"),
            ("logo-64x64", "/kernelspecs/echo/logo-64x64.png"),
            ("logo-svg", "/kernelspecs/echo/logo-svg.svg"),
        ];
        let expected = expected.map(|(key, url)| (key.to_owned(), url.to_owned()));
        assert_eq!(resources("echo", folder.path()), BTreeMap::from(expected));
        assert!(read(&folder.path().join("logo-32x32.png")).is_err());
    }
}
