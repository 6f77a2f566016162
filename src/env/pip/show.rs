//! What pip prints of what is installed, in pip's own words and formats.

use std::fmt::Write;

use serde_json::{Value, json};

use super::{Format, Packages};
use crate::env::installed::{Distribution, Metadata, normal};

/// `pip list`, of those that `which` picks.
pub fn list(packages: &Packages, format: Format, which: impl Fn(&Distribution) -> bool) -> String {
    let chosen: Vec<&Distribution> = packages.values().filter(|one| which(one)).collect();
    match format {
        Format::Freeze => {
            let pin = |one: &&Distribution| format!("{}=={}\n", one.name, one.version);
            chosen.iter().map(pin).collect()
        }
        Format::Json => {
            let shown = chosen.iter().map(|one| {
                let mut shown = json!({"name": one.name, "version": one.version});
                if let Some(folder) = editable(one) {
                    shown["editable_project_location"] = folder.into();
                }
                shown
            });
            format!("{}\n", Value::from_iter(shown))
        }
        Format::Columns => {
            let mut head = vec!["Package", "Version"];
            if chosen.iter().any(|one| editable(one).is_some()) {
                head.push("Editable project location");
            }
            let rows: Vec<Vec<&str>> = chosen
                .iter()
                .map(|one| {
                    let mut row = vec![one.name.as_str(), one.version.as_str()];
                    row.extend(editable(one));
                    row
                })
                .collect();
            columns(&head, &rows)
        }
    }
}

fn editable(one: &Distribution) -> Option<&str> {
    let origin = one.origin.as_ref().filter(|_| one.is_editable())?;
    Some(origin.url.strip_prefix("file://").unwrap_or(&origin.url))
}

fn columns(head: &[&str], rows: &[Vec<&str>]) -> String {
    let widths: Vec<usize> = (0..head.len())
        .map(|n| {
            let cells = rows.iter().filter_map(|row| row.get(n));
            cells
                .chain([&head[n]])
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    let line: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
    let line: Vec<&str> = line.iter().map(String::as_str).collect();
    let mut text = String::new();
    for row in [head, &line]
        .into_iter()
        .chain(rows.iter().map(Vec::as_slice))
    {
        let cells = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"));
        let cells: Vec<String> = cells.collect();
        // Writing to a string does not fail.
        let _infallible = writeln!(text, "{}", cells.join(" ").trim_end());
    }
    text
}

/// `pip freeze`.
pub fn freeze(packages: &Packages) -> String {
    packages.values().map(|one| one.pin() + "\n").collect()
}

/// `pip show` of these, which are installed.
pub fn show(packages: &Packages, names: &[String], files: bool) -> String {
    let known = names
        .iter()
        .filter_map(|name| packages.get_key_value(&normal(name)));
    let shown: Vec<String> = known
        .map(|(name, one)| describe(packages, name, one, files))
        .collect();
    shown.join("---\n")
}

fn describe(packages: &Packages, name: &str, one: &Distribution, files: bool) -> String {
    let metadata = one.metadata();
    let field = |name: &str| metadata.field(name).unwrap_or_default().to_owned();
    let license = metadata
        .field("License-Expression")
        .map_or_else(|| field("License"), str::to_owned);
    let named = |names: &mut dyn Iterator<Item = &str>| names.collect::<Vec<_>>().join(", ");
    let requires = metadata.requires();
    let needs = |other: &&Distribution| Metadata::requires(&other.metadata()).contains(name);
    let needed_by = packages
        .values()
        .filter(needs)
        .map(|other| other.name.as_str());
    let mut lines = vec![
        ("Name", one.name.clone()),
        ("Version", one.version.clone()),
        ("Summary", field("Summary")),
        ("Home-page", field("Home-page")),
        ("Author", field("Author")),
        ("Author-email", field("Author-email")),
        ("License", license),
        ("Location", one.packages.display().to_string()),
    ];
    if let Some(folder) = editable(one) {
        lines.push(("Editable project location", folder.to_owned()));
    }
    lines.push(("Requires", named(&mut requires.iter().map(String::as_str))));
    lines.push(("Required-by", named(&mut needed_by.into_iter())));
    let mut text: String = lines
        .iter()
        .map(|(name, value)| format!("{name}: {value}").trim_end().to_owned() + "\n")
        .collect();
    if files {
        text += "Files:\n";
        text.extend(one.files().iter().map(|file| format!("  {file}\n")));
    }
    text
}

/// `pip --version`.
pub fn version(title: &str) -> String {
    let nb = env!("CARGO_PKG_VERSION");
    format!("pip of nb {nb}, for {title}\n")
}

/// `pip help`.
pub fn usage() -> &'static str {
    "pip, done by nb with uv for the environment of this kernel:

  install REQ… [-r FILE] [-c FILE] [-e PATH] [-U] [-q] [--no-deps] [--pre] [--index-url URL] …
  uninstall NAME…
  list [--outdated] [--format columns|freeze|json]
  show NAME… [-f]
  freeze
  check
  download REQ… [-d FOLDER]
"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::installed::Origin;
    use std::path::PathBuf;

    fn packages() -> Packages {
        let one = |name: &str, origin| Distribution {
            name: name.to_owned(),
            version: "1.0".to_owned(),
            packages: PathBuf::from("/p"),
            info: PathBuf::from("/none"),
            origin,
        };
        let own = Origin {
            url: "file:///src/own".to_owned(),
            is_editable: true,
        };
        Packages::from_iter([
            ("a-b".to_owned(), one("A_b", None)),
            ("own".to_owned(), one("own", Some(own))),
        ])
    }

    #[test]
    fn lists_are_pips() {
        let all = packages();
        assert_eq!(
            list(&all, Format::Columns, |_| true),
            "Package Version Editable project location\n------- ------- -------------------------\nA_b     1.0\n\
             own     1.0     /src/own\n"
        );
        assert_eq!(
            list(&all, Format::Freeze, |one| one.origin.is_none()),
            "A_b==1.0\n"
        );
        let json: Value = serde_json::from_str(&list(&all, Format::Json, |_| true)).unwrap();
        assert_eq!(json[1]["editable_project_location"], "/src/own");
        assert_eq!(freeze(&all), "A_b==1.0\n-e file:///src/own\n");
        assert_eq!(
            list(&Packages::new(), Format::Columns, |_| true),
            "Package Version\n------- -------\n"
        );
        assert!(
            show(&all, &["a.B".to_owned()], false)
                .starts_with("Name: A_b\nVersion: 1.0\nSummary:\n")
        );
    }
}
